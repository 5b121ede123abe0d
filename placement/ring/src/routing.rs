//! The routing key: the slice of a key that is hashed, and how it is cut.
//!
//! A segment is what a `/` ends; a leading `/` starts the first segment and ends
//! none. Empty segments count: `//a/b` has the segments ``, `a`.
//!
//! Each way of cutting comes as a function of a *prefix* that says what every key
//! with that prefix routes by, or that the prefix doesn't settle it. A whole key
//! is cut by the same function with a fallback, so keys and ranges can't disagree.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The part of a key that is hashed. Always a slice of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutingKey<'k>(pub(crate) &'k [u8]);

impl<'k> RoutingKey<'k> {
    /// Its bytes.
    pub fn as_bytes(&self) -> &'k [u8] {
        self.0
    }
}

impl Hash for RoutingKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

impl fmt::Display for RoutingKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for RoutingKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoutingKey({self})")
    }
}

/// The directory of a key: up to its last `/`, that included. A key without `/`
/// has none and stands for itself.
pub(crate) fn directory(key: &[u8]) -> &[u8] {
    match key.iter().rposition(|&b| b == b'/') {
        Some(last) => &key[..=last],
        None => key,
    }
}

/// The first `count` segments, if `prefix` holds them in full; then all keys with
/// that prefix share them.
pub(crate) fn segments(prefix: &[u8], count: usize) -> Option<&[u8]> {
    let slashes = count + usize::from(prefix.first() == Some(&b'/'));
    let (last, _) = prefix
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'/')
        .nth(slashes.checked_sub(1)?)?;
    Some(&prefix[..=last])
}

/// How many segments end in `prefix`.
pub(crate) fn count_segments(prefix: &[u8]) -> usize {
    let slashes = prefix.iter().filter(|b| **b == b'/').count();
    slashes - usize::from(prefix.first() == Some(&b'/'))
}

/// What the first braces in a text say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Braces<'k> {
    /// `{tag}`, braces included; nothing that follows can change it.
    Tag(&'k [u8]),
    /// `{}` comes first: there is no tag, whatever follows.
    Empty,
    /// No closed braces yet.
    Open,
}

/// The first `{` and the first `}` after it decide, as in Redis Cluster.
pub(crate) fn braces(text: &[u8]) -> Braces<'_> {
    let Some(open) = text.iter().position(|&b| b == b'{') else {
        return Braces::Open;
    };
    match text[open..].iter().position(|&b| b == b'}') {
        Some(1) => Braces::Empty,
        Some(length) => Braces::Tag(&text[open..=open + length]),
        None => Braces::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories() {
        for (key, expected) in [
            ("/service/batman/leader", "/service/batman/"),
            ("/a", "/"),
            ("/", "/"),
            ("a/b", "a/"),
            ("a", "a"),
            ("", ""),
        ] {
            assert_eq!(directory(key.as_bytes()), expected.as_bytes(), "{key}");
        }
    }

    #[test]
    fn settled_segments() {
        for (prefix, count, expected) in [
            ("/service/batman/x", 2, Some("/service/batman/")),
            ("/service/batman/", 2, Some("/service/batman/")),
            ("/service/batman", 2, None),
            ("/service/", 1, Some("/service/")),
            ("//a/b", 2, Some("//a/")),
            ("a/b/c", 1, Some("a/")),
            ("a", 1, None),
            ("", 1, None),
        ] {
            let got = segments(prefix.as_bytes(), count);
            assert_eq!(got, expected.map(str::as_bytes), "{prefix} {count}");
        }
        for (prefix, expected) in [("/", 0), ("/a/", 1), ("a/", 1), ("a/b/", 2), ("//", 1)] {
            assert_eq!(count_segments(prefix.as_bytes()), expected, "{prefix}");
        }
    }

    #[test]
    fn first_braces_decide() {
        for (text, expected) in [
            ("x{a}y{b}", Braces::Tag(b"{a}")),
            ("x}{a}", Braces::Tag(b"{a}")),
            ("{{a}}", Braces::Tag(b"{{a}")),
            ("{}{a}", Braces::Empty),
            ("x{a", Braces::Open),
            ("x", Braces::Open),
        ] {
            assert_eq!(braces(text.as_bytes()), expected, "{text}");
        }
    }
}
