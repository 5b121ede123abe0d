//! What is refused before it enters a log, or where it comes to the wrong group.

use bytes::Bytes;
use caucus_api::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Delete, Get, List, Put, Request, RequestId, SessionProgress, Write};
use caucus_api::{Failure, Groups};
use caucus_ring::VnodeSet;
use prost::Message;

use super::support::{Cluster, failure, keys, outcome, value};

fn encoded(write: Write) -> Body {
    Body::Write(write.encode_to_vec().into())
}

#[tokio::test]
async fn what_makes_no_sense_is_invalid() {
    let cluster = Cluster::one().await;
    let delete = Action::Delete(Delete {});
    let key = cluster.key(1, 0);
    let good = || cluster.write(&key, delete.clone());
    let large = Put {
        value: vec![0; VALUE_BYTES_MAX + 1].into(),
        ..Put::default()
    };
    let list = List {
        vnodes: Bytes::from_static(&[1]),
        ..List::default()
    };
    let bodies = [
        None,
        Some(Body::Write(Bytes::from_static(b"\xff"))),
        Some(Body::Write(Bytes::new())),
        Some(encoded(Write { id: None, ..good() })),
        Some(encoded(Write {
            key: Bytes::new(),
            ..good()
        })),
        Some(encoded(Write {
            key: vec![b'k'; KEY_BYTES_MAX + 1].into(),
            ..good()
        })),
        Some(encoded(Write {
            action: None,
            ..good()
        })),
        Some(encoded(Write {
            action: Some(Action::Put(large)),
            ..good()
        })),
        Some(Body::List(list)),
    ];
    let before = cluster.oracle.last();
    for body in bodies {
        let request = Request {
            body,
            ..cluster.get(&key)
        };
        let refused = failure(cluster.ask(request.clone()).await);
        assert!(
            matches!(refused, Failure::Invalid(_)),
            "{refused:?} to {request:?}"
        );
    }
    assert_eq!(cluster.oracle.last(), before, "no revision was asked for");
    // At the limits all is well.
    let largest = Put {
        value: vec![0; VALUE_BYTES_MAX].into(),
        ..Put::default()
    };
    let put = cluster.request(encoded(cluster.write(&key, Action::Put(largest))));
    outcome(cluster.ask(put).await);
    let found = value(cluster.ask(cluster.get(&key)).await).unwrap();
    assert_eq!(found.len(), VALUE_BYTES_MAX);
    let head = cluster.request(Body::Get(Get {
        key,
        head: true,
        revision: 0,
    }));
    assert!(value(cluster.ask(head).await).unwrap().is_empty());
    cluster.end().await;
}

#[tokio::test]
async fn what_belongs_elsewhere_is_sent_there() {
    let cluster = Cluster::one().await;
    let (mine, theirs) = (cluster.key(1, 0), cluster.key(2, 0));
    let moved = Failure::Moved { epoch: 0 };
    for request in [cluster.put(&theirs, "x"), cluster.get(&theirs)] {
        assert_eq!(failure(cluster.ask(request.clone()).await), moved);
        // The owner takes the same request: it left no trace.
        let reply = cluster
            .send(
                1,
                Request {
                    group: 2,
                    ..request
                },
            )
            .reply()
            .await;
        assert_eq!(failure_of(&reply), None, "{reply:?}");
    }
    let mut both = cluster.vnodes(1);
    both.union_with(&cluster.vnodes(2));
    for (vnodes, wanted) in [
        (both, Some(moved)),
        (cluster.vnodes(1), None),
        (VnodeSet::new(), None),
    ] {
        let list = List {
            vnodes: vnodes.to_packed().into(),
            limit: 10,
            ..List::default()
        };
        let reply = cluster.ask(cluster.request(Body::List(list))).await;
        assert_eq!(failure_of(&reply), wanted);
    }
    let nowhere = Request {
        group: 77,
        ..cluster.get(&mine)
    };
    assert_eq!(failure(cluster.ask(nowhere).await), Failure::NoReplica);
    cluster.end().await;
}

fn failure_of(reply: &caucus_api::shard::Reply) -> Option<Failure> {
    use caucus_api::shard::reply::Body as Answer;
    match &reply.body {
        Some(Answer::Error(error)) => Some(error.clone().into()),
        _ => None,
    }
}

#[tokio::test]
async fn other_routing_rules_are_refused() {
    let cluster = Cluster::one().await;
    let key = cluster.key(1, 0);
    let write = Write {
        rules_version: 1,
        ..cluster.write(&key, Action::Delete(Delete {}))
    };
    let requests = [
        cluster.request(encoded(write)),
        Request {
            rules_version: 1,
            ..cluster.get(&key)
        },
        Request {
            rules_version: 1,
            ..cluster.list(b"", b"")
        },
    ];
    for request in requests {
        assert_eq!(failure(cluster.ask(request).await), Failure::Rules);
    }
    cluster.end().await;
}

#[tokio::test]
async fn an_id_is_executed_once_and_then_known_until_it_is_finished() {
    let cluster = Cluster::one().await;
    let key = cluster.key(1, 0);
    let first = cluster.put(&key, "x");
    let outcome_first = outcome(cluster.ask(first.clone()).await);
    assert_eq!(outcome(cluster.ask(first.clone()).await), outcome_first);
    let read = cluster.ask(cluster.list(b"", b"")).await;
    assert_eq!(keys(read), std::slice::from_ref(&key));

    // All that session 1 has sent so far is finished; the news travels with its next write.
    let Some(Body::Write(bytes)) = &first.body else {
        panic!("a write");
    };
    let id: RequestId = Write::decode(bytes.clone()).unwrap().id.unwrap();
    cluster.nodes[&1].shard.progress(SessionProgress {
        session: id.session,
        finished_below: id.sequence + 1,
        stamp: cluster.oracle.last(),
    });
    let second = outcome(cluster.ask(cluster.put(&key, "y")).await);
    assert_eq!(second.version, 2);
    let reply = cluster.ask(first).await;
    // Who is told so also learns how far the group is.
    assert_eq!(reply.revision, second.revision);
    assert_eq!(failure(reply), Failure::Expired);
    let read = value(cluster.ask(cluster.get(&key)).await);
    assert_eq!(read.as_deref(), Some(&b"y"[..]));
    cluster.end().await;
}
