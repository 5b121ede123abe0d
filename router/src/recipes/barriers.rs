//! Barriers: a single one holds all that wait until it is opened; a double one lets a number of parties begin
//! together, and end together.
//!
//! ```text
//!  /@barrier/name/closed        of a single one, while it is closed
//!  /@barrier/name/in/party      of a double one: who has entered
//!  /@barrier/name/ready         of a double one: enough have, until all have left
//! ```
//!
//! Whether they have begun is one key, so all agree on it, also if one of them leaves at that moment. Who came last
//! of those that are in writes it, and who came before if that one has gone.

use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::Put;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_ring::Revision;
use tokio::time::{Instant, interval_at, timeout_at};

use super::mirror::Mirror;
use super::steps::below;
use super::{Steps, directory};
use crate::{LeaseError, RequestName, Router};

/// The kind of the directory.
const KIND: &str = "barrier";
/// Parties of a double barrier.
pub const PARTIES_MAX: usize = 10_000;

/// Why a barrier wasn't passed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// It stayed as it was for as long as the caller waited.
    #[error("{0}")]
    Late(&'static str),
    /// The lease of who waited has ended.
    #[error("the lease has ended")]
    Lost,
    /// Others have begun already, and not all of them have left.
    #[error("others have begun already, and not all of them have left")]
    Begun,
    /// No party stands under this key and token.
    #[error("no party stands under this key and token")]
    NotIn,
}

/// A party that is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// Its key.
    pub key: Bytes,
    /// The key's create revision.
    pub token: u64,
    /// The lease that keeps it.
    pub lease: u64,
    /// The store's revision.
    pub revision: Revision,
}

/// A barrier as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// A single one that holds.
    pub closed: bool,
    /// A double one whose parties have begun.
    pub ready: bool,
    /// How many parties are in.
    pub parties: usize,
}

fn inside(barrier: &str, rest: &str) -> Bytes {
    let mut key = directory(KIND, barrier).to_vec();
    key.extend_from_slice(rest.as_bytes());
    key.into()
}

