//! Paths of configuration, and where their keys are.

use std::fmt;

use bytes::Bytes;
use caucus_api::range::prefix_end;

use super::KIND;
use crate::recipes::directory;

/// The longest path, in bytes.
const PATH_BYTES_MAX: usize = 1024;
/// Where values are.
const VALUES: &str = "v/";

/// What a named request has published in a namespace.
pub(super) fn request(namespace: &str, name: &str) -> Bytes {
    let directory = directory(KIND, namespace);
    Bytes::from([&directory[..], b"r/", name.as_bytes()].concat())
}

/// When requests published, in their order: what all these keys begin with.
pub(super) fn requests(namespace: &str) -> Bytes {
    Bytes::from([&directory(KIND, namespace)[..], b"a/"].concat())
}

/// When a request published, in ms of Unix time.
pub(super) fn request_at(namespace: &str, time_ms: u64, name: &str) -> Bytes {
    let key = [
        &requests(namespace)[..],
        format!("{time_ms:016x}{name}").as_bytes(),
    ]
    .concat();
    key.into()
}

/// What a key of [`request_at`] says.
pub(super) fn read_request_at(namespace: &str, key: &[u8]) -> Option<(u64, String)> {
    let rest = std::str::from_utf8(key.strip_prefix(&requests(namespace)[..])?).ok()?;
    let (time_ms, name) = rest.split_at_checked(16)?;
    Some((u64::from_str_radix(time_ms, 16).ok()?, name.to_owned()))
}

/// `namespace/segment/…`. The namespace is a directory of its own, so all of it is in one group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    namespace: String,
    /// Without the namespace; empty where the namespace as a whole is meant.
    rest: String,
}

impl Path {
    /// Reads a path; `None`: a segment is empty, a character is a control character, or it is too long. A `/` at the
    /// end means all below it.
    pub fn parse(text: &str) -> Option<Path> {
        let whole = text.strip_suffix('/').unwrap_or(text);
        let fits = !whole.is_empty()
            && whole.len() <= PATH_BYTES_MAX
            && whole.split('/').all(|segment| !segment.is_empty())
            && !whole.bytes().any(|byte| byte.is_ascii_control());
        let (namespace, _) = text.split_once('/').unwrap_or((text, ""));
        let rest = text[namespace.len()..].strip_prefix('/').unwrap_or("");
        fits.then(|| Path {
            namespace: namespace.to_owned(),
            rest: rest.to_owned(),
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether it names a value, and not a namespace or all below something.
    pub fn is_value(&self) -> bool {
        !self.rest.is_empty() && !self.rest.ends_with('/')
    }

    /// All below it, if it doesn't say so itself.
    #[must_use]
    pub fn as_prefix(mut self) -> Path {
        if self.is_value() {
            self.rest.push('/');
        }
        self
    }

    pub(super) fn at(&self, what: &str) -> Bytes {
        let mut key = directory(KIND, &self.namespace).to_vec();
        key.extend_from_slice(what.as_bytes());
        key.extend_from_slice(self.rest.as_bytes());
        key.into()
    }

    /// Where the value is.
    pub(super) fn value(&self) -> Bytes {
        self.at(VALUES)
    }

    /// Where its newest version is told.
    pub(super) fn newest(&self) -> Bytes {
        self.versions(VALUES)
    }

    /// The keys of the value and its newest version, or of all that are below.
    pub(super) fn span(&self) -> (Bytes, Bytes) {
        let start = self.value();
        let end = match self.is_value() {
            true => self.after(),
            false => prefix_end(&start).unwrap_or_default(),
        };
        (start, end)
    }

    /// The first key that belongs to a later path.
    pub(super) fn after(&self) -> Bytes {
        Bytes::from([&self.value()[..], &[1]].concat())
    }

    /// What every key of a version begins with.
    pub(super) fn versions(&self, what: &str) -> Bytes {
        let mut key = self.at(what).to_vec();
        // No path holds it, so no path's versions are among another's.
        key.push(0);
        key.into()
    }

    pub(super) fn version(&self, what: &str, version: u64) -> Bytes {
        let mut key = self.versions(what).to_vec();
        key.extend_from_slice(format!("{version:016x}").as_bytes());
        key.into()
    }

    /// The path of a key of a value, or of what is known of its newest version; and whether it is the latter.
    pub(super) fn of_key(namespace: &str, key: &[u8]) -> Option<(Path, bool)> {
        let rest = key.strip_prefix(&directory(KIND, namespace)[..])?;
        let rest = rest.strip_prefix(VALUES.as_bytes())?;
        let (rest, is_newest) = match rest.strip_suffix(b"\0") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let rest = std::str::from_utf8(rest).ok()?;
        let path = Path {
            namespace: namespace.to_owned(),
            rest: rest.to_owned(),
        };
        Some((path, is_newest))
    }

    /// Whether it is below another, or is it.
    pub fn is_in(&self, prefix: &Path) -> bool {
        let below = match prefix.is_value() {
            true => self.rest == prefix.rest,
            false => self.rest.starts_with(&prefix.rest),
        };
        below && self.namespace == prefix.namespace
    }

    /// What follows a prefix.
    pub(super) fn below(&self, prefix: &Path) -> String {
        let rest = self.rest.strip_prefix(&prefix.rest[..]);
        rest.unwrap_or(&self.rest).to_owned()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.namespace)?;
        if !self.rest.is_empty() {
            write!(f, "/{}", self.rest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_in_the_order_of_their_times() {
        let at = request_at("ns", 0x1234, "name");
        assert_eq!(
            read_request_at("ns", &at),
            Some((0x1234, "name".to_owned()))
        );
        assert!(at < request_at("ns", 0x10000, "a"));
        assert_eq!(read_request_at("ns", b"/@config/ns/a/short"), None);
    }

    #[test]
    fn paths_have_segments() {
        for (text, is_value) in [
            ("a/b", true),
            ("a/b/c", true),
            ("a", false),
            ("a/", false),
            ("a/b/", false),
        ] {
            let path = Path::parse(text).expect(text);
            assert_eq!(path.is_value(), is_value, "{text}");
            assert_eq!(
                path.to_string(),
                text.strip_suffix("a/").map_or(text, |_| "a"),
                "{text}"
            );
        }
        for text in ["", "/", "/a", "a//b", "a/b//", "a/\n"] {
            assert_eq!(Path::parse(text), None, "{text}");
        }
        let path = Path::parse("ns/a/b").expect("a path");
        assert_eq!(
            &path.version("h/", 10)[..],
            b"/@config/ns/h/a/b\x00000000000000000a"
        );
        for (key, is_newest) in [(path.value(), false), (path.newest(), true)] {
            let found = Path::of_key("ns", &key);
            assert_eq!(found, Some((path.clone(), is_newest)));
            let (start, end) = path.span();
            assert!(start <= key && key < end);
        }
        let prefix = Path::parse("ns/a").expect("a path").as_prefix();
        assert!(path.is_in(&prefix) && !path.is_in(&Path::parse("ns/a").expect("a path")));
        let sibling = Path::parse("ns/a/b/c").expect("a path");
        assert!(!sibling.is_in(&path) && sibling.value() >= path.after());
        assert_eq!(path.below(&prefix), "b");
    }
}
