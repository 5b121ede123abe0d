//! The index of changes: which keys changed at which revision.
//!
//! ```text
//!  CHANGES  first revision ▶ [(revision - first, key)]       one record a log entry
//! ```
//!
//! Records of history are sorted by key; who wants to know what happened after a revision, whatever the
//! key, reads here, and then what each change was in the history. Compaction follows it too. An entry's
//! revisions are one block that no other operation has a revision in, so that records never overlap; only
//! the commit of a transaction over groups, whose revision is from elsewhere, has one of its own.

use std::ops::Range;

use bytes::Bytes;
use caucus_api::shard::Event;
use caucus_engine::{Direction, Error, Reader, Space, keys};
use caucus_raft::Txn;
use prost::Message;

use super::published::Routing;
use super::record::{corrupt, decode};
use super::versions::{self, When};
use crate::watch::Change;

/// The keys that one entry changed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChangesRecord {
    /// In ascending order of revisions.
    #[prost(message, repeated, tag = "1")]
    pub(crate) changes: Vec<ChangedKey>,
}

/// One of them.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChangedKey {
    /// From the record's own revision.
    #[prost(uint64, tag = "1")]
    pub(crate) offset: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
    /// There was a record before, which is in the history under this revision.
    #[prost(bool, tag = "3")]
    pub(crate) replaces: bool,
}

/// Writes the index of what one batch changed. `block`: the batch's own revisions.
pub(super) fn index(txn: &mut Txn, block: Range<u64>, changes: &[Change]) {
    let of = |change: &Change| match block.contains(&change.revision) {
        true => block.start,
        false => change.revision,
    };
    let mut own = ChangesRecord::default();
    let mut others: Vec<(u64, ChangesRecord)> = Vec::new();
    for change in changes {
        let first = of(change);
        let changed = ChangedKey {
            offset: change.revision - first,
            key: change.key.clone(),
            replaces: change.previous.is_some(),
        };
        if first == block.start {
            own.changes.push(changed);
        } else if let Some((_, record)) = others.iter_mut().find(|(of, _)| *of == first) {
            record.changes.push(changed);
        } else {
            let changes = vec![changed];
            others.push((first, ChangesRecord { changes }));
        }
    }
    if !own.changes.is_empty() {
        others.push((block.start, own));
    }
    for (first, record) in others {
        let key = keys::changes(txn.storage(), first);
        txn.put(key, record.encode_to_vec());
    }
}

/// Where the record that can hold a revision begins.
pub(crate) fn record_start(
    reader: &dyn Reader,
    storage: keys::StorageId,
    revision: u64,
) -> Result<u64, Error> {
    let start = keys::kind_range(storage, keys::state_kind::CHANGES).start;
    let end = keys::changes(storage, revision.saturating_add(1));
    let mut scan = reader.scan(Space::State, &start, &end, Direction::Reverse)?;
    match scan.next()? {
        Some((key, _)) => first_revision(storage, &key),
        None => Ok(revision),
    }
}

/// The revision that a record is filed under.
pub(crate) fn first_revision(storage: keys::StorageId, key: &[u8]) -> Result<u64, Error> {
    keys::parse_changes(storage, key).ok_or_else(|| corrupt("the key of a record of changes"))
}

/// Reads a record.
pub(crate) fn changed(stored: Bytes) -> Result<ChangesRecord, Error> {
    ChangesRecord::decode(stored).map_err(|_| corrupt("a record of changes"))
}

/// What is wanted of the past.
pub(crate) struct Past<'a> {
    pub(crate) reader: &'a dyn Reader,
    pub(crate) storage: keys::StorageId,
    pub(crate) routing: &'a Routing,
    /// Whether a key is wanted, and if so, with the record before.
    pub(crate) wants: &'a (dyn Fn(&[u8]) -> Option<bool> + Sync),
    /// Changes above the start, up to and with the end, all of which are applied.
    pub(crate) between: Range<u64>,
    /// Stop after so many bytes...
    pub(crate) bytes_max: usize,
    /// ... or so many changes, wanted or not.
    pub(crate) looked_max: usize,
}

impl Past<'_> {
    /// Events in the order of revisions, and the revision up to which none is missing.
    pub(crate) fn read(&self) -> Result<(Vec<Event>, u64), Error> {
        let (after, through) = (self.between.start, self.between.end);
        let first = record_start(self.reader, self.storage, after.saturating_add(1))?;
        let start = keys::changes(self.storage, first);
        let end = keys::changes(self.storage, through.saturating_add(1));
        let mut scan = self
            .reader
            .scan(Space::State, &start, &end, Direction::Forward)?;
        let mut events: Vec<Event> = Vec::new();
        let (mut bytes, mut looked) = (0, 0);
        let mut last = after;
        while let Some((key, stored)) = scan.next()? {
            let first = first_revision(self.storage, &key)?;
            for change in changed(stored)?.changes {
                let revision = first.saturating_add(change.offset);
                if revision <= after || revision > through {
                    continue;
                }
                if revision > last {
                    if bytes >= self.bytes_max || looked >= self.looked_max {
                        return Ok((events, last));
                    }
                    last = revision;
                }
                looked += 1;
                if let Some(with_previous) = (self.wants)(&change.key) {
                    let event = self.event(revision, change.key, with_previous)?;
                    bytes += event.key.len() + event.record.len() + event.previous.len();
                    events.push(event);
                }
            }
        }
        Ok((events, through))
    }

    fn event(&self, revision: u64, key: Bytes, with_previous: bool) -> Result<Event, Error> {
        let vnode = self.routing.vnode(&key);
        let at = When::At(revision);
        let record = versions::get(self.reader, self.storage, vnode, &key, at)?;
        let previous = match with_previous {
            true => {
                let past = keys::history(self.storage, vnode.0, &key, revision);
                self.reader.get(Space::State, &past)?
            }
            false => None,
        };
        if let Some(previous) = &previous {
            decode(previous.clone())?;
        }
        Ok(Event {
            revision,
            key,
            record: record.map_or_else(Bytes::new, |record| record.encode_to_vec().into()),
            previous: previous.unwrap_or_default(),
        })
    }
}
