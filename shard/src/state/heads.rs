//! What an overwrite must know of the record it replaces, for the keys used last.
//!
//! A write needs no byte of the value that it replaces, only its revisions and its share of the vnode's
//! hash. To look these up in the engine costs as much as to write the new record; most writes are of
//! keys written not long before. Derived from the engine: what it says is never different, so that it
//! makes no difference to the state what a replica happens to remember.
//!
//! Two generations instead of an exact order of use: a hit in the older one moves to the younger, and
//! when that is full the older one goes.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

/// Keys of one generation.
const GENERATION_KEYS_MAX: usize = 8192;

/// A live record without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) create_revision: u64,
    pub(super) mod_revision: u64,
    pub(super) version: u64,
    /// The record's share of its vnode's hash.
    pub(super) hash: u128,
}

/// `None`: there is no such key.
type Generation = HashMap<Box<[u8]>, Option<Head>, Xxh3DefaultBuilder>;

/// The heads of the keys used last.
#[derive(Default)]
pub(super) struct Heads {
    young: Generation,
    old: Generation,
}

impl Heads {
    /// The head of a key, if it is remembered.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<Head>> {
        if let Some(head) = self.young.get(key) {
            return Some(*head);
        }
        let (key, head) = self.old.remove_entry(key)?;
        self.insert(key, head);
        Some(head)
    }

    /// Remembers the head of a key, as it is from now on.
    pub(super) fn set(&mut self, key: &[u8], head: Option<Head>) {
        if let Some(known) = self.young.get_mut(key) {
            *known = head;
            return;
        }
        let key = match self.old.remove_entry(key) {
            Some((key, _)) => key,
            // A copy: the request's buffer is much larger and would be held with it.
            None => key.into(),
        };
        self.insert(key, head);
    }

    fn insert(&mut self, key: Box<[u8]>, head: Option<Head>) {
        if self.young.len() >= GENERATION_KEYS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(revision: u64) -> Head {
        Head {
            create_revision: 1,
            mod_revision: revision,
            version: revision,
            hash: u128::from(revision),
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
            assert!(heads.young.len() <= GENERATION_KEYS_MAX);
            assert!(heads.old.len() <= GENERATION_KEYS_MAX);
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
        assert!(heads.old.contains_key(&b"a"[..]), "it is in the older one");
        heads.set(b"a", Some(head(2)));
        for number in 0..GENERATION_KEYS_MAX - 2 {
            heads.set(&key(number), None);
        }
        assert_eq!(heads.get(b"a"), Some(Some(head(2))));
    }
}
