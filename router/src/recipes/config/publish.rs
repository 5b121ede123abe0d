//! To publish: all of it at one revision, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::{Put, RangeRead, Record};
use caucus_ring::Revision;
use tokio::time::{Instant, sleep, timeout_at};
use xxhash_rust::xxh3::xxh3_64;

use super::path::{self, Path};
use super::stored::{Meta, Policy, Request};
use super::{Error, read};
use crate::recipes::Steps;
use crate::recipes::steps::{Done, below, only};
use crate::{RequestName, Router};

/// Versions that one publication lets go of each path: more than it adds, so that a limit that was lowered is
/// reached. As many requests are forgotten.
const TRIMMED_MAX: u64 = 4;
/// How long a request is known by its name, at least: as elsewhere in the store.
const NAME_LIFE: Duration = Duration::from_secs(3600);
/// The first pause when somebody else has published the same; each next one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// What happens to a path.
#[derive(Debug, Clone)]
pub enum Edit {
    /// It gets this value, with this media type.
    Set(Bytes, String),
    /// Its value is removed.
    Delete,
    /// It becomes what a version was: gets its value, or is removed as it was by that version.
    Rollback(u64),
}

/// At which version a path must be; 0: it must have no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// One of these.
    Is(Vec<u64>),
    /// None of these.
    IsNot(Vec<u64>),
}

impl Expect {
    fn holds(&self, version: u64) -> bool {
        match self {
            Expect::Is(versions) => versions.contains(&version),
            Expect::IsNot(versions) => !versions.contains(&version),
        }
    }
}

/// What is published together.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// Who publishes.
    pub author: String,
    /// Why.
    pub comment: String,
    /// What, each path once; with the version at which it must be, if that matters.
    pub edits: Vec<(Path, Edit, Option<Expect>)>,
}

impl Publication {
    fn namespaces(&self) -> BTreeSet<&str> {
        let paths = self.edits.iter();
        paths.map(|(path, ..)| path.namespace()).collect()
    }
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
    /// The version to go back to, with its value.
    back: Option<(Meta, Option<Record>)>,
    /// Its oldest versions.
    oldest: Vec<Meta>,
}

impl Before {
    fn version(&self) -> u64 {
        self.newest.as_ref().map_or(0, |meta| meta.version)
    }
}

/// What is known of a namespace before.
struct Space {
    policy: Policy,
    /// What a request of this name has done.
    requested: Option<Record>,
    /// The oldest requests that are known: when, and their names.
    requests: Vec<(u64, String)>,
}

/// All that must be known of what is published, as of one revision.
struct Known {
    paths: Vec<Before>,
    spaces: BTreeMap<String, Space>,
}

/// What this very request has published before. It is looked for in the state and not in what groups remember of
/// requests: each attempt is another transaction, as it depends on what is there.
fn published_before(
    publication: &Publication,
    name: Option<RequestName>,
    known: &Known,
) -> Result<Option<Published>, Error> {
    let Some(name) = name else { return Ok(None) };
    let mut published = None;
    for space in known.spaces.values() {
        let Some(record) = &space.requested else {
            continue;
        };
        let request = Request::read(record).unwrap_or_default();
        if request.fingerprint != name.fingerprint() {
            return Err(Error::Store(crate::Error {
                reason: crate::Reason::NameTaken,
                outcome: crate::Outcome::NotApplied,
            }));
        }
        let paths = publication.edits.iter().map(|(path, ..)| path.clone());
        published = Some(Published {
            versions: paths.zip(request.versions).collect(),
            revision: Revision(record.mod_revision),
        });
    }
    Ok(published)
}

