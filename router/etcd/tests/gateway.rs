//! The gateway in front of an etcd, beside etcd's own.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use caucus_etcd::check::MAX_REQUEST_BYTES;
use caucus_etcd::gateway;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tonic::transport::Endpoint;

use caucus_etcd::real::Etcd;
use proxy::Proxy;

mod proxy;
/// A gateway on a port of its own.
struct Gateway {
    address: SocketAddr,
    task: AbortHandle,
}

impl Gateway {
    async fn start(proxy: Proxy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = gateway::router(Arc::new(proxy));
        let serve = async move { axum::serve(listener, router).await };
        let task = tokio::spawn(serve).abort_handle();
        Self { address, task }
    }

    /// With nothing behind it.
    async fn alone() -> Self {
        Self::start(Proxy::new(
            &Endpoint::from_static("http://127.0.0.1:1").connect_lazy(),
        ))
        .await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Asker(Client<HttpConnector, Full<Bytes>>);

impl Asker {
    fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    async fn ask(
        &self,
        address: &str,
        method: Method,
        path: &str,
        body: &str,
    ) -> (StatusCode, String, String) {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .body(Full::from(body.to_owned()))
            .expect("a request");
        let (head, body) = self
            .0
            .request(request)
            .await
            .expect("an answer")
            .into_parts();
        let kind = head.headers["content-type"]
            .to_str()
            .expect("text")
            .to_owned();
        let body = body.collect().await.expect("a body").to_bytes();
        let body = String::from_utf8(body.to_vec()).expect("text");
        (head.status, kind, body)
    }
}

/// Headers differ by what the clusters did meanwhile; nested ones are left.
fn without_header(text: &str) -> Result<Value, String> {
    let mut value: Value = serde_json::from_str(text).map_err(|_| text.to_owned())?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("header");
    }
    Ok(value)
}

/// In this order; what changes something does so for both, and can be asked twice.
const ASKED: &[(&str, &str)] = &[
    ("kv/put", r#"{"key": "YQ==", "value": "Yg=="}"#),
    (
        "kv/range",
        r#"{"key": "YQ==", "keysOnly": true, "limit": "1"}"#,
    ),
    (
        "kv/range",
        r#"{"key": "YQ==", "sort_order": "DESCEND", "sortTarget": 1, "x": {}}"#,
    ),
    (
        "kv/range",
        r#"{"key": "YQ==", "count_only": true, "limit": null}"#,
    ),
    ("kv/range", r#"{"key": "YQ=="}{"x":"#),
    ("kv/range", ""),
    ("kv/range", "null"),
    ("kv/range", r#"{"key":"#),
    ("kv/range", r#"{"key": "!"}"#),
    ("kv/range", r#"{"key": "YWFhY!"}"#),
    ("kv/range", r#"{"key": "YQ==YQ=="}"#),
    ("kv/range", r#"{"key": "YQ==", "revision": "10000"}"#),
    ("kv/put", r#"{"key": "YQ==", "lease": "5"}"#),
    (
        "kv/txn",
        r#"{"compare": [{"key": "YQ==", "target": "VALUE", "value": "YQ=="}], "failure": [{"requestRange": {"key": "bm8="}}]}"#,
    ),
    ("kv/deleterange", r#"{"key": "bm8="}"#),
    ("kv/deleterange", "{}"),
    ("kv/compaction", r#"{"revision": "10000"}"#),
    ("maintenance/alarm", ""),
    ("maintenance/status", "{}"),
    ("maintenance/defragment", "{}"),
    ("maintenance/transfer-leadership", "{}"),
    ("cluster/member/list", "{}"),
    ("cluster/member/add", "{}"),
    ("cluster/member/remove", "{}"),
    ("cluster/member/update", "{}"),
    ("cluster/member/promote", "{}"),
    ("kv/nothing", "{}"),
    ("kv/range/", "{}"),
];

/// Of leases, locks, elections and watches.
const COORDINATION: &[(&str, &str)] = &[
    ("lease/grant", r#"{"TTL": "9000000001"}"#),
    ("lease/grant", r#"{"ID": "7", "TTL": "9000000001"}"#),
    ("lease/revoke", r#"{"ID": "99"}"#),
    ("kv/lease/revoke", "{}"),
    ("lease/timetolive", r#"{"ID": "99", "keys": true}"#),
    ("kv/lease/timetolive", "{}"),
    ("lease/leases", "{}"),
    ("kv/lease/leases", ""),
    ("kv/lease/keepalive", "{}"),
    ("lease/keepalive", r#"{"ID": "x"#),
    ("lease/keepalive", ""),
    ("lease/keepalive", "{}"),
    ("lock/lock", r#"{"name": "YQ==", "lease": "99"}"#),
    ("lock/lock", r#"{"name": "!"}"#),
    ("lock/unlock", r#"{"key": "bm8="}"#),
    ("lock/unlock", "{}"),
    ("election/campaign", r#"{"name": "YQ==", "lease": "99"}"#),
    ("election/leader", r#"{"name": "bm8="}"#),
    ("election/proclaim", "{}"),
    ("election/proclaim", r#"{"leader": {}}"#),
    (
        "election/proclaim",
        r#"{"leader": {"key": "bm8=", "rev": "1", "lease": "99"}}"#,
    ),
    ("election/resign", "{}"),
    ("election/resign", r#"{"leader": {}}"#),
    (
        "election/resign",
        r#"{"leader": {"key": "bm8=", "rev": "1", "lease": "99"}}"#,
    ),
    ("election/observe", "{"),
    ("watch", r#"{"create_request": {"key": "!"}}"#),
    ("watch", r#"{"create_request": {"#),
    ("watch/", "{}"),
];

#[tokio::test]
async fn etcd_answers_the_same() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let gateway = Gateway::start(Proxy::new(&etcd.channel())).await;
    let asker = Asker::new();
    let ours = gateway.address.to_string();
    for (path, body) in [ASKED, COORDINATION].concat() {
        let path = format!("/v3/{path}");
        let theirs = asker.ask(etcd.address(), Method::POST, &path, body).await;
        let ours = asker.ask(&ours, Method::POST, &path, body).await;
        let what = format!("{path} {body}");
        assert_eq!((ours.0, ours.1), (theirs.0, theirs.1), "{what}");
        if !path.ends_with("status") {
            assert_eq!(without_header(&ours.2), without_header(&theirs.2), "{what}");
        }
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let theirs = asker
            .ask(etcd.address(), method.clone(), "/v3/kv/range", "")
            .await;
        let ours = asker.ask(&ours, method, "/v3/kv/range", "").await;
        assert_eq!(ours, theirs);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said_in_json() {
    let gateway = Gateway::alone().await;
    let address = gateway.address.to_string();
    let asker = Asker::new();
    for body in [
        "[]",
        "5",
        "x",
        r#"{"key": 5}"#,
        r#"{"key": "YQ==", "limit": "x"}"#,
    ] {
        let answer = asker
            .ask(&address, Method::POST, "/v3/kv/range", body)
            .await;
        let (status, kind, text) = answer;
        assert_eq!(
            (status.as_u16(), kind.as_str()),
            (400, "application/json"),
            "{body}"
        );
        let error: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(error["code"], 3, "{body}");
        assert_eq!(error["error"], error["message"], "{body}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    let gateway = Gateway::alone().await;
    let large = format!(
        r#"{{"key": "YQ==", "value": "{}"}}"#,
        "YWFh".repeat(MAX_REQUEST_BYTES)
    );
    let asker = Asker::new();
    let address = gateway.address.to_string();
    let (status, _, text) = asker
        .ask(&address, Method::POST, "/v3/kv/put", &large)
        .await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let error: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(error["code"], 8);
}

#[tokio::test]
async fn a_snapshot_is_lines() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let gateway = Gateway::start(Proxy::new(&etcd.channel())).await;
    let asker = Asker::new();
    let address = gateway.address.to_string();
    let path = "/v3/maintenance/snapshot";
    let (status, _, text) = asker.ask(&address, Method::POST, path, "{}").await;
    assert_eq!(status, StatusCode::OK);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(lines.iter().any(|line| line["result"]["blob"].is_string()));
}
