//! Paths of configuration, and where their keys are.

use std::fmt;

use bytes::Bytes;

use super::KIND;
use crate::recipes::directory;

/// The longest path, in bytes.
const PATH_BYTES_MAX: usize = 1024;

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

    /// What a named request has published here.
    pub(super) fn request(&self, name: &str) -> Bytes {
        Bytes::from([&self.versions("r/")[..], name.as_bytes()].concat())
    }

    /// The path of a key of values.
    pub(super) fn of_key(namespace: &str, key: &[u8]) -> Option<Path> {
        let rest = key.strip_prefix(&directory(KIND, namespace)[..])?;
        let rest = std::str::from_utf8(rest.strip_prefix(b"v/")?).ok()?;
        Some(Path {
            namespace: namespace.to_owned(),
            rest: rest.to_owned(),
        })
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
        assert_eq!(Path::of_key("ns", b"/@config/ns/v/a/b"), Some(path.clone()));
        let prefix = Path::parse("ns/a").expect("a path").as_prefix();
        assert_eq!(path.below(&prefix), "b");
    }
}
