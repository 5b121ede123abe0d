//! Members of somebody's own cluster: each with metadata, under a lease, in the order in which they joined. What
//! ZooKeeper's ephemeral sequential nodes are used for.
//!
//! A member is a key in the group's directory. The key's create revision says who came before whom: whoever is
//! first can be the leader, and each has a number that no other member ever had.

use bytes::Bytes;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::range_read::{Order, Target};
use caucus_api::shard::{Put, RangeRead, Record};
use caucus_ring::Revision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::queue::give_back;
use super::steps::below;
use super::{Mirror, Steps, directory};
use crate::{RequestName, Router};

/// The kind of the directory.
const KIND: &str = "member";

/// Who joins.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Its id; `None`: the lease's.
    pub id: Option<String>,
    /// What others shall know of it.
    pub metadata: Value,
    /// How long it is a member without a sign of life, in seconds. With a lease, that one's time counts.
    pub ttl_s: u64,
    /// The caller's lease.
    pub lease: Option<u64>,
}

/// A member.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// What others shall know of it.
    pub metadata: Value,
    /// The lease that keeps it.
    pub lease: u64,
    /// When it joined: its number, higher than that of all who joined before.
    pub joined: u64,
    /// When its metadata changed last.
    pub changed: u64,
}

/// Why nobody joined, left or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// There is no such lease.
    #[error("there is no such lease")]
    LeaseNotFound,
    /// A member has this id.
    #[error("a member with this id is there already")]
    Exists,
    /// There is no such member, or it isn't the one that was meant.
    #[error("there is no such member, or it joined at another time")]
    NotFound,
}

/// The value of a member's key.
#[derive(Serialize, Deserialize)]
struct Stored {
    metadata: Value,
    /// The lease ends with the membership.
    own_lease: bool,
}

fn key(group: &str, id: &str) -> Bytes {
    let mut key = directory(KIND, group).to_vec();
    key.extend_from_slice(id.as_bytes());
    key.into()
}

fn put(metadata: &Value, own_lease: bool, lease: u64) -> Put {
    let stored = Stored {
        metadata: metadata.clone(),
        own_lease,
    };
    Put {
        // It can be written: it came as JSON.
        value: serde_json::to_vec(&stored).unwrap_or_default().into(),
        content_type: "application/json".to_owned(),
        lease,
        ..Put::default()
    }
}

fn read(group: &str, key: &[u8], record: &Record) -> Option<Member> {
    let id = key.strip_prefix(&directory(KIND, group)[..])?;
    let stored: Stored = serde_json::from_slice(&record.value).ok()?;
    Some(Member {
        id: String::from_utf8(id.to_vec()).ok()?,
        metadata: stored.metadata,
        lease: record.lease,
        joined: record.create_revision,
        changed: record.mod_revision,
    })
}

