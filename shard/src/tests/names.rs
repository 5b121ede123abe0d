//! Requests that clients name.

use std::time::Duration;

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Put, Request, RequestId, Write};
use prost::Message;

use super::support::{Cluster, failure, outcome, patient, value};
use crate::Options;

const WINDOW: Duration = Duration::from_secs(60);
const NAMES_MAX: usize = 3;

async fn cluster() -> Cluster {
    let options = Options {
        idempotency_window: WINDOW,
        idempotency_keys_max: NAMES_MAX,
        ..patient()
    };
    Cluster::start(1, options).await
}

/// A put under a name, from a router that has never been heard of.
fn named(cluster: &Cluster, key: &Bytes, text: &'static str, (name, print): (u64, u64)) -> Request {
    let put = Put {
        value: Bytes::from_static(text.as_bytes()),
        ..Put::default()
    };
    let write = Write {
        id: Some(RequestId {
            session: 77,
            sequence: name,
            stamp: 0,
        }),
        fingerprint: print,
        ..cluster.write(key, Action::Put(put))
    };
    cluster.request(Body::Write(write.encode_to_vec().into()))
}

#[tokio::test]
async fn a_name_is_kept_for_its_window_and_over_a_restart() {
    let mut cluster = cluster().await;
    let key = cluster.key(1, 0);
    let first = outcome(cluster.ask(named(&cluster, &key, "one", (1, 5))).await);
    outcome(cluster.ask(cluster.put(&key, "other")).await);
    let again = outcome(cluster.ask(named(&cluster, &key, "one", (1, 5))).await);
    assert_eq!(again, first);
    let clash = failure(cluster.ask(named(&cluster, &key, "two", (1, 6))).await);
    assert_eq!(clash, Failure::NameTaken);

    let engine = cluster.stop_node(1).await;
    cluster.start_node(1, engine).await;
    let again = outcome(cluster.ask(named(&cluster, &key, "one", (1, 5))).await);
    assert_eq!(again, first);
    let stands = cluster.ask(cluster.get(&key)).await;
    assert_eq!(value(stands), Some(Bytes::from_static(b"other")));

    cluster.pass(WINDOW + Duration::from_millis(1));
    let anew = outcome(cluster.ask(named(&cluster, &key, "two", (1, 6))).await);
    assert!(anew.revision > first.revision);
    let stands = cluster.ask(cluster.get(&key)).await;
    assert_eq!(value(stands), Some(Bytes::from_static(b"two")));
    cluster.end().await;
}

#[tokio::test]
async fn a_full_table_refuses_new_names_and_forgets_none() {
    let cluster = cluster().await;
    let key = cluster.key(1, 0);
    let mut first = Vec::new();
    for name in 0..NAMES_MAX as u64 {
        first.push(outcome(
            cluster.ask(named(&cluster, &key, "v", (name, 9))).await,
        ));
    }
    let refused = failure(cluster.ask(named(&cluster, &key, "v", (99, 9))).await);
    assert!(matches!(refused, Failure::Busy(_)), "{refused:?}");
    // Writes without a name go on, and so does time.
    outcome(cluster.ask(cluster.put(&key, "plain")).await);
    cluster.pass(WINDOW + Duration::from_millis(1));
    outcome(cluster.ask(cluster.put(&key, "plain")).await);
    let taken = outcome(cluster.ask(named(&cluster, &key, "v", (99, 9))).await);
    assert!(taken.revision > first[0].revision);
    cluster.end().await;
}

/// Where all writes have names, none is there to let the others go.
#[tokio::test]
async fn a_full_table_takes_a_name_when_its_oldest_is_too_old() {
    let cluster = cluster().await;
    let key = cluster.key(1, 0);
    for name in 0..NAMES_MAX as u64 {
        outcome(cluster.ask(named(&cluster, &key, "v", (name, 9))).await);
    }
    cluster.pass(WINDOW);
    let refused = failure(cluster.ask(named(&cluster, &key, "v", (99, 9))).await);
    assert!(matches!(refused, Failure::Busy(_)), "{refused:?}");
    cluster.pass(Duration::from_millis(1));
    outcome(cluster.ask(named(&cluster, &key, "v", (99, 9))).await);
    cluster.end().await;
}
