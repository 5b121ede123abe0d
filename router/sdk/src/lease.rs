//! Leases that are kept alive.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::Client;
use crate::endpoints::{Ask, Error};

/// Between two attempts to reach somebody.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A lease that is kept alive as long as this lives. Dropped, it is left to its time; [`revoke`](Self::revoke) ends it
/// at once.
#[derive(Debug)]
pub struct Lease {
    client: Client,
    id: Arc<str>,
    /// Until when it lives as far as this process knows; in the past: it is lost.
    until: watch::Receiver<Instant>,
    keeper: AbortHandle,
}

impl Lease {
    /// Keeps alive what was granted with an answer to a request that was sent then.
    pub(crate) fn begin(client: Client, granted: &Value, sent: Instant) -> Lease {
        let id: Arc<str> = granted["lease"].as_str().unwrap_or_default().into();
        let ttl = Duration::from_secs(granted["ttl"].as_u64().unwrap_or(1));
        let (told, until) = watch::channel(sent + ttl);
        let keeper = tokio::spawn(keep_alive(client.clone(), id.clone(), ttl, told));
        Lease {
            client,
            id,
            until,
            keeper: keeper.abort_handle(),
        }
    }

    /// The same of what was waited for: when it was granted isn't known here, so a sign of life comes first.
    pub(crate) async fn begin_after_wait(client: Client, granted: &Value) -> Result<Lease, Error> {
        let id = granted["lease"].as_str().unwrap_or_default();
        let sent = Instant::now();
        let path = format!("/v1/leases/{id}/keepalive");
        let ask = Ask::new(Method::POST, path).repeatable();
        client.endpoints().send(&ask).await?;
        Ok(Lease::begin(client, granted, sent))
    }

    /// Its id, as the API writes it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it lives, as far as this process knows.
    pub fn is_alive(&self) -> bool {
        *self.until.borrow() > Instant::now()
    }

    /// Waits until it may be over: because its time has passed without a sign of life that was answered, or
    /// because it was ended.
    pub async fn lost(&self) {
        let mut until = self.until.clone();
        loop {
            let end = *until.borrow_and_update();
            tokio::select! {
                () = sleep_until(end) => return,
                // Prolonged, or over; without a keeper it ends when its time does.
                changed = until.changed() => if changed.is_err() {
                    sleep_until(end).await;
                    return;
                },
            }
        }
    }

    /// Ends it at once, with all keys that are attached to it.
    pub async fn revoke(self) -> Result<(), Error> {
        let ask = Ask::new(Method::DELETE, format!("/v1/leases/{}", self.id)).repeatable();
        match self.client.endpoints().send(&ask).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("lease_not_found") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep_alive(client: Client, id: Arc<str>, ttl: Duration, told: watch::Sender<Instant>) {
    let ask = Ask::new(Method::POST, format!("/v1/leases/{id}/keepalive")).repeatable();
    loop {
        let until = *told.borrow();
        sleep_until(until - ttl * 2 / 3).await;
        let next = loop {
            let sent = Instant::now();
            match timeout_at(until, client.endpoints().send(&ask)).await {
                Ok(Ok(_)) => break sent + ttl,
                Ok(Err(error)) if error.is_retryable() => {
                    let endpoints = client.endpoints();
                    endpoints.leave(endpoints.in_use());
                    sleep(AGAIN_AFTER).await;
                }
                // It is over, here and there.
                Ok(Err(_)) => {
                    told.send_replace(Instant::now());
                    return;
                }
                // Its time has passed.
                Err(_) => return,
            }
            if Instant::now() >= until {
                return;
            }
        };
        told.send_replace(next);
    }
}
