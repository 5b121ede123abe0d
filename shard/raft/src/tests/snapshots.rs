//! Replicas that the log doesn't reach: they get the state as a stream of chunks.

use std::sync::Arc;

use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Engine, Space, keys};

use super::support::{rocks, until};
use super::support_cluster::{Cluster, GROUP, commands, replica};

/// Cuts a node's log down to a few entries.
async fn trim(cluster: &Cluster, node: u32) {
    let group = &cluster.nodes[&node].group;
    let (before, cut) = group.log.purgeable(100 << 10);
    assert!(before > 300 << 10 && cut.is_some());
    let short = async {
        // Two rounds: the first names a snapshot, a later one purges what it covers.
        while group.log.purgeable(0).0 > 250 << 10 {
            group.trim_log(200 << 10, 100 << 10).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    super::support::within("a purge", short).await;
}

fn storage_ids(engine: &Arc<dyn Engine>, upto: keys::StorageId) -> Vec<keys::StorageId> {
    let used = |id: &keys::StorageId| {
        let range = keys::prefix_range(*id);
        let (start, end) = (&range.start, &range.end);
        let direction = caucus_engine::Direction::Forward;
        let mut scan = engine.scan(Space::State, start, end, direction).unwrap();
        scan.next().unwrap().is_some()
    };
    (1..upto).filter(used).collect()
}

/// Each look finds more new entries than may be kept, and so the cut behind what the last snapshot covers.
#[tokio::test]
async fn a_log_that_grows_faster_than_it_is_looked_at_is_cut_too() {
    const ROUNDS: usize = 20;
    let (cluster, leader) = Cluster::three().await;
    for round in 1..=ROUNDS {
        cluster.propose(leader, commands("a", 200, 1000)).await;
        cluster.agree(200 * round as u64).await;
        let group = &cluster.nodes[&leader].group;
        group.trim_log(100 << 10, 50 << 10).await;
    }
    let group = &cluster.nodes[&leader].group;
    let short = async {
        while group.log.purgeable(0).0 > 1 << 20 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    super::support::within("a purge", short).await;
}

async fn a_new_replica(engines: [Arc<dyn Engine>; 3]) {
    let mut cluster = Cluster::new();
    // So that the state needs some hundred of them.
    cluster.options.snapshot_chunk_bytes = 4 << 10;
    let [one, two, three] = engines;
    cluster.start(1, one).await.unwrap();
    cluster.start(2, two).await.unwrap();
    cluster.initialize().await;
    let leader = cluster.leader().await;
    cluster.propose(leader, commands("a", 1000, 1000)).await;
    cluster.agree(1000).await;
    trim(&cluster, 1).await;
    trim(&cluster, 2).await;
    cluster.start(3, three.clone()).await.unwrap();
    let first = cluster.nodes[&3].group.view().storage();
    cluster.propose(leader, commands("b", 100, 10)).await;
    let state = cluster.agree(1100).await;
    let storage = cluster.nodes[&3].group.view().storage();
    assert_ne!(storage, first, "it came as a snapshot");
    assert_eq!(
        storage_ids(&three, storage + 10),
        [storage],
        "nothing else is left"
    );
    let key = |index: u64| keys::current(storage, 0, &index.to_be_bytes());
    let some = three.get(Space::State, &key(state.index)).unwrap();
    assert!(some.is_some());
    // It goes on as any other, over a restart and as a leader.
    let engine = cluster.stop(3).await;
    cluster.propose(leader, commands("c", 10, 10)).await;
    cluster.start(3, engine).await.unwrap();
    cluster.agree(1110).await;
    cluster.transfer(leader, 3).await;
    until("it leads", || cluster.nodes[&3].group.leadership().here).await;
    assert_eq!(cluster.leader().await, 3);
    assert_eq!(cluster.propose(3, commands("d", 1, 10)).await, [1111]);
    cluster.agree(1111).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_in_memory() {
    let engine = || -> Arc<dyn Engine> { Arc::new(MemoryEngine::new()) };
    a_new_replica([engine(), engine(), engine()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_in_rocksdb() {
    let directory = tempfile::tempdir().unwrap();
    let engine = |node: &str| rocks(&directory.path().join(node));
    a_new_replica([engine("1"), engine("2"), engine("3")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lags() {
    let (mut cluster, leader) = Cluster::three().await;
    cluster.propose(leader, commands("a", 50, 10)).await;
    cluster.agree(50).await;
    let away = leader % 3 + 1;
    let before = cluster.nodes[&away].group.view().storage();
    let engine = cluster.stop(away).await;
    cluster.propose(leader, commands("b", 500, 1000)).await;
    cluster.agree(550).await;
    for node in (1..=3).filter(|node| *node != away) {
        trim(&cluster, node).await;
    }
    cluster.start(away, engine.clone()).await.unwrap();
    cluster.agree(550).await;
    let node = &cluster.nodes[&away];
    assert_ne!(node.group.view().storage(), before);
    // Its old state is gone with the pointer to it.
    let used = storage_ids(&engine, node.group.view().storage() + 10);
    assert_eq!(used, [node.group.view().storage()]);
    assert_eq!(node.host.stored(), [(GROUP, replica(away))]);
    let leader = cluster.leader().await;
    cluster.propose(leader, commands("c", 5, 10)).await;
    cluster.agree(555).await;
    cluster.end().await;
}
