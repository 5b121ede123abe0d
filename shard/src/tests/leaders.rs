//! Three replicas: leaders change, nodes end and come back.

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::{Hash, Hashed, Request};

use super::oracle::Answering;
use super::support::{Cluster, failure, outcome, patient, until, value, within};

async fn three() -> Cluster {
    Cluster::start(3, patient()).await
}

/// Moves the lead of group 1 to a node.
async fn elect(cluster: &Cluster, node: u32) {
    let from = cluster.group(1, cluster.leader(1).await);
    let to = cluster.group(1, node);
    // Nobody votes for a replica that lags.
    let last = from.progress().last;
    until("the last entry", || to.progress().last >= last).await;
    from.hand_over(to.replica()).await.unwrap();
    until("the lead", || to.leadership().here).await;
    assert_eq!(cluster.leader(1).await, node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_and_former_leaders_name_the_leader() {
    let cluster = three().await;
    let key = cluster.key(1, 0);
    let mut before = cluster.leader(1).await;
    let put = cluster.put(&key, "0");
    let mut last = outcome(cluster.send(before, put.clone()).reply().await);
    assert_eq!(last.version, 1);
    for version in 2..5 {
        let next = before % 3 + 1;
        elect(&cluster, next).await;
        let refused = Failure::NotLeader { leader: Some(next) };
        for request in [
            cluster.put(&key, "no"),
            cluster.get(&key),
            cluster.list(b"", b""),
        ] {
            let reply = cluster.send(before, request).reply().await;
            assert_eq!(failure(reply), refused);
        }
        // The new leader knows what the old one has done, and that it has done it.
        let again = outcome(cluster.send(next, put.clone()).reply().await);
        assert_eq!((again.version, again.kind), (1, last.kind));
        let read = cluster.send(next, cluster.get(&key)).reply().await;
        assert!(read.revision >= last.revision);
        assert!(value(read).is_some());
        let now = outcome(cluster.send(next, cluster.put(&key, "n")).reply().await);
        assert_eq!(now.version, version, "nothing that was refused was written");
        assert!(now.revision > last.revision);
        (before, last) = (next, now);
    }
    cluster.end().await;
}

/// Writes that are under way when the lead moves are each applied once, or refused for certain, or
/// said to be unknown; and asked again at the new leader each is applied once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_over_a_change_of_leaders_are_applied_once() {
    let cluster = three().await;
    let before = cluster.leader(1).await;
    let all: Vec<(Bytes, Request)> = (0..60)
        .map(|n| {
            let key = cluster.key(1, n);
            let put = cluster.put(&key, "x");
            (key, put)
        })
        .collect();
    let mut sent = Vec::new();
    let next = before % 3 + 1;
    let (group, to) = (cluster.group(1, before), cluster.group(1, next).replica());
    for (n, (_, put)) in all.iter().enumerate() {
        sent.push(cluster.send(before, put.clone()));
        if n == 30 {
            group.hand_over(to).await.unwrap();
        }
    }
    for pending in sent {
        let reply = pending.reply().await;
        match reply.body {
            Some(Answer::Outcome(outcome)) => assert_eq!(outcome.version, 1),
            other => {
                let failure = Failure::from(match other {
                    Some(Answer::Error(error)) => error,
                    other => panic!("{other:?}"),
                });
                let known = matches!(failure, Failure::NotLeader { .. });
                assert!(known || failure.is_unknown(), "{failure:?}");
            }
        }
    }
    // It may have been in vain, as long as the candidate lagged.
    if cluster.leader(1).await == before {
        elect(&cluster, next).await;
    }
    let leader = cluster.leader(1).await;
    assert_ne!(leader, before);
    for (key, put) in &all {
        let again = outcome(cluster.send(leader, put.clone()).reply().await);
        assert_eq!(again.version, 1, "{key:?} was written twice");
    }
    let listed = cluster.send(leader, cluster.list(b"", b"")).reply().await;
    assert_eq!(super::support::keys(listed).len(), all.len());
    cluster.end().await;
}

/// What waits for its revisions when the lead goes gets none from the old leader, in whatever term the
/// oracle may answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_comes_after_the_lead_is_lost_serves_nobody() {
    let mut cluster = three().await;
    let keys: Vec<Bytes> = (0..5).map(|n| cluster.key(1, n)).collect();
    let puts: Vec<Request> = keys.iter().map(|key| cluster.put(key, "x")).collect();
    let before = cluster.leader(1).await;
    cluster.oracle.set(Answering::Hold);
    let first = cluster.send(before, puts[0].clone());
    let ask = within("an ask", cluster.asks.recv()).await.unwrap();
    let queued: Vec<_> = puts[1..]
        .iter()
        .map(|put| cluster.send(before, put.clone()))
        .collect();
    let next = before % 3 + 1;
    elect(&cluster, next).await;
    let leader = Some(next);
    ask.grant();
    for pending in [first].into_iter().chain(queued) {
        let refused = failure(pending.reply().await);
        assert_eq!(refused, Failure::NotLeader { leader });
    }
    cluster.oracle.set(Answering::Grant);
    let none = cluster.send(next, cluster.list(b"", b"")).reply().await;
    assert!(super::support::keys(none).is_empty());
    for put in puts {
        let done = outcome(cluster.send(next, put).reply().await);
        assert_eq!(done.version, 1);
    }
    // And back: the old leader leads again in another term, and has forgotten what it was asked.
    elect(&cluster, before).await;
    let again = outcome(
        cluster
            .send(before, cluster.put(&keys[0], "y"))
            .reply()
            .await,
    );
    assert_eq!(again.version, 2);
    cluster.end().await;
}

