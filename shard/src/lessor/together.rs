//! Many leases that end at the same time, in the steps of one (`ending`): each step is one entry, or one transaction,
//! for all of them.
//!
//! ```text
//!  due ─▶ queue ─▶ one that takes what has gathered  ─┬─ keys here alone: one transaction for all of them
//!                                                     └─ else BEGIN ▸ CLOSE each group ▸ read ▸ remove ▸ END
//! ```
//!
//! While that one is busy more gather, so a log that is slow gets fewer and larger entries. What can't be done
//! together, because something has changed meanwhile or there are too many keys, is done for each alone afterwards:
//! what is here may fail at any step. All keys of a lease still vanish at one revision.

use std::collections::{BTreeSet, VecDeque};
use std::sync::MutexGuard;
use std::time::Duration;

use caucus_api::Failure;
use caucus_api::shard::lease_step::Kind;
use caucus_api::shard::{Lease, Operation};
use caucus_planted as planted;
use futures::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::ending::{KEYS_MAX, did, remove};
use super::{AGAIN_AFTER, Lessor, STEP_WAIT, all, lease_step, over};

/// So many that an entry carries a good number, so few that other writes don't wait long behind one.
const TOGETHER_MAX: usize = 56;
/// Those who end with one that can't end, for its keys are in a group without a leader, wait no longer for it.
const TOGETHER_WAIT: Duration = Duration::from_secs(2);

/// A lease whose time is over in a term: its id, and when it was granted.
type Expired = (u64, u64);

/// Leases whose time is over in a term, and that nobody has begun to end.
#[derive(Debug, Default)]
pub(super) struct Queue {
    term: u64,
    leases: VecDeque<Expired>,
}

