//! Transactions: which groups take part, and which of them coordinates.
//!
//! The home of a transaction is the vnode of the smallest key or range start in it; the home's owner
//! executes it if it is the only participant, else coordinates it (protocols.md §3, §6).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use caucus_api::shard::operation::Operation as Kind;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Participant, Prepare, RequestId, Span, Txn, TxnDone, Write};
use caucus_api::txn::reads_only;
use caucus_ring::{ClusterMap, GroupId, Revision, VnodeSet, lease_key};
use prost::Message;
use tokio::time::{Instant, sleep};

use crate::attempt::{Stop, Target};
use crate::leases::{OPENINGS_MAX, is_lease_missing, is_not_open};
use crate::retry::{Retry, Step, Stumble};
use crate::route::Table;
use crate::router::{IDS_MAX, nonsense};
use crate::{Error, Outcome, RequestName, Router};

/// What a transaction did.
#[derive(Debug, Clone, PartialEq)]
pub struct Transacted {
    /// Its path, and the answers of the operations on it.
    pub done: TxnDone,
    /// The store's revision, at or above the transaction's.
    pub revision: Revision,
}

/// The id of a transaction.
#[derive(Clone, Copy)]
struct Under {
    id: RequestId,
    /// Of one that a client named.
    fingerprint: u64,
    /// Of one that only reads: it reads as of this or a later one.
    at_least: Revision,
}

/// Where a transaction goes by one map.
struct Plan {
    home: GroupId,
    write: Write,
}

impl Router {
    /// Executes a transaction at one revision, wholly or not at all. Spans need not name vnodes: they are
    /// named here. The same request id is used for every attempt, so it is executed once.
    pub async fn txn(&self, txn: Txn, deadline: Instant) -> Result<Transacted, Error> {
        self.txn_named(txn, None, deadline).await
    }

    /// As [`txn`](Self::txn); one with a name is executed once for all that have that name.
    pub async fn txn_named(
        &self,
        mut txn: Txn,
        name: Option<RequestName>,
        deadline: Instant,
    ) -> Result<Transacted, Error> {
        let mut missed = None;
        for _ in 0..OPENINGS_MAX {
            let found = self.open_for_txn(&mut txn, deadline).await?;
            let transacted = self.txn_once(&txn, name, deadline).await?;
            if is_not_open(&transacted.done) {
                self.forget_opened(&found.leases);
            } else if is_lease_missing(&transacted.done)
                && !found.missing.is_empty()
                && missed.as_ref() != Some(&found.missing)
            {
                // It may have been granted between the two: only one that is still missing is an error.
                missed = Some(found.missing);
            } else {
                return Ok(transacted);
            }
        }
        Err(Error::lease_not_found())
    }

    async fn txn_once(
        &self,
        txn: &Txn,
        name: Option<RequestName>,
        deadline: Instant,
    ) -> Result<Transacted, Error> {
        if let Some(name) = name {
            let under = Under {
                id: name.id(self.highest()),
                fingerprint: name.fingerprint(),
                at_least: Revision(0),
            };
            return self.txn_under(txn, under, deadline).await;
        }
        let at_least = match reads_only(txn) {
            true => self.granted(deadline).await?,
            false => Revision(0),
        };
        let mut ids = 1;
        loop {
            let ticket = self.begin(1);
            let under = Under {
                id: ticket.id(0),
                fingerprint: 0,
                at_least,
            };
            match self.txn_under(txn, under, deadline).await {
                Err(error) if error.is_stale_id() && ids < IDS_MAX && self.newer(&ticket) => {
                    ids += 1;
                }
                result => return result,
            }
        }
    }

    async fn txn_under(
        &self,
        txn: &Txn,
        under: Under,
        deadline: Instant,
    ) -> Result<Transacted, Error> {
        let mut retry = Retry::new(true, under.id.sequence);
        loop {
            let stumble = match self.table() {
                None => Stumble::NoGroup,
                Some(table) => match self.txn_by(&table, txn, under, &retry, deadline).await {
                    Ok(transacted) => return Ok(transacted),
                    Err(Stop::Failed(error)) => return Err(error),
                    // It has waited for the map already; this counts the turn.
                    Err(Stop::Stale) => Stumble::NoGroup,
                },
            };
            match retry.step(stumble, Instant::now(), deadline) {
                Step::GiveUp(error) => return Err(error),
                Step::Refresh(_, pause) | Step::Pause(pause) => sleep(pause).await,
                Step::Redirect(_) => {}
            }
        }
    }

