//! What is kept of versions.

use caucus_api::shard::{Put, Record};
use serde::{Deserialize, Serialize};

/// Without a word about it.
const VERSIONS_DEFAULT: u64 = 100;

/// A version of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Counts from 1, for ever.
    pub version: u64,
    /// The oldest version that is kept.
    pub oldest: u64,
    /// Who published it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// When, in ms of Unix time, by the clock of a node.
    pub time_ms: u64,
    /// It removed the value.
    #[serde(default)]
    pub deleted: bool,
}

/// What a named request has published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) fingerprint: u64,
    /// The version of each path, in the order in which the request names them.
    pub(super) versions: Vec<u64>,
}

impl Request {
    pub(super) fn read(record: &Record) -> Option<Request> {
        serde_json::from_slice(&record.value).ok()
    }

    pub(super) fn put(&self) -> Put {
        put(self)
    }
}

/// What is kept of the versions in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// So many versions of each path, the newest one included.
    #[serde(default = "versions_default")]
    pub versions_max: u64,
    /// Versions that were replaced this long ago are let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds_max: Option<u64>,
}

fn versions_default() -> u64 {
    VERSIONS_DEFAULT
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            versions_max: VERSIONS_DEFAULT,
            age_seconds_max: None,
        }
    }
}

impl Meta {
    pub(super) fn read(record: &Record) -> Option<Meta> {
        serde_json::from_slice(&record.value).ok()
    }

    pub(super) fn put(&self) -> Put {
        put(self)
    }
}

impl Policy {
    pub(super) fn read(record: Option<&Record>) -> Policy {
        let read = record.and_then(|record| serde_json::from_slice(&record.value).ok());
        read.unwrap_or_default()
    }

    pub(super) fn put(&self) -> Put {
        put(self)
    }
}

fn put(stored: &impl Serialize) -> Put {
    Put {
        // It can be written: it has no maps.
        value: serde_json::to_vec(stored).unwrap_or_default().into(),
        content_type: "application/json".to_owned(),
        ..Put::default()
    }
}
