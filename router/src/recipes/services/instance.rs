//! What is kept of an instance.

use caucus_api::shard::{Put, Record};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An instance of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Where it is: a name or an address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// What it can be chosen by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What else others shall know.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub metadata: Value,
    /// After so many seconds without a sign of life it is critical.
    pub ttl: u64,
    /// After so many seconds of being critical it is removed. Without it: at once, or with a check never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical_after: Option<u64>,
    /// How the nodes find out whether it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// How the nodes find out whether an instance is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// Seconds between two checks.
    pub interval: u64,
    /// Seconds until one has failed.
    #[serde(default = "timeout_default")]
    pub timeout: u64,
}

fn timeout_default() -> u64 {
    2
}

/// What is asked by a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A `GET` of this path at the instance's address: 200 to 299 is passing, 429 a warning, all else critical.
    Http(String),
    /// A connection to this port of the instance's address.
    Tcp(u16),
}

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Well.
    Passing,
    /// It can be used, though something is amiss.
    Warning,
    /// Not to be used.
    Critical,
}

/// What an instance says of itself, or a check of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How it is.
    pub status: Status,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Status {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
        }
    }
}

impl Instance {
    /// How long its lease lives, in seconds; `None`: it has none and stays until it is removed.
    pub(super) fn lease_s(&self) -> Option<u64> {
        match (self.critical_after, &self.check) {
            (Some(after), _) => Some(self.ttl.saturating_add(after)),
            (None, None) => Some(self.ttl),
            (None, Some(_)) => None,
        }
    }

    pub(super) fn read(record: &Record) -> Option<Instance> {
        serde_json::from_slice(&record.value).ok()
    }

    pub(super) fn put(&self, lease: u64) -> Put {
        put(self, lease)
    }
}

impl Health {
    pub(super) fn read(record: &Record) -> Option<Health> {
        serde_json::from_slice(&record.value).ok()
    }

    pub(super) fn put(&self, lease: u64) -> Put {
        put(self, lease)
    }
}

fn put(stored: &impl Serialize, lease: u64) -> Put {
    Put {
        // It can be written: its maps came as JSON.
        value: serde_json::to_vec(stored).unwrap_or_default().into(),
        content_type: "application/json".to_owned(),
        lease,
        ..Put::default()
    }
}
