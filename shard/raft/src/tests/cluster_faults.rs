//! Three replicas of which some stop, fail or are damaged.

use std::sync::Arc;

use bytes::Bytes;
use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Error, Space, WriteBatch, keys};

use super::support::{until, within};
use super::support_cluster::{Cluster, GROUP, commands, replica};
use crate::state::Places;
use crate::{ConfirmError, HostError, ProposeError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leads_when_the_leader_stops() {
    let (mut cluster, leader) = Cluster::three().await;
    cluster.propose(leader, commands("a", 50, 10)).await;
    cluster.agree(50).await;
    let old = cluster.nodes[&leader].group.clone();
    let term = old.leadership().term;
    let engine = cluster.stop(leader).await;
    until("the stopped one leads no more", || !old.leadership().here).await;
    let answer = old.propose(term, Bytes::from_static(b"late")).await;
    match answer {
        Ok(answer) => assert!(within("an answer", answer).await.is_err()),
        Err(error) => assert!(matches!(error, ProposeError::Stopped(_)), "{error:?}"),
    }
    let confirmed = within("an answer", old.confirm()).await;
    assert!(
        matches!(confirmed, Err(ConfirmError::Stopped(_))),
        "{confirmed:?}"
    );
    let next = cluster.leader().await;
    assert!(cluster.nodes[&next].group.leadership().term > term);
    assert_eq!(cluster.propose(next, commands("b", 1, 10)).await, [51]);
    cluster.start(leader, engine).await.unwrap();
    cluster.agree(51).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_confirmed_or_committed() {
    let (mut cluster, leader) = Cluster::three().await;
    cluster.propose(leader, commands("a", 1, 10)).await;
    let state = cluster.agree(1).await;
    let mut engines = Vec::new();
    for node in (1..=3).filter(|node| *node != leader) {
        engines.push((node, cluster.stop(node).await));
    }
    let group = cluster.nodes[&leader].group.clone();
    let term = group.leadership().term;
    let proposed = group.propose(term, Bytes::from_static(b"b")).await.unwrap();
    let confirmed = within("a refusal", group.confirm()).await;
    assert!(
        matches!(
            confirmed,
            Err(ConfirmError::NoQuorum | ConfirmError::NotLeader { .. })
        ),
        "{confirmed:?}"
    );
    assert_eq!(cluster.nodes[&leader].taped.borrow().count, state.count);
    for (node, engine) in engines {
        cluster.start(node, engine).await.unwrap();
    }
    // It was refused, lost or committed; whatever it was, all agree, and the proposer learns of it.
    let answered = within("an answer", proposed).await;
    let now = cluster.leader().await;
    let mut count = 1 + u64::from(answered.is_ok());
    if matches!(answered, Err(ProposeError::Unknown)) {
        let group = &cluster.nodes[&now].group;
        within("a confirmation", group.confirm()).await.unwrap();
        count = cluster.nodes[&now].taped.borrow().count;
    }
    cluster.agree(count).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_fails_gives_way() {
    let mut cluster = Cluster::new();
    let engines: Vec<_> = (1..=3).map(|_| MemoryEngine::new()).collect();
    for (node, engine) in (1..).zip(&engines) {
        cluster.start(node, Arc::new(engine.clone())).await.unwrap();
    }
    cluster.initialize().await;
    let leader = cluster.leader().await;
    cluster.propose(leader, commands("a", 20, 10)).await;
    cluster.agree(20).await;
    let engine = &engines[leader as usize - 1];
    engine.fail_next_sync(Error::Io {
        context: "simulated".to_owned(),
    });
    let group = cluster.nodes[&leader].group.clone();
    let term = group.leadership().term;
    let lost = group.propose(term, Bytes::from_static(b"b")).await.unwrap();
    let lost = within("an answer", lost).await;
    until("it leads no more", || !group.leadership().here).await;
    until("it has stopped", || group.progress().stopped.is_some()).await;
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    let numbers = cluster.propose(next, commands("c", 1, 10)).await;
    // The other two may have had it already.
    assert!(
        numbers == [21] && lost.is_err() || numbers == [22],
        "{numbers:?}"
    );
    cluster.agree(numbers[0]).await;
    // What was synced before is enough to come back.
    let engine = Arc::new(engine.crash());
    cluster.start(leader, engine).await.unwrap();
    cluster.agree(numbers[0]).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_stays_stopped_and_keeps_its_data() {
    let (mut cluster, leader) = Cluster::three().await;
    cluster.propose(leader, commands("a", 20, 10)).await;
    cluster.agree(20).await;
    let away = leader % 3 + 1;
    let engine = cluster.stop(away).await;
    let places = Places::open(engine.clone()).unwrap();
    let storage = places.of(GROUP, replica(away)).unwrap().log;
    let key = keys::entry(storage, 5);
    let mut record = engine.get(Space::Log, &key).unwrap().unwrap().to_vec();
    *record.last_mut().unwrap() ^= 1;
    let mut batch = WriteBatch::new();
    batch.put(Space::Log, key.clone(), record.clone());
    engine.write(batch).unwrap();
    match cluster.start(away, engine.clone()).await {
        Err(HostError::InDoubt { group, .. }) => assert_eq!(group, GROUP),
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("the damage was not noticed"),
    }
    let kept = engine.get(Space::Log, &key).unwrap().unwrap();
    assert_eq!(kept, record, "nothing is mended or removed");
    assert_eq!(cluster.propose(leader, commands("b", 1, 10)).await, [21]);
    cluster.agree(21).await;
    cluster.end().await;
}
