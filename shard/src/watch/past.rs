//! What memory hasn't any more: read from the index of changes.

use caucus_api::Failure;
use caucus_api::shard::Event;
use caucus_planted as planted;
use caucus_raft::Group;

use super::session::ANSWER_BYTES_MAX;
use crate::state::Published;
use crate::state::changes::Past;

/// Changes looked at in the index at a time.
const LOOKED_MAX: usize = 20_000;

/// What of the past is wanted, after one revision and up to another that all is applied up to.
pub(crate) fn past(
    group: &Group,
    published: &Published,
    wants: &(dyn Fn(&[u8]) -> Option<bool> + Sync),
    (after, through): (u64, u64),
) -> Result<(Vec<Event>, u64), Failure> {
    let scope = published.scope();
    let routing = scope.routing.as_ref().ok_or(Failure::Moved { epoch: 0 })?;
    let storage = group.view().storage();
    let snapshot = group.view().engine().snapshot();
    let past = Past {
        reader: snapshot.as_ref(),
        storage,
        routing,
        wants,
        between: after..through,
        bytes_max: ANSWER_BYTES_MAX,
        looked_max: LOOKED_MAX,
    };
    let mut read = past.read();
    if let Ok((events, _)) = &mut read
        && planted::is(planted::DELETES_NOT_REPLAYED)
    {
        events.retain(|event| !event.record.is_empty());
    }
    // Afterwards: what was compacted, or replaced by a snapshot, meanwhile may be missing in it.
    if group.view().storage() != storage {
        return Err(Failure::NotLeader { leader: None });
    }
    let compacted = published.compacted();
    if after < compacted && !planted::is(planted::COMPACTION_NOT_TOLD) {
        planted::at(planted::WATCH_COMPACTED);
        return Err(Failure::Compacted {
            revision: compacted,
        });
    }
    read.map_err(|error| Failure::Internal(error.to_string()))
}
