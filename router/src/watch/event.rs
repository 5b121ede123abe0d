//! What a watch tells.

use std::sync::Arc;

use bytes::Bytes;
use caucus_api::shard::{self, Record};
use prost::Message as _;

/// A change of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The revision at which it happened.
    pub revision: u64,
    /// The key.
    pub key: Bytes,
    /// What it is since then; `None`: it was deleted.
    pub record: Option<Record>,
    /// What it was before, if that was asked for and there was something.
    pub previous: Option<Record>,
}

impl Event {
    /// Whether the key is new.
    pub fn is_create(&self) -> bool {
        let created = self.record.as_ref().map(|record| record.create_revision);
        created == Some(self.revision)
    }

    /// What it takes of memory, about.
    pub(super) fn size(&self) -> usize {
        let size = |record: &Option<Record>| {
            let record = record.as_ref();
            record.map_or(0, |record| record.value.len() + record.content_type.len())
        };
        128 + self.key.len() + size(&self.record) + size(&self.previous)
    }
}

/// What a watch is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Changes in the order of revisions, those of one revision all together; none at or below
    /// `through` follows. There may be no changes.
    Events {
        /// The changes.
        events: Vec<Arc<Event>>,
        /// Up to where the watch has got.
        through: u64,
    },
    /// Nothing more comes.
    Ended(End),
}

/// Why a watch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The changes that it needs next are compacted.
    Compacted {
        /// Nothing at or below it is kept.
        revision: u64,
    },
    /// Its reader took nothing for too long, or a group that it waits for doesn't answer.
    Lagging {
        /// A new watch from here on misses nothing.
        resume: u64,
    },
    /// It was refused.
    Refused(String),
}

/// Reads events as groups tell them; `None`: they can't be read.
pub(super) fn read(events: Vec<shard::Event>) -> Option<Vec<Arc<Event>>> {
    let record = |bytes: Bytes| match bytes.is_empty() {
        true => Some(None),
        false => Record::decode(bytes).ok().map(Some),
    };
    let events = events.into_iter().map(|event| {
        Some(Arc::new(Event {
            revision: event.revision,
            key: event.key,
            record: record(event.record)?,
            previous: record(event.previous)?,
        }))
    });
    events.collect()
}
