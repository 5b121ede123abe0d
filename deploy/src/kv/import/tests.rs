//! Import against a server that misbehaves on demand.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

/// Answers batches from memory. Keys say how they want to be treated: `bad` is refused, `later` at
/// first refused as retryable, `poison` refuses the request as a whole.
#[derive(Default)]
struct Fake {
    stored: Mutex<BTreeMap<String, Value>>,
    seen_later: Mutex<HashSet<String>>,
    requests: Mutex<u64>,
}

impl Fake {
    async fn start(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = Arc::clone(&fake);
                let service = service_fn(move |request| Arc::clone(&fake).answer(request));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        url
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let body = request.into_body().collect().await?.to_bytes();
        *self.requests.lock().unwrap() += 1;
        let body: Value = serde_json::from_slice(&body).unwrap();
        let operations = body["operations"].as_array().unwrap();
        let keys: Vec<&str> = operations
            .iter()
            .map(|op| op["put"]["key"].as_str().unwrap())
            .collect();
        if keys.iter().any(|key| key.contains("poison")) {
            let problem = json!({"code": "malformed_json", "detail": "no", "retryable": false});
            let response = Response::builder()
                .status(StatusCode::BAD_REQUEST)
                .header("content-type", "application/problem+json");
            return Ok(response.body(Full::from(problem.to_string())).unwrap());
        }
        let results: Vec<Value> = operations.iter().map(|op| self.put(&op["put"])).collect();
        Ok(Response::new(Full::from(
            json!({"results": results}).to_string(),
        )))
    }

    fn put(&self, put: &Value) -> Value {
        let key = put["key"].as_str().unwrap();
        if key.contains("bad") {
            return json!({"error": {"code": "key_too_long", "detail": "d", "retryable": false}});
        }
        if key.contains("later") && self.seen_later.lock().unwrap().insert(key.to_owned()) {
            return json!({"error": {"code": "unavailable", "detail": "d", "retryable": true}});
        }
        self.stored
            .lock()
            .unwrap()
            .insert(key.to_owned(), put["value"].clone());
        json!({"put": {"key": key}})
    }
}

async fn import(endpoints: Vec<String>, text: &str, patience: Duration) -> Import {
    let cluster = Cluster {
        endpoints,
        timeout: 5,
    };
    let sender = Arc::new(Sender::new(cluster.connect().unwrap(), patience));
    let limits = Limits {
        keys: 4,
        parallel: 3,
    };
    let import = Import::new(sender, Shape::default(), limits, ProgressBar::hidden());
    import.read(text.as_bytes()).await.unwrap()
}

fn lines(keys: impl Iterator<Item = String>) -> String {
    keys.enumerate()
        .map(|(n, key)| format!("{{\"key\":\"{key}\",\"value\":{n}}}\n"))
        .collect()
}

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_later_line_wins() {
    let fake = Arc::new(Fake::default());
    let url = fake.start().await;
    let text = lines((0..200).map(|n| format!("k{}", n % 7)));
    let done = import(vec![url], &text, PATIENCE).await;
    assert_eq!((done.written, done.failed), (200, 0));
    let stored = fake.stored.lock().unwrap();
    let expected = (193..200).map(|n| (format!("k{}", n % 7), json!(n)));
    assert_eq!(*stored, expected.collect());
}

#[tokio::test]
async fn what_can_be_retried_is() {
    let fake = Arc::new(Fake::default());
    let url = fake.start().await;
    let text = lines((0..20).map(|n| {
        if n % 5 == 0 {
            format!("later{n}")
        } else {
            format!("k{n}")
        }
    }));
    // A closed port stands before the good endpoint, as a node that died.
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let done = import(vec![closed, url], &text, PATIENCE).await;
    assert_eq!((done.written, done.failed), (20, 0));
    assert!(done.retries >= 4, "{}", done.retries);
    assert!(done.report(Duration::ZERO).is_ok());
}

#[tokio::test]
async fn bad_lines_fail_alone() {
    let fake = Arc::new(Fake::default());
    let url = fake.start().await;
    let keys = ["a", "bad", "b", "poison", "c", "d"].map(str::to_owned);
    let text = format!("{}not json\n\n", lines(keys.into_iter()));
    let done = import(vec![url], &text, PATIENCE).await;
    assert_eq!((done.written, done.failed), (4, 3));
    assert_eq!(done.report(Duration::ZERO).unwrap_err().code, 1);
}

#[tokio::test]
async fn patience_ends() {
    let text = lines((0..40).map(|n| format!("k{n}")));
    let closed = vec!["http://127.0.0.1:1".to_owned()];
    let done = import(closed, &text, Duration::ZERO).await;
    assert_eq!(done.written, 0);
    assert!(done.failed >= 4 && done.gave_up.is_some());
}
