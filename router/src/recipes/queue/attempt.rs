//! An attempt at a turn: into the queue with a key that a lease keeps, wait, and out again.

use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::{Item, Put, RangeRead};
use caucus_ring::Revision;
use tokio::time::{Instant, sleep_until};

use super::{Line, Queue, Seen, Turn};
use crate::recipes::Steps;
use crate::recipes::steps::below;
use crate::{LeaseError, RequestName, Router};

/// A lease is kept alive no more often than this while its owner waits.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(300);

/// Entries that are read where the queue is followed: one's own, and one of another to know what it is used for.
const SAMPLE: u64 = 2;

/// What goes into a queue.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Bytes,
    /// Names the lease.
    pub(crate) put: Put,
    /// The lease is granted with the entry, for so many seconds, and ends with it.
    pub(crate) grant_s: Option<u64>,
}

/// An attempt that isn't the caller's yet: whoever goes away before that leaves the queue.
#[derive(Debug)]
pub(crate) struct Attempt {
    router: Router,
    pub(crate) key: Bytes,
    pub(crate) created: u64,
    /// What the entry says; of one that was there already, what it said then.
    pub(crate) value: Bytes,
    pub(crate) lease: u64,
    own_lease: bool,
    /// Named by the client, so what is found may be of an earlier try of it.
    named: bool,
    /// It is the caller's now, or has gone.
    done: bool,
}

/// Why an attempt has no turn.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// There is no such lease.
    #[error("there is no such lease")]
    LeaseNotFound,
    /// The lease of the attempt ended, or somebody removed it.
    #[error("the lease of the attempt has ended, or it was removed")]
    Lost,
    /// Others have it, and went on to as long as the caller waited.
    #[error("others have it; {ahead} came before")]
    Late {
        /// How many.
        ahead: usize,
    },
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let (router, key, created) = (self.router.clone(), self.key.clone(), self.created);
        let own_lease = Some(self.lease).filter(|_| self.own_lease);
        tokio::spawn(async move {
            let deadline = Instant::now() + router.options().timeout;
            // If this fails its lease ends it.
            _ = leave(&router, &key, created, own_lease, deadline).await;
        });
    }
}

impl Attempt {
    /// Puts an entry into a queue, unless it is there already; and what of the queue has to be known. Who will
    /// wait needs no more than its own entry where this router follows the queue: with all of it, many that wait
    /// would read it as often as they are many. `at_once`: nobody will wait.
    pub(crate) async fn enter(
        router: &Router,
        queue: &Queue,
        entry: Entry,
        at_once: bool,
        name: Option<RequestName>,
        deadline: Instant,
    ) -> Result<(Attempt, Seen), Ended> {
        let whole = at_once || !router.follows(queue);
        let some = RangeRead {
            span: Some(below(&queue.prefix)),
            limit: if whole { 0 } else { SAMPLE },
            uncounted: true,
            ..RangeRead::default()
        };
        let Entry { key, put, grant_s } = entry;
        let lease = put.lease;
        let mut steps = Steps::new().if_created(&key, 0);
        if let Some(ttl_s) = grant_s {
            steps = steps.grant(lease, ttl_s);
        }
        let steps = steps.put(&key, put).read(&key).range(some.clone());
        let steps = steps.otherwise().read(&key).range(some);
        let done = steps.run(router, name, deadline);
        let mut done = done.await.map_err(no_lease)?;
        match done.problem.map(|problem| problem.kind()) {
            None => {}
            Some(ProblemKind::LeaseNotFound | ProblemKind::LeaseNotOpen) => {
                return Err(Ended::LeaseNotFound);
            }
            // The attempt of this very request, by an earlier try of the client, which has ended.
            Some(_) => return Err(Ended::Lost),
        }
        let at = match done.held {
            true => 1 + usize::from(grant_s.is_some()),
            false => 0,
        };
        let mine = done.record(at).ok_or(Ended::Lost)?;
        let attempt = Attempt {
            router: router.clone(),
            key,
            created: mine.create_revision,
            value: mine.value,
            lease,
            own_lease: grant_s.is_some(),
            named: name.is_some(),
            done: false,
        };
        let seen = Seen {
            revision: done.revision,
            items: done.ranged(at + 1).items,
            whole,
        };
        Ok((attempt, seen))
    }

