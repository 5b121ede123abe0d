//! Listings against a plain model: a sorted map, filtered and folded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use caucus_api::shard::Record;
use caucus_engine::memory::MemoryEngine;
use caucus_engine::rocks::{Options, RocksEngine};
use caucus_engine::{Engine, WriteBatch};
use proptest::prelude::*;
use prost::Message;

use caucus_engine::Space;
use caucus_ring::Vnode;

use super::*;

const STORAGE: keys::StorageId = 3;

/// Users' keys with the vnode that each lies in, and their values' lengths.
type Stored = BTreeMap<Vec<u8>, (u16, usize)>;

fn record(key: &[u8], bytes: usize) -> Record {
    Record {
        mod_revision: 1 + key.len() as u64,
        version: 1,
        value: vec![b'v'; bytes].into(),
        ..Record::default()
    }
}

/// Writes the keys, between keys of other storages, vnodes and kinds that no listing may show.
fn store(engine: &dyn Engine, stored: &Stored) {
    let mut batch = WriteBatch::new();
    for (key, (vnode, bytes)) in stored {
        let value = record(key, *bytes).encode_to_vec();
        batch.put(Space::State, keys::current(STORAGE, *vnode, key), value);
    }
    for (storage, vnode) in [(STORAGE - 1, 1), (STORAGE, 9), (STORAGE + 1, 1)] {
        let value = record(b"alien", 1).encode_to_vec();
        batch.put(
            Space::State,
            keys::current(storage, vnode, b"/alien"),
            value,
        );
    }
    batch.put(Space::State, keys::vnode(STORAGE, 1), vec![1]);
    engine.write(batch).unwrap();
}

fn fill(stored: &Stored) -> MemoryEngine {
    let engine = MemoryEngine::new();
    store(&engine, stored);
    engine
}

fn stored(keys: &[&str]) -> Stored {
    let vnode = |key: &&str| key.bytes().map(u16::from).sum::<u16>() % 4;
    let entry = |key: &&str| (key.as_bytes().to_vec(), (vnode(key), 1));
    keys.iter().map(entry).collect()
}

fn vnodes() -> VnodeSet {
    (0..4).map(Vnode).collect()
}

/// All items that the range has, page after page as a caller would ask for them.
fn walk(engine: &dyn Engine, vnodes: &VnodeSet, list: &List) -> Vec<Item> {
    let mut next = list.clone();
    let mut items = Vec::new();
    loop {
        let page = super::list(engine, STORAGE, vnodes, &next, When::Now).unwrap();
        assert!(page.items.len() <= list.limit.max(1) as usize);
        items.extend(page.items);
        if !page.more {
            return items;
        }
        let last = items.last().expect("a page that has more is not empty");
        next.start = match last.record {
            Some(_) => [&last.key[..], b"\0"].concat().into(),
            None => keys::prefix_end(&last.key),
        };
        assert!(!next.start.is_empty(), "more, after the last of all keys");
    }
}

/// The same from the model.
fn expected(stored: &Stored, vnodes: &VnodeSet, list: &List) -> Vec<Item> {
    let mut folded = BTreeSet::new();
    let mut items = Vec::new();
    for (key, (vnode, bytes)) in stored {
        let inside = key[..] >= list.start[..] && (list.end.is_empty() || key[..] < list.end[..]);
        if !inside || !vnodes.contains(Vnode(*vnode)) {
            continue;
        }
        let skip = (list.prefix_length as usize).min(key.len());
        let ends = (skip..=key.len()).find(|end| {
            let rest = &key[skip..*end];
            !list.delimiter.is_empty() && rest.ends_with(&list.delimiter)
        });
        match ends.map(|end| Bytes::copy_from_slice(&key[..end])) {
            Some(prefix) if !folded.insert(prefix.clone()) => {}
            Some(key) => items.push(Item { key, record: None }),
            None => items.push(Item {
                key: Bytes::copy_from_slice(key),
                record: Some(record(key, if list.keys_only { 0 } else { *bytes })),
            }),
        }
    }
    items
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        Just(b'a'),
        Just(b'b'),
        Just(b'/'),
        Just(b':'),
        Just(0),
        Just(0xff)
    ];
    prop::collection::vec(byte, 1..7)
}

fn keys_in_vnodes() -> impl Strategy<Value = Stored> {
    prop::collection::btree_map(key(), (0..6_u16, 0..50_usize), 0..40)
}

