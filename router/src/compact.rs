//! Compaction: every group forgets what was replaced up to one revision.
//!
//! Each group keeps its own mark in its log, so a compaction that was cut off has been made by some
//! groups and not by others: readers of the past are refused by the former only, and asking again makes
//! it whole.

use caucus_api::shard;
use caucus_api::shard::request::Body;
use caucus_ring::Revision;
use futures::future::join_all;
use tokio::time::Instant;

use crate::attempt::{Stop, Target};
use crate::retry::Retry;
use crate::{Error, Outcome, Reason, Router};

impl Router {
    /// Lets all groups forget what was replaced or deleted up to a revision; reads below it are refused
    /// from then on. Errors with [`Reason::Compacted`] if all of them had that behind them already, with
    /// [`Reason::FutureRevision`] if the revision was never granted.
    pub async fn compact(&self, revision: Revision, deadline: Instant) -> Result<(), Error> {
        self.check_granted(revision, deadline).await?;
        let no_map = || Error::no_map(Outcome::NotApplied);
        let table = self.table().ok_or_else(no_map)?;
        let body = Body::Compact(shard::Compact {
            revision: revision.0,
        });
        let body = &body;
        let groups = table.groups().iter().filter(|group| group.can_serve());
        let asked = groups.map(|group| {
            let retry = Retry::new(true, u64::from(group.id().0));
            let target = Target::Group(&table, group.id());
            self.run_target(target, body, 0, retry, deadline, None)
        });
        let mut already = None;
        let mut done = 0;
        for answer in join_all(asked).await {
            match answer {
                Ok(_) => done += 1,
                Err(Stop::Failed(error)) if matches!(error.reason, Reason::Compacted { .. }) => {
                    already = Some(error);
                }
                Err(Stop::Failed(error)) => return Err(error),
                // A group is asked by its number: there is no map that it could find too old.
                Err(Stop::Stale) => return Err(no_map()),
            }
        }
        match already {
            Some(error) if done == 0 => Err(error),
            Some(_) | None => Ok(()),
        }
    }
}
