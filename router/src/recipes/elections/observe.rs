//! Who leads, as that changes.

use bytes::Bytes;
use caucus_api::shard::Record;
use caucus_ring::Revision;
use tokio::time::Instant;

use super::{Leader, Queue};
use crate::recipes::Mirror;
use crate::{Error, Router};

/// Tells who leads and what it proclaims: first as it is, then each change, in order and none missing.
pub struct Observer {
    mirror: Mirror,
    /// What was told last: create revision and revision of the leader, 0 for none.
    told: (u64, u64),
}

impl Observer {
    /// Observes an election by its name.
    pub async fn of(router: &Router, election: &str, deadline: Instant) -> Result<Observer, Error> {
        Observer::begin(router, &super::queue(election), deadline).await
    }

    /// Observes the election whose candidates are in a queue.
    pub(crate) async fn begin(
        router: &Router,
        queue: &Queue,
        deadline: Instant,
    ) -> Result<Observer, Error> {
        Ok(Observer {
            mirror: Mirror::open(router, &queue.prefix, deadline).await?,
            told: (0, 0),
        })
    }

    /// Whether somebody leads who wasn't told of.
    pub fn has_news(&self) -> bool {
        self.mark() != self.told
    }

    /// The next that is to be told; `None` as leader: nobody leads. Can be cancelled without loss.
    pub async fn next(&mut self) -> Result<(Revision, Option<Leader>), Error> {
        while !self.has_news() {
            self.mirror.next().await?;
        }
        self.told = self.mark();
        let leader = self.first().map(|(key, record)| Leader {
            key: key.clone(),
            record: record.clone(),
        });
        Ok((self.mirror.revision(), leader))
    }

    fn first(&self) -> Option<(&Bytes, &Record)> {
        let candidates = self.mirror.keys().iter();
        candidates.min_by_key(|(_, record)| record.create_revision)
    }

    fn mark(&self) -> (u64, u64) {
        self.first().map_or((0, 0), |(_, record)| {
            (record.create_revision, record.mod_revision)
        })
    }
}
