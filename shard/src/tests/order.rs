//! What comes on one connection stays in order, however it is cut into entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use caucus_api::shard::{Replies, Reply, Requests};
use caucus_peer::{Frame, Handler, Link, Service};
use prost::Message;
use tokio::sync::mpsc;

use crate::Options;

use super::oracle::Answering;
use super::support::{Cluster, outcome, patient, peers, until, value, within};

const WRITES: usize = 500;
const VALUES: [&str; 3] = [
    "short",
    "a value of some length, for the limit in bytes",
    "",
];

struct Answers(mpsc::UnboundedSender<Reply>);

impl Handler for Answers {
    fn frame(&self, _link: &Arc<Link>, frame: Frame) {
        for reply in Replies::decode(frame.body).unwrap().replies {
            // A test that has failed takes no more.
            let _ = self.0.send(reply);
        }
    }
}

async fn writes_of_one_connection(options: Options) {
    let cluster = Cluster::start(1, options).await;
    let key = cluster.key(1, 0);
    let (answers, mut replies) = mpsc::unbounded_channel();
    let peers = peers(9);
    let peer = peers.peer(&cluster.nodes[&1].addr);
    let link = peer.open(Arc::new(Answers(answers))).await.unwrap();
    let requests: Vec<_> = (0..WRITES)
        .map(|call| {
            let mut request = cluster.put(&key, VALUES[call % VALUES.len()]);
            request.call = call as u64;
            request
        })
        .collect();
    for some in requests.chunks(7) {
        let frame = Requests {
            requests: some.to_vec(),
            progress: None,
        };
        let body = Bytes::from(frame.encode_to_vec());
        link.send(Frame::new(Service::Shard, 0, body))
            .await
            .unwrap();
    }
    // Two entries are under way at a time, so their answers may cross; what they say may not.
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < WRITES {
        let reply = within("a reply", replies.recv()).await.unwrap();
        let call = reply.call;
        assert_eq!(
            outcomes.insert(call, outcome(reply)),
            None,
            "one answer each"
        );
    }
    let mut last = 0;
    for (call, outcome) in outcomes {
        assert_eq!(outcome.version, 1 + call);
        assert!(outcome.revision > last);
        last = outcome.revision;
    }
    let read = value(cluster.ask(cluster.get(&key)).await).unwrap();
    assert_eq!(read, VALUES[(WRITES - 1) % VALUES.len()]);
    link.close();
    peers.close().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_large_entries() {
    writes_of_one_connection(patient()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_entries_of_few_writes() {
    let options = Options {
        batch_writes_max: 3,
        ..patient()
    };
    writes_of_one_connection(options).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_entries_of_few_bytes() {
    let options = Options {
        batch_bytes_max: 200,
        ..patient()
    };
    writes_of_one_connection(options).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_entries_that_wait_for_each_other() {
    let options = Options {
        batch_writes_max: 5,
        entries_under_way_max: 1,
        ..patient()
    };
    writes_of_one_connection(options).await;
}

#[tokio::test]
async fn beside_another_entry_a_small_one_waits_to_grow() {
    let options = Options {
        beside_writes_min: 3,
        ..patient()
    };
    let mut cluster = Cluster::start(1, options).await;
    let engine = cluster.nodes[&1].engine.clone();
    engine.hold_syncs();
    let first = cluster.send(1, cluster.put(&cluster.key(1, 0), "x"));
    until("the first is in the log", || engine.held_syncs() > 0).await;
    cluster.oracle.set(Answering::Hold);
    let put = |n| cluster.send(1, cluster.put(&cluster.key(1, n), "x"));
    let (second, third) = (put(1), put(2));
    // Behind them on the connection: when this is answered, they are there.
    let read = cluster.ask(cluster.get(&cluster.key(1, 9))).await;
    assert_eq!(value(read), None);
    let fourth = put(3);
    let ask = within("an ask", cluster.asks.recv()).await.unwrap();
    assert_eq!(ask.count, 3, "the two didn't go alone");
    cluster.oracle.set(Answering::Grant);
    ask.grant();
    engine.release_syncs();
    for write in [first, second, third, fourth] {
        outcome(write.reply().await);
    }
    // Alone nothing waits.
    outcome(cluster.ask(cluster.put(&cluster.key(1, 4), "x")).await);
    cluster.end().await;
}
