//! Calls of the gateway with many messages: what is said while a body is open, and after its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use caucus_etcd::check::{MAX_REQUEST_BYTES, MESSAGE_OVERHEAD_BYTES};
use caucus_etcd::gateway;
use caucus_etcd::real::Etcd;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use fake::{Fake, REFUSED, Seen};
use proxy::Proxy;

mod fake;
mod proxy;

/// Nothing here takes this long but what doesn't come at all.
const PATIENCE: Duration = Duration::from_secs(30);

const CREATE: &str = r#"{"create_request": {"watch_id": "1"}}"#;

struct Gateway {
    address: String,
    task: AbortHandle,
    seen: UnboundedReceiver<Seen>,
}

impl Gateway {
    async fn start() -> Self {
        let (sender, seen) = unbounded_channel();
        let fake = Arc::new(Fake { seen: sender });
        let router = gateway::watch(Arc::clone(&fake))
            .merge(gateway::lease(Arc::clone(&fake)))
            .merge(gateway::election(fake));
        Self::over(router, seen).await
    }

    async fn over(router: Router, seen: UnboundedReceiver<Seen>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let serve = async move { axum::serve(listener, router).await };
        let task = tokio::spawn(serve).abort_handle();
        Self {
            address,
            task,
            seen,
        }
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        post(&self.address, path, body.into()).await
    }

    async fn sees(&mut self, expected: Seen) {
        let seen = timeout(PATIENCE, self.seen.recv()).await;
        assert_eq!(seen.expect("seen in time"), Some(expected));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn post(address: &str, path: &str, body: Body) -> Answer {
    let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).build_http();
    let request = http::Request::post(format!("http://{address}{path}")).body(body);
    let asked = client.request(request.expect("a request"));
    let answer = timeout(PATIENCE, asked).await.expect("a head in time");
    let (head, body) = answer.expect("a head").into_parts();
    assert_eq!(head.headers["content-type"], "application/json");
    Answer {
        status: head.status.as_u16(),
        body: Body::new(body),
        text: Vec::new(),
    }
}

struct Answer {
    status: u16,
    body: Body,
    text: Vec<u8>,
}

impl Answer {
    /// The next line without its header; none at the end.
    async fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Some(without_header(&line));
            }
            let frame = timeout(PATIENCE, self.body.frame()).await;
            let Some(frame) = frame.expect("a line in time") else {
                // etcd ends a line that is an error with the end of the body.
                let rest = std::mem::take(&mut self.text);
                return (!rest.is_empty()).then(|| without_header(&rest));
            };
            if let Ok(data) = frame.expect("a frame").into_data() {
                self.text.extend_from_slice(&data);
            }
        }
    }

    async fn lines(&mut self, count: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        for _ in 0..count {
            lines.extend(self.line().await);
        }
        lines
    }
}

fn without_header(line: &[u8]) -> Value {
    let mut line: Value = serde_json::from_slice(line).expect("JSON");
    if let Some(result) = line.get_mut("result").and_then(Value::as_object_mut) {
        result.remove("header");
    }
    line
}

/// A body that is written to as the test goes on; dropped, it ends.
fn open_body() -> (UnboundedSender<Result<Bytes, Infallible>>, Body) {
    let (sender, parts) = unbounded();
    (sender, Body::from_stream(parts))
}

fn send(sender: &UnboundedSender<Result<Bytes, Infallible>>, part: impl Into<Bytes>) {
    sender.unbounded_send(Ok(part.into())).expect("a reader");
}

fn created(id: i64) -> Option<Value> {
    Some(json!({"result": {"watch_id": id.to_string(), "created": true}}))
}

/// What the fake says when the requests have ended.
fn event() -> Option<Value> {
    Some(json!({"result": {"events": [{}]}}))
}

fn error_line(grpc: i32, http: u16, message: &str, status: &str) -> Value {
    json!({"error": {
        "grpc_code": grpc, "http_code": http, "message": message, "http_status": status,
    }})
}

fn too_large(found: &str) -> Value {
    let text = format!("grpc: received message larger than max ({found}2097152)");
    error_line(8, 429, &text, "Too Many Requests")
}

fn large_create(bytes: usize) -> String {
    format!(
        r#"{{"create_request": {{"key": "{}"}}}}"#,
        "YWFh".repeat(bytes / 3)
    )
}

