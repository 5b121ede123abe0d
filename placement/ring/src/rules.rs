//! The routing rules of a cluster: which part of a key is hashed, by prefix.
//!
//! The longest prefix that a key starts with decides; without one the default
//! holds: the directory cut to its first two segments (one, if the key doesn't
//! begin with `/`), and a key without `/` whole. So a subtree like
//! `/service/batman/` lives in one vnode.
//!
//! A prefix starts where keys start and ends with a `/`: it never cuts a segment.

use crate::RoutingKey;
use crate::routing::{Braces, braces, count_segments, directory, segments};

/// Segments that the default keeps of a key that begins with `/`.
pub const SEGMENTS_DEFAULT: u32 = 2;
/// The most segments that a rule can keep.
pub const SEGMENTS_MAX: u32 = 64;
/// The longest prefix of a rule.
pub const PREFIX_BYTES_MAX: usize = 256;
/// The most rules in a table.
pub const RULES_MAX: usize = 1024;

/// What is hashed of a key under a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The directory, cut to this many segments from the start of the key.
    Segments(u32),
    /// The whole directory.
    Directory,
    /// The whole key.
    WholeKey,
    /// The first `{...}` after the prefix, braces included; the default where
    /// there is none. Braces mean nothing under any other rule.
    Tag,
}

/// One rule and the keys it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleEntry {
    /// Keys that start with this. Ends with `/`.
    pub prefix: Vec<u8>,
    /// What is hashed of them.
    pub rule: Rule,
}

/// Why a table of rules isn't one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// More than [`RULES_MAX`].
    #[error("{count} routing rules, at most {RULES_MAX} are possible")]
    TooMany {
        /// How many there were.
        count: usize,
    },
    /// A prefix that is empty or cuts a segment.
    #[error("the prefix of a routing rule ends with '/', this one doesn't: {prefix:?}")]
    PrefixCutsSegment {
        /// The prefix, escaped.
        prefix: String,
    },
    /// A prefix longer than [`PREFIX_BYTES_MAX`].
    #[error(
        "the prefix of a routing rule has at most {PREFIX_BYTES_MAX} bytes, this one has {bytes}"
    )]
    PrefixTooLong {
        /// How long it was.
        bytes: usize,
    },
    /// Two rules for one prefix.
    #[error("there are two routing rules for the prefix {prefix:?}")]
    Duplicate {
        /// The prefix, escaped.
        prefix: String,
    },
    /// A number of segments that is zero, too large, or less than the prefix has:
    /// segments count from the start of the key, not from the end of the prefix.
    #[error(
        "a routing rule for {prefix:?} can keep {least} to {SEGMENTS_MAX} segments \
         (counted from the start of the key), not {segments}"
    )]
    Segments {
        /// The prefix, escaped.
        prefix: String,
        /// What the rule asked for.
        segments: u32,
        /// The least that makes sense under this prefix.
        least: usize,
    },
}

/// A valid table of rules with its version. The default is version 0, without
/// entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    version: u64,
    /// Sorted by prefix, no two alike: looked up by binary search.
    entries: Vec<RuleEntry>,
}

impl Rules {
    /// Checks `entries` and makes them a table.
    pub fn new(version: u64, mut entries: Vec<RuleEntry>) -> Result<Rules, RulesError> {
        if entries.len() > RULES_MAX {
            return Err(RulesError::TooMany {
                count: entries.len(),
            });
        }
        entries.iter().try_for_each(check)?;
        entries.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        if let Some(pair) = entries
            .windows(2)
            .find(|pair| pair[0].prefix == pair[1].prefix)
        {
            return Err(RulesError::Duplicate {
                prefix: escape(&pair[0].prefix),
            });
        }
        Ok(Rules { version, entries })
    }

    /// The version: each change of the table has a greater one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The entries, sorted by prefix.
    pub fn entries(&self) -> &[RuleEntry] {
        &self.entries
    }

    /// The part of `key` that is hashed.
    pub fn routing_key<'k>(&self, key: &'k [u8]) -> RoutingKey<'k> {
        let entry = self.longest(key);
        RoutingKey(
            settled(entry, key).unwrap_or_else(|| match entry.map(|entry| entry.rule) {
                Some(Rule::WholeKey) => key,
                None | Some(Rule::Segments(_) | Rule::Directory) => directory(key),
                // No tag: as without a rule.
                Some(Rule::Tag) => settled(None, key).unwrap_or_else(|| directory(key)),
            }),
        )
    }

    /// The entry with the longest prefix that `text` starts with.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<&RuleEntry> {
        if self.entries.is_empty() {
            return None;
        }
        let reach = &text[..text.len().min(PREFIX_BYTES_MAX)];
        let ends = (0..reach.len()).rev().filter(|&at| reach[at] == b'/');
        ends.filter_map(|at| {
            let found = self
                .entries
                .binary_search_by(|entry| entry.prefix.as_slice().cmp(&reach[..=at]));
            found.ok().map(|index| &self.entries[index])
        })
        .next()
    }

    /// The entries whose prefix goes on after `prefix`.
    pub(crate) fn inside<'s>(&'s self, prefix: &'s [u8]) -> impl Iterator<Item = &'s RuleEntry> {
        let first = self
            .entries
            .partition_point(|entry| entry.prefix.as_slice() <= prefix);
        self.entries[first..]
            .iter()
            .take_while(move |entry| entry.prefix.starts_with(prefix))
    }
}

/// The routing key that all keys starting with `prefix` share under `entry`
/// (`None`: the default), if they do.
pub(crate) fn settled<'k>(entry: Option<&RuleEntry>, prefix: &'k [u8]) -> Option<&'k [u8]> {
    let Some(entry) = entry else {
        let absolute = prefix.first()? == &b'/';
        return segments(
            prefix,
            if absolute {
                SEGMENTS_DEFAULT as usize
            } else {
                1
            },
        );
    };
    match entry.rule {
        Rule::Segments(count) => segments(prefix, count as usize),
        Rule::Directory | Rule::WholeKey => None,
        Rule::Tag => match braces(&prefix[entry.prefix.len()..]) {
            Braces::Tag(tag) => Some(tag),
            Braces::Empty => settled(None, prefix),
            Braces::Open => None,
        },
    }
}

fn check(entry: &RuleEntry) -> Result<(), RulesError> {
    let prefix = &entry.prefix;
    if prefix.last() != Some(&b'/') {
        return Err(RulesError::PrefixCutsSegment {
            prefix: escape(prefix),
        });
    }
    if prefix.len() > PREFIX_BYTES_MAX {
        return Err(RulesError::PrefixTooLong {
            bytes: prefix.len(),
        });
    }
    let Rule::Segments(segments) = entry.rule else {
        return Ok(());
    };
    let least = count_segments(prefix).max(1);
    if segments > SEGMENTS_MAX || (segments as usize) < least {
        return Err(RulesError::Segments {
            prefix: escape(prefix),
            segments,
            least,
        });
    }
    Ok(())
}

fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
