//! Listing the keys of a range: the vnodes' keys, merged in key order.
//!
//! Keys are stored by vnode, so a range over many vnodes is a merge of one scan a vnode. Scans are
//! opened for vnodes that may hold keys only, and read as the merge needs them.

use bytes::Bytes;
use caucus_api::arrange::passes;
use caucus_api::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use caucus_api::shard::{Item, List, Listed};
use caucus_engine::{Error, Reader, keys};
use caucus_ring::VnodeSet;
use prost::Message;

use crate::state::record;
use crate::state::versions::{RangeScan, When};

/// Lists what `list` asks for, in the vnodes asked for.
pub(crate) fn list(
    reader: &dyn Reader,
    storage: keys::StorageId,
    vnodes: &VnodeSet,
    list: &List,
    when: When,
) -> Result<Listed, Error> {
    let limit = (list.limit as usize).clamp(1, PAGE_KEYS_MAX);
    let bytes_max = match list.bytes_max as usize {
        0 => PAGE_BYTES_MAX,
        asked => asked.min(PAGE_BYTES_MAX),
    };
    let mut listed = Listed::default();
    let wanted = match list.count || list.count_only {
        true => usize::MAX,
        false => limit,
    };
    let range = (&list.start[..], &list.end[..]);
    let mut scan = RangeScan::open(reader, storage, vnodes, range, when, wanted)?;
    let mut bytes = 0;
    while let Some((key, mut record)) = scan.next()? {
        listed.count += 1;
        if list.hash {
            let hash = record::hash(&key, &record.encode_to_vec()) as u64;
            listed.hash = listed.hash.wrapping_add(hash);
        }
        if list.count_only {
            continue;
        }
        if listed.items.len() >= limit || (bytes >= bytes_max && !listed.items.is_empty()) {
            listed.more = true;
            match list.count {
                true => continue,
                false => break,
            }
        }
        if let Some(folded) = fold(&key, list) {
            scan.skip_past(&folded)?;
            bytes += folded.len();
            listed.items.push(Item {
                key: folded,
                record: None,
            });
            continue;
        }
        if list.keys_only {
            record.value.clear();
        }
        let item = Item {
            key,
            record: Some(record),
        };
        if list
            .filter
            .as_ref()
            .is_none_or(|filter| passes(filter, &item))
        {
            let value = item.record.as_ref().map_or(0, |record| record.value.len());
            bytes += item.key.len() + value;
            listed.items.push(item);
        }
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

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
