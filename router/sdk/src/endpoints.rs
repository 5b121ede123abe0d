//! A cluster as its clients see it: a list of endpoints, any of which answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde_json::Value;

/// An answer larger than this isn't one of Caucus.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// An endpoint that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadEndpoint(String);

/// A header whose value can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: not a header value")]
pub struct BadHeader(String);

/// What one request needs.
#[derive(Debug, Clone)]
pub struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    repeatable: bool,
    wait: Duration,
}

impl Ask {
    /// Without body or headers.
    pub fn new(method: Method, path: String) -> Ask {
        Ask {
            method,
            path,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            repeatable: false,
            wait: Duration::ZERO,
        }
    }

    /// It does the same if it is done twice, so it may be sent again when no answer came.
    #[must_use]
    pub fn repeatable(mut self) -> Ask {
        self.repeatable = true;
        self
    }

    /// The answer may take so much longer: others are waited for.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Ask {
        self.wait = wait;
        self
    }

    fn is_repeatable(&self) -> bool {
        self.repeatable || self.method == Method::GET
    }

    /// With a header.
    pub fn header(
        mut self,
        name: hyper::header::HeaderName,
        value: &str,
    ) -> Result<Ask, BadHeader> {
        let value = value.parse().map_err(|_| BadHeader(name.to_string()))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Ask {
        self.body = body.into();
        self
    }
}

/// Why a request wasn't done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer came.
    #[error("{endpoint}: {reason}")]
    NoAnswer {
        /// Who was asked.
        endpoint: String,
        /// What happened.
        reason: String,
        /// The request never left.
        unsent: bool,
    },
    /// The answer was a refusal.
    #[error("{0}")]
    Refused(Problem),
}

impl Error {
    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Refused(problem) => Some(&problem.code),
            Error::NoAnswer { .. } => None,
        }
    }

    /// Whether the same may go well later, or elsewhere.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Refused(problem) => problem.retryable,
            Error::NoAnswer { .. } => true,
        }
    }
}

/// An error as the API reports it (RFC 9457).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// What went wrong, for programs.
    pub code: String,
    /// What went wrong, for people.
    pub detail: String,
    /// Whether the same request can succeed later.
    pub retryable: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.detail.as_str() {
            "" => write!(f, "{}", self.code),
            detail => write!(f, "{}: {detail}", self.code),
        }
    }
}

/// The endpoints of a cluster, and which of them is in use.
#[derive(Debug)]
pub struct Endpoints {
    client: Client<HttpConnector, Full<Bytes>>,
    bases: Vec<String>,
    current: AtomicUsize,
    timeout: Duration,
}

