//! Which vnodes a range of keys can touch. This alone decides whether an
//! operation is for one vnode or for many.

use std::ops::ControlFlow;

use crate::rules::{Rule, RuleEntry, settled};
use crate::{Ring, RoutingKey, Rules, VnodeSet};

/// Ranges of up to this many possible keys are answered key by key.
const KEYS_COUNTED_MAX: usize = 64;

/// The vnodes that keys in `[start, end)` can fall on, rules inside the range
/// included. An empty `end` means "to the end of all keys"; the range of the
/// single key `k` ends at `k` followed by a zero byte; a range that ends before it
/// starts touches nothing.
///
/// Never too few. Exact if all keys of the range share their routing key, and if
/// they are few; otherwise all vnodes, because a hash spreads everything else.
pub fn route_range(rules: &Rules, ring: &Ring, start: &[u8], end: &[u8]) -> VnodeSet {
    if !end.is_empty() && start >= end {
        return VnodeSet::new();
    }
    match touched(rules, ring, start, end) {
        ControlFlow::Continue(vnodes) => vnodes,
        ControlFlow::Break(()) => VnodeSet::full(ring.vnodes()),
    }
}

/// `Break` as soon as some part of the range is spread over the whole ring.
fn touched(rules: &Rules, ring: &Ring, start: &[u8], end: &[u8]) -> ControlFlow<(), VnodeSet> {
    if let Some(count) = countable(start, end) {
        return ControlFlow::Continue(key_by_key(rules, ring, start, count));
    }
    let prefix = shared_prefix(start, end);
    let mut vnodes = under(rules.longest(prefix), ring, prefix)?;
    for entry in rules.inside(prefix) {
        // The keys that start with `entry.prefix` end before `after`: it ends
        // with '/', and '0' is the next byte.
        let mut after = entry.prefix.clone();
        after.pop();
        after.push(b'/' + 1);
        let from = start.max(entry.prefix.as_slice());
        let to = if end.is_empty() {
            &after[..]
        } else {
            end.min(after.as_slice())
        };
        if from >= to {
            continue;
        }
        match countable(from, to) {
            Some(count) => vnodes.union_with(&key_by_key(rules, ring, from, count)),
            None => vnodes.union_with(&under(Some(entry), ring, shared_prefix(from, to))?),
        }
    }
    ControlFlow::Continue(vnodes)
}

/// The vnode of all keys with `prefix` under one rule.
fn under(entry: Option<&RuleEntry>, ring: &Ring, prefix: &[u8]) -> ControlFlow<(), VnodeSet> {
    match settled(entry, prefix) {
        Some(key) => ControlFlow::Continue(VnodeSet::single(ring.vnode(RoutingKey(key)))),
        None => ControlFlow::Break(()),
    }
}

/// How many keys the range has, if they are few: a range is finite only if its end
/// is its start and then zero bytes.
fn countable(start: &[u8], end: &[u8]) -> Option<usize> {
    let rest = end.strip_prefix(start)?;
    let few = (1..=KEYS_COUNTED_MAX).contains(&rest.len());
    (few && rest.iter().all(|&b| b == 0)).then_some(rest.len())
}

fn key_by_key(rules: &Rules, ring: &Ring, start: &[u8], count: usize) -> VnodeSet {
    let mut vnodes = VnodeSet::single(ring.vnode(rules.routing_key(start)));
    // A zero byte is no '/': the directory, and so the rule, stays; other rules than
    // these two give the same routing key again.
    let varies = match rules.longest(start).map(|entry| entry.rule) {
        Some(Rule::WholeKey | Rule::Tag) | None => count > 1,
        Some(Rule::Segments(_) | Rule::Directory) => false,
    };
    if varies {
        let mut key = start.to_vec();
        for _ in 1..count {
            key.push(0);
            vnodes.insert(ring.vnode(rules.routing_key(&key)));
        }
    }
    vnodes
}

/// The longest prefix that all keys in `[start, end)` have.
fn shared_prefix<'k>(start: &'k [u8], end: &[u8]) -> &'k [u8] {
    // Keys with the prefix p lie below p with its last byte raised (bytes 0xff
    // at its end dropped first). So p may grow over 0xff bytes of `start` once
    // `end` is just that.
    let same = start.iter().zip(end).take_while(|(a, b)| a == b).count();
    if !end.is_empty() && same == start.len() {
        return start;
    }
    let stops_at_next =
        end.is_empty() || (end.len() == same + 1 && start[same].checked_add(1) == Some(end[same]));
    if !stops_at_next {
        return &start[..same];
    }
    let base = if end.is_empty() { 0 } else { same + 1 };
    let full = start[base..].iter().take_while(|b| **b == 0xff).count();
    &start[..base + full]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_prefixes() {
        for (start, end, expected) in [
            (&b"/a/"[..], &b"/a0"[..], &b"/a/"[..]),
            (b"/a/b", b"/a/c", b"/a/b"),
            (b"/a/b", b"/a/d", b"/a/"),
            (b"/a/b", b"/a/b/c", b"/a/b"),
            (b"/a/b", b"/b", b"/a"),
            (b"", b"", b""),
            (b"a", b"", b""),
            (b"\xff\xffa", b"", b"\xff\xff"),
            (b"a\xff\xffb", b"b", b"a\xff\xff"),
        ] {
            let got = shared_prefix(start, end);
            assert_eq!(
                got,
                expected,
                "{} to {}",
                start.escape_ascii(),
                end.escape_ascii()
            );
        }
    }

    #[test]
    fn finite_ranges() {
        assert_eq!(countable(b"a", b"a\0"), Some(1));
        assert_eq!(countable(b"", b"\0\0"), Some(2));
        assert_eq!(countable(b"a", b"a\x01"), None);
        assert_eq!(countable(b"a", b"b"), None);
        assert_eq!(countable(b"a", b""), None);
        assert_eq!(countable(b"", b""), None);
    }
}
