//! Messages are written as JSON the way etcd's gateway writes them.

use bytes::Bytes;
use caucus_etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use caucus_etcd::etcdserverpb::{
    LeaseGrantResponse, Member, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, compare,
    request_op,
};
use caucus_etcd::mvccpb::KeyValue;
use serde_json::json;

fn parse<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("a message")
}

#[test]
fn names_numbers_and_bytes() {
    let answer = RangeResponse {
        header: Some(ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 1,
            revision: 7,
            raft_term: 0,
        }),
        kvs: vec![KeyValue {
            key: Bytes::from_static(b"\xff\xfe"),
            create_revision: 3,
            version: 1,
            ..KeyValue::default()
        }],
        more: false,
        count: 1,
    };
    let expected = json!({
        "header": {"cluster_id": "18446744073709551615", "member_id": "1", "revision": "7"},
        "kvs": [{"key": "//4=", "create_revision": "3", "version": "1"}],
        "count": "1",
    });
    assert_eq!(serde_json::to_value(&answer).expect("JSON"), expected);
    assert_eq!(parse::<RangeResponse>(expected), answer);
}

#[test]
fn capitals_are_kept() {
    let member = Member {
        id: 5,
        peer_ur_ls: vec!["http://a".to_owned()],
        is_learner: true,
        ..Member::default()
    };
    let expected = json!({"ID": "5", "peerURLs": ["http://a"], "isLearner": true});
    assert_eq!(serde_json::to_value(&member).expect("JSON"), expected);
    let lease = LeaseGrantResponse {
        id: 1,
        ttl: 2,
        ..LeaseGrantResponse::default()
    };
    let expected = json!({"ID": "1", "TTL": "2"});
    assert_eq!(serde_json::to_value(&lease).expect("JSON"), expected);
}

#[test]
fn both_spellings_are_read_and_strange_fields_are_not() {
    let snake =
        json!({"key": "YQ==", "range_end": "AA==", "sort_order": "DESCEND", "sort_target": 2});
    let camel =
        json!({"key": "YQ==", "rangeEnd": "AA==", "sortOrder": 2, "sortTarget": "CREATE", "x": {}});
    let expected = RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"\0"),
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    };
    assert_eq!(parse::<RangeRequest>(snake), expected);
    assert_eq!(parse::<RangeRequest>(camel), expected);
}

#[test]
fn transactions() {
    let txn: TxnRequest = parse(json!({
        "compare": [{"key": "YQ==", "target": "CREATE", "createRevision": "2"}],
        "success": [{"requestPut": {"key": "YQ==", "value": "Yg=="}}],
        "failure": [{"request_txn": {"success": [{"request_range": {"key": "YQ=="}}]}}],
    }));
    let union = &txn.compare[0].target_union;
    assert_eq!(union, &Some(compare::TargetUnion::CreateRevision(2)));
    assert!(
        matches!(&txn.success[0].request, Some(request_op::Request::RequestPut(put)) if put.value == "b")
    );
    assert!(
        matches!(&txn.failure[0].request, Some(request_op::Request::RequestTxn(txn)) if txn.success.len() == 1)
    );
}
