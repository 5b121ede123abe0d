//! Whom a replica upholds as leader, and what a leader makes of the answers.

use caucus_engine::memory::MemoryEngine;
use openraft::storage::RaftLogStorage;

use super::support::{Rig, settle, within};
use super::support_cluster::{Cluster, commands, replica};
use crate::ConfirmError;
use crate::log::LogHandle;
use crate::types::Vote;
use crate::wire;

fn vote_for(term: u64, replica: u64) -> Vote {
    let committed = false;
    wire::Vote {
        term,
        replica,
        committed,
    }
    .into()
}

#[tokio::test]
async fn a_vote_counts_before_it_is_durable() {
    let engine = MemoryEngine::new();
    let rig = Rig::memory(&engine);
    let mut log = rig.log(1);
    assert!(log.0.upholds(1, 1), "nothing was promised yet");
    log.save_vote(&vote_for(4, 1)).await.unwrap();
    assert!(log.0.upholds(4, 1) && log.0.upholds(5, 3));
    engine.hold_syncs();
    let mut voter = log.clone();
    let mut saved = Box::pin(async move { voter.save_vote(&vote_for(5, 2)).await });
    assert!(futures::poll!(&mut saved).is_pending());
    settle().await;
    assert!(futures::poll!(&mut saved).is_pending());
    let upheld = |log: &LogHandle| {
        let asked = [(4, 1), (5, 1), (5, 2), (6, 1)];
        asked.map(|(term, leader)| log.0.upholds(term, leader))
    };
    assert_eq!(upheld(&log), [false, false, true, true]);
    engine.release_syncs();
    within("the vote", saved).await.unwrap();
    assert_eq!(upheld(&log), [false, false, true, true]);
    let rig = Rig::memory(&engine.crash());
    assert_eq!(upheld(&rig.log(1)), [false, false, true, true]);
}

/// The followers' logs have saved a vote for another; nobody has told the leader yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_outvoted_confirms_nothing() {
    let (cluster, leader) = Cluster::three().await;
    cluster.propose(leader, commands("a", 10, 1)).await;
    cluster.agree(10).await;
    let group = &cluster.nodes[&leader].group;
    let term = group.leadership().term;
    let promise = async |node: u32| {
        let mut log = LogHandle(cluster.nodes[&node].group.log.clone());
        let vote = vote_for(term + 1, replica(node));
        log.save_vote(&vote).await.unwrap();
    };
    promise(leader % 3 + 1).await;
    // One vote makes no other leader.
    let confirmed = within("a confirmation", group.confirm()).await.unwrap();
    assert_eq!(confirmed.term, term);
    promise((leader + 1) % 3 + 1).await;
    let refused = within("a refusal", group.confirm()).await;
    assert_eq!(refused, Err(ConfirmError::NotLeader { leader: None }));
    assert!(group.leadership().here, "it doesn't know");
    cluster.end().await;
}
