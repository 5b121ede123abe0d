//! Letting go of the past.
//!
//! The group's log says only up to where nothing is kept ([`Published::compacted`]); readers are refused
//! below that at once. What lies below is removed by each replica on its own, in small steps beside
//! everything else: it is no part of the state that replicas agree on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::{Command, Compact};
use caucus_engine::{Direction, Error, Space, WriteBatch, keys};
use caucus_raft::{Group, ProposeError, aside};
use prost::Message;

use crate::metrics::Meters;
use crate::state::{Published, changes};

/// Changes looked at in one step.
const STEP_RECORDS_MAX: usize = 1000;
/// Between steps, so that other writes come between.
const STEP_PAUSE: Duration = Duration::from_millis(5);
/// Between looks for more to do.
const TURN: Duration = Duration::from_secs(5);

/// Lets a group forget what was replaced up to a revision; answers when that is in its log. Fails with
/// `Compacted` if it has forgotten that much already.
pub(crate) async fn compact(
    group: &Group,
    published: &Published,
    term: u64,
    revision: u64,
) -> Result<(), Failure> {
    let compacted = published.compacted();
    if revision <= compacted {
        return Err(Failure::Compacted {
            revision: compacted,
        });
    }
    let command = Command {
        command: Some(Kind::Compact(Compact { revision })),
    };
    let proposed = group.propose(term, command.encode_to_vec().into()).await;
    let answer = match proposed {
        Ok(answer) => answer.await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(_) => Ok(()),
        Err(ProposeError::NotLeader { leader }) => Err(Failure::NotLeader { leader }),
        // It may be asked for again: it only rises.
        Err(ProposeError::Unknown) => Err(Failure::NotLeader { leader: None }),
        Err(ProposeError::Stopped(reason)) => Err(Failure::Unavailable {
            reason,
            unknown: true,
        }),
    }
}

/// Removes old records of one replica.
pub(crate) struct Compaction {
    pub(crate) group: Group,
    pub(crate) published: Arc<Published>,
    pub(crate) meters: Arc<Meters>,
}

impl Compaction {
    /// Runs as long as the replica does.
    pub(crate) async fn run(self) {
        let mut done = (0, 0);
        loop {
            tokio::time::sleep(TURN).await;
            let storage = self.group.view().storage();
            let upto = self.published.compacted();
            if upto == 0 || done == (storage, upto) {
                continue;
            }
            // What is granted or prepared and not applied yet may lie below: what that replaces comes later.
            let has_all = self.published.feed().position() >= upto;
            match self.pass(storage, upto).await {
                Ok(()) if has_all => done = (storage, upto),
                Ok(()) => {}
                // Space comes back, and a failed engine is told of elsewhere.
                Err(error) => tracing::warn!(group = self.group.id(), %error, "compaction waits"),
            }
        }
    }

    /// Once through what changed up to there.
    async fn pass(&self, storage: keys::StorageId, upto: u64) -> Result<(), Error> {
        let mut from = keys::kind_range(storage, keys::state_kind::CHANGES).start;
        // The state may have been replaced meanwhile: then the rest goes with it.
        while self.group.view().storage() == storage {
            let (group, published) = (self.group.clone(), self.published.clone());
            let start = from.clone();
            let step = move || remove(&group, &published, storage, &start, upto);
            let stepped = aside(self.group.view().engine().as_ref(), step).await;
            let Ok(stepped) = stepped else { return Ok(()) };
            let (removed, next) = stepped?;
            self.meters.compacted.increment(removed);
            let Some(next) = next else { return Ok(()) };
            from = next;
            tokio::time::sleep(STEP_PAUSE).await;
        }
        Ok(())
    }
}

/// Removes what the next changes up to a revision replaced; how many records, and where to go on.
fn remove(
    group: &Group,
    published: &Published,
    storage: keys::StorageId,
    from: &[u8],
    upto: u64,
) -> Result<(u64, Option<Bytes>), Error> {
    let engine = group.view().engine().clone();
    let scope = published.scope();
    let Some(routing) = &scope.routing else {
        return Ok((0, None));
    };
    let end = keys::changes(storage, upto.saturating_add(1));
    let mut batch = WriteBatch::new();
    let (mut removed, mut looked) = (0, 0);
    let mut next = None;
    {
        let mut scan = engine.scan(Space::State, from, &end, Direction::Forward)?;
        while let Some((key, stored)) = scan.next()? {
            if looked >= STEP_RECORDS_MAX {
                next = Some(key);
                break;
            }
            let first = changes::first_revision(storage, &key)?;
            let mut all = true;
            for change in changes::changed(stored)?.changes {
                let revision = first.saturating_add(change.offset);
                all &= revision <= upto;
                looked += 1;
                if revision <= upto && change.replaces {
                    let vnode = routing.vnode(&change.key);
                    let past = keys::history(storage, vnode.0, &change.key, revision);
                    batch.delete(Space::State, past);
                    removed += 1;
                }
            }
            if all {
                batch.delete(Space::State, key);
            }
        }
    }
    if looked > 0 {
        // Deletes are how space is made.
        engine.write(batch.essential())?;
    }
    Ok((removed, next))
}
