//! What a write must name to attach a key to a lease that is at home in another group.
//!
//! ```text
//!  OPEN in the key's group ─▶ its record ─▶ REGISTER at home ─▶ when it was granted ─▶ the write names both
//! ```
//!
//! The two are remembered: they hold until the lease ends, and an id that is granted again finds out, for the
//! group refuses a record that doesn't stand any more. Nothing breaks if this is interrupted or done twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use caucus_api::shard::lease_step::Kind;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{LeaseStep, LeaseStepped, Place, Put, RequestId, Txn, TxnDone, Write};
use caucus_ring::GroupId;
use prost::Message;
use tokio::time::Instant;

use super::{Did, alone, home, lease_step};
use crate::attempt::{Stop, Target};
use crate::retry::Retry;
use crate::route::Table;
use crate::router::nonsense;
use crate::{Error, Outcome, Reason, Router};

/// Leases and groups that are remembered.
const REMEMBERED_MAX: usize = 100_000;
/// A write is tried so often with what was found anew.
pub(crate) const OPENINGS_MAX: usize = 4;

/// Where leases are open, as far as this router has opened them.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    known: Mutex<HashMap<(u64, GroupId), Names>>,
}

/// What an attach names.
#[derive(Debug, Clone, Copy)]
struct Names {
    grant: u64,
    open: u64,
}

/// What was found of the leases that a transaction's puts name.
#[derive(Debug, Default)]
pub(crate) struct Openings {
    /// All of them.
    pub(crate) leases: BTreeSet<u64>,
    /// Those that don't live.
    pub(crate) missing: BTreeSet<u64>,
}

impl Opened {
    fn lock(&self) -> MutexGuard<'_, HashMap<(u64, GroupId), Names>> {
        self.known.lock().expect("no panic under this lock")
    }

    fn get(&self, lease: u64, group: GroupId) -> Option<Names> {
        self.lock().get(&(lease, group)).copied()
    }

    fn set(&self, lease: u64, group: GroupId, names: Names) {
        let mut known = self.lock();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert((lease, group), names);
    }

    fn forget(&self, leases: &BTreeSet<u64>) {
        self.lock().retain(|(lease, _), _| !leases.contains(lease));
    }
}

impl Router {
    /// Lets a put name what it needs to.
    pub(crate) async fn open_for_put(
        &self,
        key: &Bytes,
        put: &mut Put,
        deadline: Instant,
    ) -> Result<(), Error> {
        (put.lease_grant, put.lease_open) = (0, 0);
        let table = self.serving_table(deadline).await?;
        let (_, group) = table.map().locate(key);
        if group == home(&table, put.lease) {
            return Ok(());
        }
        let opened = &self.shared.opened;
        let names = match opened.get(put.lease, group) {
            Some(names) => names,
            None => {
                let names = self.open(&table, put.lease, key, group, deadline).await?;
                opened.set(put.lease, group, names);
                names
            }
        };
        (put.lease_grant, put.lease_open) = (names.grant, names.open);
        Ok(())
    }

    /// The same for all puts of a transaction. A lease that isn't there is no error yet: its put may stand in
    /// the branch that isn't taken. Where it is executed, its group refuses a put that names no opening.
    pub(crate) async fn open_for_txn(
        &self,
        txn: &mut Txn,
        deadline: Instant,
    ) -> Result<Openings, Error> {
        let mut places = Vec::new();
        attaches(txn, &mut places);
        let mut found = Openings::default();
        for place in places {
            let Some(put) = &mut place.put else { continue };
            found.leases.insert(put.lease);
            if found.missing.contains(&put.lease) {
                (put.lease_grant, put.lease_open) = (0, 0);
                continue;
            }
            match self.open_for_put(&place.key, put, deadline).await {
                Err(error) if error.reason == Reason::LeaseNotFound => {
                    found.missing.insert(put.lease);
                }
                result => result?,
            }
        }
        Ok(found)
    }

    /// What was remembered of leases has turned out wrong.
    pub(crate) fn forget_opened(&self, leases: &BTreeSet<u64>) {
        self.shared.opened.forget(leases);
    }

