//! The client: keys, and where all else begins.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderName};
use serde_json::{Value, json};

use crate::endpoints::{Ask, BadEndpoint, Endpoints, Error};
use crate::{Campaign, Lease, LockRequest, Watch, encoded};

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Before a lost place is asked for again.
const PLACE_PAUSE: Duration = Duration::from_millis(100);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A client of a cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    endpoints: Arc<Endpoints>,
    names: Arc<Names>,
}

/// Names for requests, so that each is executed once however often it is sent.
#[derive(Debug)]
struct Names {
    /// Of this client, drawn by chance.
    client: u64,
    next: AtomicU64,
}

impl Client {
    /// Of the nodes with these addresses, `http://HOST:PORT`; any of them does.
    pub fn new(endpoints: &[String]) -> Result<Client, BadEndpoint> {
        Ok(Client::of(Endpoints::new(endpoints, TIMEOUT_DEFAULT)?))
    }

    /// Of endpoints with a timeout of their own.
    pub fn of(endpoints: Endpoints) -> Client {
        // The standard library draws the keys of its hashes by chance.
        let client = RandomState::new().build_hasher().finish();
        Client {
            endpoints: Arc::new(endpoints),
            names: Arc::new(Names {
                client,
                next: AtomicU64::new(0),
            }),
        }
    }

    /// The endpoints.
    pub fn endpoints(&self) -> &Arc<Endpoints> {
        &self.endpoints
    }

    /// Reads a key: its record as the API shows it, `None` if there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Value>, Error> {
        let ask = Ask::new(Method::GET, path_of(key));
        match self.endpoints.send_for_json(&ask).await {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.code() == Some("key_not_found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a key as JSON; the revision at which that happened.
    pub async fn put(&self, key: &str, value: &Value) -> Result<u64, Error> {
        let ask = Ask::new(Method::PUT, path_of(key)).body(value.to_string());
        let ask = ask.header(CONTENT_TYPE, "application/json");
        let done = self
            .once(ask.unwrap_or_else(|_| unreachable_header()))
            .await?;
        Ok(done["revision"].as_u64().unwrap_or(0))
    }

    /// Deletes a key; whether there was one.
    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        let done = self.once(Ask::new(Method::DELETE, path_of(key))).await?;
        Ok(done["deleted"].as_bool().unwrap_or(true))
    }

    /// Executes a transaction as `/v1/txn` describes it.
    pub async fn txn(&self, txn: &Value) -> Result<Value, Error> {
        self.once(Ask::new(Method::POST, "/v1/txn".to_owned()).body(txn.to_string()))
            .await
    }

    /// Grants a lease and keeps it alive. `ttl`: whole seconds, at least one.
    pub async fn lease(&self, ttl: Duration) -> Result<Lease, Error> {
        let sent = tokio::time::Instant::now();
        let body = json!({ "ttl": ttl.as_secs().max(1) });
        let ask = Ask::new(Method::POST, "/v1/leases".to_owned()).body(body.to_string());
        let granted = self.endpoints.send_for_json(&ask).await?;
        Ok(Lease::begin(self.clone(), &granted, sent))
    }

    /// A lock by its name, to be acquired.
    pub fn lock(&self, name: &str) -> LockRequest {
        LockRequest::new(self.clone(), name)
    }

    /// An election by its name, to campaign in.
    pub fn election(&self, name: &str) -> Campaign {
        Campaign::new(self.clone(), name)
    }

    /// Changes of all keys that begin with `prefix`, from a revision on or, without one, from now on.
    pub fn watch(&self, prefix: &str, from: Option<u64>) -> Watch {
        Watch::new(self.clone(), prefix, from)
    }

    /// Sends a request under a name of its own: it is executed once, so it may be sent again.
    pub async fn once(&self, ask: Ask) -> Result<Value, Error> {
        let number = self.names.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{:016x}-{number}", self.names.client);
        let ask = ask.repeatable().header(IDEMPOTENCY_KEY, &name);
        let ask = ask.unwrap_or_else(|_| unreachable_header());
        self.endpoints.send_for_json(&ask).await
    }
}

impl Client {
    /// Asks for a turn, for as long as that may take. Whose connection broke while it waited has lost its place; it
    /// goes to the end and waits on.
    pub(crate) async fn turn(
        &self,
        wait: Duration,
        ask: impl Fn(Duration) -> Ask,
    ) -> Result<Value, Error> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            match self.once(ask(left).wait(left)).await {
                Err(error) if error.code() == Some("session_expired") && !left.is_zero() => {
                    tokio::time::sleep(PLACE_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

/// Digits, letters and a slash always make a header value.
fn unreachable_header() -> Ask {
    unreachable!("a header of letters and digits")
}

fn path_of(key: &str) -> String {
    format!("/v1/kv/{}", encoded(key))
}
