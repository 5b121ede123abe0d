//! What an overwrite must know of the record it replaces, for the keys used last.
//!
//! A write needs the revisions of the record that it replaces and its share of the vnode's hash, and its
//! bytes go into the history. To look these up in the engine costs as much as to write the new record;
//! most writes are of keys written not long before. Derived from the engine: what it says is never
//! different, so that it makes no difference to the state what a replica happens to remember.
//!
//! Two generations instead of an exact order of use: a hit in the older one moves to the younger, and
//! when that is full the older one goes.

use std::collections::HashMap;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

/// Keys of one generation.
const GENERATION_KEYS_MAX: usize = 8192;
/// Bytes of records that one generation keeps; above it only heads are remembered.
const GENERATION_BYTES_MAX: usize = 1 << 20;
/// A larger record is read from the engine again.
const RECORD_BYTES_MAX: usize = 1024;

/// A live record without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) create_revision: u64,
    pub(super) mod_revision: u64,
    pub(super) version: u64,
    pub(super) lease: u64,
    /// The record's share of its vnode's hash.
    pub(super) hash: u128,
}

/// A live record, as far as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) head: Head,
    /// Its bytes as the engine has them, if it is small.
    pub(super) stored: Option<Bytes>,
}

#[derive(Default)]
struct Generation {
    /// `None`: there is no such key.
    keys: HashMap<Box<[u8]>, Option<Known>, Xxh3DefaultBuilder>,
    /// Bytes of the records in it.
    bytes: usize,
}

impl Generation {
    /// Takes the bytes of a record into the account, or out of the record.
    fn admit(&mut self, known: &mut Option<Known>, replaced: usize) {
        self.bytes -= replaced;
        let size = size(known);
        if size <= RECORD_BYTES_MAX && self.bytes + size <= GENERATION_BYTES_MAX {
            self.bytes += size;
        } else if let Some(known) = known {
            known.stored = None;
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<(Box<[u8]>, Option<Known>)> {
        let (key, known) = self.keys.remove_entry(key)?;
        self.bytes -= size(&known);
        Some((key, known))
    }
}

fn size(known: &Option<Known>) -> usize {
    let stored = known.as_ref().and_then(|known| known.stored.as_ref());
    stored.map_or(0, Bytes::len)
}

/// The heads of the keys used last.
#[derive(Default)]
pub(super) struct Heads {
    young: Generation,
    old: Generation,
}

impl Heads {
    /// What is remembered of a key.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<Known>> {
        if let Some(known) = self.young.keys.get(key) {
            return Some(known.clone());
        }
        let (key, known) = self.old.remove(key)?;
        self.insert(key, known.clone());
        Some(known)
    }

    /// Remembers a key as it is from now on.
    pub(super) fn set(&mut self, key: &[u8], mut known: Option<Known>) {
        if let Some(before) = self.young.keys.get(key) {
            let replaced = size(before);
            self.young.admit(&mut known, replaced);
            if let Some(before) = self.young.keys.get_mut(key) {
                *before = known;
            }
            return;
        }
        let key = match self.old.remove(key) {
            Some((key, _)) => key,
            // A copy: the request's buffer is much larger and would be held with it.
            None => key.into(),
        };
        self.insert(key, known);
    }

    fn insert(&mut self, key: Box<[u8]>, mut known: Option<Known>) {
        if self.young.keys.len() >= GENERATION_KEYS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.admit(&mut known, 0);
        self.young.keys.insert(key, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(revision: u64) -> Known {
        Known {
            head: Head {
                create_revision: 1,
                mod_revision: revision,
                version: revision,
                lease: 0,
                hash: u128::from(revision),
            },
            stored: None,
        }
    }

    fn with(revision: u64, size: usize) -> Known {
        Known {
            stored: Some(vec![7; size].into()),
            ..head(revision)
        }
    }

    fn key(number: usize) -> Vec<u8> {
        format!("key-{number}").into_bytes()
    }

    #[test]
    fn the_last_head_set_is_remembered() {
        let mut heads = Heads::default();
        assert_eq!(heads.get(b"a"), None);
        heads.set(b"a", Some(head(1)));
        heads.set(b"a", Some(head(2)));
        assert_eq!(heads.get(b"a"), Some(Some(head(2))));
        heads.set(b"a", None);
        assert_eq!(heads.get(b"a"), Some(None));
    }

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut heads = Heads::default();
        heads.set(b"used", Some(head(1)));
        heads.set(b"unused", Some(head(2)));
        for number in 0..4 * GENERATION_KEYS_MAX {
            heads.set(&key(number), None);
            assert_eq!(heads.get(b"used"), Some(Some(head(1))), "{number}");
            assert!(heads.young.keys.len() <= GENERATION_KEYS_MAX);
            assert!(heads.old.keys.len() <= GENERATION_KEYS_MAX);
        }
        assert_eq!(heads.get(b"unused"), None);
    }

    #[test]
    fn a_key_never_has_two_heads() {
        let mut heads = Heads::default();
        heads.set(b"a", Some(head(1)));
        for number in 0..GENERATION_KEYS_MAX {
            heads.set(&key(number), None);
        }
        assert!(
            heads.old.keys.contains_key(&b"a"[..]),
            "it is in the older one"
        );
        heads.set(b"a", Some(head(2)));
        for number in 0..GENERATION_KEYS_MAX - 2 {
            heads.set(&key(number), None);
        }
        assert_eq!(heads.get(b"a"), Some(Some(head(2))));
    }

    #[test]
    fn small_records_are_remembered_whole_within_the_budget() {
        let mut heads = Heads::default();
        heads.set(b"large", Some(with(1, RECORD_BYTES_MAX + 1)));
        assert_eq!(heads.get(b"large"), Some(Some(head(1))));
        for round in 1..4 {
            for number in 0..2 * GENERATION_BYTES_MAX / RECORD_BYTES_MAX {
                heads.set(&key(number), Some(with(round, RECORD_BYTES_MAX)));
                assert!(heads.young.bytes <= GENERATION_BYTES_MAX);
            }
            assert_eq!(
                heads.get(&key(0)),
                Some(Some(with(round, RECORD_BYTES_MAX)))
            );
        }
        heads.set(&key(0), None);
        assert_eq!(heads.get(&key(0)), Some(None));
        let kept = heads.young.keys.values().map(size).sum::<usize>();
        assert_eq!(heads.young.bytes, kept, "the account agrees");
    }
}
