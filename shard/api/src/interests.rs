//! Who wants to hear of which keys: a set of keys and ranges that tells fast which of them a key is in.
//!
//! Keys are looked up in a table; so are prefixes, once for each length that some prefix has: there are
//! few lengths, however many prefixes there are. Ranges of another form are looked at one by one.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::range::prefix_end;
use crate::shard::Span;

/// A set of keys and ranges, each with a value.
#[derive(Debug, Clone)]
pub struct Interests<T> {
    keys: HashMap<Bytes, T>,
    prefixes: BTreeMap<usize, HashMap<Bytes, T>>,
    ranges: Vec<(Bytes, Bytes, T)>,
}

impl<T> Default for Interests<T> {
    fn default() -> Interests<T> {
        Interests {
            keys: HashMap::new(),
            prefixes: BTreeMap::new(),
            ranges: Vec::new(),
        }
    }
}

impl<T> Interests<T> {
    /// How many spans there are.
    pub fn len(&self) -> usize {
        let prefixes: usize = self.prefixes.values().map(HashMap::len).sum();
        self.keys.len() + prefixes + self.ranges.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty() && self.ranges.is_empty()
    }

    /// The value of a span.
    pub fn get_mut(&mut self, span: &Span) -> Option<&mut T> {
        match shape(span) {
            Shape::Key => self.keys.get_mut(&span.start),
            Shape::Prefix => {
                let prefixes = self.prefixes.get_mut(&span.start.len())?;
                prefixes.get_mut(&span.start)
            }
            Shape::Range => {
                let mut all = self.ranges.iter_mut();
                let found = all.find(|(start, end, _)| *start == span.start && *end == span.end);
                found.map(|(_, _, value)| value)
            }
        }
    }

    /// Adds a span, or replaces its value.
    pub fn insert(&mut self, span: &Span, value: T) {
        if let Some(known) = self.get_mut(span) {
            *known = value;
            return;
        }
        // Copies: what a span was read from is often much larger, and would be held with it.
        let start = Bytes::copy_from_slice(&span.start);
        match shape(span) {
            Shape::Key => _ = self.keys.insert(start, value),
            Shape::Prefix => {
                let prefixes = self.prefixes.entry(start.len()).or_default();
                prefixes.insert(start, value);
            }
            Shape::Range => {
                let end = Bytes::copy_from_slice(&span.end);
                self.ranges.push((start, end, value));
            }
        }
    }

    /// Takes a span out.
    pub fn remove(&mut self, span: &Span) -> Option<T> {
        match shape(span) {
            Shape::Key => self.keys.remove(&span.start),
            Shape::Prefix => {
                let length = span.start.len();
                let prefixes = self.prefixes.get_mut(&length)?;
                let removed = prefixes.remove(&span.start);
                if prefixes.is_empty() {
                    self.prefixes.remove(&length);
                }
                removed
            }
            Shape::Range => {
                let mut all = self.ranges.iter();
                let at =
                    all.position(|(start, end, _)| *start == span.start && *end == span.end)?;
                Some(self.ranges.swap_remove(at).2)
            }
        }
    }

    /// Calls `found` with the value of each span that a key is in.
    pub fn each<'a>(&'a self, key: &[u8], mut found: impl FnMut(&'a T)) {
        if let Some(value) = self.keys.get(key) {
            found(value);
        }
        for (length, prefixes) in &self.prefixes {
            let Some(prefix) = key.get(..*length) else {
                // The rest is longer still.
                break;
            };
            if let Some(value) = prefixes.get(prefix) {
                found(value);
            }
        }
        for (start, end, value) in &self.ranges {
            if key >= &start[..] && (end.is_empty() || key < &end[..]) {
                found(value);
            }
        }
    }

    /// All spans with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Span, &T)> {
        let keys = self.keys.iter().map(|(key, value)| {
            let span = Span {
                start: key.clone(),
                ..Span::default()
            };
            (span, value)
        });
        let prefixes = self.prefixes.values().flatten();
        let prefixes = prefixes.map(|(prefix, value)| (prefix_span(prefix), value));
        let ranges = self.ranges.iter().map(|(start, end, value)| {
            let span = Span {
                start: start.clone(),
                end: end.clone(),
                range: true,
                ..Span::default()
            };
            (span, value)
        });
        keys.chain(prefixes).chain(ranges)
    }
}