impl Endpoints {
    /// Ready to send; nothing is connected yet. `timeout`: of one request.
    pub fn new(bases: &[String], timeout: Duration) -> Result<Endpoints, BadEndpoint> {
        let bases = bases
            .iter()
            .map(|base| normal(base))
            .collect::<Result<Vec<_>, _>>()?;
        if bases.is_empty() {
            return Err(BadEndpoint("no endpoints are given".to_owned()));
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(HttpConnector::new());
        Ok(Endpoints {
            client,
            bases,
            current: AtomicUsize::new(0),
            timeout,
        })
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.bases.len()
    }

    /// Whether one says that it serves.
    pub async fn is_ready(&self, index: usize) -> bool {
        let ask = Ask::new(Method::GET, "/readyz".to_owned());
        self.attempt(index, &ask).await.is_ok()
    }

    /// Asks the endpoint in use, and the others in turn if it can't be reached. Only a request that
    /// changes nothing, or never left, is sent again.
    pub async fn send(&self, ask: &Ask) -> Result<Bytes, Error> {
        let mut attempts = self.bases.len();
        loop {
            attempts -= 1;
            let index = self.in_use();
            match self.attempt(index, ask).await {
                Err(Error::NoAnswer { unsent, .. })
                    if attempts > 0 && (unsent || ask.is_repeatable()) =>
                {
                    self.leave(index);
                }
                outcome => return outcome,
            }
        }
    }

    /// The endpoint in use.
    pub fn in_use(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Goes on to the next endpoint, unless somebody else did so already.
    pub fn leave(&self, index: usize) {
        let next = (index + 1) % self.bases.len();
        let (done, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.current.compare_exchange(index, next, done, failed);
    }

    /// How an endpoint is written.
    pub fn base(&self, index: usize) -> &str {
        &self.bases[index]
    }

    fn no_answer(&self, index: usize, reason: String, unsent: bool) -> Error {
        Error::NoAnswer {
            endpoint: self.bases[index].clone(),
            reason,
            unsent,
        }
    }

    /// Asks one endpoint once.
    pub async fn attempt(&self, index: usize, ask: &Ask) -> Result<Bytes, Error> {
        let exchange = async {
            let body = self.begin(index, ask).await?;
            self.whole(index, body).await
        };
        self.in_time(index, ask, exchange).await
    }

    /// Asks the endpoint in use, once, for an answer that is read as it comes.
    pub async fn stream(&self, ask: &Ask) -> Result<Incoming, Error> {
        let index = self.in_use();
        self.in_time(index, ask, self.begin(index, ask)).await
    }

    async fn in_time<T>(
        &self,
        index: usize,
        ask: &Ask,
        exchange: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = self.timeout + ask.wait;
        match tokio::time::timeout(limit, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let reason = format!("no answer in {limit:?}");
                Err(self.no_answer(index, reason, false))
            }
        }
    }

    /// Sends a request; the answer's body is still to be read.
    async fn begin(&self, index: usize, ask: &Ask) -> Result<Incoming, Error> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.headers_mut() = ask.headers.clone();
        let uri = format!("{}{}", self.bases[index], ask.path).parse();
        *request.uri_mut() = uri.map_err(|error: hyper::http::uri::InvalidUri| {
            self.no_answer(index, error.to_string(), true)
        })?;
        let answer = self.client.request(request).await.map_err(|error| {
            let unsent = error.is_connect();
            self.no_answer(index, root_cause(&error), unsent)
        })?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let body = self.whole(index, body).await?;
        Err(Error::Refused(problem(head.status, &head.headers, &body)))
    }

    async fn whole(&self, index: usize, body: Incoming) -> Result<Bytes, Error> {
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.no_answer(index, error.to_string(), false))?;
        Ok(body.to_bytes())
    }

    /// Asks for JSON; an answer without a body is null.
    pub async fn send_for_json(&self, ask: &Ask) -> Result<Value, Error> {
        let body = self.send(ask).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| {
            let reason = format!("the answer is no JSON: {error}");
            self.no_answer(self.in_use(), reason, false)
        })
    }
}

fn problem(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Problem {
    let is_problem = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/problem+json");
    let parsed = is_problem
        .then(|| serde_json::from_slice(body).ok())
        .flatten();
    parsed.unwrap_or_else(|| Problem {
        code: status.to_string(),
        detail: String::new(),
        // Not from Caucus itself: a proxy, perhaps, that has lost its node.
        retryable: status.is_server_error(),
    })
}

fn normal(base: &str) -> Result<String, BadEndpoint> {
    let full = match base.contains("://") {
        true => base.trim_end_matches('/').to_owned(),
        false => format!("http://{}", base.trim_end_matches('/')),
    };
    let uri: Option<Uri> = full.parse().ok();
    let uri = uri.filter(|uri| uri.host().is_some() && uri.path() == "/");
    match uri.as_ref().and_then(Uri::scheme_str) {
        Some("http") => Ok(full),
        Some("https") => Err(BadEndpoint(format!("{base}: TLS isn't there yet"))),
        Some(_) | None => Err(BadEndpoint(format!("`{base}` is not http://HOST:PORT"))),
    }
}

/// The innermost error says it best: "Connection refused".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_normalised() {
        assert_eq!(normal("127.0.0.1:7400").unwrap(), "http://127.0.0.1:7400");
        assert_eq!(normal("http://h:1/").unwrap(), "http://h:1");
        for bad in ["https://h:1", "ftp://h", "http://h/path", ""] {
            assert!(normal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_left_once() {
        let urls = ["http://a:1", "http://b:1", "http://c:1"];
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        let endpoints = Endpoints::new(&urls, Duration::from_secs(1)).unwrap();
        endpoints.leave(0);
        endpoints.leave(0);
        assert_eq!(endpoints.in_use(), 1);
        endpoints.leave(1);
        endpoints.leave(2);
        assert_eq!(endpoints.in_use(), 0);
    }
}
