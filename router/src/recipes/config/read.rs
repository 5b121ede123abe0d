//! What is published, and what was.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::limits::PAGE_KEYS_MAX;
use caucus_api::shard::{RangeRead, Record, Span};
use caucus_ring::Revision;
use tokio::time::Instant;

use super::path::Path;
use super::stored::{Meta, Policy};
use super::{Error, KIND};
use crate::recipes::steps::below;
use crate::recipes::{Steps, directory};
use crate::{Listing, Router};

/// Values of an effective configuration.
const EFFECTIVE_MAX: usize = PAGE_KEYS_MAX;
/// Bytes of an effective configuration.
const EFFECTIVE_BYTES_MAX: usize = 16 << 20;
/// A page has no more values once it has so many bytes.
const LIST_BYTES_MAX: usize = 4 << 20;

/// A value as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its path.
    pub path: Path,
    /// The value with its media type.
    pub record: Record,
    /// Its newest version; `None` where somebody has written the key without publishing.
    pub meta: Option<Meta>,
}

/// A page of values.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// In the order of their paths.
    pub entries: Vec<Entry>,
    /// Whether there are more.
    pub more: bool,
    /// As of when.
    pub revision: Revision,
}

/// A version that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Who published it, and when.
    pub meta: Meta,
    /// The value; `None`: it was removed.
    pub record: Option<Record>,
}

pub(super) fn policy_key(namespace: &str) -> Bytes {
    Bytes::from([&directory(KIND, namespace)[..], b"p"].concat())
}

/// Why a version isn't there.
pub(super) fn missing(path: &Path, version: u64, newest: Option<&Meta>) -> Error {
    let path = path.to_string();
    match newest {
        Some(meta) if version <= meta.version && version > 0 => Error::VersionGone {
            path,
            version,
            oldest: meta.oldest,
        },
        newest => Error::NoVersion {
            path,
            version,
            newest: newest.map_or(0, |meta| meta.version),
        },
    }
}

/// Reads a value.
pub async fn get(
    router: &Router,
    path: &Path,
    deadline: Instant,
) -> Result<(Entry, Revision), Error> {
    let steps = Steps::new().read(&path.value()).read(&path.newest());
    let mut done = steps.run(router, None, deadline).await?;
    let record = done.record(0);
    let entry = Entry {
        path: path.clone(),
        record: record.ok_or_else(|| Error::NotFound(path.to_string()))?,
        meta: done.record(1).as_ref().and_then(Meta::read),
    };
    Ok((entry, done.store))
}

/// Reads a version.
pub async fn version(
    router: &Router,
    path: &Path,
    version: u64,
    deadline: Instant,
) -> Result<(Version, Revision), Error> {
    let steps = Steps::new()
        .read(&path.version("h/", version))
        .read(&path.version("m/", version))
        .read(&path.newest());
    let mut done = steps.run(router, None, deadline).await?;
    let meta = done.record(1).as_ref().and_then(Meta::read);
    let newest = done.record(2).as_ref().and_then(Meta::read);
    let found = Version {
        meta: meta.ok_or_else(|| missing(path, version, newest.as_ref()))?,
        record: done.record(0),
    };
    Ok((found, done.store))
}

/// The versions below one (0: all), newest first; whether there are more.
pub async fn history(
    router: &Router,
    path: &Path,
    before: u64,
    limit: usize,
    deadline: Instant,
) -> Result<(Vec<Meta>, bool, Revision), Error> {
    let steps = Steps::new().read(&path.newest());
    let mut done = steps.run(router, None, deadline).await?;
    let newest = done.record(0).as_ref().and_then(Meta::read);
    let newest = newest.ok_or_else(|| Error::NotFound(path.to_string()))?;
    // Each version that is kept has its key, so where a page begins can be told.
    let end = match before {
        0 => newest.version + 1,
        before => before.min(newest.version + 1),
    };
    let start = newest.oldest.max(end.saturating_sub(limit as u64)).min(end);
    let steps = Steps::new().range(RangeRead {
        span: Some(Span {
            end: path.version("m/", end),
            ..below(&path.version("m/", start))
        }),
        ..RangeRead::default()
    });
    let mut done = steps.run(router, None, deadline).await?;
    let items = done.ranged(0).items.into_iter().rev();
    let versions = items.filter_map(|item| Meta::read(item.record.as_ref()?));
    let more = start > newest.oldest;
    Ok((versions.collect(), more, done.store))
}