    async fn txn_by(
        &self,
        table: &Arc<Table>,
        txn: &Txn,
        under: Under,
        retry: &Retry,
        deadline: Instant,
    ) -> Result<Transacted, Stop> {
        let plan = plan(table.map(), txn.clone(), under);
        let body = Body::Write(plan.write.encode_to_vec().into());
        let target = Target::Group(table, plan.home);
        let sent = self.run_target(
            target,
            &body,
            under.at_least.0,
            retry.clone(),
            deadline,
            None,
        );
        let reply = sent.await?;
        let revision = Revision(reply.revision);
        match reply.body {
            Some(Answer::Txn(done)) => Ok(Transacted { done, revision }),
            Some(_) | None => Err(Stop::Failed(nonsense(Outcome::Unknown))),
        }
    }
}

/// Names the vnodes of all spans, and the participants.
fn plan(map: &ClusterMap, mut txn: Txn, under: Under) -> Plan {
    let mut vnodes = VnodeSet::new();
    let key = smallest_key(&mut txn);
    visit(&mut txn, &mut |touched| match touched {
        Touched::Key(key) => _ = vnodes.insert(map.vnode(key)),
        Touched::Lease(id) => _ = vnodes.insert(map.ring().lease_vnode(id)),
        Touched::Range(span) => {
            let range = map.route_range(&span.start, &span.end);
            span.vnodes = range.to_packed().into();
            vnodes.union_with(&range);
        }
    });
    let home = map.owner(map.home_vnode(&key));
    let shares: BTreeMap<GroupId, VnodeSet> = map.split_by_group(&vnodes).into_iter().collect();
    let alone = shares.keys().all(|group| *group == home);
    let action = match alone {
        true => Action::Txn(txn),
        false => Action::Prepare(Prepare {
            txn: Some(txn),
            coordinator: home.0,
            participants: participants(shares, home),
            ..Prepare::default()
        }),
    };
    let write = Write {
        id: Some(under.id),
        fingerprint: under.fingerprint,
        key,
        rules_version: map.rules().version(),
        action: Some(action),
        ..Write::default()
    };
    Plan { home, write }
}

fn participants(mut shares: BTreeMap<GroupId, VnodeSet>, home: GroupId) -> Vec<Participant> {
    // Also if it holds none of the keys: a range may begin where no vnode of it does.
    shares.entry(home).or_default();
    let shares = shares.into_iter();
    shares
        .map(|(group, vnodes)| Participant {
            group: group.0,
            vnodes: vnodes.to_packed().into(),
        })
        .collect()
}

/// The smallest key or range start of a transaction, or the name of its first lease if there is none; empty if
/// it touches nothing.
pub(crate) fn smallest_key(txn: &mut Txn) -> Bytes {
    let (mut smallest, mut lease): (Option<Bytes>, Option<u64>) = (None, None);
    visit(txn, &mut |touched| {
        let key = match touched {
            Touched::Key(key) => &*key,
            Touched::Range(span) => &span.start,
            Touched::Lease(id) => {
                lease = lease.or(Some(id));
                return;
            }
        };
        if smallest.as_ref().is_none_or(|smallest| key < smallest) {
            smallest = Some(key.clone());
        }
    });
    let name = || lease.map(|id| Bytes::copy_from_slice(&lease_key(id)));
    smallest.or_else(name).unwrap_or_default()
}

/// What a transaction touches.
enum Touched<'a> {
    Key(&'a mut Bytes),
    /// Its home.
    Lease(u64),
    Range(&'a mut Span),
}

fn visit(txn: &mut Txn, seen: &mut dyn FnMut(Touched<'_>)) {
    for compare in &mut txn.compares {
        visit_span(compare.span.as_mut(), seen);
    }
    for operation in txn.then.iter_mut().chain(&mut txn.otherwise) {
        match &mut operation.operation {
            Some(Kind::Range(range)) => visit_span(range.span.as_mut(), seen),
            Some(Kind::Remove(remove)) => visit_span(remove.span.as_mut(), seen),
            Some(Kind::Place(place)) => seen(Touched::Key(&mut place.key)),
            Some(Kind::Change(change)) => seen(Touched::Key(&mut change.key)),
            Some(Kind::Lease(step)) => seen(Touched::Lease(step.id)),
            Some(Kind::Sequence(sequence)) => seen(Touched::Key(&mut sequence.counter)),
            Some(Kind::Txn(inner)) => visit(inner, seen),
            None => {}
        }
    }
}

fn visit_span(span: Option<&mut Span>, seen: &mut dyn FnMut(Touched<'_>)) {
    match span {
        Some(span) if span.range => seen(Touched::Range(span)),
        Some(span) => seen(Touched::Key(&mut span.start)),
        None => {}
    }
}
