//! What is published, and what was.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::limits::PAGE_KEYS_MAX;
use caucus_api::range::prefix_end;
use caucus_api::shard::{RangeRead, Record};
use caucus_ring::Revision;
use tokio::time::Instant;

use super::path::Path;
use super::stored::{Meta, Policy};
use super::{Error, KIND};
use crate::recipes::steps::below;
use crate::recipes::{Mirror, Steps, directory};
use crate::{Listing, Router};

/// Entries of an effective configuration.
const EFFECTIVE_MAX: usize = PAGE_KEYS_MAX;

/// A value as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its path.
    pub path: Path,
    /// The value with its media type.
    pub record: Record,
    /// Its newest version; `None` where that wasn't asked.
    pub meta: Option<Meta>,
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
    let steps = Steps::new().read(&path.at("v/")).read(&path.at("n/"));
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
        .read(&path.at("n/"));
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
    let mut span = below(&path.versions("m/"));
    if before > 0 {
        span.end = path.version("m/", before);
    }
    let steps = Steps::new().range(RangeRead {
        span: Some(span),
        limit: limit as u64,
        order: caucus_api::shard::range_read::Order::Descend as i32,
        ..RangeRead::default()
    });
    let mut done = steps.run(router, None, deadline).await?;
    let ranged = done.ranged(0);
    let versions = ranged.items.iter();
    let versions: Vec<Meta> = versions
        .filter_map(|item| Meta::read(item.record.as_ref()?))
        .collect();
    match versions.is_empty() && before == 0 {
        true => Err(Error::NotFound(path.to_string())),
        false => Ok((versions, ranged.more, done.store)),
    }
}

/// What is kept of the versions in a namespace.
pub async fn policy(router: &Router, namespace: &str, deadline: Instant) -> Result<Policy, Error> {
    let key = policy_key(namespace);
    let found = router.get(key, false, Revision(0), deadline).await?;
    Ok(Policy::read(found.record.as_ref()))
}

/// The values below a path in ascending order, after one of them; whether there are more.
pub async fn list(
    router: &Router,
    prefix: &Path,
    after: Option<&Path>,
    limit: usize,
    revision: Option<Revision>,
    deadline: Instant,
) -> Result<(Vec<Entry>, bool, Revision), Error> {
    let start = prefix.at("v/");
    let listing = Listing {
        end: prefix_end(&start).unwrap_or_default(),
        start: match after {
            Some(after) => Bytes::from([&after.at("v/")[..], &[0]].concat()),
            None => start,
        },
        limit,
        revision,
        ..Listing::default()
    };
    let page = router.list(&listing, Revision(0), deadline).await?;
    let items = page.items.into_iter();
    let entries = items.filter_map(|item| {
        Some(Entry {
            path: Path::of_key(prefix.namespace(), &item.key)?,
            record: item.record?,
            meta: None,
        })
    });
    Ok((entries.collect(), page.next.is_some(), page.revision))
}

/// What holds when layers lie over each other, the first at the bottom: for each name below them the value of the
/// uppermost layer that has it. All as of one revision.
pub async fn effective(
    router: &Router,
    layers: &[Path],
    deadline: Instant,
) -> Result<(BTreeMap<String, Entry>, Revision), Error> {
    let revision = router.granted(deadline).await?;
    let mut merged = BTreeMap::new();
    for layer in layers {
        let listed = list(router, layer, None, EFFECTIVE_MAX, Some(revision), deadline);
        let (entries, more, _) = listed.await?;
        if more {
            let why = format!("a layer has at most {EFFECTIVE_MAX} values");
            return Err(Error::Store(crate::Error {
                reason: crate::Reason::Invalid(why),
                outcome: crate::Outcome::Read,
            }));
        }
        let named = entries.into_iter();
        merged.extend(named.map(|entry| (entry.path.below(layer), entry)));
    }
    Ok((merged, revision))
}

/// The values below a path as they are and as they change.
pub struct Watch {
    namespace: String,
    mirror: Mirror,
}

impl Watch {
    /// Begins with the values as they are.
    pub async fn open(
        router: &Router,
        prefix: &Path,
        deadline: Instant,
    ) -> Result<Watch, crate::Error> {
        Ok(Watch {
            namespace: prefix.namespace().to_owned(),
            mirror: Mirror::open(router, &prefix.at("v/"), deadline).await?,
        })
    }

    /// The values as they are.
    pub fn entries(&self) -> (Vec<Entry>, Revision) {
        let keys = self.mirror.keys().iter();
        let entries = keys.filter_map(|(key, record)| self.entry(key, record));
        (entries.collect(), self.mirror.revision())
    }

    fn entry(&self, key: &[u8], record: &Record) -> Option<Entry> {
        Some(Entry {
            path: Path::of_key(&self.namespace, key)?,
            record: record.clone(),
            meta: None,
        })
    }

    /// What was published next: each path with its value, or `None` if that was removed. Can be cancelled without
    /// loss.
    pub async fn next(&mut self) -> Result<(Vec<(Path, Option<Record>)>, Revision), crate::Error> {
        let changed = self.mirror.next().await?;
        let events = changed.events.into_iter();
        let changes = events.filter_map(|(event, _)| {
            let path = Path::of_key(&self.namespace, &event.key)?;
            Some((path, event.record.clone()))
        });
        Ok((changes.collect(), changed.revision))
    }
}