/// What is kept of the versions in a namespace.
pub async fn policy(router: &Router, namespace: &str, deadline: Instant) -> Result<Policy, Error> {
    let key = policy_key(namespace);
    let found = router.get(key, false, Revision(0), deadline).await?;
    Ok(Policy::read(found.record.as_ref()))
}

/// The values below a path in ascending order, after one of them; or the value of a path. A page of `limit`, or less
/// where they are large.
pub async fn list(
    router: &Router,
    prefix: &Path,
    after: Option<&Path>,
    limit: usize,
    revision: Option<Revision>,
    deadline: Instant,
) -> Result<Listed, crate::Error> {
    let (start, end) = prefix.span();
    let mut listing = Listing {
        start: after.map_or(start, Path::after),
        end,
        // Each with what is known of its newest version, and one to see whether there are more.
        limit: (2 * limit + 1).min(PAGE_KEYS_MAX),
        revision,
        ..Listing::default()
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    loop {
        let page = router.list(&listing, Revision(0), deadline).await?;
        for (key, record) in page
            .items
            .into_iter()
            .filter_map(|i| Some((i.key, i.record?)))
        {
            bytes += record.value.len();
            take_in(&mut entries, prefix.namespace(), &key, record);
        }
        let (cut, next) = (entries.len() > limit, page.next);
        // Paths that were removed have versions too, so a page of keys may hold few values.
        match next {
            Some(next) if !cut && (bytes < LIST_BYTES_MAX || entries.len() < 2) => {
                (listing.start, listing.revision) = (next, Some(page.revision));
            }
            next => {
                if next.is_some() && !cut {
                    // What is known of the last one may be on the next page.
                    entries.pop();
                }
                entries.truncate(limit);
                return Ok(Listed {
                    entries,
                    more: cut || next.is_some(),
                    revision: page.revision,
                });
            }
        }
    }
}

/// Keys come in order: a value, and then what is known of its newest version.
fn take_in(entries: &mut Vec<Entry>, namespace: &str, key: &[u8], record: Record) {
    match Path::of_key(namespace, key) {
        Some((path, false)) => entries.push(Entry {
            path,
            record,
            meta: None,
        }),
        Some((path, true)) => {
            if let Some(last) = entries.last_mut().filter(|last| last.path == path) {
                last.meta = Meta::read(&record);
            }
        }
        None => {}
    }
}

/// What holds when layers lie over each other, the first at the bottom: for each name below them the value of the
/// uppermost layer that has it. All as of one revision.
pub async fn effective(
    router: &Router,
    layers: &[Path],
    deadline: Instant,
) -> Result<(BTreeMap<String, Entry>, Revision), Error> {
    let revision = router.granted(deadline).await?;
    let mut merged: BTreeMap<String, Entry> = BTreeMap::new();
    let mut bytes = 0;
    for layer in layers {
        let mut after: Option<Path> = None;
        loop {
            let listed = list(
                router,
                layer,
                after.as_ref(),
                EFFECTIVE_MAX,
                Some(revision),
                deadline,
            );
            let listed = listed.await?;
            after = listed.entries.last().map(|entry| entry.path.clone());
            for entry in listed.entries {
                bytes += entry.record.value.len();
                if let Some(covered) = merged.insert(entry.path.below(layer), entry) {
                    bytes -= covered.record.value.len();
                }
            }
            if merged.len() > EFFECTIVE_MAX || bytes > EFFECTIVE_BYTES_MAX {
                return Err(Error::TooLarge {
                    entries: EFFECTIVE_MAX,
                    bytes: EFFECTIVE_BYTES_MAX,
                });
            }
            if !listed.more {
                break;
            }
        }
    }
    Ok((merged, revision))
}
