//! The newest entries of a log, decoded, so that replication and apply need not read the disk.

use std::collections::VecDeque;

use crate::types::Entry;

/// A consecutive run of entries that ends with the last of the log. Pure.
#[derive(Debug)]
pub(crate) struct Tail {
    entries: VecDeque<Cached>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Cached {
    entry: Entry,
    chain: u64,
    bytes: usize,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Tail {
        Tail {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The index of the first cached entry.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(|cached| cached.entry.log_id.index)
    }

    pub(crate) fn push(&mut self, entry: Entry, chain: u64, bytes: usize) {
        self.bytes += bytes;
        self.entries.push_back(Cached {
            entry,
            chain,
            bytes,
        });
    }

    /// Lets go of old entries above the limit, but of none that isn't written yet.
    pub(crate) fn shrink(&mut self, written: u64) {
        while self.bytes > self.bytes_max
            && self.first().is_some_and(|first| first <= written)
            && let Some(old) = self.entries.pop_front()
        {
            self.bytes -= old.bytes;
        }
    }

    /// Forgets the entries after `index`.
    pub(crate) fn truncate_after(&mut self, index: Option<u64>) {
        while self
            .entries
            .back()
            .is_some_and(|last| index.is_none_or(|index| last.entry.log_id.index > index))
            && let Some(last) = self.entries.pop_back()
        {
            self.bytes -= last.bytes;
        }
    }

    /// Forgets the entries up to and with `index`.
    pub(crate) fn purge(&mut self, index: u64) {
        while self.first().is_some_and(|first| first <= index)
            && let Some(old) = self.entries.pop_front()
        {
            self.bytes -= old.bytes;
        }
    }

    /// The hash chain up to and with the entry at `index`, if that is cached.
    pub(crate) fn chain(&self, index: u64) -> Option<u64> {
        let first = self.first()?;
        let at = usize::try_from(index.checked_sub(first)?).ok()?;
        self.entries.get(at).map(|cached| cached.chain)
    }

    /// Adds the cached entries of `start..end` to `out`, until `bytes` are used up; `start` must not
    /// lie before the cache.
    pub(crate) fn read(&self, start: u64, end: u64, bytes: &mut usize, out: &mut Vec<Entry>) {
        let Some(first) = self.first() else { return };
        let from = start.saturating_sub(first) as usize;
        let to = (end.saturating_sub(first) as usize).min(self.entries.len());
        for cached in self.entries.iter().take(to).skip(from) {
            if cached.bytes > *bytes && !out.is_empty() {
                return;
            }
            *bytes = bytes.saturating_sub(cached.bytes);
            out.push(cached.entry.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{EntryPayload, Payload};
    use crate::wire::LogId;

    fn tail(indexes: std::ops::Range<u64>, bytes_max: usize) -> Tail {
        let mut tail = Tail::new(bytes_max);
        for index in indexes {
            let entry = Entry {
                log_id: LogId { term: 1, index }.into(),
                payload: EntryPayload::Normal(Payload(Bytes::new())),
            };
            tail.push(entry, index * 10, 100);
        }
        tail
    }

    fn read(tail: &Tail, start: u64, end: u64, mut bytes: usize) -> Vec<u64> {
        let mut out = Vec::new();
        tail.read(start, end, &mut bytes, &mut out);
        out.iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn reads_stop_at_the_bounds_and_at_the_byte_limit() {
        let tail = tail(5..10, 1000);
        assert_eq!(read(&tail, 5, 100, 10_000), [5, 6, 7, 8, 9]);
        assert_eq!(read(&tail, 6, 8, 10_000), [6, 7]);
        assert_eq!(read(&tail, 6, 9, 150), [6]);
        assert_eq!(read(&tail, 6, 9, 0), [6], "the first goes in any case");
        assert_eq!(read(&tail, 10, 12, 10_000), [0; 0]);
    }

    #[test]
    fn what_is_not_written_stays() {
        let mut tail = tail(1..11, 300);
        tail.shrink(4);
        assert_eq!(tail.first(), Some(5));
        tail.shrink(100);
        assert_eq!(tail.first(), Some(8));
    }

    #[test]
    fn truncate_and_purge_cut_the_ends() {
        let mut tail = tail(1..11, 3000);
        tail.truncate_after(Some(7));
        tail.purge(2);
        assert_eq!(read(&tail, 3, 100, 10_000), [3, 4, 5, 6, 7]);
        assert_eq!(tail.chain(7), Some(70));
        assert_eq!(tail.chain(8), None);
        assert_eq!(tail.chain(2), None);
        tail.truncate_after(None);
        assert_eq!(tail.first(), None);
        assert_eq!(tail.bytes, 0);
    }
}
