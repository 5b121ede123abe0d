//! Queues have ends, and disks too.

use caucus_api::Failure;
use caucus_engine::SpaceState;

use crate::Options;

use super::oracle::Answering;
use super::support::{Cluster, failure, outcome, patient, value, within};

#[tokio::test]
async fn a_full_queue_of_writes_is_busy() {
    let options = Options {
        queue_writes_max: 2,
        ..patient()
    };
    let mut cluster = Cluster::start(1, options).await;
    cluster.oracle.set(Answering::Hold);
    let first = cluster.send(1, cluster.put(&cluster.key(1, 0), "x"));
    let ask = within("an ask", cluster.asks.recv()).await.unwrap();
    // The sequencer waits for the grant; so two fit, and no more.
    let [second, third, fourth] =
        [1, 2, 3].map(|n| cluster.send(1, cluster.put(&cluster.key(1, n), "x")));
    let busy = failure(fourth.reply().await);
    assert_eq!(
        busy,
        Failure::Busy("the group's queue of writes".to_owned())
    );
    assert!(!busy.is_unknown());
    cluster.oracle.set(Answering::Grant);
    ask.grant();
    for write in [first, second, third] {
        outcome(write.reply().await);
    }
    assert_eq!(
        value(cluster.ask(cluster.get(&cluster.key(1, 3))).await),
        None
    );
    cluster.end().await;
}

// On one thread: the reading task doesn't run between the three.
#[tokio::test]
async fn a_full_queue_of_reads_is_busy() {
    let options = Options {
        queue_reads_max: 2,
        ..patient()
    };
    let cluster = Cluster::start(1, options).await;
    let key = cluster.key(1, 0);
    let [first, second, third] = [0, 1, 2].map(|_| cluster.send(1, cluster.get(&key)));
    let busy = failure(third.reply().await);
    assert_eq!(busy, Failure::Busy("the group's queue of reads".to_owned()));
    for read in [first, second] {
        assert_eq!(value(read.reply().await), None);
    }
    cluster.end().await;
}

#[tokio::test]
async fn a_full_disk_refuses_puts_only() {
    let cluster = Cluster::one().await;
    let key = cluster.key(1, 0);
    outcome(cluster.ask(cluster.put(&key, "x")).await);
    let engine = cluster.nodes[&1].engine.clone();
    engine.set_space(SpaceState::Low);
    let refused = cluster.ask(cluster.put(&key, "y")).await;
    assert_eq!(failure(refused), Failure::NoSpace);
    let read = cluster.ask(cluster.get(&key)).await;
    assert_eq!(value(read).as_deref(), Some(&b"x"[..]));
    outcome(cluster.ask(cluster.delete(&key)).await);
    assert_eq!(value(cluster.ask(cluster.get(&key)).await), None);
    engine.set_space(SpaceState::Ok);
    outcome(cluster.ask(cluster.put(&key, "z")).await);
    cluster.end().await;
}
