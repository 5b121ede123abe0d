//! Reading the records of a group as they are, or as they were at a revision.
//!
//! ```text
//!  CURRENT  key            ▶ record                      valid from its mod_revision on
//!  HISTORY  key | until    ▶ record                      valid from its mod_revision to before `until`
//! ```
//!
//! A record that is replaced or deleted at revision r moves to HISTORY under `until` = r. So at any
//! revision at most one record of a key is valid: the current one, or else the first in HISTORY whose
//! `until` lies above. There are no tombstones, the current value costs one lookup, and compaction at c
//! drops what has `until` ≤ c, each record for itself. (Valid time as two ends of an interval: Snodgrass,
//! The Temporal Query Language TQuel, 1987.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use bytes::Bytes;
use caucus_api::shard::{KeyChange, Record};
use caucus_engine::{Direction, Error, Reader, Scan, Space, keys};
use caucus_ring::{Vnode, VnodeSet};

use super::record::{corrupt, decode};

/// As of when something is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// As it is.
    Now,
    /// As it was at a revision; nothing needed for that may have been compacted.
    At(u64),
}

impl When {
    fn shows(self, record: &Record) -> bool {
        match self {
            When::Now => true,
            When::At(revision) => record.mod_revision <= revision,
        }
    }
}

/// The record of a key.
pub(crate) fn get(
    reader: &dyn Reader,
    storage: keys::StorageId,
    vnode: Vnode,
    key: &[u8],
    when: When,
) -> Result<Option<Record>, Error> {
    let stored = reader.get(Space::State, &keys::current(storage, vnode.0, key))?;
    if let Some(stored) = stored {
        let record = decode(stored)?;
        if when.shows(&record) {
            return Ok(Some(record));
        }
    }
    let When::At(revision) = when else {
        return Ok(None);
    };
    let start = keys::history(storage, vnode.0, key, revision.saturating_add(1));
    let end = keys::history_range(storage, vnode.0, key).end;
    let mut scan = reader.scan(Space::State, &start, &end, Direction::Forward)?;
    let Some((_, stored)) = scan.next()? else {
        return Ok(None);
    };
    let record = decode(stored)?;
    Ok(when.shows(&record).then_some(record))
}

/// The changes of a key between two revisions, the upper one first, newest first, as far as they are
/// not compacted at the lower one; and whether there are more.
pub(crate) fn changes(
    reader: &dyn Reader,
    storage: keys::StorageId,
    vnode: Vnode,
    key: &[u8],
    between: Range<u64>,
    limit: usize,
) -> Result<(Vec<KeyChange>, bool), Error> {
    let (below, compacted) = (between.start, between.end);
    let mut changes = Vec::new();
    // Where the record above begins: one that ends earlier was deleted.
    let mut above = None;
    let mut add = |record: Option<Record>, revision: u64| {
        if revision < below {
            changes.push(KeyChange { revision, record });
        }
        changes.len() > limit
    };
    if let Some(record) = get(reader, storage, vnode, key, When::Now)? {
        above = Some(record.mod_revision);
        add(Some(record.clone()), record.mod_revision);
    }
    let range = keys::history_range(storage, vnode.0, key);
    let mut scan = reader.scan(Space::State, &range.start, &range.end, Direction::Reverse)?;
    while let Some((stored_key, stored)) = scan.next()? {
        let until = until(storage, &stored_key)?;
        if until <= compacted {
            break;
        }
        let record = decode(stored)?;
        if above != Some(until) && add(None, until) {
            break;
        }
        above = Some(record.mod_revision);
        if add(Some(record.clone()), record.mod_revision) {
            break;
        }
    }
    let more = changes.len() > limit;
    changes.truncate(limit);
    Ok((changes, more))
}

fn until(storage: keys::StorageId, key: &[u8]) -> Result<u64, Error> {
    let (_, _, until) =
        keys::parse_history(storage, key).ok_or_else(|| corrupt("the key of a past record"))?;
    Ok(until)
}

/// The records of a range in some vnodes, in ascending order of keys.
pub(crate) struct RangeScan<'a> {
    parts: Vec<VnodeScan<'a>>,
    records: Vec<Option<Record>>,
    heads: BinaryHeap<Reverse<(Bytes, usize)>>,
}

