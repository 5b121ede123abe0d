//! What prepared transactions lock.
//!
//! What a transaction compares and reads is locked *shared*: others may read it and not write it. What it
//! writes in either branch is locked *exclusive*: readers wait as well. A transaction that meets a lock is
//! refused; who waits and who gives up is decided by the leader (wait-die: Rosenkrantz, Stearns and Lewis,
//! System Level Concurrency Control for Distributed Database Systems, 1978).

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use caucus_planted as planted;

/// The keys and ranges that one operation touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Whether the key is written.
    keys: HashMap<Bytes, bool>,
    ranges: Vec<Stretch>,
}

/// A range, with an empty `end` for an open one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    start: Bytes,
    end: Bytes,
    writes: bool,
}

impl Stretch {
    fn holds(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }

    fn meets(&self, start: &[u8], end: &[u8]) -> bool {
        (end.is_empty() || &self.start[..] < end) && (self.end.is_empty() || start < &self.end[..])
    }
}

impl Footprint {
    pub(crate) fn with_capacity(keys: usize) -> Footprint {
        Footprint {
            keys: HashMap::with_capacity(keys),
            ranges: Vec::new(),
        }
    }

    pub(crate) fn key(&mut self, key: &Bytes, writes: bool) {
        *self.keys.entry(key.clone()).or_default() |= writes;
    }

    pub(crate) fn range(&mut self, start: &Bytes, end: &Bytes, writes: bool) {
        self.ranges.push(Stretch {
            start: start.clone(),
            end: end.clone(),
            writes,
        });
    }

    /// Takes in all that another one touches.
    pub(crate) fn extend(&mut self, other: &Footprint) {
        for (key, writes) in &other.keys {
            self.key(key, *writes);
        }
        self.ranges.extend_from_slice(&other.ranges);
    }

    /// Whether anything that `reads` touches may be written.
    pub(crate) fn clashes_with_reads(&self, reads: &Footprint) -> bool {
        reads.keys.keys().any(|key| self.writes_key(key))
            || reads
                .ranges
                .iter()
                .any(|range| self.writes_in(&range.start, &range.end))
    }

    /// Whether a key is written.
    pub(crate) fn writes_key(&self, key: &[u8]) -> bool {
        self.keys.get(key).copied().unwrap_or(false)
            || self
                .ranges
                .iter()
                .any(|range| range.writes && range.holds(key))
    }

    /// Whether a key of a range may be written.
    pub(crate) fn writes_in(&self, start: &[u8], end: &[u8]) -> bool {
        let inside = |key: &Bytes| &key[..] >= start && (end.is_empty() || &key[..] < end);
        self.keys.iter().any(|(key, writes)| *writes && inside(key))
            || self
                .ranges
                .iter()
                .any(|range| range.writes && range.meets(start, end))
    }

    /// Whether the two can't go on beside each other: one writes what the other touches.
    fn clashes(&self, other: &Footprint) -> bool {
        let key_with = |key: &Bytes, writes: bool| {
            other.keys.get(key).is_some_and(|theirs| writes || *theirs)
                || other
                    .ranges
                    .iter()
                    .any(|range| (writes || range.writes) && range.holds(key))
        };
        let range_with = |range: &Stretch| {
            let inside =
                |(key, writes): (&Bytes, &bool)| (range.writes || *writes) && range.holds(key);
            other.keys.iter().any(inside)
                || other.ranges.iter().any(|theirs| {
                    (range.writes || theirs.writes) && range.meets(&theirs.start, &theirs.end)
                })
        };
        self.keys.iter().any(|(key, writes)| key_with(key, *writes))
            || self.ranges.iter().any(range_with)
    }
}

/// What is locked in one group, by attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Locks {
    held: BTreeMap<u64, Held>,
    /// Attempts by the keys they lock: most operations touch keys that nobody locks.
    keys: HashMap<Bytes, Vec<u64>>,
    /// Attempts that lock ranges.
    ranged: usize,
}

#[derive(Debug, Clone)]
struct Held {
    age: u64,
    floor: u64,
    footprint: Footprint,
}

/// A lock that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The attempt that holds it.
    pub attempt: u64,
    /// The revision of its request's first attempt.
    pub age: u64,
}

impl Locks {
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn lock(&mut self, attempt: u64, age: u64, floor: u64, footprint: Footprint) {
        for key in footprint.keys.keys() {
            self.keys.entry(key.clone()).or_default().push(attempt);
        }
        self.ranged += usize::from(!footprint.ranges.is_empty());
        let held = Held {
            age,
            floor,
            footprint,
        };
        self.held.insert(attempt, held);
    }

    pub(crate) fn unlock(&mut self, attempt: u64) {
        let Some(held) = self.held.remove(&attempt) else {
            return;
        };
        self.ranged -= usize::from(!held.footprint.ranges.is_empty());
        for key in held.footprint.keys.keys() {
            if let Some(attempts) = self.keys.get_mut(key) {
                attempts.retain(|holder| *holder != attempt);
                if attempts.is_empty() {
                    self.keys.remove(key);
                }
            }
        }
    }

    /// The first lock that keeps an operation from executing.
    pub(crate) fn in_the_way(&self, footprint: &Footprint) -> Option<Holder> {
        if self.held.is_empty() {
            return None;
        }
        if self.ranged > 0 || !footprint.ranges.is_empty() {
            let mut held = self.held.iter();
            let clash = held.find(|(_, held)| held.footprint.clashes(footprint));
            return clash.map(|(attempt, held)| held.holder(*attempt));
        }
        let holders = footprint.keys.iter().filter_map(|(key, writes)| {
            let holders = self.keys.get(key)?.iter();
            let in_the_way = holders.filter(|holder| {
                let held = self.held.get(holder);
                *writes || held.is_some_and(|held| held.footprint.writes_key(key))
            });
            in_the_way.min()
        });
        // The first, as above: every replica must name the same.
        let attempt = holders.min()?;
        Some(self.held.get(attempt)?.holder(*attempt))
    }

