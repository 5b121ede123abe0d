//! Who holds a lock, and who waits for it.

use bytes::Bytes;
use caucus_api::shard::RangeRead;
use caucus_api::shard::range_read::{Order, Target};
use caucus_ring::Revision;
use tokio::time::Instant;

use super::Error;
use super::entry::{self, Entry, Kind};
use crate::Router;
use crate::recipes::Steps;
use crate::recipes::queue::Line;
use crate::recipes::steps::below;

/// An attempt in a lock's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its key.
    pub key: Bytes,
    /// Its create revision: the fencing token.
    pub token: u64,
    /// The lease that keeps it.
    pub lease: u64,
    /// What it asks for; `None`: somebody else has written there.
    pub kind: Option<Kind>,
    /// Who it is.
    pub owner: String,
    /// It is its turn.
    pub holds: bool,
}

/// All attempts, in order, and the revision at which that was so.
pub async fn show(
    router: &Router,
    lock: &str,
    deadline: Instant,
) -> Result<(Vec<Attempt>, Revision), Error> {
    let queue = entry::queue(lock);
    let steps = Steps::new().range(RangeRead {
        span: Some(below(&queue.prefix)),
        order: Order::Ascend as i32,
        target: Target::Create as i32,
        ..RangeRead::default()
    });
    let mut done = steps.run(router, None, deadline).await?;
    let items = done.ranged(0).items;
    let line = Line::of(queue.share, &items);
    let attempts = items.into_iter().filter_map(|item| {
        let record = item.record?;
        let entry = Entry::read(&record);
        Some(Attempt {
            key: item.key,
            token: record.create_revision,
            lease: record.lease,
            kind: entry.as_ref().map(|entry| entry.kind),
            owner: entry.map(|entry| entry.owner).unwrap_or_default(),
            holds: line.holds(record.create_revision),
        })
    });
    Ok((attempts.collect(), done.store))
}