impl Lessor {
    fn expired(&self) -> MutexGuard<'_, Queue> {
        self.parts.expired.lock().expect("no panic under this lock")
    }

    /// Ends leases whose time is over, some time.
    pub(super) fn end_soon(&self, term: u64, leases: Vec<Expired>) {
        if leases.is_empty() {
            return;
        }
        self.parts
            .meters
            .leases_expired
            .increment(leases.len() as u64);
        {
            let mut queue = self.expired();
            if queue.term != term {
                // Nobody can end those of another term by it.
                *queue = Queue {
                    term,
                    leases: VecDeque::new(),
                };
            }
            queue.leases.extend(leases);
        }
        let this = self.clone();
        tokio::spawn(async move { this.end_gathered(term).await });
    }

    /// Ends what has gathered, until nothing has.
    async fn end_gathered(&self, term: u64) {
        let Ok(_place) = self.parts.together.acquire().await else {
            return;
        };
        loop {
            let some: Vec<Expired> = {
                let mut queue = self.expired();
                let count = queue.leases.len().min(TOGETHER_MAX);
                match queue.term == term {
                    true => queue.leases.drain(..count).collect(),
                    false => Vec::new(),
                }
            };
            if some.is_empty() {
                return;
            }
            if some.len() > 1
                && let Err(failure) = self.end_together(term, &some).await
            {
                let group = self.parts.group.id();
                tracing::debug!(group, ?failure, "leases end one by one");
            }
            for (id, grant) in some {
                if self.standing(id, grant).is_some() {
                    let this = self.clone();
                    tokio::spawn(async move { this.end_alone(term, id, grant).await });
                }
            }
            self.settle();
        }
    }

    /// Ends a lease, however often that takes.
    async fn end_alone(&self, term: u64, id: u64, grant: u64) {
        let Ok(_place) = self.parts.alone.acquire().await else {
            return;
        };
        let mut again = AGAIN_AFTER;
        while self.with(term, |_| ()).is_some() {
            match self.end(term, id, grant, Instant::now() + STEP_WAIT).await {
                Ok(()) => break,
                Err(failure) => {
                    let group = self.parts.group.id();
                    tracing::debug!(group, id, ?failure, "a lease ends later");
                }
            }
            sleep(again).await;
            again = (2 * again).min(STEP_WAIT);
        }
        self.settle();
    }

    async fn end_together(&self, term: u64, leases: &[Expired]) -> Result<(), Failure> {
        let deadline = Instant::now() + TOGETHER_WAIT;
        let mut here = Vec::new();
        let mut begin = Vec::new();
        let mut others = Vec::new();
        for &(id, grant) in leases {
            let Some(lease) = self.standing(id, grant) else {
                continue;
            };
            let (keys, more) = self.keys_here(id)?;
            if lease.ends {
                others.push((id, grant));
            } else if more || !lease.groups.is_empty() || here.len() + keys.len() >= KEYS_MAX {
                begin.push(lease_step(Kind::Begin, id, grant));
                others.push((id, grant));
            } else {
                here.extend(keys.into_iter().map(|key| remove(key, id, grant)));
                here.push(lease_step(Kind::Drop, id, grant));
            }
        }
        if planted::fails(planted::LEASE_ENDING) {
            return Err(over());
        }
        if !here.is_empty() {
            let done = self.parts.driver.own(all(here), term, deadline).await?;
            planted::at(planted::LEASE_ENDED);
            tracing::trace!(problem = ?done.problem, "leases that were here alone");
        }
        if !begin.is_empty() {
            did(&self.parts.driver.own(all(begin), term, deadline).await?)?;
        }
        self.end_begun(term, others, deadline).await
    }

    /// Of leases that have begun to end.
    async fn end_begun(
        &self,
        term: u64,
        leases: Vec<Expired>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        // Nobody registers any more, so now the groups are known.
        let begun = leases.into_iter().filter_map(|(id, grant)| {
            let lease = self.standing(id, grant)?;
            lease.ends.then_some((id, lease))
        });
        let begun: Vec<(u64, Lease)> = begun.collect();
        let driver = &self.parts.driver;
        let groups: BTreeSet<u32> = begun
            .iter()
            .flat_map(|(_, lease)| lease.groups.clone())
            .collect();
        let closing = groups.iter().map(|group| {
            let there = begun
                .iter()
                .filter(|(_, lease)| lease.groups.contains(group));
            let steps = there.map(|(id, lease)| lease_step(Kind::Close, *id, lease.grant));
            driver.own_there(*group, all(steps.collect()), deadline)
        });
        for done in try_join_all(closing).await? {
            did(&done)?;
        }
        let reading = begun
            .iter()
            .map(|(id, lease)| self.attached_anywhere(*id, lease, deadline));
        let attached = try_join_all(reading).await?;
        let mut ended = Vec::new();
        let mut removed = Vec::new();
        for ((id, lease), keys) in begun.iter().zip(attached) {
            if removed.len() + keys.len() <= KEYS_MAX {
                removed.extend(keys);
                ended.push(lease_step(Kind::End, *id, lease.grant));
            }
        }
        if !removed.is_empty() {
            did(&driver.anywhere(all(removed), deadline).await?)?;
        }
        match ended.is_empty() {
            true => Ok(()),
            false => did(&driver.own(all(ended), term, deadline).await?),
        }
    }

    /// What removes all keys of a lease that has been closed everywhere; a few more than one transaction may
    /// have, if they are too many.
    async fn attached_anywhere(
        &self,
        id: u64,
        lease: &Lease,
        deadline: Instant,
    ) -> Result<Vec<Operation>, Failure> {
        let this = self.parts.driver.this_group();
        let mut removes = Vec::new();
        for group in std::iter::once(&this).chain(&lease.groups) {
            let keys = self.keys_there(*group, id, KEYS_MAX + 1, deadline).await?;
            let keys = keys
                .into_iter()
                .filter(|key| key.lease_grant == lease.grant);
            removes.extend(keys.map(|key| remove(key.key, id, lease.grant)));
        }
        Ok(removes)
    }
}
