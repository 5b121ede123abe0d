//! How a lease ends.
//!
//! If no other group is registered, its keys are all here: one transaction removes them, by name, and the lease
//! with them. It is refused if a key was attached meanwhile, and made anew. Else, and if there are too many
//! for one entry: BEGIN, so that nobody attaches or registers any more; CLOSE in each group that is
//! registered, which waits for transactions that are prepared to attach; then the keys are read, and one
//! transaction over all groups removes those that are still attached to this very lease; then END.
//!
//! All keys vanish at one revision, as in etcd, up to [`KEYS_MAX`]; of more, so many at a time. The lease is
//! seen as gone only afterwards.

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::lease_call::Call;
use caucus_api::shard::lease_step::Kind;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::reply::Body;
use caucus_api::shard::request::Body as Ask;
use caucus_api::shard::{
    AttachedKey, AttachedTo, Lease, LeaseCall, Operation, Remove, Span, TxnDone,
};
use caucus_planted as planted;
use tokio::time::Instant;

use super::{Lessor, all, alone, lease_step, operation, over, step};
use crate::state::leases;

/// Keys that one transaction removes.
pub(super) const KEYS_MAX: usize = 1000;

impl Lessor {
    /// Ends a lease; nothing is to be done if it has gone already. May be begun anew at any step.
    pub(super) async fn end(
        &self,
        term: u64,
        id: u64,
        grant: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        loop {
            let Some(lease) = self.standing(id, grant) else {
                return Ok(());
            };
            if lease.ends {
                return self.end_everywhere(term, id, &lease, deadline).await;
            }
            let (keys, more) = self.keys_here(id)?;
            let next = match more || !lease.groups.is_empty() {
                true => alone(step(Kind::Begin, id, grant)),
                false => {
                    let removed = keys.into_iter().map(|key| remove(key, id, grant));
                    all(removed.chain([lease_step(Kind::Drop, id, grant)]).collect())
                }
            };
            if planted::fails(planted::LEASE_ENDING) {
                return Err(over());
            }
            let done = self.parts.driver.own(next, term, deadline).await?;
            planted::at(planted::LEASE_ENDED);
            match done.problem.map(|problem| problem.kind()) {
                // Looked at again: has it gone, or does it end by steps?
                None | Some(ProblemKind::LeaseHasKeys | ProblemKind::LeaseNotFound) => {}
                Some(_) => return Err(odd(&done)),
            }
        }
    }

    pub(super) fn standing(&self, id: u64, grant: u64) -> Option<Lease> {
        let lease = self.parts.published.leases().get(id);
        lease.filter(|lease| lease.grant == grant)
    }

    pub(super) fn keys_here(&self, id: u64) -> Result<(Vec<Bytes>, bool), Failure> {
        let view = self.parts.group.view();
        let (engine, storage) = (view.engine(), view.storage());
        leases::attached(&**engine, storage, id, b"", KEYS_MAX)
            .map_err(|error| Failure::Internal(error.to_string()))
    }

    /// Of a lease that has begun to end.
    async fn end_everywhere(
        &self,
        term: u64,
        id: u64,
        lease: &Lease,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let driver = &self.parts.driver;
        for group in &lease.groups {
            let close = alone(step(Kind::Close, id, lease.grant));
            did(&driver.own_there(*group, close, deadline).await?)?;
        }
        loop {
            let mut keys = Vec::new();
            let elsewhere = match planted::is(planted::LEASE_LEAVES_KEYS) {
                true => &[],
                false => &lease.groups[..],
            };
            for group in std::iter::once(&driver.this_group()).chain(elsewhere) {
                let left = KEYS_MAX - keys.len();
                if left > 0 {
                    keys.extend(self.keys_there(*group, id, left, deadline).await?);
                }
            }
            keys.retain(|key| key.lease_grant == lease.grant);
            if keys.is_empty() {
                break;
            }
            let removed = keys.into_iter().map(|key| remove(key.key, id, lease.grant));
            did(&driver.anywhere(all(removed.collect()), deadline).await?)?;
        }
        let end = alone(step(Kind::End, id, lease.grant));
        let done = driver.own(end, term, deadline).await?;
        match done.problem.map(|problem| problem.kind()) {
            None | Some(ProblemKind::LeaseNotFound) => Ok(()),
            Some(_) => Err(odd(&done)),
        }
    }

    pub(super) async fn keys_there(
        &self,
        group: u32,
        id: u64,
        limit: usize,
        deadline: Instant,
    ) -> Result<Vec<AttachedKey>, Failure> {
        let asked = Call::Attached(AttachedTo {
            id,
            start: Bytes::new(),
            limit: limit as u32,
        });
        let ask = Ask::Lease(LeaseCall { call: Some(asked) });
        match self.parts.driver.there(group, ask, deadline).await? {
            Body::Attached(attached) => Ok(attached.keys),
            _ => Err(over()),
        }
    }
}

/// Removes a key if it is attached to the lease still.
pub(super) fn remove(key: Bytes, lease: u64, lease_grant: u64) -> Operation {
    operation(Asked::Remove(Remove {
        span: Some(Span {
            start: key,
            ..Span::default()
        }),
        previous: false,
        lease,
        lease_grant,
    }))
}

/// A step that was refused for one lease was for all that it is about.
pub(super) fn did(done: &TxnDone) -> Result<(), Failure> {
    match done.problem {
        None => Ok(()),
        Some(_) => Err(odd(done)),
    }
}

fn odd(done: &TxnDone) -> Failure {
    Failure::Unavailable {
        reason: format!("a lease cannot end yet: {:?}", done.problem),
        unknown: true,
    }
}
