//! Leaderships as guards.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::endpoints::{Ask, Error};
use crate::{Client, Lease, encoded};

const TTL_DEFAULT: Duration = Duration::from_secs(10);
/// The longest wait of one call.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A candidacy to be.
#[derive(Debug, Clone)]
#[must_use = "nothing is asked before `lead`"]
pub struct Campaign {
    client: Client,
    path: String,
    ttl: Duration,
    wait: Duration,
    value: Value,
}

impl Campaign {
    pub(crate) fn new(client: Client, name: &str) -> Campaign {
        Campaign {
            client,
            path: format!("/v1/elections/{}", encoded(name)),
            ttl: TTL_DEFAULT,
            wait: WAIT_MAX,
            value: Value::Null,
        }
    }

    /// How long it leads without a sign of life; whole seconds, at least one.
    pub fn ttl(mut self, ttl: Duration) -> Campaign {
        self.ttl = ttl;
        self
    }

    /// How long to wait, an hour at most.
    pub fn wait(mut self, wait: Duration) -> Campaign {
        self.wait = wait.min(WAIT_MAX);
        self
    }

    /// What is proclaimed.
    pub fn value(mut self, value: Value) -> Campaign {
        self.value = value;
        self
    }

    /// Waits until it leads.
    pub async fn lead(self) -> Result<Leadership, Error> {
        let ask = |left: Duration| {
            let body = json!({
                "ttl": self.ttl.as_secs().max(1),
                "wait": left.as_secs_f64(),
                "value": self.value,
            });
            let ask = Ask::new(Method::POST, format!("{}/campaign", self.path));
            ask.body(body.to_string())
        };
        let elected = self.client.turn(self.wait, ask).await?;
        Ok(Leadership {
            lease: Lease::begin_after_wait(self.client.clone(), &elected).await?,
            client: self.client,
            path: self.path,
            elected,
        })
    }

    /// Who leads, as the API shows it; `None`: nobody.
    pub async fn leader(&self) -> Result<Option<Value>, Error> {
        let ask = Ask::new(Method::GET, format!("{}/leader", self.path));
        match self.client.endpoints().send_for_json(&ask).await {
            Ok(leader) => Ok(Some(leader)),
            Err(error) if error.code() == Some("no_leader") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A leadership, as long as this lives and isn't [lost](Self::lost). Dropped, it is left to its time.
#[derive(Debug)]
pub struct Leadership {
    client: Client,
    path: String,
    elected: Value,
    lease: Lease,
}

impl Leadership {
    /// The fencing token: it rises with each leader, for ever.
    pub fn token(&self) -> u64 {
        self.elected["token"].as_u64().unwrap_or(0)
    }

    /// The candidate's key.
    pub fn key(&self) -> &str {
        self.elected["key"].as_str().unwrap_or_default()
    }

    /// The lease that keeps it.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Waits until somebody else may lead.
    pub async fn lost(&self) {
        self.lease.lost().await;
    }

    /// Proclaims something else.
    pub async fn proclaim(&self, value: Value) -> Result<(), Error> {
        let mut body = self.elected.clone();
        body["value"] = value;
        let ask = Ask::new(Method::POST, format!("{}/proclaim", self.path));
        self.client.once(ask.body(body.to_string())).await?;
        Ok(())
    }

    /// Gives it back.
    pub async fn resign(self) -> Result<(), Error> {
        let ask = Ask::new(Method::POST, format!("{}/resign", self.path));
        self.client.once(ask.body(self.elected.to_string())).await?;
        Ok(())
    }
}
