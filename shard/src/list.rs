//! Listing the keys of a range: the vnodes' keys, merged in key order.
//!
//! Keys are stored by vnode, so a range over many vnodes is a merge of one scan a vnode. Scans are
//! opened for vnodes that may hold keys only, and read as the merge needs them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use caucus_api::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use caucus_api::shard::{Item, List, Listed};
use caucus_engine::{Direction, Error, Reader, Scan, Space, keys};
use caucus_ring::{Vnode, VnodeSet};

use crate::state::decode_record;

/// One vnode's part of the range.
struct Part<'a> {
    scan: Box<dyn Scan + Send + 'a>,
    prefix: Bytes,
}

impl Part<'_> {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        let found = self.scan.next()?;
        Ok(found.map(|(key, value)| (key.slice(self.prefix.len()..), value)))
    }
}

/// The next pair of a part, smallest key first.
type Head = Reverse<(Bytes, usize)>;

/// Lists what `list` asks for, in the vnodes asked for.
pub(crate) fn list(
    reader: &dyn Reader,
    storage: keys::StorageId,
    vnodes: &VnodeSet,
    list: &List,
) -> Result<Listed, Error> {
    let limit = (list.limit as usize).clamp(1, PAGE_KEYS_MAX);
    let bytes_max = match list.bytes_max as usize {
        0 => PAGE_BYTES_MAX,
        asked => asked.min(PAGE_BYTES_MAX),
    };
    let mut listed = Listed::default();
    if !list.end.is_empty() && list.start >= list.end {
        return Ok(listed);
    }
    let mut merge = Merge::open(reader, storage, vnodes, list)?;
    let mut bytes = 0;
    while let Some((key, value)) = merge.next()? {
        if listed.items.len() >= limit || (bytes >= bytes_max && !listed.items.is_empty()) {
            listed.more = true;
            break;
        }
        if let Some(folded) = fold(&key, list) {
            merge.skip_past(&folded)?;
            bytes += folded.len();
            listed.items.push(Item {
                key: folded,
                record: None,
            });
            continue;
        }
        let mut record = decode_record(value)?;
        if list.keys_only {
            record.value.clear();
        }
        bytes += key.len() + record.value.len();
        listed.items.push(Item {
            key,
            record: Some(record),
        });
    }
    Ok(listed)
}

/// The common prefix that stands for a key, up to and with the delimiter.
fn fold(key: &Bytes, list: &List) -> Option<Bytes> {
    if list.delimiter.is_empty() {
        return None;
    }
    let from = (list.prefix_length as usize).min(key.len());
    let at = key[from..]
        .windows(list.delimiter.len())
        .position(|window| window == &list.delimiter[..])?;
    Some(key.slice(..from + at + list.delimiter.len()))
}

struct Merge<'a> {
    parts: Vec<Part<'a>>,
    values: Vec<Option<Bytes>>,
    heads: BinaryHeap<Head>,
}

impl<'a> Merge<'a> {
    fn open(
        reader: &'a dyn Reader,
        storage: keys::StorageId,
        vnodes: &VnodeSet,
        list: &List,
    ) -> Result<Merge<'a>, Error> {
        let mut merge = Merge {
            parts: Vec::new(),
            values: Vec::new(),
            heads: BinaryHeap::new(),
        };
        for vnode in vnodes.iter() {
            let part = open_part(reader, storage, vnode, list)?;
            merge.parts.push(part);
            merge.values.push(None);
            merge.advance(merge.parts.len() - 1)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, part: usize) -> Result<(), Error> {
        if let Some((key, value)) = self.parts[part].next()? {
            self.heads.push(Reverse((key, part)));
            self.values[part] = Some(value);
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        let Some(Reverse((key, part))) = self.heads.pop() else {
            return Ok(None);
        };
        let value = self.values[part].take().unwrap_or_default();
        self.advance(part)?;
        Ok(Some((key, value)))
    }

    /// Goes on after all keys that begin with `prefix` in all parts.
    fn skip_past(&mut self, prefix: &[u8]) -> Result<(), Error> {
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
            let target = [&self.parts[part].prefix[..], &end].concat();
            self.parts[part].scan.seek(&target);
            self.advance(part)?;
        }
        Ok(())
    }
}

fn open_part<'a>(
    reader: &'a dyn Reader,
    storage: keys::StorageId,
    vnode: Vnode,
    list: &List,
) -> Result<Part<'a>, Error> {
    let start = keys::current(storage, vnode.0, &list.start);
    let end = match list.end.is_empty() {
        true => keys::vnode_range(storage, keys::state_kind::CURRENT, vnode.0).end,
        false => keys::current(storage, vnode.0, &list.end),
    };
    let prefix = keys::current(storage, vnode.0, b"");
    Ok(Part {
        scan: reader.scan(Space::State, &start, &end, Direction::Forward)?,
        prefix,
    })
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