    /// Waits for the attempt's turn and keeps its lease alive meanwhile. When this says that it has come, the
    /// lease was alive then, or after. The store's revision.
    pub(crate) async fn wait(
        &mut self,
        queue: &Queue,
        seen: Seen,
        until: Option<Instant>,
    ) -> Result<Revision, Ended> {
        let revision = seen.revision;
        let seen = Some(seen).filter(|seen| seen.whole);
        let ahead = seen.as_ref().map(|seen| ahead(&seen.items, self.created));
        if let Some(seen) = &seen {
            if Line::of(queue.share, &seen.items).holds(self.created) {
                if self.named {
                    self.alive().await?;
                }
                return Ok(revision);
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Err(self.late(queue, ahead).await);
            }
        }
        let mut waiting = self.router.wait_in(queue, self.created, seen);
        // How long the lease lives is known once it has been kept alive; until then, as if it were the shortest.
        let mut due = Instant::now() + KEEP_ALIVE_MIN;
        let late = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(late);
        loop {
            tokio::select! {
                turn = waiting.turn() => return match turn {
                    Some(Turn::Holds) => {
                        self.alive().await?;
                        Ok(self.router.highest())
                    }
                    Some(Turn::Gone) => {
                        self.done = !self.own_lease;
                        Err(Ended::Lost)
                    }
                    None => Err(self.late(queue, ahead).await),
                },
                () = sleep_until(due) => {
                    due = Instant::now() + (self.alive().await? / 3).max(KEEP_ALIVE_MIN);
                }
                () = &mut late => return Err(self.late(queue, ahead).await),
            }
        }
    }

    /// How many came before, where that isn't known as those there are now.
    async fn late(&self, queue: &Queue, ahead: Option<usize>) -> Ended {
        if let Some(ahead) = ahead {
            return Ended::Late { ahead };
        }
        let deadline = Instant::now() + self.router.options().timeout;
        let all = RangeRead {
            span: Some(below(&queue.prefix)),
            ..RangeRead::default()
        };
        match Steps::new()
            .range(all)
            .run(&self.router, None, deadline)
            .await
        {
            Ok(mut done) => Ended::Late {
                ahead: self::ahead(&done.ranged(0).items, self.created),
            },
            Err(error) => Ended::Store(error),
        }
    }

    /// From now on it is the caller's.
    pub(crate) fn keep(mut self) {
        self.done = true;
    }

    /// Shows that the attempt's lease is alive, and prolongs it.
    async fn alive(&mut self) -> Result<Duration, Ended> {
        let deadline = Instant::now() + self.router.options().timeout;
        match self.router.keep_alive(self.lease, deadline).await {
            Ok(ttl) => Ok(ttl),
            Err(LeaseError::NotFound | LeaseError::Exists) => {
                self.done = true;
                Err(Ended::Lost)
            }
            Err(LeaseError::Store(error)) => Err(Ended::Store(error)),
        }
    }
}

/// Gives a turn back, or leaves the queue; `None`: nobody stood there. A lease that was granted with the entry
/// ends with it, and with that all keys that were attached to it since.
pub(crate) async fn give_back(
    router: &Router,
    key: &Bytes,
    created: u64,
    own_lease: Option<u64>,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Option<Revision>, crate::Error> {
    let mut steps = Steps::new().if_created(key, created).remove(key);
    if let Some(lease) = own_lease {
        steps = steps.drop(lease);
    }
    let done = steps.run(router, name, deadline).await?;
    match done.problem {
        None => Ok(done.held.then_some(done.store)),
        // Other keys are attached to it.
        Some(_) => leave(router, key, created, own_lease, deadline).await,
    }
}

/// Removes an attempt, and its lease if that is its own; the store's revision, or `None` if it had gone.
pub(crate) async fn leave(
    router: &Router,
    key: &Bytes,
    created: u64,
    own_lease: Option<u64>,
    deadline: Instant,
) -> Result<Option<Revision>, crate::Error> {
    let steps = Steps::new().if_created(key, created).remove(key);
    let done = steps.run(router, None, deadline).await?;
    if let Some(lease) = own_lease {
        match router.revoke(lease, deadline).await {
            Ok(()) | Err(LeaseError::NotFound | LeaseError::Exists) => {}
            Err(LeaseError::Store(error)) => return Err(error),
        }
    }
    Ok(done.held.then_some(done.store))
}

fn no_lease(error: crate::Error) -> Ended {
    match error.reason {
        crate::Reason::LeaseNotFound => Ended::LeaseNotFound,
        _ => Ended::Store(error),
    }
}

fn ahead(items: &[Item], created: u64) -> usize {
    let created_before = |item: &&Item| {
        let record = item.record.as_ref();
        record.is_some_and(|record| record.create_revision < created)
    };
    items.iter().filter(created_before).count()
}
