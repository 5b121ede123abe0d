//! Three replicas that work: elections, proposals, confirmations, restarts.

use std::sync::Arc;

use bytes::Bytes;
use caucus_engine::Engine;
use caucus_engine::memory::MemoryEngine;

use super::support::{rocks, within};
use super::support_cluster::{Cluster, GROUP, commands, replica};
use crate::{ConfirmError, ProposeError};

async fn works(engines: Vec<Arc<dyn Engine>>) {
    let mut cluster = Cluster::new();
    for (node, engine) in (1..).zip(engines) {
        cluster.start(node, engine).await.unwrap();
    }
    cluster.initialize().await;
    // Again, and elsewhere: does nothing.
    cluster.initialize().await;
    let leader = cluster.leader().await;
    let numbers = cluster.propose(leader, commands("a", 500, 10)).await;
    assert_eq!(numbers, (1..=500).collect::<Vec<u64>>(), "replies in order");
    let state = cluster.agree(500).await;
    let group = &cluster.nodes[&leader].group;
    let confirmed = within("a confirmation", group.confirm()).await.unwrap();
    assert_eq!(confirmed.term, group.leadership().term);
    assert!(cluster.nodes[&leader].taped.borrow().index >= state.index);
    // A follower that was away catches up from the log.
    let follower = if leader == 1 { 2 } else { 1 };
    let before = cluster.nodes[&follower].group.view().storage();
    let engine = cluster.stop(follower).await;
    cluster.propose(leader, commands("b", 100, 10)).await;
    cluster.start(follower, engine).await.unwrap();
    cluster.agree(600).await;
    let after = cluster.nodes[&follower].group.view().storage();
    assert_eq!(before, after, "no snapshot was needed");
    // All at once.
    let mut engines = Vec::new();
    for node in 1..=3 {
        engines.push((node, cluster.stop(node).await));
    }
    for (node, engine) in engines {
        cluster.start(node, engine).await.unwrap();
    }
    let leader = cluster.leader().await;
    assert_eq!(cluster.propose(leader, commands("c", 1, 10)).await, [601]);
    cluster.agree(601).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory() {
    let engine = || -> Arc<dyn Engine> { Arc::new(MemoryEngine::new()) };
    works((0..3).map(|_| engine()).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_rocksdb() {
    let directory = tempfile::tempdir().unwrap();
    let engine = |node: u32| rocks(&directory.path().join(node.to_string()));
    works((0..3).map(engine).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_leaders_is_refused() {
    let (cluster, leader) = Cluster::three().await;
    let group = &cluster.nodes[&leader].group;
    let term = group.leadership().term;
    for wrong in [term - 1, term + 1] {
        let answer = group.propose(wrong, Bytes::from_static(b"stale")).await;
        let refused = within("an answer", answer.unwrap()).await.err();
        assert!(
            matches!(refused, Some(ProposeError::NotLeader { .. })),
            "{refused:?}"
        );
    }
    let follower = if leader == 1 { 2 } else { 1 };
    let group = &cluster.nodes[&follower].group;
    let answer = group.propose(term, Bytes::from_static(b"astray")).await;
    let refused = within("an answer", answer.unwrap()).await.err();
    let leader_is = Some(leader);
    assert_eq!(refused, Some(ProposeError::NotLeader { leader: leader_is }));
    let refused = within("an answer", group.confirm()).await;
    assert_eq!(refused, Err(ConfirmError::NotLeader { leader: leader_is }));
    assert_eq!(cluster.propose(leader, commands("a", 1, 1)).await, [1]);
    cluster.agree(1).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmations_are_shared() {
    let (cluster, leader) = Cluster::three().await;
    let group = &cluster.nodes[&leader].group;
    let all = futures::future::join_all((0..200).map(|_| group.confirm()));
    for confirmed in within("all confirmations", all).await {
        assert_eq!(confirmed.unwrap().term, group.leadership().term);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_moves_the_lead() {
    let (cluster, leader) = Cluster::three().await;
    cluster.propose(leader, commands("a", 10, 1)).await;
    cluster.agree(10).await;
    let next = leader % 3 + 1;
    let group = &cluster.nodes[&next].group;
    cluster.transfer(leader, next).await;
    let mut leadership = group.watch_leadership();
    let leads = leadership.wait_for(|leadership| leadership.here);
    within("the new lead", leads).await.unwrap();
    assert_eq!(cluster.leader().await, next);
    assert_eq!(cluster.propose(next, commands("b", 1, 1)).await, [11]);
    cluster.agree(11).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_replica_is_gone() {
    let (mut cluster, leader) = Cluster::three().await;
    cluster.propose(leader, commands("a", 10, 1)).await;
    cluster.agree(10).await;
    let away = leader % 3 + 1;
    let host = cluster.nodes[&away].host.clone();
    assert_eq!(host.stored(), [(GROUP, replica(away))]);
    host.wipe(GROUP, replica(away)).await.unwrap();
    assert!(host.stored().is_empty());
    assert!(host.group(GROUP, replica(away)).is_none());
    // The others are a majority.
    assert_eq!(cluster.propose(leader, commands("b", 1, 1)).await, [11]);
    cluster.stop(away).await;
    cluster.agree(11).await;
    cluster.end().await;
}