    /// As [`in_the_way`](Self::in_the_way) for the write of one key.
    pub(crate) fn in_the_way_of_key(&self, key: &[u8]) -> Option<Holder> {
        if self.held.is_empty() || planted::is(planted::LOCKS_IGNORED) {
            return None;
        }
        let by_key = self
            .keys
            .get(key)
            .and_then(|attempts| attempts.iter().min());
        let mut held = self.held.iter().filter(|_| self.ranged > 0);
        let by_range = held.find(|(_, held)| held.footprint.ranges.iter().any(|r| r.holds(key)));
        // The first, whatever came first: every replica must name the same, also after a restart.
        let attempt = by_key.copied().into_iter();
        let attempt = attempt.chain(by_range.map(|(attempt, _)| *attempt)).min()?;
        Some(self.held.get(&attempt)?.holder(attempt))
    }

    /// The first lock that keeps a read of a key as of a revision, or of now, from going on.
    pub(crate) fn stops_key(&self, key: &[u8], at: Option<u64>) -> Option<u64> {
        self.stops(at, |footprint| footprint.writes_key(key))
    }

    /// As [`stops_key`](Self::stops_key) for a range.
    pub(crate) fn stops_range(&self, start: &[u8], end: &[u8], at: Option<u64>) -> Option<u64> {
        self.stops(at, |footprint| footprint.writes_in(start, end))
    }

    /// As [`stops_key`](Self::stops_key) for all that a transaction touches.
    pub(crate) fn stops_all(&self, reads: &Footprint, at: Option<u64>) -> Option<u64> {
        self.stops(at, |footprint| footprint.clashes_with_reads(reads))
    }

    /// A transaction commits above what was applied when it was prepared: a read at or below that
    /// doesn't meet it.
    fn stops(&self, at: Option<u64>, writes: impl Fn(&Footprint) -> bool) -> Option<u64> {
        let mut held = self.held.iter();
        let stops = |held: &Held| at.is_none_or(|at| at > held.floor) && writes(&held.footprint);
        held.find(|(_, held)| stops(held))
            .map(|(attempt, _)| *attempt)
    }

    pub(crate) fn holds(&self, attempt: u64) -> bool {
        self.held.contains_key(&attempt)
    }
}

impl Held {
    fn holder(&self, attempt: u64) -> Holder {
        Holder {
            attempt,
            age: self.age,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` reads the key, `a!` writes it, `a-c` and `a-c!` a range; `a-` is open.
    fn footprint(text: &str) -> Footprint {
        let mut footprint = Footprint::default();
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        for word in text.split_whitespace() {
            let (what, writes) = match word.strip_suffix('!') {
                Some(what) => (what, true),
                None => (word, false),
            };
            match what.split_once('-') {
                Some((start, end)) => footprint.range(&bytes(start), &bytes(end), writes),
                None => footprint.key(&bytes(what), writes),
            }
        }
        footprint
    }

    #[test]
    fn two_clash_if_one_writes_what_the_other_touches() {
        for (one, other, clash) in [
            ("a", "a", false),
            ("a", "a!", true),
            ("a!", "a!", true),
            ("a!", "b!", false),
            ("a-c", "b", false),
            ("a-c", "b!", true),
            ("a-c!", "b", true),
            ("a-c!", "c!", false),
            ("a-", "z!", true),
            ("a-c!", "b-d", true),
            ("a-c", "b-d", false),
            ("a-c!", "c-d!", false),
            ("a- x!", "b! x", true),
            ("", "a-!", false),
        ] {
            let mut locks = Locks::default();
            locks.lock(7, 3, 0, footprint(one));
            let holder = Holder { attempt: 7, age: 3 };
            let expected = clash.then_some(holder);
            assert_eq!(
                locks.in_the_way(&footprint(other)),
                expected,
                "{one} | {other}"
            );
            let mut locks = Locks::default();
            locks.lock(7, 3, 0, footprint(other));
            assert_eq!(
                locks.in_the_way(&footprint(one)),
                expected,
                "{other} | {one}"
            );
            if let Some(key) = one
                .strip_suffix('!')
                .filter(|key| !key.contains(['-', ' ']))
            {
                assert_eq!(
                    locks.in_the_way_of_key(key.as_bytes()),
                    expected,
                    "{other} | {one}"
                );
            }
        }
    }

    #[test]
    fn readers_wait_for_writes_above_the_floor() {
        let mut locks = Locks::default();
        locks.lock(7, 3, 10, footprint("a! b m-o!"));
        assert_eq!(locks.stops_key(b"a", None), Some(7));
        assert_eq!(locks.stops_key(b"a", Some(11)), Some(7));
        assert_eq!(locks.stops_key(b"a", Some(10)), None);
        assert_eq!(locks.stops_key(b"b", None), None, "it is only read");
        assert_eq!(locks.stops_key(b"n", None), Some(7));
        assert_eq!(locks.stops_range(b"b", b"m", None), None);
        assert_eq!(locks.stops_range(b"b", b"", None), Some(7));
        locks.unlock(7);
        assert_eq!(locks.stops_key(b"a", None), None);
        assert!(locks.is_empty() && locks.keys.is_empty());
    }
}
