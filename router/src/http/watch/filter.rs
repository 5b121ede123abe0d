//! Which changes a client wants to hear of.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use super::write::Show;
use crate::http::params::impossible;
use crate::http::problem::Problem;
use crate::watch::Event;

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Delete,
}

/// What passes.
#[derive(Debug)]
pub(super) struct Filter {
    /// Nothing else.
    pub(super) only: Option<Kind>,
    pub(super) glob: Option<GlobMatcher>,
    /// Keys with at most so many segments after the prefix.
    pub(super) depth: Option<usize>,
    /// The length of the prefix.
    pub(super) prefix: usize,
    /// Only puts after which the value is another one.
    pub(super) changed: bool,
    pub(super) show: Show,
}

impl Filter {
    /// Whether the record before decides on something.
    pub(super) fn needs_previous(&self) -> bool {
        self.changed
    }

    pub(super) fn passes(&self, event: &Event) -> bool {
        let kind = match event.record {
            Some(_) => Kind::Put,
            None => Kind::Delete,
        };
        if self.only.is_some_and(|only| only != kind) {
            return false;
        }
        self.passes_key(&event.key) && !(self.changed && is_unchanged(event))
    }

    pub(super) fn passes_key(&self, key: &[u8]) -> bool {
        if let Some(depth) = self.depth {
            let rest = key.get(self.prefix..).unwrap_or(b"");
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            let segments = rest.split(|byte| *byte == b'/');
            if segments.filter(|segment| !segment.is_empty()).count() > depth {
                return false;
            }
        }
        let glob = self.glob.as_ref();
        glob.is_none_or(|glob| glob.is_match(Path::new(OsStr::from_bytes(key))))
    }
}

fn is_unchanged(event: &Event) -> bool {
    match (&event.record, &event.previous) {
        (Some(new), Some(old)) => new.value == old.value && new.content_type == old.content_type,
        (_, _) => false,
    }
}

/// Reads a pattern: `*` and `?` (one byte) stop at a `/`, `**` does not, `[a-z]` and `{a,b}` choose.
pub(super) fn glob(pattern: &[u8]) -> Result<GlobMatcher, Problem> {
    let wrong = |why: &str| impossible("glob", &format!("a pattern of whole keys: {why}"));
    let pattern = std::str::from_utf8(pattern).map_err(|_| wrong("this is not UTF-8"))?;
    let glob = GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build();
    match glob {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(wrong(&error.kind().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use caucus_api::shard::Record;

    use super::*;

    fn all() -> Filter {
        Filter {
            only: None,
            glob: None,
            depth: None,
            prefix: 0,
            changed: false,
            show: Show {
                keys_only: false,
                previous: false,
            },
        }
    }

    fn record(value: &'static str) -> Option<Record> {
        Some(Record {
            value: value.into(),
            ..Record::default()
        })
    }

    fn event(record: Option<Record>, previous: Option<Record>) -> Event {
        Event {
            revision: 5,
            key: "/a/b".into(),
            record,
            previous,
        }
    }

    #[test]
    fn kinds_and_changes() {
        let put = event(record("x"), record("y"));
        let same = event(record("x"), record("x"));
        let delete = event(None, record("x"));
        assert!(all().passes(&same));
        let puts = Filter {
            only: Some(Kind::Put),
            ..all()
        };
        assert!(puts.passes(&put) && !puts.passes(&delete));
        let deletes = Filter {
            only: Some(Kind::Delete),
            ..all()
        };
        assert!(!deletes.passes(&put) && deletes.passes(&delete));
        let changed = Filter {
            changed: true,
            ..all()
        };
        assert!(changed.passes(&put) && changed.passes(&delete) && !changed.passes(&same));
        assert!(changed.passes(&event(record(""), None)), "a new key");
    }

    #[test]
    fn depth_counts_segments_after_the_prefix() {
        let direct = Filter {
            depth: Some(1),
            prefix: "/a/".len(),
            ..all()
        };
        assert!(direct.passes_key(b"/a/b"));
        assert!(direct.passes_key(b"/a/"));
        assert!(!direct.passes_key(b"/a/b/c"));
        let two = Filter {
            depth: Some(2),
            ..direct
        };
        assert!(two.passes_key(b"/a/b/c"));
        assert!(!two.passes_key(b"/a/b/c/d"));
    }

    #[test]
    fn globs_match_whole_keys() {
        let matches = |pattern: &str, key: &[u8]| {
            let filter = Filter {
                glob: Some(glob(pattern.as_bytes()).unwrap()),
                ..all()
            };
            filter.passes_key(key)
        };
        assert!(matches("/a/*.conf", b"/a/x.conf"));
        assert!(!matches("/a/*.conf", b"/a/b/x.conf"));
        assert!(matches("/a/**/x", b"/a/b/c/x"));
        assert!(matches("/{a,b}/?", b"/b/x"));
        assert!(!matches("/a", b"/a/b"));
        assert!(glob(b"[").is_err());
        assert!(glob(b"\xff").is_err());
    }
}
