//! What is answered when time runs out, and whether the write may have happened.

use std::time::Duration;

use caucus_api::Failure;
use caucus_api::shard::Request;

use crate::Options;

use super::oracle::Answering;
use super::support::{Cluster, failure, outcome, patient, until, value, within};

fn soon(request: Request) -> Request {
    Request {
        deadline_ms: 30,
        ..request
    }
}

/// Asks that are given up fast.
fn hasty() -> Options {
    Options {
        ask_timeout: Duration::from_millis(5),
        ..Options::default()
    }
}

#[tokio::test]
async fn a_read_that_waits_too_long() {
    let mut cluster = Cluster::one().await;
    let key = cluster.key(1, 0);
    cluster.oracle.set(Answering::Hold);
    let write = cluster.send(1, cluster.put(&key, "x"));
    let ask = within("an ask", cluster.asks.recv()).await.unwrap();
    let late = cluster.send(1, soon(cluster.get(&key))).reply().await;
    assert_eq!(failure(late), Failure::Deadline { unknown: false });
    ask.grant();
    outcome(write.reply().await);
    cluster.end().await;
}

#[tokio::test]
async fn a_write_that_was_never_sequenced_did_not_happen() {
    let mut cluster = Cluster::one().await;
    let (key, queued) = (cluster.key(1, 0), cluster.key(1, 1));
    cluster.oracle.set(Answering::Hold);
    let first = cluster.send(1, cluster.put(&key, "x"));
    let ask = within("an ask", cluster.asks.recv()).await.unwrap();
    let late = cluster.send(1, soon(cluster.put(&queued, "x")));
    // Time is what this is about: the deadline has to pass.
    tokio::time::sleep(Duration::from_millis(40)).await;
    cluster.oracle.set(Answering::Grant);
    ask.grant();
    outcome(first.reply().await);
    let late = failure(late.reply().await);
    assert_eq!(late, Failure::Deadline { unknown: false });
    assert_eq!(value(cluster.ask(cluster.get(&queued)).await), None);
    cluster.end().await;
}

#[tokio::test]
async fn without_revisions_writes_fail_for_certain_and_reads_go_on() {
    let cluster = Cluster::start(1, hasty()).await;
    let key = cluster.key(1, 0);
    outcome(cluster.ask(cluster.put(&key, "before")).await);
    cluster.oracle.set(Answering::Refuse);
    let patient = cluster.send(1, cluster.put(&cluster.key(1, 1), "later"));
    let refused = cluster.send(1, soon(cluster.put(&key, "x"))).reply().await;
    let refused = failure(refused);
    assert!(
        matches!(&refused, Failure::Unavailable { unknown: false, reason } if reason.contains("placement")),
        "{refused:?}"
    );
    until("more asks", || cluster.oracle.refused() > 5).await;
    let read = cluster.ask(cluster.get(&key)).await;
    assert_eq!(value(read).as_deref(), Some(&b"before"[..]));
    // Who has time gets through when the oracle is back.
    cluster.oracle.set(Answering::Grant);
    outcome(patient.reply().await);
    outcome(cluster.ask(cluster.put(&key, "after")).await);
    cluster.end().await;
}

#[tokio::test]
async fn each_of_a_batch_has_its_own_deadline() {
    let mut cluster = Cluster::start(1, hasty()).await;
    cluster.oracle.set(Answering::Hold);
    let first = cluster.send(1, cluster.put(&cluster.key(1, 0), "x"));
    let ask = within("an ask", cluster.asks.recv()).await.unwrap();
    // These gather while the first one is asked for.
    cluster.oracle.set(Answering::Refuse);
    let late = cluster.send(1, soon(cluster.put(&cluster.key(1, 1), "x")));
    let live = cluster.send(1, cluster.put(&cluster.key(1, 2), "x"));
    ask.grant();
    assert!(!failure(late.reply().await).is_unknown());
    cluster.oracle.set(Answering::Grant);
    outcome(first.reply().await);
    outcome(live.reply().await);
    let read = cluster.ask(cluster.get(&cluster.key(1, 1))).await;
    assert_eq!(value(read), None);
    cluster.end().await;
}