/// Closes a single barrier; nothing is changed if it is.
pub async fn close(
    router: &Router,
    barrier: &str,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Revision, Error> {
    let closed = inside(barrier, "closed");
    let steps = Steps::new().if_created(&closed, 0);
    let steps = steps.put(&closed, Put::default());
    Ok(steps.run(router, name, deadline).await?.store)
}

/// Opens a single barrier: all that wait go on.
pub async fn open(
    router: &Router,
    barrier: &str,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Revision, Error> {
    let steps = Steps::new().remove(&inside(barrier, "closed"));
    Ok(steps.run(router, name, deadline).await?.store)
}

/// How it stands.
pub async fn show(
    router: &Router,
    barrier: &str,
    deadline: Instant,
) -> Result<(Standing, Revision), Error> {
    let steps = Steps::new()
        .read(&inside(barrier, "closed"))
        .read(&inside(barrier, "ready"))
        .range(count(barrier));
    let mut done = steps.run(router, None, deadline).await?;
    let standing = Standing {
        closed: done.record(0).is_some(),
        ready: done.record(1).is_some(),
        parties: done.ranged(2).count as usize,
    };
    Ok((standing, done.store))
}

fn count(barrier: &str) -> caucus_api::shard::RangeRead {
    caucus_api::shard::RangeRead {
        span: Some(below(&inside(barrier, "in/"))),
        count_only: true,
        ..Default::default()
    }
}

/// Waits until a single barrier is open.
pub async fn wait(
    router: &Router,
    barrier: &str,
    until: Instant,
    deadline: Instant,
) -> Result<Revision, Error> {
    let closed = inside(barrier, "closed");
    let mut mirror = Mirror::open(router, &closed, deadline).await?;
    while mirror.keys().contains_key(&closed) {
        match timeout_at(until, mirror.next()).await {
            Ok(changed) => _ = changed?,
            Err(_) => return Err(Error::Late("the barrier is closed")),
        }
    }
    Ok(mirror.revision())
}

/// Enters a double barrier and waits until so many parties have. Who gives up leaves again.
pub async fn enter(
    router: &Router,
    barrier: &str,
    (parties, ttl_s): (usize, u64),
    until: Instant,
    deadline: Instant,
) -> Result<Entered, Error> {
    let place = directory(KIND, barrier);
    let lease = router.draw_beside(&place, None, deadline).await?;
    let key = inside(barrier, &format!("in/{lease:016x}"));
    let ready = inside(barrier, "ready");
    let put = |lease| Put {
        lease,
        ..Put::default()
    };
    let go_in = Steps::new()
        .if_created(&ready, 0)
        .grant(lease, ttl_s)
        .put(&key, put(lease));
    let mut done = go_in.clone().run(router, None, deadline).await?;
    if !done.held && clear_up(router, barrier, deadline).await? {
        done = go_in.run(router, None, deadline).await?;
    }
    if !done.held {
        return Err(Error::Begun);
    }
    let mut party = Party {
        router: router.clone(),
        lease,
        stays: false,
    };
    let others = (&place, parties, ttl_s);
    let revision = party.wait_for_others(others, &key, until, deadline).await?;
    party.stays = true;
    Ok(Entered {
        key,
        token: done.revision.0,
        lease,
        revision,
    })
}

/// Nobody is in any more: the next round may begin. Whether that was so.
async fn clear_up(router: &Router, barrier: &str, deadline: Instant) -> Result<bool, crate::Error> {
    let steps = Steps::new().if_none(&inside(barrier, "in/"));
    let steps = steps.remove(&inside(barrier, "ready"));
    Ok(steps.run(router, None, deadline).await?.held)
}

/// A party that leaves unless it stays.
struct Party {
    router: Router,
    lease: u64,
    stays: bool,
}

impl Drop for Party {
    fn drop(&mut self) {
        if !self.stays {
            let (router, lease) = (self.router.clone(), self.lease);
            tokio::spawn(async move {
                let deadline = Instant::now() + router.options().timeout;
                // If this fails, its time ends it.
                _ = router.revoke(lease, deadline).await;
            });
        }
    }
}

impl Party {
    async fn wait_for_others(
        &self,
        (place, parties, ttl_s): (&Bytes, usize, u64),
        key: &Bytes,
        until: Instant,
        deadline: Instant,
    ) -> Result<Revision, Error> {
        let under = |rest: &[u8]| Bytes::from([&place[..], rest].concat());
        let (ready, entered) = (under(b"ready"), under(b"in/"));
        let mut mirror = Mirror::open(&self.router, place, deadline).await?;
        let every = Duration::from_secs(ttl_s) / 3;
        let mut turns = interval_at(Instant::now() + every, every);
        while !mirror.keys().contains_key(&ready) {
            let keys = mirror.keys().iter();
            let entered = keys.filter(|(key, _)| key.starts_with(&entered));
            let entered: Vec<_> = entered.collect();
            let last = entered
                .iter()
                .max_by_key(|(_, record)| record.create_revision);
            if entered.len() >= parties && last.is_some_and(|(last, _)| *last == key) {
                let steps = Steps::new().if_created(&ready, 0);
                let steps = steps.put(&ready, Put::default());
                let deadline = Instant::now() + self.router.options().timeout;
                steps.run(&self.router, None, deadline).await?;
            }
            tokio::select! {
                changed = mirror.next() => {
                    changed?;
                }
                _ = turns.tick() => self.alive().await?,
                () = tokio::time::sleep_until(until) => {
                    return Err(Error::Late("too few parties have entered"));
                }
            }
        }
        self.alive().await?;
        Ok(mirror.revision())
    }

    async fn alive(&self) -> Result<(), Error> {
        let deadline = Instant::now() + self.router.options().timeout;
        match self.router.keep_alive(self.lease, deadline).await {
            Ok(_) => Ok(()),
            Err(LeaseError::NotFound | LeaseError::Exists) => Err(Error::Lost),
            Err(LeaseError::Store(error)) => Err(error.into()),
        }
    }
}

/// Leaves a double barrier and waits until all others have.
pub async fn leave(
    router: &Router,
    barrier: &str,
    (key, token): (&Bytes, u64),
    until: Instant,
    deadline: Instant,
) -> Result<Revision, Error> {
    let parties = inside(barrier, "in/");
    let lease = key.strip_prefix(&parties[..]).and_then(|party| {
        let party = std::str::from_utf8(party).ok()?;
        u64::from_str_radix(party, 16).ok()
    });
    let lease = lease.ok_or(Error::NotIn)?;
    let steps = Steps::new().if_created(key, token).remove(key).drop(lease);
    let done = steps.run(router, None, deadline).await?;
    match done.problem.map(|problem| problem.kind()) {
        None if done.held => {}
        Some(ProblemKind::LeaseHasKeys) => match router.revoke(lease, deadline).await {
            Ok(()) => {}
            Err(LeaseError::Store(error)) => return Err(error.into()),
            Err(LeaseError::NotFound | LeaseError::Exists) => return Err(Error::NotIn),
        },
        None | Some(_) => return Err(Error::NotIn),
    }
    let mut mirror = Mirror::open(router, &parties, deadline).await?;
    while !mirror.keys().is_empty() {
        match timeout_at(until, mirror.next()).await {
            Ok(changed) => _ = changed?,
            Err(_) => return Err(Error::Late("others are still in")),
        }
    }
    clear_up(router, barrier, deadline).await?;
    Ok(mirror.revision())
}