/// Joins. The same name of a request joins once.
pub async fn join(
    router: &Router,
    group: &str,
    joining: &Joining,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<(Member, Revision), Error> {
    let own = joining.lease.is_none();
    let lease = match joining.lease {
        Some(lease) => lease,
        None => {
            let place = directory(KIND, group);
            router.draw_beside(&place, name, deadline).await?
        }
    };
    let id = joining.id.clone();
    let id = id.unwrap_or_else(|| format!("{lease:016x}"));
    let key = key(group, &id);
    let mut steps = Steps::new().if_created(&key, 0);
    if own {
        steps = steps.grant(lease, joining.ttl_s);
    }
    let steps = steps.put(&key, put(&joining.metadata, own, lease));
    let done = steps.run(router, name, deadline).await;
    let done = done.map_err(|error| match error.reason {
        crate::Reason::LeaseNotFound => Error::LeaseNotFound,
        _ => Error::Store(error),
    })?;
    match done.problem.map(|problem| problem.kind()) {
        None if done.held => {}
        Some(ProblemKind::LeaseNotFound | ProblemKind::LeaseNotOpen) => {
            return Err(Error::LeaseNotFound);
        }
        None | Some(_) => return Err(Error::Exists),
    }
    let member = Member {
        id,
        metadata: joining.metadata.clone(),
        lease,
        joined: done.revision.0,
        changed: done.revision.0,
    };
    Ok((member, done.store))
}

/// Changes what others shall know of a member. `joined`: which one with this id; `None`: whichever there is.
pub async fn change(
    router: &Router,
    group: &str,
    id: &str,
    joined: Option<u64>,
    metadata: &Value,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Revision, Error> {
    let (key, record, own) = find(router, group, id, joined, deadline).await?;
    let steps = Steps::new()
        .if_created(&key, record.create_revision)
        .put_under_same_lease(&key, put(metadata, own, 0));
    let done = steps.run(router, name, deadline).await?;
    match done.held && done.problem.is_none() {
        true => Ok(done.revision),
        false => Err(Error::NotFound),
    }
}

/// Leaves. `joined` as of [`change`].
pub async fn leave(
    router: &Router,
    group: &str,
    id: &str,
    joined: Option<u64>,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Revision, Error> {
    let (key, record, own) = find(router, group, id, joined, deadline).await?;
    let (created, own) = (record.create_revision, own.then_some(record.lease));
    let given = give_back(router, &key, created, own, name, deadline).await?;
    given.ok_or(Error::NotFound)
}

async fn find(
    router: &Router,
    group: &str,
    id: &str,
    joined: Option<u64>,
    deadline: Instant,
) -> Result<(Bytes, Record, bool), Error> {
    let key = key(group, id);
    let found = router
        .get(key.clone(), false, Revision(0), deadline)
        .await?;
    let record = found.record.ok_or(Error::NotFound)?;
    if joined.is_some_and(|joined| joined != record.create_revision) {
        return Err(Error::NotFound);
    }
    let stored: Result<Stored, _> = serde_json::from_slice(&record.value);
    let own = stored.is_ok_and(|stored| stored.own_lease);
    Ok((key, record, own))
}

/// All members in the order in which they joined, and the revision at which that was so.
pub async fn list(
    router: &Router,
    group: &str,
    deadline: Instant,
) -> Result<(Vec<Member>, Revision), Error> {
    let steps = Steps::new().range(RangeRead {
        span: Some(below(&directory(KIND, group))),
        order: Order::Ascend as i32,
        target: Target::Create as i32,
        ..RangeRead::default()
    });
    let mut done = steps.run(router, None, deadline).await?;
    let items = done.ranged(0).items.into_iter();
    let members = items.filter_map(|item| read(group, &item.key, item.record.as_ref()?));
    Ok((members.collect(), done.store))
}

/// The members as they come, change and go.
pub struct Watch {
    group: String,
    mirror: Mirror,
}

/// What happened to a member.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It has joined.
    Joined(Member),
    /// Its metadata have changed.
    Changed(Member),
    /// It has left, or its lease has ended.
    Left(Member),
}

impl Watch {
    /// Begins with the members as they are.
    pub async fn open(
        router: &Router,
        group: &str,
        deadline: Instant,
    ) -> Result<Watch, crate::Error> {
        Ok(Watch {
            group: group.to_owned(),
            mirror: Mirror::open(router, &directory(KIND, group), deadline).await?,
        })
    }

    /// The members, in the order in which they joined.
    pub fn members(&self) -> Vec<Member> {
        let keys = self.mirror.keys().iter();
        let members = keys.filter_map(|(key, record)| read(&self.group, key, record));
        let mut members: Vec<Member> = members.collect();
        members.sort_by_key(|member| member.joined);
        members
    }

    /// Up to where.
    pub fn revision(&self) -> Revision {
        self.mirror.revision()
    }

    /// What happens next. Can be cancelled without loss.
    pub async fn next(&mut self) -> Result<Vec<Event>, crate::Error> {
        let events = self.mirror.next().await?;
        let read = |key: &[u8], record: &Option<Record>| read(&self.group, key, record.as_ref()?);
        let told = events.into_iter().flat_map(|(event, before)| {
            let before = read(&event.key, &before);
            let now = read(&event.key, &event.record);
            match (before, now) {
                (None, Some(now)) => vec![Event::Joined(now)],
                (Some(before), None) => vec![Event::Left(before)],
                (Some(before), Some(now)) if before.joined == now.joined => {
                    vec![Event::Changed(now)]
                }
                (Some(before), Some(now)) => vec![Event::Left(before), Event::Joined(now)],
                (None, None) => Vec::new(),
            }
        });
        Ok(told.collect())
    }
}
