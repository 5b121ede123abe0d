//! Showing that nothing at or below a revision follows.
//!
//! What the group had been asked, granted or proposed when the question came is settled; a majority
//! confirmed the leadership after that; and no transaction stands prepared that could still commit at or
//! below it. What comes later gets a revision that is granted later (protocols.md §7). This is what a
//! snapshot read at that revision of all keys waits for.

use std::sync::Arc;

use caucus_api::Failure;
use caucus_planted as planted;
use caucus_raft::Group;

use crate::inflight::{InFlight, Settled};
use crate::state::Published;

/// Answers when the feed has reached `revision`, which was granted before this was called.
pub(super) async fn mark(
    group: &Group,
    inflight: &Arc<InFlight>,
    published: &Arc<Published>,
    revision: u64,
) -> Result<(), Failure> {
    let wait = inflight.on_everything();
    if !planted::is(planted::MARK_NOT_CONFIRMED) {
        let confirmed = group.confirm().await;
        confirmed.map_err(crate::reads::failure)?;
    }
    if !planted::is(planted::MARK_PASSES_GRANTS) && wait.over().await == Settled::Lost {
        return Err(Failure::NotLeader { leader: None });
    }
    let standing = published.standing();
    while let Some(attempt) = standing.stops_range(b"", b"", Some(revision)) {
        standing.unlocked(attempt).await;
    }
    if planted::fails(planted::WATCH_MARKING) {
        return Err(Failure::NotLeader { leader: None });
    }
    published.feed().mark(revision);
    Ok(())
}
