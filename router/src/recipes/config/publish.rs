//! To publish: all of it at one revision, or nothing.

use bytes::Bytes;
use caucus_api::shard::{Put, RangeRead, Record};
use caucus_ring::Revision;
use tokio::time::Instant;

use super::path::Path;
use super::stored::{Meta, Policy, Request};
use super::{Error, read};
use crate::recipes::Steps;
use crate::recipes::steps::below;
use crate::{RequestName, Router};

/// Versions that one publication lets go of each path: more than it adds, so that a limit that was lowered is
/// reached.
const TRIMMED_MAX: u64 = 4;
/// Attempts when others publish the same.
const ATTEMPTS_MAX: usize = 32;

/// What happens to a path.
#[derive(Debug, Clone)]
pub enum Edit {
    /// It gets this value, with this media type.
    Set(Bytes, String),
    /// Its value is removed.
    Delete,
    /// It gets the value that a version had.
    Rollback(u64),
}

/// What is published together.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// Who publishes.
    pub author: String,
    /// Why.
    pub comment: String,
    /// What; with the version at which the path must be, if that matters: 0 if it must have none.
    pub edits: Vec<(Path, Edit, Option<u64>)>,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Each path with its new version, as they were asked for.
    pub versions: Vec<(Path, u64)>,
    /// When.
    pub revision: Revision,
}

/// A path as it is before.
struct Before {
    /// Its newest version and that record's revision; 0: it has none.
    newest: Option<Meta>,
    revision: u64,
    /// Whether it has a value.
    has_value: bool,
    /// The value to go back to.
    back: Option<Record>,
    /// Its oldest versions.
    oldest: Vec<Meta>,
    policy: Policy,
    /// What a request of this name has done.
    requested: Option<Record>,
}

/// What this very request has published before. It is looked for in the state and not in what groups remember of
/// requests: each attempt is another transaction, as it depends on what is there.
fn published_before(
    publication: &Publication,
    name: Option<RequestName>,
    before: &[Before],
) -> Result<Option<Published>, Error> {
    let Some(name) = name else { return Ok(None) };
    let mut versions = Vec::with_capacity(before.len());
    let mut revision = 0;
    for ((path, ..), before) in publication.edits.iter().zip(before) {
        let Some(record) = &before.requested else {
            continue;
        };
        let request = Request::read(record).unwrap_or_default();
        if request.fingerprint != name.fingerprint() {
            return Err(Error::Store(crate::Error {
                reason: crate::Reason::NameTaken,
                outcome: crate::Outcome::NotApplied,
            }));
        }
        versions.push((path.clone(), request.version));
        revision = record.mod_revision;
    }
    // One transaction wrote them all, unless some have been let go with their versions.
    Ok((!versions.is_empty()).then_some(Published {
        versions,
        revision: Revision(revision),
    }))
}

