//! A follower applies what the others committed before its own disk has it. After a crash its state
//! is never ahead of its log, whatever part of the un-synced survives.

use std::sync::Arc;

use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Reader, Space, keys};
use prost::Message;

use super::support::{Rig, until};
use super::support_cluster::{Cluster, GROUP, commands, replica};
use crate::log::{Log, LogPlace};
use crate::wire;

/// `record` of [`keys::meta`]: the applied position.
const META_APPLIED: u8 = 1;

/// The applied and the last log position of a replica, as a crash left them.
fn positions(engine: &MemoryEngine, replica: u64) -> (Option<wire::LogId>, Option<wire::LogId>) {
    let rig = Rig::memory(engine);
    let place = rig.places.of(GROUP, replica).unwrap();
    let at = LogPlace {
        group: GROUP,
        replica,
        storage: place.log,
        tail_bytes_max: 1 << 20,
        read_bytes_max: 1 << 20,
    };
    let log = Log::open(
        at,
        rig.engine.clone(),
        rig.writer.clone(),
        rig.marks.clone(),
    );
    let last = log.unwrap_or_else(|error| panic!("{error}")).last();
    let key = keys::meta(place.state, META_APPLIED);
    let applied = engine.get(Space::State, &key).unwrap();
    let applied = applied.map(|bytes| wire::Applied::decode(bytes).unwrap());
    (applied.and_then(|applied| applied.last), last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_leaves_no_state_ahead_of_its_log() {
    let mut cluster = Cluster::new();
    let engines: Vec<_> = (1..=3).map(|_| MemoryEngine::new()).collect();
    for (node, engine) in (1..).zip(&engines) {
        cluster.start(node, Arc::new(engine.clone())).await.unwrap();
    }
    cluster.initialize().await;
    let leader = cluster.leader().await;
    cluster.propose(leader, commands("a", 20, 10)).await;
    cluster.agree(20).await;
    let slow = leader % 3 + 1;
    let engine = &engines[slow as usize - 1];
    engine.hold_syncs();
    // One batch is written and waits for its sync; the others stay in the writer's queue.
    for round in 0..10 {
        cluster.propose(leader, commands("b", 10, round)).await;
    }
    let before = cluster.nodes[&slow].taped.borrow().index;
    until("it applied what it has not synced", || {
        engine.unsynced_batches() > 1
    })
    .await;
    let unsynced = engine.unsynced_batches();
    assert!(cluster.nodes[&slow].taped.borrow().index >= before);
    let mut ahead_of_sync = 0;
    for keep in 0..=unsynced {
        let crashed = engine.crash_with(keep);
        let (applied, last) = positions(&crashed, replica(slow));
        assert!(applied <= last, "keeping {keep}: {applied:?} > {last:?}");
        ahead_of_sync = ahead_of_sync.max(applied.map_or(0, |id| id.index));
    }
    assert!(ahead_of_sync > 20, "something was applied before its sync");
    cluster.stop(slow).await;
    let crashed = Arc::new(engine.crash());
    cluster.start(slow, crashed).await.unwrap();
    cluster.agree(120).await;
    cluster.end().await;
}
