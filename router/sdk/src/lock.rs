//! Locks as guards.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::endpoints::{Ask, Error};
use crate::{Client, Lease, encoded};

/// Half a minute.
const TTL_DEFAULT: Duration = Duration::from_secs(30);

/// What is asked of a lock.
#[derive(Debug, Clone)]
#[must_use = "nothing is asked before `acquire`"]
pub struct LockRequest {
    client: Client,
    name: String,
    ttl: Duration,
    body: Value,
    wait: Duration,
}

impl LockRequest {
    pub(crate) fn new(client: Client, name: &str) -> LockRequest {
        LockRequest {
            client,
            name: name.to_owned(),
            ttl: TTL_DEFAULT,
            body: json!({}),
            wait: Duration::ZERO,
        }
    }

    /// How long it is held without a sign of life; whole seconds, at least one.
    pub fn ttl(mut self, ttl: Duration) -> LockRequest {
        self.ttl = ttl;
        self
    }

    /// How long to wait for it; without this it is only tried.
    pub fn wait(mut self, wait: Duration) -> LockRequest {
        self.wait = wait;
        self
    }

    /// A note about who holds it.
    pub fn owner(mut self, owner: &str) -> LockRequest {
        self.body["owner"] = owner.into();
        self
    }

    /// Together with other readers.
    pub fn read(mut self) -> LockRequest {
        self.body["kind"] = "read".into();
        self
    }

    /// Without readers and other writers.
    pub fn write(mut self) -> LockRequest {
        self.body["kind"] = "write".into();
        self
    }

    /// As one of so many.
    pub fn semaphore(mut self, permits: u32) -> LockRequest {
        self.body["kind"] = "semaphore".into();
        self.body["permits"] = permits.into();
        self
    }

    /// Takes it. Refused with `not_acquired` if others held it for as long as was to be waited.
    pub async fn acquire(self) -> Result<Lock, Error> {
        let mut body = self.body;
        body["ttl"] = self.ttl.as_secs().max(1).into();
        let path = format!("/v1/locks/{}", encoded(&self.name));
        let sent = Instant::now();
        let ask = |left: Duration| {
            let mut body = body.clone();
            body["wait"] = left.as_secs_f64().into();
            Ask::new(Method::POST, format!("{path}/acquire")).body(body.to_string())
        };
        let held = self.client.turn(self.wait, ask).await?;
        let client = self.client.clone();
        let lease = match self.wait.is_zero() {
            true => Lease::begin(client, &held, sent),
            false => Lease::begin_after_wait(client, &held).await?,
        };
        Ok(Lock {
            lease,
            client: self.client,
            path,
            held,
        })
    }
}

/// A lock that is held, as long as this lives and isn't [lost](Self::lost). Dropped, it is left to its time.
#[derive(Debug)]
pub struct Lock {
    client: Client,
    path: String,
    held: Value,
    lease: Lease,
}

impl Lock {
    /// The fencing token: it rises with each holder of the name, for ever. Whatever does the work shall refuse one
    /// that is lower than one it has seen.
    pub fn token(&self) -> u64 {
        self.held["token"].as_u64().unwrap_or(0)
    }

    /// The key of the attempt: while it is there, and was created at the token, the lock is held.
    pub fn key(&self) -> &str {
        self.held["key"].as_str().unwrap_or_default()
    }

    /// The lease that keeps it.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Waits until it may not be held any more.
    pub async fn lost(&self) {
        self.lease.lost().await;
    }

    /// Gives it back; refused with `not_held` if it was lost.
    pub async fn release(self) -> Result<(), Error> {
        let ask = Ask::new(Method::POST, format!("{}/release", self.path));
        self.client.once(ask.body(self.held.to_string())).await?;
        Ok(())
    }
}
