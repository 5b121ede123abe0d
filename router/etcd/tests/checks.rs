//! Requests with what is wrong with them, as the checks say it and as etcd does.

use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::request_op::Request;
use caucus_etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use caucus_etcd::{Error, check};
use tonic::Status;

use caucus_etcd::real::Etcd;

struct Case {
    what: &'static str,
    request: Request,
    error: Option<Error>,
}

fn case(what: &'static str, request: Request, error: impl Into<Option<Error>>) -> Case {
    Case {
        what,
        request,
        error: error.into(),
    }
}

fn range(key: &'static str) -> Request {
    Request::RequestRange(RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    })
}

fn put(key: &'static str) -> Request {
    Request::RequestPut(PutRequest {
        key: key.into(),
        ..PutRequest::default()
    })
}

fn keep(key: &'static str, value: &'static str, lease: i64) -> Request {
    Request::RequestPut(PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        ignore_value: true,
        ignore_lease: true,
        ..PutRequest::default()
    })
}

fn delete(key: &'static str, range_end: &'static str) -> Request {
    Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..DeleteRangeRequest::default()
    })
}

fn operations(requests: Vec<Request>) -> Vec<RequestOp> {
    let operation = |request| RequestOp {
        request: Some(request),
    };
    requests.into_iter().map(operation).collect()
}

fn txn(success: Vec<Request>, failure: Vec<Request>) -> Request {
    Request::RequestTxn(TxnRequest {
        compare: Vec::new(),
        success: operations(success),
        failure: operations(failure),
    })
}

fn then(success: Vec<Request>) -> Request {
    txn(success, Vec::new())
}

fn compares(count: usize, key: &'static str) -> Request {
    let compare = Compare {
        key: key.into(),
        ..Compare::default()
    };
    Request::RequestTxn(TxnRequest {
        compare: vec![compare; count],
        ..TxnRequest::default()
    })
}

fn single() -> Vec<Case> {
    vec![
        case("a read of nothing", range(""), Error::EmptyKey),
        case("a read", range("a"), None),
        case("a write to nothing", put(""), Error::EmptyKey),
        case(
            "the key is checked first",
            keep("", "v", 1),
            Error::EmptyKey,
        ),
        case("then the value", keep("a", "v", 1), Error::ValueProvided),
        case("then the lease", keep("a", "", 1), Error::LeaseProvided),
        case("a deletion of nothing", delete("", "b"), Error::EmptyKey),
        case("a deletion of an empty range", delete("b", "a"), None),
    ]
}

fn shapes() -> Vec<Case> {
    let empty = Request::RequestTxn(TxnRequest {
        success: vec![RequestOp::default()],
        ..TxnRequest::default()
    });
    let reads = |count| vec![range("a"); count];
    vec![
        case("an empty transaction", then(vec![]), None),
        case("an empty operation", empty.clone(), Error::KeyNotFound),
        case("empty, nested", then(vec![empty]), Error::KeyNotFound),
        case("no key to compare", compares(1, ""), Error::EmptyKey),
        case(
            "nothing to compare, nested",
            then(vec![compares(1, "")]),
            Error::EmptyKey,
        ),
        case("as many as there may be", then(reads(128)), None),
        case("one more", then(reads(129)), Error::TooManyOps),
        case(
            "one more failure",
            txn(vec![], reads(129)),
            Error::TooManyOps,
        ),
        case("one more comparison", compares(129, "a"), Error::TooManyOps),
        case("counting comes first", compares(129, ""), Error::TooManyOps),
        case(
            "nested, what the parent leaves",
            then(vec![then(reads(127))]),
            None,
        ),
        case(
            "nested, one more",
            then(vec![then(reads(128))]),
            Error::TooManyOps,
        ),
        case(
            "success before failure",
            txn(vec![keep("a", "v", 0)], vec![range("")]),
            Error::ValueProvided,
        ),
        case(
            "keys before collisions",
            txn(vec![put("a"), put("a")], vec![range("")]),
            Error::EmptyKey,
        ),
    ]
}