impl<'a> RangeScan<'a> {
    /// Opens the range from `start` to before `end`; an empty `end` is open.
    pub(crate) fn open(
        reader: &'a dyn Reader,
        storage: keys::StorageId,
        vnodes: &VnodeSet,
        start: &[u8],
        end: &[u8],
        when: When,
    ) -> Result<RangeScan<'a>, Error> {
        let mut scan = RangeScan {
            parts: Vec::new(),
            records: Vec::new(),
            heads: BinaryHeap::new(),
        };
        if !end.is_empty() && start >= end {
            return Ok(scan);
        }
        for vnode in vnodes.iter() {
            let part = VnodeScan::open(reader, storage, vnode, start, end, when)?;
            scan.parts.push(part);
            scan.records.push(None);
            scan.advance(scan.parts.len() - 1)?;
        }
        Ok(scan)
    }

    fn advance(&mut self, part: usize) -> Result<(), Error> {
        if let Some((key, record)) = self.parts[part].next()? {
            self.heads.push(Reverse((key, part)));
            self.records[part] = Some(record);
        }
        Ok(())
    }

    /// The next key and its record.
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes, Record)>, Error> {
        let Some(Reverse((key, part))) = self.heads.pop() else {
            return Ok(None);
        };
        let record = self.records[part].take().unwrap_or_default();
        self.advance(part)?;
        Ok(Some((key, record)))
    }

    /// Goes on after all keys that begin with `prefix`.
    pub(crate) fn skip_past(&mut self, prefix: &[u8]) -> Result<(), Error> {
        let end = keys::prefix_end(prefix);
        if end.is_empty() {
            // Nothing sorts after them.
            self.heads.clear();
            return Ok(());
        }
        while let Some(Reverse((head, part))) = self.heads.peek() {
            if *head >= end {
                break;
            }
            let part = *part;
            self.heads.pop();
            self.parts[part].seek(&end);
            self.advance(part)?;
        }
        Ok(())
    }
}

/// The records of a range in one vnode.
struct VnodeScan<'a> {
    storage: keys::StorageId,
    vnode: Vnode,
    when: When,
    current: Box<dyn Scan + Send + 'a>,
    current_next: Option<(Bytes, Record)>,
    past: Option<Box<dyn Scan + Send + 'a>>,
    past_next: Option<(Bytes, Record)>,
    /// Whether `current_next` and `past_next` are what comes next.
    primed: bool,
}

impl<'a> VnodeScan<'a> {
    fn open(
        reader: &'a dyn Reader,
        storage: keys::StorageId,
        vnode: Vnode,
        start: &[u8],
        end: &[u8],
        when: When,
    ) -> Result<VnodeScan<'a>, Error> {
        let to = |kind, of: fn(keys::StorageId, u16, &[u8]) -> Bytes| match end.is_empty() {
            true => keys::vnode_range(storage, kind, vnode.0).end,
            false => of(storage, vnode.0, end),
        };
        let forward = Direction::Forward;
        let from = keys::current(storage, vnode.0, start);
        let until = to(keys::state_kind::CURRENT, keys::current);
        let current = reader.scan(Space::State, &from, &until, forward)?;
        let past = match when {
            When::Now => None,
            When::At(_) => {
                let first =
                    |storage, vnode, key: &[u8]| keys::history_range(storage, vnode, key).start;
                let from = first(storage, vnode.0, start);
                let until = to(keys::state_kind::HISTORY, first);
                Some(reader.scan(Space::State, &from, &until, forward)?)
            }
        };
        Ok(VnodeScan {
            storage,
            vnode,
            when,
            current,
            current_next: None,
            past,
            past_next: None,
            primed: false,
        })
    }

    fn next(&mut self) -> Result<Option<(Bytes, Record)>, Error> {
        if !self.primed {
            self.current_next = self.next_current()?;
            self.past_next = self.next_past()?;
            self.primed = true;
        }
        let past_first = match (&self.current_next, &self.past_next) {
            (Some((current, _)), Some((past, _))) => past < current,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if past_first {
            let next = self.next_past()?;
            return Ok(std::mem::replace(&mut self.past_next, next));
        }
        if self.current_next.is_none() {
            return Ok(None);
        }
        let next = self.next_current()?;
        Ok(std::mem::replace(&mut self.current_next, next))
    }

    fn next_current(&mut self) -> Result<Option<(Bytes, Record)>, Error> {
        while let Some((stored_key, stored)) = self.current.next()? {
            let record = decode(stored)?;
            if self.when.shows(&record) {
                let (_, key) = keys::parse_current(self.storage, &stored_key)
                    .ok_or_else(|| corrupt("the key of a record"))?;
                let key = stored_key.slice_ref(key);
                return Ok(Some((key, record)));
            }
        }
        Ok(None)
    }

    /// Of each key the first record that ends above the revision, if it has begun by then.
    fn next_past(&mut self) -> Result<Option<(Bytes, Record)>, Error> {
        let (Some(past), When::At(revision)) = (&mut self.past, self.when) else {
            return Ok(None);
        };
        while let Some((stored_key, stored)) = past.next()? {
            let (_, key, until) = keys::parse_history(self.storage, &stored_key)
                .ok_or_else(|| corrupt("the key of a past record"))?;
            if until <= revision {
                let from = revision.saturating_add(1);
                past.seek(&keys::history(self.storage, self.vnode.0, &key, from));
                continue;
            }
            past.seek(&keys::history_range(self.storage, self.vnode.0, &key).end);
            let record = decode(stored)?;
            if record.mod_revision <= revision {
                return Ok(Some((key.into(), record)));
            }
        }
        Ok(None)
    }

    fn seek(&mut self, key: &[u8]) {
        self.current
            .seek(&keys::current(self.storage, self.vnode.0, key));
        if let Some(past) = &mut self.past {
            past.seek(&keys::history_range(self.storage, self.vnode.0, key).start);
        }
        self.primed = false;
    }
}
