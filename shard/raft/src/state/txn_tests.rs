//! Reads with changes over them, against a map that has both.

use std::collections::BTreeMap;
use std::sync::Arc;

use caucus_engine::memory::MemoryEngine;
use proptest::prelude::*;

use super::*;

fn key(number: u8) -> Bytes {
    vec![b'k', number].into()
}

/// Takes a scan's pairs, with a seek after some of them.
fn pairs(
    reader: &dyn Reader,
    range: (u8, u8),
    direction: Direction,
    seek: u8,
) -> Vec<(Bytes, Bytes)> {
    let (start, end) = (key(range.0), key(range.1));
    let mut scan = reader.scan(Space::State, &start, &end, direction).unwrap();
    let mut pairs = Vec::new();
    for _ in 0..2 {
        pairs.extend(scan.next().unwrap());
    }
    scan.seek(&key(seek));
    while let Some(pair) = scan.next().unwrap() {
        pairs.push(pair);
    }
    assert_eq!(scan.next().unwrap(), None, "the end is the end");
    pairs
}

proptest! {
    #[test]
    fn a_scan_shows_what_an_engine_with_the_changes_would(
        stored in prop::collection::btree_map(0u8..24, 0u8..9, 0..16),
        changes in prop::collection::btree_map(0u8..24, prop::option::of(0u8..9), 0..16),
        range in (0u8..24, 0u8..26),
        seek in 0u8..26,
    ) {
        let value = |value: u8| Bytes::from(vec![value]);
        let engine = Arc::new(MemoryEngine::new());
        let mut batch = WriteBatch::new();
        for (k, v) in &stored {
            batch.put(Space::State, key(*k), value(*v));
        }
        engine.write(batch).unwrap();
        let mut txn = Txn::new(StateView::new(engine, 1));
        let mut both: BTreeMap<u8, u8> = stored;
        for (k, v) in changes {
            match v {
                Some(v) => {
                    txn.put(key(k), value(v));
                    both.insert(k, v);
                }
                None => {
                    txn.delete(key(k));
                    both.remove(&k);
                }
            }
        }
        let expected = MemoryEngine::new();
        let mut batch = WriteBatch::new();
        for (k, v) in &both {
            batch.put(Space::State, key(*k), value(*v));
        }
        expected.write(batch).unwrap();
        for direction in [Direction::Forward, Direction::Reverse] {
            prop_assert_eq!(
                pairs(&txn, range, direction, seek),
                pairs(&expected, range, direction, seek)
            );
        }
        for k in 0..24 {
            let found = Reader::get(&txn, Space::State, &key(k)).unwrap();
            prop_assert_eq!(found, both.get(&k).map(|v| value(*v)));
        }
    }
}
