//! Reads wait for the writes of their keys that are under way, and for no others.

use bytes::Bytes;
use caucus_api::Failure;

use super::oracle::Answering;
use super::support::{Cluster, failure, keys, outcome, value, within};

#[tokio::test]
async fn a_read_waits_for_the_writes_of_its_keys() {
    let mut cluster = Cluster::one().await;
    let (key, other) = (cluster.key(1, 0), cluster.key(1, 1));
    outcome(cluster.ask(cluster.put(&other, "before")).await);
    cluster.oracle.set(Answering::Hold);
    let write = cluster.send(1, cluster.put(&key, "new"));
    let ask = within("an ask", cluster.asks.recv()).await.unwrap();
    let after = [&key[..], b"\0"].concat();
    let mut get = cluster.send(1, cluster.get(&key));
    let mut list = cluster.send(1, cluster.list(b"", b""));
    let mut narrow = cluster.send(1, cluster.list(&key, &after));
    // These came later and have nothing to wait for. Answers without a wait are given in order, so the
    // ones before would be there by now.
    let beside = cluster.send(1, cluster.list(&after, b"\xff")).reply().await;
    let found = cluster.send(1, cluster.get(&other)).reply().await;
    assert_eq!(value(found).as_deref(), Some(&b"before"[..]));
    assert!(!keys(beside).contains(&key));
    assert!(get.is_open() && list.is_open() && narrow.is_open());

    let revision = ask.grant();
    assert_eq!(outcome(write.reply().await).revision, revision);
    let read = get.reply().await;
    assert!(read.revision >= revision);
    assert_eq!(value(read).as_deref(), Some(&b"new"[..]));
    assert_eq!(keys(list.reply().await).len(), 2);
    assert_eq!(keys(narrow.reply().await), [key]);
    cluster.end().await;
}

/// A write that only waits in the queue has no revision and may get a later one than any read.
#[tokio::test]
async fn a_read_does_not_wait_for_what_is_not_asked_for_yet() {
    let mut cluster = Cluster::one().await;
    let (key, queued) = (cluster.key(1, 0), cluster.key(1, 1));
    cluster.oracle.set(Answering::Hold);
    let first = cluster.send(1, cluster.put(&key, "a"));
    let ask = within("an ask", cluster.asks.recv()).await.unwrap();
    let second = cluster.send(1, cluster.put(&queued, "b"));
    let read = cluster.send(1, cluster.get(&queued)).reply().await;
    assert_eq!(value(read), None);
    cluster.oracle.set(Answering::Grant);
    ask.grant();
    outcome(first.reply().await);
    outcome(second.reply().await);
    let read = cluster.ask(cluster.get(&queued)).await;
    assert_eq!(value(read).as_deref(), Some(&b"b"[..]));
    cluster.end().await;
}

/// Granted and proposed, not yet committed: still under way.
#[tokio::test]
async fn a_read_waits_for_a_write_that_is_proposed() {
    let cluster = Cluster::one().await;
    let key = cluster.key(1, 0);
    let engine = cluster.nodes[&1].engine.clone();
    engine.hold_syncs();
    let write = cluster.send(1, cluster.put(&key, "x"));
    super::support::until("a sync", || engine.held_syncs() > 0).await;
    let mut read = cluster.send(1, cluster.get(&key));
    let other = cluster.key(1, 1);
    let beside = cluster.send(1, cluster.get(&other)).reply().await;
    assert_eq!(value(beside), None);
    assert!(read.is_open());
    engine.release_syncs();
    outcome(write.reply().await);
    assert_eq!(value(read.reply().await).as_deref(), Some(&b"x"[..]));
    cluster.end().await;
}

#[tokio::test]
async fn a_read_of_a_lost_write_is_sent_to_the_next_leader() {
    let cluster = Cluster::one().await;
    let (key, other) = (cluster.key(1, 0), cluster.key(1, 1));
    let engine = cluster.nodes[&1].engine.clone();
    engine.hold_syncs();
    let write = cluster.send(1, cluster.put(&key, "x"));
    super::support::until("a sync", || engine.held_syncs() > 0).await;
    let mut read = cluster.send(1, cluster.get(&key));
    value(cluster.send(1, cluster.get(&other)).reply().await);
    assert!(read.is_open());
    // The replica ends with the write under way: nobody here will know what became of it.
    let replica = cluster.group(1, 1).replica();
    cluster.nodes[&1].host.stop(1, replica).await;
    let lost = failure(write.reply().await);
    assert!(lost.is_unknown(), "{lost:?}");
    let read = failure(read.reply().await);
    assert_eq!(read, Failure::NotLeader { leader: None });
    engine.release_syncs();
    cluster.end().await;
}

#[tokio::test]
async fn replies_are_at_or_above_what_was_asked_for() {
    let cluster = Cluster::one().await;
    let key = cluster.key(1, 0);
    let revision = outcome(cluster.ask(cluster.put(&key, "x")).await).revision;
    for (at_least, wanted) in [(0, revision), (revision, revision), (900, 900)] {
        for mut request in [cluster.get(&key), cluster.list(b"", b"")] {
            request.at_least = at_least;
            assert_eq!(cluster.ask(request).await.revision, wanted);
        }
    }
    let mut put = cluster.put(&key, "y");
    put.at_least = 900;
    let reply = cluster.ask(put).await;
    assert_eq!(reply.revision, 900);
    assert_eq!(outcome(reply).revision, revision + 1);
    cluster.end().await;
}

#[tokio::test]
async fn listings_see_keys_come_and_go() {
    let cluster = Cluster::one().await;
    let mut all: Vec<Bytes> = (0..30).map(|n| cluster.key(1, n)).collect();
    for key in &all {
        outcome(cluster.ask(cluster.put(key, "x")).await);
    }
    all.sort();
    assert_eq!(keys(cluster.ask(cluster.list(b"", b"")).await), all);
    for key in all.drain(..15) {
        outcome(cluster.ask(cluster.delete(&key)).await);
    }
    assert_eq!(keys(cluster.ask(cluster.list(b"", b"")).await), all);
    let empty = cluster.ask(cluster.list(b"z", b"a")).await;
    assert!(keys(empty).is_empty());
    cluster.end().await;
}