#[tokio::test]
async fn answers_come_while_the_body_is_open() {
    let mut gateway = Gateway::start().await;
    let (sender, body) = open_body();
    send(&sender, CREATE);
    let mut answer = gateway.post("/v3/watch", body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.line().await, created(1));
    send(&sender, r#"{"create_request": {"watch"#);
    send(&sender, r#"_id": "2"}}"#);
    assert_eq!(answer.line().await, created(2));
    send(
        &sender,
        r#" {"cancelRequest": {"watchId": "2"}} {"progress_request": {}}"#,
    );
    let cancelled = json!({"result": {"watch_id": "2", "canceled": true}});
    assert_eq!(answer.line().await, Some(cancelled));
    let progress = json!({"result": {"watch_id": "-1"}});
    assert_eq!(answer.line().await, Some(progress));
    drop(sender);
    assert_eq!(answer.line().await, event());
    drop(answer);
    gateway.sees(Seen::Dropped).await;
}

#[tokio::test]
async fn one_body_holds_several_messages() {
    let gateway = Gateway::start().await;
    let two = r#"{"create_request": {"watch_id": 2, "x": "}\"{\\"}}"#;
    for between in ["", "\n", " \r\n\t"] {
        let body = format!("{between}{CREATE}{between}{two}{between}");
        let mut answer = gateway.post("/v3/watch", body).await;
        assert_eq!(answer.line().await, created(1), "{between:?}");
        assert_eq!(answer.line().await, created(2), "{between:?}");
        assert_eq!(answer.line().await, event(), "{between:?}");
    }
    let nothing = json!({"result": {"cancel_reason": "nothing"}});
    for body in ["{}", "null", "null null", "{}null{}"] {
        let mut answer = gateway.post("/v3/watch", body).await;
        assert_eq!(answer.line().await, Some(nothing.clone()), "{body}");
    }
}

#[tokio::test]
async fn a_body_may_come_in_any_parts() {
    let gateway = Gateway::start().await;
    let (sender, body) = open_body();
    let text = format!(r#"{CREATE}null{{"create_request":{{"watch_id":3,"x":"\"}}é"}}}}"#);
    for byte in text.bytes() {
        send(&sender, vec![byte]);
    }
    drop(sender);
    let mut answer = gateway.post("/v3/watch", body).await;
    assert_eq!(answer.line().await, created(1));
    assert!(answer.line().await.is_some());
    assert_eq!(answer.line().await, created(3));
    assert_eq!(answer.line().await, event());
}

#[tokio::test]
async fn keepalives_end_with_their_body() {
    let gateway = Gateway::start().await;
    let body = r#"{"ID": "1"}{"ID": 2}"#;
    let mut answer = gateway.post("/v3/lease/keepalive", body).await;
    assert_eq!(answer.status, 200);
    let first = json!({"result": {"ID": "1", "TTL": "60"}});
    assert_eq!(answer.line().await, Some(first));
    let second = json!({"result": {"ID": "2", "TTL": "60"}});
    assert_eq!(answer.line().await, Some(second));
    assert_eq!(answer.line().await, None);
    let mut answer = gateway.post("/v3/lease/keepalive", "").await;
    assert_eq!((answer.status, answer.line().await), (200, None));
}

#[tokio::test]
async fn an_error_is_the_last_line() {
    let mut gateway = Gateway::start().await;
    let refused = format!(r#"{{"cancel_request": {{"watch_id": {REFUSED}}}}}"#);
    let error = error_line(14, 503, "refused", "Service Unavailable");
    let body = format!("{CREATE}{refused}{CREATE}");
    let mut answer = gateway.post("/v3/watch", body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.line().await, created(1));
    assert_eq!(answer.line().await, Some(error.clone()));
    assert_eq!(answer.line().await, None);
    gateway.sees(Seen::Dropped).await;
    // As the first, it has the status too.
    let mut answer = gateway.post("/v3/watch", refused).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.lines(2).await, [error]);

    let gone = error_line(14, 503, "gone", "Service Unavailable");
    let observe = "/v3/election/observe";
    let mut answer = gateway.post(observe, r#"{"name": "YQ=="}"#).await;
    assert_eq!(answer.status, 200);
    let leader = json!({"result": {}});
    let expected = [leader.clone(), leader, gone.clone()];
    assert_eq!(answer.lines(4).await, expected);
    let mut answer = gateway.post(observe, "{}").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.lines(2).await, [gone]);
}

#[tokio::test]
async fn what_is_too_large_ends_the_stream() {
    let gateway = Gateway::start().await;
    // Read, and found to be too large; its key has a tag and a length in a message that has them too.
    let found = too_large("2359306 vs. ");
    // Not read: no end of it in as much as there may be. Its last byte is the one too many, as who still
    // sends when the connection is closed may not see why.
    let endless = too_large("max ");
    let mut cut = large_create(gateway::MAX_MESSAGE_BYTES * 2);
    cut.truncate(gateway::MAX_MESSAGE_BYTES / 3 * 4 + MESSAGE_OVERHEAD_BYTES + 1);
    for (large, error) in [
        (large_create(MAX_REQUEST_BYTES / 2 * 3), found),
        (cut, endless),
    ] {
        let mut answer = gateway.post("/v3/watch", large.clone()).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.lines(2).await, std::slice::from_ref(&error));
        let mut answer = gateway.post("/v3/watch", format!("{CREATE}{large}")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.line().await, created(1));
        assert_eq!(answer.lines(2).await, [error]);
    }
}

#[tokio::test]
async fn what_cannot_be_read_first_is_an_error_and_later_the_end() {
    let gateway = Gateway::start().await;
    for bad in ["x", "}", "5 ", "[]", r#""a""#, r#"{"create_request": 5}"#] {
        // Said at once, not when the body has ended.
        let (sender, body) = open_body();
        send(&sender, bad);
        let mut answer = gateway.post("/v3/watch", body).await;
        assert_eq!(answer.status, 500, "{bad}");
        let error = answer.line().await.expect("an error");
        assert_eq!(error["code"], 2, "{bad}");
        assert_eq!(error["error"], error["message"], "{bad}");

        let (sender, body) = open_body();
        send(&sender, format!("{CREATE}{bad}{CREATE}"));
        let mut answer = gateway.post("/v3/watch", body).await;
        assert_eq!(answer.line().await, created(1), "{bad}");
        assert_eq!(answer.line().await, event(), "{bad}");
    }
}

#[tokio::test]
async fn a_client_may_leave_before_the_first_answer() {
    let mut gateway = Gateway::start().await;
    for ended in [false, true] {
        let (sender, body) = open_body();
        send(&sender, r#"{"cancel_request": {}}"#);
        let sender = (!ended).then_some(sender);
        let address = gateway.address.clone();
        let asked = tokio::spawn(async move { post(&address, "/v3/watch", body).await });
        gateway.sees(Seen::Cancelled).await;
        asked.abort();
        gateway.sees(Seen::Dropped).await;
        drop(sender);
    }
}

/// What is asked, how many lines are the answer, and whether it ends then.
const ASKED: [(&str, &str, usize, bool); 11] = [
    (
        "watch",
        r#"{"create_request": {"key": "YQ==", "watch_id": 5}}"#,
        1,
        false,
    ),
    (
        "watch",
        r#"{"createRequest": {"key": "YQ==", "startRevision": "1"}}"#,
        2,
        false,
    ),
    (
        "watch",
        r#"{"create_request": {"key": "Yg==", "range_end": "YQ=="}}"#,
        1,
        false,
    ),
    (
        "watch",
        r#"{"create_request": {"key": "YQ==", "watch_id": 5}}{"create_request": {"key": "Yg==", "watch_id": 5}}"#,
        2,
        false,
    ),
    (
        "watch",
        r#"{"create_request": {"key": "YQ=="}}{"cancel_request": {}}"#,
        2,
        false,
    ),
    ("watch", r#"{"progress_request": {}}"#, 1, false),
    (
        "watch",
        r#"null{"create_request": {"key": "YQ=="}} x"#,
        1,
        false,
    ),
    ("watch", "x", 1, true),
    ("lease/keepalive", r#"{"ID": "77"}{"ID": 78} {}"#, 3, true),
    ("lease/keepalive", r#"{"ID": "77"} x"#, 1, true),
    ("election/observe", r#"{"name": "ZQ=="}"#, 1, false),
];

#[tokio::test]
async fn etcd_answers_the_same() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let (_, seen) = unbounded_channel();
    let router = gateway::router(Arc::new(Proxy::new(&etcd.channel())));
    let gateway = Gateway::over(router, seen).await;
    for (path, body) in [
        ("kv/put", r#"{"key": "YQ==", "value": "Yg=="}"#),
        ("election/campaign", r#"{"name": "ZQ==", "value": "MQ=="}"#),
    ] {
        let path = format!("/v3/{path}");
        assert_eq!(gateway.post(&path, body).await.status, 200);
    }
    for (path, body, count, ends) in ASKED {
        let path = format!("/v3/{path}");
        let mut theirs = post(etcd.address(), &path, Body::from(body)).await;
        let mut ours = gateway.post(&path, body).await;
        assert_eq!(ours.status, theirs.status, "{path} {body}");
        let (lines, expected) = (ours.lines(count).await, theirs.lines(count).await);
        assert_eq!(lines.len(), count, "{path} {body}");
        if ours.status == 200 {
            assert_eq!(lines, expected, "{path} {body}");
        }
        if ends {
            assert_eq!(
                (ours.line().await, theirs.line().await),
                (None, None),
                "{body}"
            );
        }
    }
}