    async fn open(
        &self,
        table: &std::sync::Arc<Table>,
        lease: u64,
        key: &Bytes,
        group: GroupId,
        deadline: Instant,
    ) -> Result<Names, Error> {
        let open = lease_step(Kind::Open, lease);
        let opened = self.lease_step(table, group, key, open, deadline).await?;
        let register = LeaseStep {
            group: group.0,
            ..lease_step(Kind::Register, lease)
        };
        let home = home(table, lease);
        let nowhere = Bytes::new();
        match self
            .lease_step(table, home, &nowhere, register, deadline)
            .await
        {
            Ok(registered) => Ok(Names {
                grant: registered.grant,
                open: opened.open,
            }),
            Err(error) => {
                if error.reason == Reason::LeaseNotFound {
                    // Nothing was attached under it, and nothing will be.
                    let close = lease_step(Kind::Close, lease);
                    _ = self.lease_step(table, group, key, close, deadline).await;
                }
                Err(error)
            }
        }
    }

    async fn lease_step(
        &self,
        table: &std::sync::Arc<Table>,
        group: GroupId,
        key: &Bytes,
        step: LeaseStep,
        deadline: Instant,
    ) -> Result<LeaseStepped, Error> {
        let write = Write {
            // It isn't remembered: it may be executed twice.
            id: Some(RequestId::default()),
            key: key.clone(),
            rules_version: table.map().rules().version(),
            action: Some(Action::Own(alone(step))),
            ..Write::default()
        };
        let body = Body::Write(write.encode_to_vec().into());
        let target = Target::Group(table, group);
        let sent = self.run_target(target, &body, 0, Retry::new(true, 0), deadline, None);
        let reply = match sent.await {
            Ok(reply) => reply,
            Err(Stop::Failed(error)) => return Err(not_applied(error)),
            Err(Stop::Stale) => {
                return Err(Error {
                    reason: Reason::Unavailable("the group has changed".to_owned()),
                    outcome: Outcome::NotApplied,
                });
            }
        };
        match reply.body {
            Some(Answer::Txn(done)) => stepped(done),
            Some(_) | None => Err(nonsense(Outcome::NotApplied)),
        }
    }
}

fn stepped(done: TxnDone) -> Result<LeaseStepped, Error> {
    if done.problem.is_some() {
        return Err(Error::lease_not_found());
    }
    match done.answers.into_iter().next().and_then(|did| did.answer) {
        Some(Did::Lease(stepped)) => Ok(stepped),
        Some(_) | None => Err(nonsense(Outcome::NotApplied)),
    }
}

/// Whatever became of the step, the write that needs it wasn't sent.
fn not_applied(error: Error) -> Error {
    Error {
        outcome: Outcome::NotApplied,
        ..error
    }
}

/// Whether a problem says that what was remembered of a lease is wrong.
pub(crate) fn is_not_open(done: &TxnDone) -> bool {
    is_problem(done, ProblemKind::LeaseNotOpen)
}

/// Whether a lease that a put names doesn't live.
pub(crate) fn is_lease_missing(done: &TxnDone) -> bool {
    is_problem(done, ProblemKind::LeaseNotFound)
}

fn is_problem(done: &TxnDone, kind: ProblemKind) -> bool {
    done.problem.as_ref().map(|problem| problem.kind()) == Some(kind)
}

/// All puts of a tree that attach a key to a lease.
fn attaches<'t>(txn: &'t mut Txn, found: &mut Vec<&'t mut Place>) {
    for operation in txn.then.iter_mut().chain(&mut txn.otherwise) {
        match &mut operation.operation {
            Some(Asked::Place(place)) => {
                let named = place.put.as_ref().is_some_and(|put| put.lease != 0);
                if named && !place.keep_lease {
                    found.push(place);
                }
            }
            Some(Asked::Txn(inner)) => attaches(inner, found),
            Some(
                Asked::Range(_)
                | Asked::Remove(_)
                | Asked::Change(_)
                | Asked::Lease(_)
                | Asked::Sequence(_),
            )
            | None => {}
        }
    }
}
