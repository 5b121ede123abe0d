//! Watches: what etcd answers to requests, none of which is an error of the stream.

use std::time::Duration;

use caucus_etcd::etcdserverpb as pb;
use caucus_etcd::real::Etcd;
use caucus_etcd::{CancelReason, NO_WATCH, check};
use futures::StreamExt as _;
use futures::stream;
use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use pb::{WatchCreateRequest, WatchResponse};
use tokio::time::timeout;
use tonic::Streaming;

const PATIENCE: Duration = Duration::from_secs(30);

/// The revision the table's compaction leaves.
const COMPACTED: i64 = 4;

struct Case {
    what: &'static str,
    requests: Vec<RequestUnion>,
    answers: Vec<WatchResponse>,
}

fn on(key: &'static str, range_end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..WatchCreateRequest::default()
    }
}

fn range(key: &'static str, range_end: &'static str) -> RequestUnion {
    RequestUnion::CreateRequest(on(key, range_end))
}

fn with_id(watch_id: i64) -> RequestUnion {
    RequestUnion::CreateRequest(WatchCreateRequest {
        watch_id,
        ..on("b", "")
    })
}

fn from(start_revision: i64) -> RequestUnion {
    RequestUnion::CreateRequest(WatchCreateRequest {
        start_revision,
        ..on("b", "")
    })
}

fn cancel(watch_id: i64) -> RequestUnion {
    RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })
}

fn progress() -> RequestUnion {
    RequestUnion::ProgressRequest(pb::WatchProgressRequest {})
}

fn created(watch_id: i64) -> WatchResponse {
    WatchResponse {
        watch_id,
        created: true,
        ..WatchResponse::default()
    }
}

fn canceled(watch_id: i64) -> WatchResponse {
    WatchResponse {
        watch_id,
        canceled: true,
        ..WatchResponse::default()
    }
}

fn refused(reason: CancelReason) -> WatchResponse {
    WatchResponse {
        watch_id: NO_WATCH,
        created: true,
        canceled: true,
        cancel_reason: reason.to_string(),
        ..WatchResponse::default()
    }
}

fn progressed() -> WatchResponse {
    WatchResponse {
        watch_id: NO_WATCH,
        ..WatchResponse::default()
    }
}

fn compacted() -> WatchResponse {
    WatchResponse {
        compact_revision: COMPACTED,
        ..canceled(0)
    }
}

fn case(what: &'static str, requests: Vec<RequestUnion>, answers: Vec<WatchResponse>) -> Case {
    Case {
        what,
        requests,
        answers,
    }
}

fn ranges() -> Vec<Case> {
    let empty = || refused(CancelReason::EmptyRange);
    vec![
        case("a key", vec![range("b", "")], vec![created(0)]),
        case("a range", vec![range("b", "c")], vec![created(0)]),
        case(
            "all from a key on",
            vec![range("b", "\0")],
            vec![created(0)],
        ),
        case("no key", vec![range("", "")], vec![created(0)]),
        case("all keys", vec![range("", "\0")], vec![created(0)]),
        case("all before one", vec![range("", "b")], vec![created(0)]),
        case("from a key to it", vec![range("b", "b")], vec![empty()]),
        case("backwards", vec![range("b", "a")], vec![empty()]),
        case(
            "the stream goes on, and no id is used up",
            vec![range("b", "a"), range("a", "b")],
            vec![empty(), created(0)],
        ),
    ]
}

fn ids() -> Vec<Case> {
    let twice = || refused(CancelReason::DuplicateId);
    vec![
        case(
            "etcd's choice",
            vec![with_id(0), with_id(0), with_id(0)],
            vec![created(0), created(1), created(2)],
        ),
        case(
            "it leaves out what is taken",
            vec![with_id(1), with_id(0), with_id(0)],
            vec![created(1), created(0), created(2)],
        ),
        case("below zero", vec![with_id(-2)], vec![created(-2)]),
        case(
            "that of no watch",
            vec![with_id(NO_WATCH)],
            vec![created(NO_WATCH)],
        ),
        case(
            "twice",
            vec![with_id(5), with_id(5)],
            vec![created(5), twice()],
        ),
        case(
            "again",
            vec![with_id(5), cancel(5), with_id(5)],
            vec![created(5), canceled(5), created(5)],
        ),
        case(
            "a cancelled one of etcd's choice isn't chosen again",
            vec![with_id(0), cancel(0), with_id(0)],
            vec![created(0), canceled(0), created(1)],
        ),
    ]
}

