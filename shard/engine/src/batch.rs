//! The unit of writing: ordered operations that happen together or not at all.

use crate::Space;
use bytes::Bytes;
use std::ops::Range;

/// One operation of a [`WriteBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Set a key, in place of what it had.
    Put {
        /// Where the key lives.
        space: Space,
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Remove a key; no error if it is absent.
    Delete {
        /// Where the key lives.
        space: Space,
        /// The key.
        key: Bytes,
    },
    /// Remove all keys from `start` to before `end`. Nothing if `start >= end`.
    DeleteRange {
        /// Where the keys live.
        space: Space,
        /// First key removed.
        start: Bytes,
        /// First key kept.
        end: Bytes,
    },
}

/// Operations applied in order and as one: a later one on the same key wins, and a reader sees
/// all of them or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    ops: Vec<Op>,
    size_bytes: usize,
    puts: usize,
    essential: bool,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Set `key` to `value`.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.size_bytes += key.len() + value.len();
        self.puts += 1;
        self.ops.push(Op::Put { space, key, value });
    }

    /// Remove `key`.
    pub fn delete(&mut self, space: Space, key: impl Into<Bytes>) {
        let key = key.into();
        self.size_bytes += key.len();
        self.ops.push(Op::Delete { space, key });
    }

    /// Remove all keys in `range`. Unlike in a scan, an empty `range.end` is no open end: the
    /// range is empty then.
    pub fn delete_range<K: Into<Bytes>>(&mut self, space: Space, range: Range<K>) {
        let (start, end) = (range.start.into(), range.end.into());
        self.size_bytes += start.len() + end.len();
        self.ops.push(Op::DeleteRange { space, start, end });
    }

    /// Add the operations of `other` after these. The result is essential if either was: to
    /// refuse a vote because it shares a batch with a user's entry would be the worse mistake.
    pub fn append(&mut self, other: WriteBatch) {
        self.essential |= other.essential;
        self.size_bytes += other.size_bytes;
        self.puts += other.puts;
        self.ops.extend(other.ops);
    }

    /// Mark the batch as one that is written even when space is low: votes, purges, internal
    /// records, whatever frees space in the end.
    #[must_use]
    pub fn essential(mut self) -> Self {
        self.essential = true;
        self
    }

    /// Whether the batch passes when space is low: marked, or nothing but deletes.
    pub fn is_essential(&self) -> bool {
        self.essential || self.puts == 0
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no operation.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The operations, in order.
    pub fn ops(&self) -> impl ExactSizeIterator<Item = &Op> {
        self.ops.iter()
    }
}