async fn hashed(cluster: &Cluster, node: u32) -> Hashed {
    let asked = cluster.request(Body::Hash(Hash {}));
    match cluster.send(node, asked).reply().await.body {
        Some(Answer::Hashed(hashed)) => hashed,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_at_the_same_index_have_the_same_hash() {
    let mut cluster = three().await;
    let keys: Vec<Bytes> = (0..20).map(|n| cluster.key(1, n)).collect();
    for key in &keys {
        outcome(cluster.ask(cluster.put(key, "x")).await);
    }
    let leader = cluster.leader(1).await;
    let away = leader % 3 + 1;
    let engine = cluster.stop_node(away).await;
    let leader = cluster.leader(1).await;
    for key in &keys[..10] {
        let deleted = cluster.send(leader, cluster.delete(key)).reply().await;
        outcome(deleted);
    }
    cluster.start_node(away, engine).await;
    until("the replica", || {
        let host = &cluster.nodes[&away].host;
        host.stored()
            .iter()
            .all(|(group, replica)| host.group(*group, *replica).is_some())
    })
    .await;
    let leader = cluster.leader(1).await;
    let last = cluster.group(1, leader).progress().last;
    for node in 1..=3 {
        let group = cluster.group(1, node);
        until("all is applied", || group.progress().applied >= last).await;
    }
    let first = hashed(&cluster, 1).await;
    assert_eq!(first.hash.len(), 16);
    assert_ne!(first.hash, Bytes::from_static(&[0; 16]));
    for node in 2..=3 {
        assert_eq!(hashed(&cluster, node).await, first);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_starts_again_with_all_it_had() {
    let mut cluster = Cluster::one().await;
    let key = cluster.key(1, 0);
    let put = cluster.put(&key, "x");
    let first = outcome(cluster.ask(put.clone()).await);
    let engine = cluster.stop_node(1).await;
    cluster.start_node(1, engine.crash()).await;
    until("the replica", || !cluster.nodes[&1].shard.led().is_empty()).await;
    cluster.leader(1).await;
    assert_eq!(outcome(cluster.ask(put).await), first);
    let read = cluster.ask(cluster.get(&key)).await;
    assert_eq!(value(read).as_deref(), Some(&b"x"[..]));
    assert_eq!(
        super::support::keys(cluster.ask(cluster.list(b"", b"")).await),
        [key]
    );
    cluster.end().await;
}
