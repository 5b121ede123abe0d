//! openraft's own suite for storages, over both engines, with two groups at a time in one engine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Direction, Engine, Space, WriteBatch, keys};
use futures::Stream;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{RaftSnapshotBuilder, StorageError};

use super::support::{Rig, Tape, rocks};
use crate::log::{Log, LogHandle};
use crate::state::{
    Adapter, OpenraftSnapshot, Places, SnapshotSource, Staged, StateSnapshot, StateView,
};
use crate::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};

/// Each case gets the next group of the same engine.
struct Groups {
    rig: Rig,
    next: AtomicU32,
}

/// Where a builder takes its groups from; two builders share an engine.
struct Builder(Arc<Groups>);

impl StoreBuilder<TypeConfig, LogHandle, Ungated> for Builder {
    async fn build(&self) -> Result<((), LogHandle, Ungated), StorageError<TypeConfig>> {
        let rig = &self.0.rig;
        let group = self.0.next.fetch_add(1, Ordering::Relaxed);
        let log = rig.log(group);
        let place = rig.places.of(group, 1).unwrap();
        let view = StateView::new(rig.engine.clone(), place.state);
        let (tape, _) = Tape::new();
        let (inner, places) = (log.0.clone(), rig.places.clone());
        let adapter = Adapter::open(Box::new(tape), view, inner.clone(), places.clone()).unwrap();
        let state = Ungated {
            adapter,
            log: inner,
            places,
            engine: rig.engine.clone(),
        };
        Ok(((), log, state))
    }
}

/// The adapter as the suite uses it: it applies what was never in a log, and hands the snapshot of
/// one replica to another without a network.
struct Ungated {
    adapter: Adapter,
    log: Arc<Log>,
    places: Arc<Places>,
    engine: Arc<dyn Engine>,
}

impl Ungated {
    fn copy(&self, source: &SnapshotSource) -> Result<Staged, caucus_engine::Error> {
        let staged = Staged::new(self.engine.clone(), &self.places)?;
        let range = keys::prefix_range(source.storage);
        let prefix = keys::prefix_range(staged.storage()).start;
        let mut batch = WriteBatch::new();
        let (start, end) = (&range.start, &range.end);
        let mut scan = source
            .engine
            .scan(Space::State, start, end, Direction::Forward)?;
        while let Some((key, value)) = scan.next()? {
            let key = [&prefix[..], &key[range.start.len()..]].concat();
            batch.put(Space::State, key, value);
        }
        self.engine.write(batch)?;
        Ok(staged)
    }
}

impl RaftStateMachine<TypeConfig> for Ungated {
    type SnapshotData = StateSnapshot;
    type SnapshotBuilder = <Adapter as RaftStateMachine<TypeConfig>>::SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.adapter.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        self.log.pretend_written();
        self.adapter.apply(entries).await
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Self::SnapshotBuilder> {
        self.adapter.try_create_snapshot_builder(force).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.adapter
            .try_create_snapshot_builder(true)
            .await
            .unwrap()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: StateSnapshot,
    ) -> io::Result<()> {
        let staged = match snapshot {
            StateSnapshot::View(source) => self.copy(&source).map_err(io::Error::other)?,
            StateSnapshot::Staged(staged) => staged,
        };
        let staged = StateSnapshot::Staged(staged);
        self.adapter.install_snapshot(meta, staged).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<OpenraftSnapshot>> {
        self.adapter.get_current_snapshot().await
    }
}

async fn two_at_a_time(engine: Arc<dyn Engine>) {
    let groups = Arc::new(Groups {
        rig: Rig::new(engine, None),
        next: AtomicU32::new(1),
    });
    let (one, other) = tokio::join!(
        Suite::test_all(Builder(groups.clone())),
        Suite::test_all(Builder(groups.clone())),
    );
    one.unwrap();
    other.unwrap();
    assert!(groups.next.load(Ordering::Relaxed) > 80, "all cases ran");
}

#[tokio::test]
async fn in_memory() {
    two_at_a_time(Arc::new(MemoryEngine::new())).await;
}

#[tokio::test]
async fn in_rocksdb() {
    let directory = tempfile::tempdir().unwrap();
    two_at_a_time(rocks(directory.path())).await;
}

#[tokio::test]
async fn an_empty_state_has_no_snapshot() {
    let groups = Arc::new(Groups {
        rig: Rig::new(Arc::new(MemoryEngine::new()), None),
        next: AtomicU32::new(1),
    });
    let ((), _log, mut state) = Builder(groups).build().await.unwrap();
    assert!(state.get_current_snapshot().await.unwrap().is_none());
    let builder = state.adapter.try_create_snapshot_builder(true).await;
    let built = builder.unwrap().build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, None);
}