fn others() -> Vec<Case> {
    vec![
        case(
            "a later revision",
            vec![from(1000), progress()],
            vec![created(0), progressed()],
        ),
        case(
            "a compacted revision",
            vec![from(1)],
            vec![created(0), compacted()],
        ),
        case(
            "one below zero",
            vec![from(-1)],
            vec![created(0), compacted()],
        ),
        case(
            "the one compacted to",
            vec![from(COMPACTED)],
            vec![created(0)],
        ),
        case("progress of nothing", vec![progress()], vec![progressed()]),
        case(
            "what isn't there has no cancellation",
            vec![cancel(9), progress()],
            vec![progressed()],
        ),
    ]
}

fn cases() -> Vec<Case> {
    [ranges(), ids(), others()].into_iter().flatten().collect()
}

/// The requests, and then no end of them.
async fn watch(etcd: &Etcd, requests: Vec<RequestUnion>, ended: bool) -> Streaming<WatchResponse> {
    let requests = requests.into_iter().map(|request| pb::WatchRequest {
        request_union: Some(request),
    });
    let requests = stream::iter(requests.collect::<Vec<_>>());
    let mut client = WatchClient::new(etcd.channel());
    let answers = if ended {
        client.watch(requests).await
    } else {
        client.watch(requests.chain(stream::pending())).await
    };
    answers.expect("a stream").into_inner()
}

async fn next(answers: &mut Streaming<WatchResponse>, what: &str) -> WatchResponse {
    let answer = timeout(PATIENCE, answers.message()).await;
    let answer = answer.unwrap_or_else(|_| panic!("{what}: no answer"));
    let mut answer = answer.expect(what).expect(what);
    assert!(answer.header.take().is_some(), "{what}");
    answer
}

async fn put(etcd: &Etcd, key: &'static str) {
    let request = pb::PutRequest {
        key: key.into(),
        ..pb::PutRequest::default()
    };
    let put = KvClient::new(etcd.channel()).put(request).await;
    put.expect("a write");
}

#[test]
fn the_checks_know() {
    for case in cases() {
        let checked = case.requests.iter().filter_map(|request| match request {
            RequestUnion::CreateRequest(create) => check::watch(create).err(),
            RequestUnion::CancelRequest(_) | RequestUnion::ProgressRequest(_) => None,
        });
        let refusals = case
            .answers
            .iter()
            .filter(|answer| answer.cancel_reason == CancelReason::EmptyRange.to_string());
        assert_eq!(checked.count(), refusals.count(), "{}", case.what);
    }
}

#[tokio::test]
async fn etcd_answers_so() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    for _ in 0..COMPACTED {
        put(&etcd, "a").await;
    }
    let request = pb::CompactionRequest {
        revision: COMPACTED,
        physical: true,
    };
    let compacted = KvClient::new(etcd.channel()).compact(request).await;
    compacted.expect("a compaction");
    for case in cases() {
        let mut answers = watch(&etcd, case.requests, false).await;
        for expected in case.answers {
            assert_eq!(
                next(&mut answers, case.what).await,
                expected,
                "{}",
                case.what
            );
        }
    }
}

#[tokio::test]
async fn a_watch_outlives_its_requests() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let mut answers = watch(&etcd, vec![range("a", "")], true).await;
    assert_eq!(next(&mut answers, "created").await, created(0));
    put(&etcd, "a").await;
    assert_eq!(next(&mut answers, "an event").await.events.len(), 1);
}