enum Shape {
    Key,
    Prefix,
    Range,
}

fn shape(span: &Span) -> Shape {
    match span.range {
        false => Shape::Key,
        true if is_prefix(&span.start, &span.end) => Shape::Prefix,
        true => Shape::Range,
    }
}

/// Whether a range is that of all keys with a prefix.
fn is_prefix(start: &[u8], end: &[u8]) -> bool {
    // Nothing sorts after the keys of some prefixes: their ranges are open.
    prefix_end(start).unwrap_or_default() == end
}

fn prefix_span(prefix: &Bytes) -> Span {
    Span {
        start: prefix.clone(),
        end: prefix_end(prefix).unwrap_or_default(),
        range: true,
        ..Span::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &'static str) -> Span {
        Span {
            start: Bytes::from_static(key.as_bytes()),
            ..Span::default()
        }
    }

    fn range(start: &'static [u8], end: &'static [u8]) -> Span {
        Span {
            start: Bytes::from_static(start),
            end: Bytes::from_static(end),
            range: true,
            ..Span::default()
        }
    }

    fn found(interests: &Interests<u32>, key: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        interests.each(key, |value| found.push(*value));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_key_finds_all_spans_that_it_is_in() {
        let mut interests = Interests::default();
        interests.insert(&key("/a/b"), 1);
        interests.insert(&range(b"/a/", b"/a0"), 2);
        interests.insert(&range(b"", b""), 3);
        interests.insert(&range(b"/a/b", b"/x"), 4);
        interests.insert(&range(b"\xff\xff", b""), 5);
        assert_eq!(interests.len(), 5);
        assert_eq!(found(&interests, b"/a/b"), [1, 2, 3, 4]);
        assert_eq!(found(&interests, b"/a/"), [2, 3]);
        assert_eq!(found(&interests, b"/a"), [3]);
        assert_eq!(found(&interests, b"/b"), [3, 4]);
        assert_eq!(found(&interests, b"/x"), [3]);
        assert_eq!(found(&interests, b"\xff\xff\x01"), [3, 5]);
        assert_eq!(found(&interests, b"\xff"), [3]);
        assert_eq!(interests.prefixes.len(), 3, "these are prefixes");
    }

    #[test]
    fn what_was_removed_is_not_found() {
        let mut interests = Interests::default();
        let spans = [
            key("k"),
            range(b"k", b"l"),
            range(b"a", b"z0"),
            range(b"", b""),
        ];
        for (number, span) in (0..).zip(&spans) {
            interests.insert(span, number);
        }
        let mut all: Vec<_> = interests
            .iter()
            .map(|(span, value)| (*value, span))
            .collect();
        all.sort_by_key(|(value, _)| *value);
        let expected: Vec<_> = (0..).zip(spans.clone()).collect();
        assert_eq!(all, expected, "spans come out as they went in");
        for (number, span) in (0..).zip(&spans) {
            assert!(found(&interests, b"k").contains(&number));
            assert_eq!(interests.remove(span), Some(number));
            assert_eq!(interests.remove(span), None);
            assert!(!found(&interests, b"k").contains(&number));
        }
        assert!(interests.is_empty());
        assert!(interests.prefixes.is_empty());
    }

    #[test]
    fn a_range_is_a_prefix_only_if_nothing_else_is_in_it() {
        assert!(is_prefix(b"a", b"b"));
        assert!(is_prefix(b"a\xff", b"b"));
        assert!(is_prefix(b"", b""));
        assert!(is_prefix(b"\xff", b""));
        assert!(!is_prefix(b"a", b""), "to the end of all keys");
        assert!(!is_prefix(b"a", b"c"));
        assert!(!is_prefix(b"a", b"b0"));
        assert!(!is_prefix(b"ab", b"b"));
        assert!(!is_prefix(b"", b"a"));
    }
}