#[tokio::test]
async fn a_write_that_was_proposed_may_have_happened() {
    // The second entry doesn't wait for the first.
    let options = Options {
        beside_writes_min: 1,
        ..patient()
    };
    let cluster = Cluster::start(1, options).await;
    let key = cluster.key(1, 0);
    let engine = cluster.nodes[&1].engine.clone();
    engine.hold_syncs();
    let live = cluster.send(1, cluster.put(&cluster.key(1, 1), "y"));
    let late = cluster.send(1, soon(cluster.put(&key, "x"))).reply().await;
    assert_eq!(failure(late), Failure::Deadline { unknown: true });
    // And here it does, after all.
    engine.release_syncs();
    outcome(live.reply().await);
    let read = cluster.ask(cluster.get(&key)).await;
    assert_eq!(value(read).as_deref(), Some(&b"x"[..]));
    cluster.end().await;
}

/// While an entry hangs, the small one after it hasn't begun.
#[tokio::test]
async fn a_write_that_waits_for_another_entry_did_not_happen() {
    let cluster = Cluster::start(1, patient()).await;
    let [first, queued] = [0, 1].map(|n| cluster.key(1, n));
    let engine = cluster.nodes[&1].engine.clone();
    engine.hold_syncs();
    let hanging = cluster.send(1, cluster.put(&first, "x"));
    until("the first is in the log", || engine.held_syncs() > 0).await;
    // Behind one that has more time.
    let behind = cluster.send(1, cluster.put(&cluster.key(1, 2), "x"));
    let late = cluster
        .send(1, soon(cluster.put(&queued, "x")))
        .reply()
        .await;
    assert_eq!(failure(late), Failure::Deadline { unknown: false });
    engine.release_syncs();
    outcome(hanging.reply().await);
    outcome(behind.reply().await);
    assert_eq!(value(cluster.ask(cluster.get(&queued)).await), None);
    cluster.end().await;
}

/// An ask without an answer is void: it blocks no read, and what it is granted in the end is used by
/// nobody.
#[tokio::test]
async fn a_slow_grant_is_thrown_away() {
    let mut cluster = Cluster::start(1, hasty()).await;
    let key = cluster.key(1, 0);
    cluster.oracle.set(Answering::Hold);
    let write = cluster.send(1, cluster.put(&key, "x"));
    let slow = within("an ask", cluster.asks.recv()).await.unwrap();
    // The ask is still open; the read waits for it only until it is void.
    let read = cluster.send(1, cluster.get(&key)).reply().await;
    assert_eq!(value(read), None);
    let void = slow.grant();
    let next = within("the next ask", cluster.asks.recv()).await.unwrap();
    cluster.oracle.set(Answering::Grant);
    next.grant();
    let revision = outcome(write.reply().await).revision;
    assert!(revision > void, "{revision} after {void}");
    cluster.end().await;
}

/// However far away the oracle is: asks that were void in vain are followed by one that is given more time.
#[tokio::test]
async fn an_oracle_that_takes_long_is_waited_for() {
    let mut cluster = Cluster::start(1, hasty()).await;
    let key = cluster.key(1, 0);
    cluster.oracle.set(Answering::Hold);
    let reply = tokio::spawn(cluster.send(1, cluster.put(&key, "x")).reply());
    let mut asks = 0;
    while !reply.is_finished() {
        let ask = within("an ask", cluster.asks.recv()).await.unwrap();
        asks += 1;
        // Time is what this is about: longer than the first asks are waited for.
        tokio::time::sleep(Duration::from_millis(20)).await;
        ask.grant();
        assert!(asks < 20, "no ask is waited for");
        until("what comes of it", || {
            reply.is_finished() || !cluster.asks.is_empty()
        })
        .await;
    }
    assert!(asks > 1, "the first was void");
    outcome(reply.await.unwrap());
    cluster.end().await;
}