/// Publishes. The same name of a request publishes once.
pub async fn publish(
    router: &Router,
    publication: &Publication,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Published, Error> {
    let paths = publication.edits.iter().map(|(path, ..)| path);
    let turn = timeout_at(deadline, router.shared.turns.take(paths));
    let _turn = turn.await.map_err(|_| Error::Contended)?;
    let mut pause = PAUSE_MIN;
    loop {
        let known = look(router, publication, name, deadline).await?;
        if let Some(published) = published_before(publication, name, &known)? {
            return Ok(published);
        }
        for ((path, edit, expect), before) in publication.edits.iter().zip(&known.paths) {
            check(path, edit, expect.as_ref(), before)?;
        }
        let time_ms = (router.options().unix_ms)();
        let steps = write(publication, name, &known, time_ms);
        let done = steps.run(router, None, deadline).await?;
        if done.held {
            let versions = publication.edits.iter().zip(&known.paths);
            let versions =
                versions.map(|((path, ..), before)| (path.clone(), before.version() + 1));
            return Ok(Published {
                versions: versions.collect(),
                revision: done.revision,
            });
        }
        // Those who met must not meet again: each waits for another time.
        let dice = xxh3_64(&(done.store.0 ^ time_ms.rotate_left(32)).to_be_bytes());
        let pause_now = pause.mul_f64(0.5 + (dice % 1024) as f64 / 1024.0);
        if Instant::now() + pause_now >= deadline {
            return Err(Error::Contended);
        }
        sleep(pause_now).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Reads of each path.
const READS_OF_PATH: usize = 5;
/// Reads of each namespace.
const READS_OF_SPACE: usize = 3;

async fn look(
    router: &Router,
    publication: &Publication,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Known, Error> {
    let mut steps = Steps::new();
    for (path, edit, _) in &publication.edits {
        let back = match edit {
            Edit::Rollback(version) => *version,
            Edit::Set(..) | Edit::Delete => 0,
        };
        steps = steps
            .read(&path.newest())
            .range(RangeRead {
                span: Some(only(&path.value())),
                count_only: true,
                ..RangeRead::default()
            })
            .read(&path.version("h/", back))
            .read(&path.version("m/", back))
            .range(RangeRead {
                span: Some(below(&path.versions("m/"))),
                limit: TRIMMED_MAX,
                uncounted: true,
                ..RangeRead::default()
            });
    }
    let asked = name.map(|name| name.hex()).unwrap_or_default();
    let spaces = publication.namespaces();
    for namespace in &spaces {
        steps = steps
            .read(&read::policy_key(namespace))
            .read(&path::request(namespace, &asked))
            .range(RangeRead {
                span: Some(below(&path::requests(namespace))),
                limit: TRIMMED_MAX,
                uncounted: true,
                keys_only: true,
                ..RangeRead::default()
            });
    }
    let mut done = steps.run(router, None, deadline).await?;
    let count = publication.edits.len();
    Ok(Known {
        paths: (0..count).map(|at| path_before(&mut done, at)).collect(),
        spaces: spaces
            .iter()
            .enumerate()
            .map(|(at, namespace)| {
                let at = count * READS_OF_PATH + at * READS_OF_SPACE;
                (
                    (*namespace).to_owned(),
                    space_before(&mut done, namespace, at),
                )
            })
            .collect(),
    })
}

fn path_before(done: &mut Done, at: usize) -> Before {
    let at = at * READS_OF_PATH;
    let newest = done.record(at);
    let back = done.record(at + 2);
    let back_meta = done.record(at + 3).as_ref().and_then(Meta::read);
    let oldest = done.ranged(at + 4).items.into_iter();
    Before {
        revision: newest.as_ref().map_or(0, |record| record.mod_revision),
        newest: newest.as_ref().and_then(Meta::read),
        has_value: done.ranged(at + 1).count > 0,
        back: back_meta.map(|meta| (meta, back)),
        oldest: oldest
            .filter_map(|item| Meta::read(item.record.as_ref()?))
            .collect(),
    }
}

fn space_before(done: &mut Done, namespace: &str, at: usize) -> Space {
    let policy = done.record(at);
    let requested = done.record(at + 1);
    let requests = done.ranged(at + 2).items;
    Space {
        policy: Policy::read(policy.as_ref()),
        requested,
        requests: requests
            .iter()
            .filter_map(|item| path::read_request_at(namespace, &item.key))
            .collect(),
    }
}

fn check(path: &Path, edit: &Edit, expect: Option<&Expect>, before: &Before) -> Result<(), Error> {
    let found = if before.has_value {
        before.version()
    } else {
        0
    };
    if expect.is_some_and(|expect| !expect.holds(found)) {
        let path = path.to_string();
        return Err(Error::OtherVersion { path, found });
    }
    let removes = match (edit, &before.back) {
        (Edit::Set(..), _) => false,
        (Edit::Delete, _) => true,
        (Edit::Rollback(_), Some((meta, _))) => meta.deleted,
        (Edit::Rollback(version), None) => {
            return Err(read::missing(path, *version, before.newest.as_ref()));
        }
    };
    match removes && !before.has_value {
        true => Err(Error::NotFound(path.to_string())),
        false => Ok(()),
    }
}

/// The steps that publish all of it, if nothing of it has changed since it was looked at.
fn write(
    publication: &Publication,
    name: Option<RequestName>,
    known: &Known,
    time_ms: u64,
) -> Steps {
    let mut steps = Steps::new();
    for ((path, ..), before) in publication.edits.iter().zip(&known.paths) {
        steps = steps.if_changed(&path.newest(), before.revision);
    }
    for ((path, edit, _), before) in publication.edits.iter().zip(&known.paths) {
        let policy = known
            .spaces
            .get(path.namespace())
            .map_or_else(Policy::default, |space| space.policy);
        steps = write_path(steps, path, edit, before, (publication, &policy, time_ms));
    }
    let Some(name) = name else { return steps };
    let request = Request {
        fingerprint: name.fingerprint(),
        versions: known.paths.iter().map(|path| path.version() + 1).collect(),
    };
    for (namespace, space) in &known.spaces {
        let key = path::request(namespace, &name.hex());
        steps = steps.if_created(&key, 0).put(&key, request.put()).put(
            &path::request_at(namespace, time_ms, &name.hex()),
            Put::default(),
        );
        let old = |at: &u64| time_ms.saturating_sub(*at) > NAME_LIFE.as_millis() as u64;
        for (at, old_name) in space.requests.iter().filter(|(at, _)| old(at)) {
            steps = steps
                .remove(&path::request(namespace, old_name))
                .remove(&path::request_at(namespace, *at, old_name));
        }
    }
    steps
}

/// The steps that let go of versions that the policy doesn't keep, and the oldest that is kept.
fn trim(
    mut steps: Steps,
    path: &Path,
    before: &Before,
    policy: &Policy,
    time_ms: u64,
) -> (Steps, u64) {
    let version = before.version() + 1;
    let mut oldest = before.newest.as_ref().map_or(1, |meta| meta.oldest);
    for (at, old) in before.oldest.iter().enumerate() {
        // Replaced by the next one, or now.
        let replaced = before
            .oldest
            .get(at + 1)
            .map_or(time_ms, |next| next.time_ms);
        let too_old = policy
            .age_seconds_max
            .is_some_and(|age| time_ms.saturating_sub(replaced) > age.saturating_mul(1000));
        let too_many = old.version + policy.versions_max <= version;
        if !too_many && !too_old {
            break;
        }
        steps = steps
            .remove(&path.version("h/", old.version))
            .remove(&path.version("m/", old.version));
        oldest = old.version + 1;
    }
    (steps, oldest)
}

/// The steps that publish one path.
fn write_path(
    steps: Steps,
    path: &Path,
    edit: &Edit,
    before: &Before,
    (publication, policy, time_ms): (&Publication, &Policy, u64),
) -> Steps {
    let version = before.version() + 1;
    let (mut steps, oldest) = trim(steps, path, before, policy, time_ms);
    let value = match edit {
        Edit::Set(value, content_type) => Some((value, content_type)),
        Edit::Rollback(_) => before
            .back
            .as_ref()
            .and_then(|(_, record)| record.as_ref())
            .map(|record| (&record.value, &record.content_type)),
        Edit::Delete => None,
    };
    let meta = Meta {
        version,
        oldest,
        author: publication.author.clone(),
        comment: publication.comment.clone(),
        time_ms,
        deleted: value.is_none(),
    };
    steps = match value {
        Some((value, content_type)) => {
            let put = Put {
                value: value.clone(),
                content_type: content_type.clone(),
                ..Put::default()
            };
            steps
                .put(&path.value(), put.clone())
                .put(&path.version("h/", version), put)
        }
        None => steps.remove(&path.value()),
    };
    steps
        .put(&path.version("m/", version), meta.put())
        .put(&path.newest(), meta.put())
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