fn ranges() -> impl Strategy<Value = (List, VnodeSet)> {
    let bound = prop_oneof![1 => Just(Vec::new()), 2 => key()];
    let delimiters: [&[u8]; 5] = [b"", b"/", b"::", b"a/", b"\xff"];
    let delimiter = prop::sample::select(delimiters.to_vec());
    let limits = (1..9_u32, 0..80_u32, any::<bool>());
    let vnodes = prop::collection::btree_set(0..6_u16, 0..6);
    (bound.clone(), bound, delimiter, limits, 0..4_u32, vnodes).prop_map(
        |(start, end, delimiter, (limit, bytes_max, keys_only), cut, vnodes)| {
            // As a caller does: all keys of the range begin with what isn't searched.
            let prefix_length = cut.min(start.len() as u32);
            let prefix = &start[..prefix_length as usize];
            let prefix_end = keys::prefix_end(prefix).to_vec();
            let end = match (end.is_empty(), prefix_end.is_empty()) {
                (true, _) => prefix_end,
                (false, true) => end,
                (false, false) => end.min(prefix_end),
            };
            let list = List {
                start: start.into(),
                end: end.into(),
                limit,
                keys_only,
                delimiter: Bytes::from_static(delimiter),
                prefix_length,
                bytes_max,
                ..List::default()
            };
            (list, vnodes.into_iter().map(Vnode).collect())
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn pages_have_every_key_once_and_in_order(
        stored in keys_in_vnodes(),
        (list, vnodes) in ranges(),
    ) {
        let engine = fill(&stored);
        let wanted = expected(&stored, &vnodes, &list);
        prop_assert_eq!(walk(&engine, &vnodes, &list), wanted.clone());
        // In one page too, if it is long enough; and then nothing follows.
        let whole = List { limit: 1000, bytes_max: 0, ..list };
        let page = super::list(&engine, STORAGE, &vnodes, &whole, When::Now).unwrap();
        prop_assert_eq!(page, Listed { count: wanted.len() as u64, items: wanted, ..Listed::default() });
    }
}

fn keys_of(listed: &Listed) -> Vec<&str> {
    let keys = listed.items.iter();
    keys.map(|item| std::str::from_utf8(&item.key).unwrap())
        .collect()
}

fn asked(start: &'static str, end: &'static str) -> List {
    List {
        start: Bytes::from_static(start.as_bytes()),
        end: Bytes::from_static(end.as_bytes()),
        limit: 100,
        ..List::default()
    }
}

#[test]
fn an_empty_range_has_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        reserve_bytes: 0,
        ..Options::default()
    };
    let rocks = RocksEngine::open(directory.path(), options).unwrap();
    let engines: [Arc<dyn Engine>; 2] = [Arc::new(MemoryEngine::new()), Arc::new(rocks)];
    for engine in engines {
        store(engine.as_ref(), &stored(&["a", "b", "c"]));
        for (start, end) in [("b", "b"), ("c", "a"), ("z", "a"), ("b\0", "b"), ("d", "")] {
            for keys_only in [false, true] {
                let list = List {
                    keys_only,
                    ..asked(start, end)
                };
                let listed =
                    super::list(engine.as_ref(), STORAGE, &vnodes(), &list, When::Now).unwrap();
                assert_eq!(listed, Listed::default(), "{start}..{end}");
            }
        }
        let all = super::list(
            engine.as_ref(),
            STORAGE,
            &vnodes(),
            &asked("", ""),
            When::Now,
        )
        .unwrap();
        assert_eq!(keys_of(&all), ["a", "b", "c"]);
        let none = super::list(
            engine.as_ref(),
            STORAGE,
            &VnodeSet::new(),
            &asked("", ""),
            When::Now,
        );
        assert_eq!(none.unwrap(), Listed::default());
    }
}

#[test]
fn delimiters_of_one_byte_and_of_several() {
    let engine = fill(&stored(&[
        "/p/",
        "/p/a",
        "/p/a/",
        "/p/a/b",
        "/p/b//c",
        "/p/c",
        "/p/d::e/f",
        "/p/d::g",
        "/p/e:",
        "/q",
    ]));
    let listed = |delimiter: &'static str, prefix_length| {
        let list = List {
            delimiter: Bytes::from_static(delimiter.as_bytes()),
            prefix_length,
            ..asked("/p/", "/p0")
        };
        super::list(&engine, STORAGE, &vnodes(), &list, When::Now).unwrap()
    };
    let page = listed("/", 3);
    let wanted = [
        "/p/", "/p/a", "/p/a/", "/p/b/", "/p/c", "/p/d::e/", "/p/d::g", "/p/e:",
    ];
    assert_eq!(keys_of(&page), wanted);
    let records = page.items.iter().map(|item| item.record.is_some());
    let is_key = [true, true, false, false, true, false, true, true];
    assert_eq!(records.collect::<Vec<_>>(), is_key);

    let page = listed("::", 3);
    let wanted = [
        "/p/", "/p/a", "/p/a/", "/p/a/b", "/p/b//c", "/p/c", "/p/d::", "/p/e:",
    ];
    assert_eq!(keys_of(&page), wanted);
    assert_eq!(keys_of(&listed("/", 0)), ["/"]);
    assert_eq!(keys_of(&listed("//", 3))[4], "/p/b//");
    // Longer than any key.
    assert_eq!(listed("/", 1000).items.len(), 9);
}

#[test]
fn a_page_ends_when_it_has_its_bytes() {
    let sizes: Stored = [("a", 100), ("b", 100), ("c", 100)]
        .map(|(key, bytes)| (key.as_bytes().to_vec(), (0, bytes)))
        .into();
    let engine = fill(&sizes);
    for (bytes_max, count) in [(1, 1), (101, 1), (102, 2), (202, 2), (203, 3), (0, 3)] {
        let list = List {
            bytes_max,
            ..asked("", "")
        };
        let page = super::list(&engine, STORAGE, &vnodes(), &list, When::Now).unwrap();
        assert_eq!(
            (page.items.len(), page.more),
            (count, count < 3),
            "{bytes_max}"
        );
    }
    // Values that aren't answered don't count.
    let list = List {
        bytes_max: 102,
        keys_only: true,
        ..asked("", "")
    };
    let page = super::list(&engine, STORAGE, &vnodes(), &list, When::Now).unwrap();
    assert_eq!((page.items.len(), page.more), (3, false));
}

#[test]
fn limits_of_zero_and_beyond_all_bounds() {
    let engine = fill(&stored(&["a", "b"]));
    for (limit, count) in [(0, 1), (1, 1), (2, 2), (u32::MAX, 2)] {
        let list = List {
            limit,
            bytes_max: u32::MAX,
            ..asked("", "")
        };
        let page = super::list(&engine, STORAGE, &vnodes(), &list, When::Now).unwrap();
        assert_eq!((page.items.len(), page.more), (count, count < 2), "{limit}");
    }
}
