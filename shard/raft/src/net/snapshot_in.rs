//! Receiving a state: chunks go under a storage id of their own, which takes over only when all of
//! them are there and add up.

use std::sync::Arc;

use caucus_engine::{Engine, Space, WriteBatch, keys};
use caucus_planted as planted;
use openraft::storage::Snapshot;
use xxhash_rust::xxh3::Xxh3;

use super::snapshot_out::add_to_hash;
use crate::metrics;
use crate::state::{Places, Staged, StateSnapshot};
use crate::types::Raft;
use crate::wire;

/// One transfer under way.
pub(super) struct Staging {
    engine: Arc<dyn Engine>,
    /// `None`: the state has taken over, or is being installed.
    staged: Option<Staged>,
    sequence: u64,
    pairs: u64,
    hash: Xxh3,
}

impl Staging {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        places: &Places,
    ) -> Result<Staging, caucus_engine::Error> {
        Ok(Staging {
            staged: Some(Staged::new(engine.clone(), places)?),
            engine,
            sequence: 0,
            pairs: 0,
            hash: Xxh3::new(),
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
        let vote = chunk.vote;
        let Some((staged, applied)) = self.stage(chunk)? else {
            return Ok(None);
        };
        let snapshot = Snapshot {
            meta: applied.meta(),
            snapshot: StateSnapshot::Staged(staged),
        };
        let installed = raft
            .install_full_snapshot(vote.into(), snapshot)
            .await
            .map_err(|error| error.to_string())?;
        metrics::snapshot("received", "ok");
        Ok(Some(installed.vote.into()))
    }

    /// Stores the next chunk; after the last one the whole, if it adds up.
    pub(super) fn stage(
        &mut self,
        chunk: wire::SnapshotChunk,
    ) -> Result<Option<(Staged, wire::Applied)>, String> {
        let Some(staged) = self
            .staged
            .as_ref()
            .filter(|_| chunk.sequence == self.sequence)
        else {
            return Err(format!(
                "chunk {} came where {} was expected",
                chunk.sequence, self.sequence
            ));
        };
        self.sequence += 1;
        let prefix = keys::prefix_range(staged.storage()).start;
        let mut batch = WriteBatch::new();
        // Nothing that tests can do damages a state on its way, so the bug brings that along.
        let lost = usize::from(planted::is(planted::SNAPSHOT_NOT_CHECKED));
        for pair in chunk.pairs.iter().skip(lost) {
            add_to_hash(&mut self.hash, pair);
            let key = [&prefix[..], &pair.key[..]].concat();
            batch.put(Space::State, key, pair.value.clone());
        }
        self.pairs += chunk.pairs.len() as u64;
        self.engine
            .write(batch.essential())
            .map_err(|error| error.to_string())?;
        if planted::fails(planted::SNAPSHOT_RECEIVING) {
            return Err("as a test wants it".to_owned());
        }
        let Some(end) = chunk.end else {
            return Ok(None);
        };
        let adds_up = (end.pairs, end.hash) == (self.pairs, self.hash.digest());
        if !adds_up && !planted::is(planted::SNAPSHOT_NOT_CHECKED) {
            return Err("the chunks do not add up to what was sent".to_owned());
        }
        let Some(staged) = self.staged.take() else {
            return Err("this transfer has ended".to_owned());
        };
        Ok(Some((staged, end.applied)))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.staged.is_some() {
            metrics::snapshot("received", "error");
        }
    }
}
