//! An HTTP client that stays on one connection and would notice its loss.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

pub enum Client {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    pub async fn connect(addr: &str) -> Client {
        let socket = TcpStream::connect(addr).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        Client::One(sender)
    }

    pub async fn connect_http2(addr: &str) -> Client {
        let socket = TcpStream::connect(addr).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Client::Two(sender)
    }

    /// Sends a request; `headers` are lines `name: value`.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method);
        request = match self {
            Client::One(_) => request.uri(path).header("host", "test"),
            Client::Two(_) => request.uri(format!("http://test{path}")),
        };
        for line in headers {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = match self {
            Client::One(sender) => {
                sender.ready().await.expect("the connection is usable");
                sender.send_request(request).await.unwrap()
            }
            Client::Two(sender) => sender.send_request(request).await.unwrap(),
        };
        let (parts, body) = answer.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub async fn put(&mut self, path: &str, value: &str) -> Answer {
        self.send("PUT", path, &["content-type: text/plain"], value.to_owned())
            .await
    }

    pub async fn batch(&mut self, body: &Value) -> Answer {
        self.send("POST", "/v1/batch", &[], body.to_string()).await
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks status and code of a problem, and that it is a whole one.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(self.status.as_u16(), status, "{problem}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:caucus:problem:{code}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        assert!(problem["retryable"].is_boolean());
        problem
    }
}
