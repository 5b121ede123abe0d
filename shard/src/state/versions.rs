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
use std::collections::{BinaryHeap, VecDeque};
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
///
/// All vnodes share one scan of each kind, which reads some records of a vnode ahead whenever those of
/// before are used up: to open a scan costs more than to move one.
pub(crate) struct RangeScan<'a> {
    storage: keys::StorageId,
    when: When,
    end: Bytes,
    current: Box<dyn Scan + Send + 'a>,
    past: Option<Box<dyn Scan + Send + 'a>>,
    parts: Vec<Part>,
    heads: BinaryHeap<Reverse<(Bytes, usize)>>,
}

/// What is read ahead of one vnode.
struct Part {
    vnode: Vnode,
    ahead: VecDeque<(Bytes, Record)>,
    /// The key from which more is to be read; `None`: there is no more.
    from: Option<Bytes>,
    /// How many records are read at a time.
    count: usize,
}

/// Records of a vnode that are read at a time, at most.
const AHEAD_MAX: usize = 256;
/// The same in the beginning, when there are many vnodes.
const AHEAD_FIRST: usize = 16;
/// And so many bytes of keys and values, after the first record.
const AHEAD_BYTES_MAX: usize = 16 << 10;

impl<'a> RangeScan<'a> {
    /// Opens the range from `start` to before `end`; an empty `end` is open. `wanted`: how many records
    /// will be read, as far as that is known.
    pub(crate) fn open(
        reader: &'a dyn Reader,
        storage: keys::StorageId,
        vnodes: &VnodeSet,
        (start, end): (&[u8], &[u8]),
        when: When,
        wanted: usize,
    ) -> Result<RangeScan<'a>, Error> {
        let vnodes: Vec<Vnode> = match !end.is_empty() && start >= end {
            true => Vec::new(),
            false => vnodes.iter().collect(),
        };
        let (first, last) = match (vnodes.first(), vnodes.last()) {
            (Some(first), Some(last)) => (first.0, last.0),
            (_, _) => (0, 0),
        };
        let scan = |kind| {
            let from = keys::vnode_range(storage, kind, first).start;
            let until = keys::vnode_range(storage, kind, last).end;
            reader.scan(Space::State, &from, &until, Direction::Forward)
        };
        let past = match when {
            When::Now => None,
            When::At(_) => Some(scan(keys::state_kind::HISTORY)?),
        };
        let count = (wanted / vnodes.len().max(1)).saturating_add(2);
        let from = Bytes::copy_from_slice(start);
        let parts = vnodes.iter().map(|vnode| Part {
            vnode: *vnode,
            ahead: VecDeque::new(),
            from: Some(from.clone()),
            count: count.min(AHEAD_FIRST),
        });
        let mut scan = RangeScan {
            storage,
            when,
            end: Bytes::copy_from_slice(end),
            current: scan(keys::state_kind::CURRENT)?,
            past,
            parts: parts.collect(),
            heads: BinaryHeap::with_capacity(vnodes.len()),
        };
        for part in 0..scan.parts.len() {
            scan.advance(part)?;
        }
        Ok(scan)
    }

    /// Names the next key of a vnode, if it has one.
    fn advance(&mut self, part: usize) -> Result<(), Error> {
        if self.parts[part].ahead.is_empty() {
            self.read_ahead(part)?;
        }
        if let Some((key, _)) = self.parts[part].ahead.front() {
            self.heads.push(Reverse((key.clone(), part)));
        }
        Ok(())
    }

    fn read_ahead(&mut self, part: usize) -> Result<(), Error> {
        let part = &mut self.parts[part];
        let Some(from) = part.from.take() else {
            return Ok(());
        };
        let mut records = VnodeScan::open(
            (&mut *self.current, self.past.as_deref_mut()),
            (self.storage, part.vnode),
            (&from, &self.end),
            self.when,
        )?;
        let mut bytes = 0;
        while part.ahead.len() < part.count && bytes < AHEAD_BYTES_MAX {
            let Some((key, record)) = records.next()? else {
                return Ok(());
            };
            bytes += key.len() + record.value.len();
            part.ahead.push_back((key, record));
        }
        let last = part.ahead.back().map(|(key, _)| key);
        part.from = last.map(|last| [&last[..], &[0]].concat().into());
        part.count = (2 * part.count).min(AHEAD_MAX);
        Ok(())
    }

    /// The next key and its record.
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes, Record)>, Error> {
        let Some(Reverse((_, part))) = self.heads.pop() else {
            return Ok(None);
        };
        let next = self.parts[part].ahead.pop_front();
        self.advance(part)?;
        Ok(next)
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
            let index = *part;
            self.heads.pop();
            let part = &mut self.parts[index];
            while part.ahead.front().is_some_and(|(key, _)| *key < end) {
                part.ahead.pop_front();
            }
            if part.ahead.is_empty() && part.from.is_some() {
                part.from = Some(end.clone());
            }
            self.advance(index)?;
        }
        Ok(())
    }
}

/// The records of a range in one vnode, read through scans that others use too.
struct VnodeScan<'s, 'a> {
    storage: keys::StorageId,
    vnode: Vnode,
    when: When,
    current: &'s mut (dyn Scan + Send + 'a),
    current_end: Bytes,
    current_next: Option<(Bytes, Record)>,
    past: Option<&'s mut (dyn Scan + Send + 'a)>,
    past_end: Bytes,
    past_next: Option<(Bytes, Record)>,
}

impl<'s, 'a> VnodeScan<'s, 'a> {
    fn open(
        (current, past): (
            &'s mut (dyn Scan + Send + 'a),
            Option<&'s mut (dyn Scan + Send + 'a)>,
        ),
        (storage, vnode): (keys::StorageId, Vnode),
        (start, end): (&[u8], &[u8]),
        when: When,
    ) -> Result<VnodeScan<'s, 'a>, Error> {
        let first = |key: &[u8]| keys::history_range(storage, vnode.0, key).start;
        let to = |kind, key: Bytes| match end.is_empty() {
            true => keys::vnode_range(storage, kind, vnode.0).end,
            false => key,
        };
        let mut scan = VnodeScan {
            storage,
            vnode,
            when,
            current,
            current_end: to(
                keys::state_kind::CURRENT,
                keys::current(storage, vnode.0, end),
            ),
            current_next: None,
            past,
            past_end: to(keys::state_kind::HISTORY, first(end)),
            past_next: None,
        };
        scan.current.seek(&keys::current(storage, vnode.0, start));
        if let Some(past) = &mut scan.past {
            past.seek(&first(start));
        }
        scan.current_next = scan.next_current()?;
        scan.past_next = scan.next_past()?;
        Ok(scan)
    }

    fn next(&mut self) -> Result<Option<(Bytes, Record)>, Error> {
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
            if stored_key >= self.current_end {
                break;
            }
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
            if stored_key >= self.past_end {
                break;
            }
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
}
