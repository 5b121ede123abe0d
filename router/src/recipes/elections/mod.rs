//! Elections: who came first leads, until it resigns or its lease ends.
//!
//! A candidate is a key in the election's directory, attached to a lease; its value is what the leader
//! proclaims. The [queue](super::queue) says who leads. The key's create revision is the term of its
//! leadership, and its fencing token.

mod observe;

pub use self::observe::Observer;

use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::range_read::{Order, Target};
use caucus_api::shard::{Put, RangeRead, Record};
use caucus_ring::Revision;
use tokio::time::Instant;

use super::queue::{Attempt, Ended, Entry, Queue, Share, give_back};
use super::steps::below;
use super::{Steps, directory};
use crate::{RequestName, Router};

/// The kind of the directory.
const KIND: &str = "election";

/// What a candidate asks for.
#[derive(Debug, Clone)]
pub struct Candidacy {
    /// How long it leads without a sign of life, in seconds. With a lease, that one's time counts.
    pub ttl_s: u64,
    /// How long to wait; zero: not at all. `None`: as long as the caller does.
    pub wait: Option<Duration>,
    /// What it proclaims.
    pub value: Bytes,
    /// The media type of that.
    pub content_type: String,
    /// The caller's lease.
    pub lease: Option<u64>,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq)]
pub struct Leader {
    /// The candidate's key.
    pub key: Bytes,
    /// Its record: the create revision is the token.
    pub record: Record,
}

/// A candidate that leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    /// Its key.
    pub key: Bytes,
    /// The key's create revision: the fencing token.
    pub token: u64,
    /// The lease that keeps it.
    pub lease: u64,
    /// The store's revision.
    pub revision: Revision,
}

/// Why a candidate doesn't lead, or nobody does.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// The candidacy ended without leadership.
    #[error(transparent)]
    Ended(Ended),
    /// Not under this key and token.
    #[error("no candidate stands under this key and token, or it does not lead")]
    NotLeader,
    /// There is no candidate.
    #[error("nobody leads")]
    NoLeader,
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Error {
        match ended {
            Ended::Store(error) => Error::Store(error),
            ended => Error::Ended(ended),
        }
    }
}

/// The queue of an election by its name.
pub(crate) fn queue(election: &str) -> Queue {
    Queue {
        prefix: directory(KIND, election),
        share: |_| Share::Alone,
    }
}

/// Becomes a candidate, and waits to lead. The same name of a request does so once.
pub async fn campaign(
    router: &Router,
    election: &str,
    ask: &Candidacy,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Elected, Error> {
    let until = ask.wait.map(|wait| Instant::now() + wait);
    let queue = queue(election);
    let lease = match ask.lease {
        Some(lease) => lease,
        None => router.draw_beside(&queue.prefix, name, deadline).await?,
    };
    let entry = Entry {
        key: queue.key(lease, ask.lease.is_none()),
        put: Put {
            value: ask.value.clone(),
            content_type: ask.content_type.clone(),
            lease,
            ..Put::default()
        },
        grant_s: ask.lease.is_none().then_some(ask.ttl_s),
    };
    let at_once = until.is_some_and(|until| until <= Instant::now());
    let entered = Attempt::enter(router, &queue, entry, at_once, name, deadline);
    let (mut attempt, seen) = entered.await?;
    let revision = attempt.wait(&queue, seen, until).await?;
    let elected = Elected {
        key: attempt.key.clone(),
        token: attempt.created,
        lease,
        revision,
    };
    attempt.keep();
    Ok(elected)
}

/// Changes what a leader proclaims.
pub async fn proclaim(
    router: &Router,
    election: &str,
    (key, token): (&Bytes, u64),
    put: Put,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Revision, Error> {
    let queue = queue(election);
    queue.lease(key).ok_or(Error::NotLeader)?;
    let leader = leader(router, &queue, deadline).await?;
    // Once it leads it does so as long as its key is there.
    let leads = leader
        .0
        .is_some_and(|leader| leader.key == *key && leader.record.create_revision == token);
    if !leads {
        return Err(Error::NotLeader);
    }
    let steps = Steps::new()
        .if_created(key, token)
        .put_under_same_lease(key, put);
    let done = steps.run(router, name, deadline).await?;
    match done.held && done.problem.is_none() {
        true => Ok(done.revision),
        false => Err(Error::NotLeader),
    }
}

/// Gives leadership back, or a candidacy up.
pub async fn resign(
    router: &Router,
    election: &str,
    (key, token): (&Bytes, u64),
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Revision, Error> {
    let (lease, own) = queue(election).lease(key).ok_or(Error::NotLeader)?;
    let own = own.then_some(lease);
    let given = give_back(router, key, token, own, name, deadline).await?;
    given.ok_or(Error::NotLeader)
}

/// All candidates, the leader first, and the revision at which that was so.
pub async fn show(
    router: &Router,
    election: &str,
    deadline: Instant,
) -> Result<(Vec<Leader>, Revision), Error> {
    Ok(first(router, &queue(election), 0, deadline).await?)
}

/// Who leads.
pub(crate) async fn leader(
    router: &Router,
    queue: &Queue,
    deadline: Instant,
) -> Result<(Option<Leader>, Revision), crate::Error> {
    let (first, revision) = first(router, queue, 1, deadline).await?;
    Ok((first.into_iter().next(), revision))
}

async fn first(
    router: &Router,
    queue: &Queue,
    limit: u64,
    deadline: Instant,
) -> Result<(Vec<Leader>, Revision), crate::Error> {
    let steps = Steps::new().range(RangeRead {
        span: Some(below(&queue.prefix)),
        limit,
        order: Order::Ascend as i32,
        target: Target::Create as i32,
        ..RangeRead::default()
    });
    let mut done = steps.run(router, None, deadline).await?;
    let items = done.ranged(0).items.into_iter();
    let leaders = items.filter_map(|item| {
        let record = item.record?;
        Some(Leader {
            key: item.key,
            record,
        })
    });
    Ok((leaders.collect(), done.store))
}