fn collisions() -> Vec<Case> {
    let twice = Error::DuplicateKey;
    vec![
        case("two puts", then(vec![put("a"), put("a")]), twice),
        case("two keys", then(vec![put("a"), put("b")]), None),
        case("either or", txn(vec![put("a")], vec![put("a")]), None),
        case("in failure", txn(vec![], vec![put("a"), put("a")]), twice),
        case("put, delete", then(vec![put("a"), delete("a", "")]), twice),
        case("delete, put", then(vec![delete("a", ""), put("a")]), twice),
        case("in a range", then(vec![delete("a", "c"), put("b")]), twice),
        case("at its end", then(vec![delete("a", "c"), put("c")]), None),
        case("a longer key", then(vec![delete("a", ""), put("ab")]), None),
        case(
            "two deletions",
            then(vec![delete("a", "c"), delete("b", "")]),
            None,
        ),
        case(
            "all keys from one on",
            then(vec![delete("a", "\0"), put("b")]),
            None,
        ),
        case(
            "a range the wrong way round",
            then(vec![delete("b", "a"), put("b"), put("a")]),
            None,
        ),
    ]
}

fn nested_collisions() -> Vec<Case> {
    let twice = Error::DuplicateKey;
    let a = || then(vec![put("a")]);
    let gone = || then(vec![delete("a", "")]);
    vec![
        case("above", then(vec![put("a"), a()]), twice),
        case("beside", then(vec![a(), a()]), twice),
        case(
            "either or",
            then(vec![txn(vec![put("a")], vec![put("a")])]),
            None,
        ),
        case(
            "either or, and above",
            then(vec![txn(vec![put("a")], vec![put("a")]), put("a")]),
            twice,
        ),
        case(
            "a failure beside",
            then(vec![txn(vec![], vec![put("a")]), a()]),
            twice,
        ),
        case("deleted above", then(vec![a(), delete("a", "")]), twice),
        case("deleted, then put beside", then(vec![gone(), a()]), twice),
        case("put, then deleted beside", then(vec![a(), gone()]), None),
        case(
            "deleted below, put above",
            then(vec![put("a"), gone()]),
            twice,
        ),
        case(
            "deleted or put",
            then(vec![txn(vec![delete("a", "")], vec![put("a")])]),
            None,
        ),
        case(
            "three levels",
            then(vec![then(vec![then(vec![put("a"), put("a")])])]),
            twice,
        ),
    ]
}

fn cases() -> Vec<Case> {
    let tables = [single(), shapes(), collisions(), nested_collisions()];
    tables.into_iter().flatten().collect()
}

#[test]
fn the_checks_know() {
    for case in cases() {
        let checked = match &case.request {
            Request::RequestRange(request) => check::range(request),
            Request::RequestPut(request) => check::put(request),
            Request::RequestDeleteRange(request) => check::delete_range(request),
            Request::RequestTxn(request) => check::txn(request, check::MAX_TXN_OPS),
        };
        assert_eq!(checked.err(), case.error, "{}", case.what);
    }
}

/// Not in the tables: etcd 3.4 dies of such a target, 3.5 has this error.
#[test]
fn sort_options_are_defined() {
    for (order, target) in [(3, 0), (-1, 0), (0, 5), (1, -1)] {
        let request = RangeRequest {
            key: "a".into(),
            sort_order: order,
            sort_target: target,
            ..RangeRequest::default()
        };
        assert_eq!(check::range(&request), Err(Error::InvalidSortOption));
    }
}

#[tokio::test]
async fn etcd_says_the_same() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let mut client = KvClient::new(etcd.channel());
    for case in cases() {
        let answer = match case.request {
            Request::RequestRange(request) => client.range(request).await.map(drop),
            Request::RequestPut(request) => client.put(request).await.map(drop),
            Request::RequestDeleteRange(request) => client.delete_range(request).await.map(drop),
            Request::RequestTxn(request) => client.txn(request).await.map(drop),
        };
        let said = answer
            .err()
            .map(|status| (status.code(), status.message().to_owned()));
        let expected = case.error.map(Status::from);
        let expected = expected.map(|status| (status.code(), status.message().to_owned()));
        assert_eq!(said, expected, "{}", case.what);
    }
}
