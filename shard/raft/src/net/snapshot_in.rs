//! Receiving a state: chunks go under a storage id of their own, which takes over only when all of
//! them are there and add up.

use std::sync::Arc;

use caucus_engine::{Engine, Space, WriteBatch, keys};
use openraft::storage::Snapshot;
use xxhash_rust::xxh3::Xxh3;

use super::snapshot_out::add_to_hash;
use crate::metrics;
use crate::state::{Places, StateSnapshot};
use crate::types::Raft;
use crate::wire;

/// One transfer under way.
pub(super) struct Staging {
    engine: Arc<dyn Engine>,
    storage: keys::StorageId,
    sequence: u64,
    pairs: u64,
    hash: Xxh3,
    /// The state has taken over, or is being installed: it isn't ours to remove.
    handed_over: bool,
}

impl Staging {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        places: &Places,
    ) -> Result<Staging, caucus_engine::Error> {
        Ok(Staging {
            storage: places.allocate()?,
            engine,
            sequence: 0,
            pairs: 0,
            hash: Xxh3::new(),
            handed_over: false,
        })
    }

    /// Takes the next chunk, and installs the state with the last one.
    pub(super) async fn take(
        &mut self,
        raft: &Raft,
        chunk: wire::SnapshotChunk,
    ) -> wire::SnapshotResponse {
        match self.try_take(raft, chunk).await {
            Ok(vote) => wire::SnapshotResponse {
                accepted: true,
                vote,
                reason: String::new(),
            },
            Err(reason) => wire::SnapshotResponse {
                accepted: false,
                vote: None,
                reason,
            },
        }
    }

    async fn try_take(
        &mut self,
        raft: &Raft,
        chunk: wire::SnapshotChunk,
    ) -> Result<Option<wire::Vote>, String> {
        if chunk.sequence != self.sequence || self.handed_over {
            return Err(format!(
                "chunk {} came where {} was expected",
                chunk.sequence, self.sequence
            ));
        }
        self.sequence += 1;
        let prefix = keys::prefix_range(self.storage).start;
        let mut batch = WriteBatch::new();
        for pair in &chunk.pairs {
            add_to_hash(&mut self.hash, pair);
            let key = [&prefix[..], &pair.key[..]].concat();
            batch.put(Space::State, key, pair.value.clone());
        }
        self.pairs += chunk.pairs.len() as u64;
        self.engine
            .write(batch.essential())
            .map_err(|error| error.to_string())?;
        let Some(end) = chunk.end else {
            return Ok(None);
        };
        if (end.pairs, end.hash) != (self.pairs, self.hash.digest()) {
            return Err("the chunks do not add up to what was sent".to_owned());
        }
        self.handed_over = true;
        let snapshot = Snapshot {
            meta: end.applied.meta(),
            snapshot: StateSnapshot::Staged(self.storage),
        };
        let installed = raft
            .install_full_snapshot(chunk.vote.into(), snapshot)
            .await
            .map_err(|error| error.to_string())?;
        metrics::snapshot("received", "ok");
        Ok(Some(installed.vote.into()))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.handed_over {
            return;
        }
        metrics::snapshot("received", "error");
        let mut batch = WriteBatch::new();
        batch.delete_range(Space::State, keys::prefix_range(self.storage));
        if let Err(error) = self.engine.write(batch.essential()) {
            // The sweep at the next start removes it.
            tracing::warn!(%error, "an unfinished snapshot cannot be removed now");
        }
    }
}
