//! What stands in a lock's queue.

use caucus_api::shard::{Put, Record};
use serde::{Deserialize, Serialize};

use super::{Ask, KIND};
use crate::recipes::directory;
use crate::recipes::queue::{Queue, Share};

/// Permits of a semaphore.
pub const PERMITS_MAX: u32 = 1_000_000;

/// What kind of lock one asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Kind {
    /// One at a time.
    Mutex,
    /// Any number of readers at a time, and no writer.
    Read,
    /// One writer, and no reader.
    Write,
    /// So many at a time.
    Semaphore {
        /// How many.
        permits: u32,
    },
}

impl Kind {
    /// Whether the two can use a lock at the same time.
    pub(super) fn agrees(self, other: Kind) -> bool {
        match (self, other) {
            (Kind::Read | Kind::Write, Kind::Read | Kind::Write) => true,
            (one, other) => one == other,
        }
    }

    /// In words.
    pub(super) fn name(self) -> String {
        match self {
            Kind::Mutex => "mutex".to_owned(),
            Kind::Read => "read".to_owned(),
            Kind::Write => "write".to_owned(),
            Kind::Semaphore { permits } => format!("semaphore of {permits}"),
        }
    }
}

/// The value of an attempt's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) kind: Kind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) owner: String,
    /// How long it is held without a sign of life.
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) delay: u64,
}

impl Entry {
    pub(super) fn of(ask: &Ask) -> Entry {
        Entry {
            kind: ask.kind,
            owner: ask.owner.clone(),
            ttl: ask.ttl_s,
            delay: ask.delay_s,
        }
    }

    /// What stands in a record; `None`: somebody else has written there.
    pub(super) fn read(record: &Record) -> Option<Entry> {
        serde_json::from_slice(&record.value).ok()
    }

    pub(super) fn put(&self, lease: u64) -> Put {
        Put {
            // It can be written: it has no maps.
            value: serde_json::to_vec(self).unwrap_or_default().into(),
            content_type: "application/json".to_owned(),
            lease,
            ..Put::default()
        }
    }
}

/// What an entry asks of its turn. What can't be read stands in the way of all.
fn share(record: &Record) -> Share {
    match Entry::read(record).map(|entry| entry.kind) {
        Some(Kind::Read) => Share::Together,
        Some(Kind::Semaphore { permits }) => Share::Place { of: permits },
        Some(Kind::Mutex | Kind::Write) | None => Share::Alone,
    }
}

/// The queue of a lock.
pub(super) fn queue(name: &str) -> Queue {
    Queue {
        prefix: directory(KIND, name),
        share,
    }
}