/// Publishes. The same name of a request publishes once.
pub async fn publish(
    router: &Router,
    publication: &Publication,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Published, Error> {
    for _ in 0..ATTEMPTS_MAX {
        let before = look(router, publication, name, deadline).await?;
        if let Some(published) = published_before(publication, name, &before)? {
            return Ok(published);
        }
        let mut steps = Steps::new();
        let mut read_back = Vec::new();
        for ((path, edit, wanted), before) in publication.edits.iter().zip(&before) {
            check(path, edit, *wanted, before)?;
            steps = steps.if_changed(&path.at("n/"), before.revision);
        }
        let time_ms = (router.options().unix_ms)();
        let mut count = 0;
        for ((path, edit, _), before) in publication.edits.iter().zip(&before) {
            let request = name.map(|name| Request::of(&name));
            let by = (publication, request);
            let (more, written) = write(steps, path, edit, before, by, time_ms);
            steps = more.read(&path.at("n/"));
            read_back.push(count + written);
            count += written + 1;
        }
        let mut done = steps.run(router, None, deadline).await?;
        if !done.held {
            continue;
        }
        let versions = publication.edits.iter().zip(read_back);
        let versions = versions.map(|((path, ..), at)| {
            let meta = done.record(at).as_ref().and_then(Meta::read);
            (path.clone(), meta.map_or(0, |meta| meta.version))
        });
        return Ok(Published {
            versions: versions.collect(),
            revision: done.revision,
        });
    }
    Err(Error::Contended)
}

/// All that must be known of the paths, as of one revision.
async fn look(
    router: &Router,
    publication: &Publication,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Vec<Before>, Error> {
    let asked = name.map(|name| name.hex()).unwrap_or_default();
    let mut steps = Steps::new();
    for (path, edit, _) in &publication.edits {
        let back = match edit {
            Edit::Rollback(version) => *version,
            Edit::Set(..) | Edit::Delete => 0,
        };
        steps = steps
            .read(&path.at("n/"))
            .range(RangeRead {
                span: Some(crate::recipes::steps::only(&path.at("v/"))),
                count_only: true,
                ..RangeRead::default()
            })
            .read(&path.version("h/", back))
            .range(RangeRead {
                span: Some(below(&path.versions("m/"))),
                limit: TRIMMED_MAX,
                ..RangeRead::default()
            })
            .read(&read::policy_key(path.namespace()))
            .read(&path.request(&asked));
    }
    let mut done = steps.run(router, None, deadline).await?;
    let paths = 0..publication.edits.len();
    Ok(paths
        .map(|at| {
            let at = 6 * at;
            let newest = done.record(at);
            let oldest = done.ranged(at + 3).items.into_iter();
            Before {
                revision: newest.as_ref().map_or(0, |record| record.mod_revision),
                newest: newest.as_ref().and_then(Meta::read),
                has_value: done.ranged(at + 1).count > 0,
                back: done.record(at + 2),
                oldest: oldest
                    .filter_map(|item| Meta::read(item.record.as_ref()?))
                    .collect(),
                policy: Policy::read(done.record(at + 4).as_ref()),
                requested: done.record(at + 5),
            }
        })
        .collect())
}

fn check(path: &Path, edit: &Edit, wanted: Option<u64>, before: &Before) -> Result<(), Error> {
    let newest = before.newest.as_ref().map_or(0, |meta| meta.version);
    let found = if before.has_value { newest } else { 0 };
    if wanted.is_some_and(|wanted| wanted != found) {
        let path = path.to_string();
        return Err(Error::OtherVersion { path, found });
    }
    match edit {
        Edit::Set(..) => Ok(()),
        Edit::Delete if !before.has_value => Err(Error::NotFound(path.to_string())),
        Edit::Delete => Ok(()),
        Edit::Rollback(version) if before.back.is_none() => {
            Err(read::missing(path, *version, before.newest.as_ref()))
        }
        Edit::Rollback(_) => Ok(()),
    }
}

/// The steps that let go of versions that the policy doesn't keep, how many they are, and the oldest that is kept.
fn trim(
    mut steps: Steps,
    path: &Path,
    before: &Before,
    version: u64,
    time_ms: u64,
) -> (Steps, usize, u64) {
    let mut written = 0;
    let mut oldest = before.newest.as_ref().map_or(1, |meta| meta.oldest);
    for (at, old) in before.oldest.iter().enumerate() {
        // Replaced by the next one, or now.
        let replaced = before
            .oldest
            .get(at + 1)
            .map_or(time_ms, |next| next.time_ms);
        let too_old = before
            .policy
            .age_seconds_max
            .is_some_and(|age| time_ms.saturating_sub(replaced) > age.saturating_mul(1000));
        let too_many = old.version + before.policy.versions_max <= version;
        if !too_many && !too_old {
            break;
        }
        steps = steps
            .remove(&path.version("h/", old.version))
            .remove(&path.version("m/", old.version));
        written += 2;
        if let Some(request) = &old.request {
            steps = steps.remove(&path.request(request));
            written += 1;
        }
        oldest = old.version + 1;
    }
    (steps, written, oldest)
}

/// The steps that publish one path, and how many they are.
fn write(
    mut steps: Steps,
    path: &Path,
    edit: &Edit,
    before: &Before,
    (publication, request): (&Publication, Option<Request>),
    time_ms: u64,
) -> (Steps, usize) {
    let version = before.newest.as_ref().map_or(1, |meta| meta.version + 1);
    let (trimmed, mut written, oldest) = trim(steps, path, before, version, time_ms);
    steps = trimmed;
    let put = match edit {
        Edit::Set(value, content_type) => Some(Put {
            value: value.clone(),
            content_type: content_type.clone(),
            ..Put::default()
        }),
        Edit::Rollback(_) => before.back.as_ref().map(|back| Put {
            value: back.value.clone(),
            content_type: back.content_type.clone(),
            ..Put::default()
        }),
        Edit::Delete => None,
    };
    let meta = Meta {
        version,
        oldest,
        author: publication.author.clone(),
        comment: publication.comment.clone(),
        time_ms,
        deleted: put.is_none(),
        request: request.as_ref().map(|request| request.name.clone()),
    };
    if let Some(request) = request {
        let key = path.request(&request.name);
        steps = steps.put(&key, request.put(version));
        written += 1;
    }
    steps = match put {
        Some(put) => steps
            .put(&path.at("v/"), put.clone())
            .put(&path.version("h/", version), put),
        None => steps
            .remove(&path.at("v/"))
            .remove(&path.version("h/", version)),
    };
    steps = steps
        .put(&path.version("m/", version), meta.put())
        .put(&path.at("n/"), meta.put());
    (steps, written + 4)
}

/// Says what is kept of the versions in a namespace.
pub async fn set_policy(
    router: &Router,
    namespace: &str,
    policy: &Policy,
    deadline: Instant,
) -> Result<Revision, Error> {
    let steps = Steps::new().put(&read::policy_key(namespace), policy.put());
    Ok(steps.run(router, None, deadline).await?.revision)
}
