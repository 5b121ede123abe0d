//! etcd's vocabulary of errors: what can be refused, over gRPC and over the JSON gateway, word for word.

use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::request_op::Request;
use caucus_etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use caucus_tests::http::Client;
use caucus_tests::{Cluster, Options};
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::{channel, node, real_etcd, run};

/// A request that is refused, and how.
struct Case {
    request: Asked,
    code: Code,
    text: &'static str,
}

enum Asked {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
}

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: "value".into(),
        ..PutRequest::default()
    }
}

fn range(key: &'static str, revision: i64) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        revision,
        ..RangeRequest::default()
    }
}

fn then(requests: Vec<Request>) -> TxnRequest {
    let operation = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        success: requests.into_iter().map(operation).collect(),
        ..TxnRequest::default()
    }
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
const FAR: i64 = 1 << 50;

fn case(request: Asked, code: Code, text: &'static str) -> Case {
    Case {
        request,
        code,
        text,
    }
}

/// Both stores were compacted before at a revision above 2, and have the key `there`.
fn cases() -> Vec<Case> {
    let mut cases = revisions();
    cases.extend(operations());
    cases.extend(sizes());
    cases
}

fn revisions() -> Vec<Case> {
    let reads = |revision| then(vec![Request::RequestRange(range("there", revision))]);
    vec![
        case(Asked::Range(range("there", 2)), Code::OutOfRange, COMPACTED),
        case(Asked::Range(range("there", FAR)), Code::OutOfRange, FUTURE),
        case(Asked::Txn(reads(2)), Code::OutOfRange, COMPACTED),
        case(Asked::Txn(reads(FAR)), Code::OutOfRange, FUTURE),
        case(compact(2), Code::OutOfRange, COMPACTED),
        case(compact(-1), Code::OutOfRange, COMPACTED),
        case(compact(FAR), Code::OutOfRange, FUTURE),
    ]
}

fn operations() -> Vec<Case> {
    const NO_KEY: &str = "etcdserver: key is not provided";
    const NOT_FOUND: &str = "etcdserver: key not found";
    const NO_LEASE: &str = "etcdserver: requested lease not found";
    let bad = Code::InvalidArgument;
    let one = |put| Asked::Txn(then(vec![Request::RequestPut(put)]));
    let valued = PutRequest {
        ignore_value: true,
        ..put("there")
    };
    let keeps_lease = PutRequest {
        ignore_lease: true,
        ..leased("there")
    };
    vec![
        case(Asked::Range(range("", 0)), bad, NO_KEY),
        case(Asked::Put(put("")), bad, NO_KEY),
        case(Asked::Delete(DeleteRangeRequest::default()), bad, NO_KEY),
        case(one(put("")), bad, NO_KEY),
        case(Asked::Put(kept("gone")), bad, NOT_FOUND),
        case(one(kept("gone")), bad, NOT_FOUND),
        case(Asked::Put(valued), bad, "etcdserver: value is provided"),
        case(
            Asked::Put(keeps_lease),
            bad,
            "etcdserver: lease is provided",
        ),
        case(Asked::Put(leased("there")), Code::NotFound, NO_LEASE),
        case(one(leased("there")), Code::NotFound, NO_LEASE),
    ]
}

fn sizes() -> Vec<Case> {
    let bad = Code::InvalidArgument;
    let twice = then(vec![Request::RequestPut(put("a")); 2]);
    let many = then(vec![Request::RequestRange(range("there", 0)); 129]);
    let large = PutRequest {
        value: vec![b'x'; 3 << 19].into(),
        ..put("large")
    };
    vec![
        case(
            Asked::Txn(twice),
            bad,
            "etcdserver: duplicate key given in txn request",
        ),
        case(
            Asked::Txn(many),
            bad,
            "etcdserver: too many operations in txn request",
        ),
        case(Asked::Put(large), bad, "etcdserver: request is too large"),
    ]
}

fn kept(key: &'static str) -> PutRequest {
    PutRequest {
        value: "".into(),
        ignore_value: true,
        ..put(key)
    }
}

fn leased(key: &'static str) -> PutRequest {
    PutRequest {
        lease: 77,
        ..put(key)
    }
}

fn compact(revision: i64) -> Asked {
    Asked::Compact(CompactionRequest {
        revision,
        physical: false,
    })
}

/// A key that is there, and a compaction above revision 2.
async fn prepare(channel: Channel) {
    let mut client = KvClient::new(channel);
    let mut last = 0;
    for _ in 0..5 {
        let answer = client.put(put("there")).await.expect("a put").into_inner();
        last = answer.header.expect("a header").revision;
    }
    assert!(last > 3);
    let compact = CompactionRequest {
        revision: last,
        physical: false,
    };
    client.compact(compact).await.expect("a compaction");
}

async fn refusal(channel: Channel, asked: &Asked) -> Option<Status> {
    let mut client = KvClient::new(channel);
    match asked {
        Asked::Range(request) => client.range(request.clone()).await.err(),
        Asked::Put(request) => client.put(request.clone()).await.err(),
        Asked::Delete(request) => client.delete_range(request.clone()).await.err(),
        Asked::Txn(request) => client.txn(request.clone()).await.err(),
        Asked::Compact(request) => client.compact(*request).await.err(),
    }
}

/// What the gateway says, as it is.
fn through_gateway(address: &str, asked: &Asked) -> (u16, Value) {
    let (path, body) = match asked {
        Asked::Range(request) => ("range", serde_json::to_vec(request)),
        Asked::Put(request) => ("put", serde_json::to_vec(request)),
        Asked::Delete(request) => ("deleterange", serde_json::to_vec(request)),
        Asked::Txn(request) => ("txn", serde_json::to_vec(request)),
        Asked::Compact(request) => ("compaction", serde_json::to_vec(request)),
    };
    let body = body.expect("a message is JSON");
    let target = format!("/v3/kv/{path}");
    let answer = Client::new(address).request("POST", &target, &[], &body);
    let answer = answer.expect("an answer");
    (answer.status, answer.json())
}

#[test]
fn errors_are_etcds_word_for_word() {
    let cluster = Cluster::start(Options::nodes(3));
    let etcd = real_etcd();
    run(async {
        prepare(node(&cluster, 1)).await;
        if let Some(etcd) = &etcd {
            prepare(channel(etcd.address())).await;
        }
    });
    for (number, case) in cases().iter().enumerate() {
        let expected = (case.code, case.text.to_owned());
        let told = |status: Option<Status>| {
            let status = status.unwrap_or_else(|| panic!("case {number} is not refused"));
            (status.code(), status.message().to_owned())
        };
        let ours = run(async { refusal(node(&cluster, 2), &case.request).await });
        assert_eq!(told(ours), expected, "case {number}: Caucus");
        let ours = through_gateway(&cluster.address(3), &case.request);
        assert_eq!(ours.1["error"], case.text, "case {number}: {ours:?}");
        if let Some(etcd) = &etcd {
            let theirs = run(async { refusal(channel(etcd.address()), &case.request).await });
            assert_eq!(told(theirs), expected, "case {number}: etcd");
            let theirs = through_gateway(etcd.address(), &case.request);
            assert_eq!(ours, theirs, "case {number}: the gateways");
        }
    }
}
