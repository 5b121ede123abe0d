//! Leases on the leader of their home group: how much time each has left, and what happens when it is over.
//!
//! ```text
//!  keepalive ─▶ confirm leadership ─▶ more time, in memory      (after a checkpoint: RENEW, through the log)
//!  timer ─┬─▶ half of what was recorded has passed ─▶ CHECKPOINT
//!         └─▶ no time left ─▶ end: its keys are removed, then it is
//! ```
//!
//! Invariant (design.md §9.9): a lease lives at least its TTL after the last keepalive that was answered.
//! Time is this process's monotonic clock, from the keepalive's *arrival*. A new leader gives every lease all of
//! its time, or what the last checkpoint says is left; so a keepalive after a checkpoint must be in the log
//! before it is answered. One of checkpoint, renewal and end is under way at a time, and all are proposed in the
//! term whose clock decided them (protocols.md §8): an old leader can't end what a new one has prolonged.
//!
//! Deliberately absent: any promise that a lease ends on time. It ends when its group has a leader and a majority.

mod calls;
mod ending;
mod reign;
mod together;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ::metrics::Gauge;
use caucus_api::Failure;
use caucus_api::shard::lease_step::Kind;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::{LeaseStep, Operation, Txn};
use caucus_raft::{Group, Leadership};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

pub(crate) use self::calls::LeaseJob;
use self::reign::{Due, Reign};
use crate::driver::Driver;
use crate::metrics::{self, Meters};
use crate::state::Published;

/// Endings of a group that are under way at the same time, each of many leases: other writes come between them.
const ENDINGS_MAX: usize = 1;
/// Leases of a group that end alone at the same time.
const ALONE_MAX: usize = 64;
/// Checkpoints of a group that are under way at the same time.
const CHECKPOINTS_MAX: usize = 256;
/// Between two attempts to do what failed.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A step in the log may take this long.
const STEP_WAIT: Duration = Duration::from_secs(10);
/// The loop looks around at least so often.
const IDLE: Duration = Duration::from_secs(3600);

/// The leases of one group. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lessor {
    parts: Arc<Parts>,
}

struct Parts {
    group: Group,
    published: Arc<Published>,
    driver: Driver,
    meters: Arc<Meters>,
    alive: Gauge,
    /// How many of this group are in that.
    counted: AtomicUsize,
    reign: Mutex<Option<Reign>>,
    /// Changes whenever something of a lease that was under way has ended.
    settled: watch::Sender<u64>,
    expired: Mutex<together::Queue>,
    together: Arc<Semaphore>,
    alone: Arc<Semaphore>,
    checkpoints: Arc<Semaphore>,
}

impl Lessor {
    pub(crate) fn new(
        group: Group,
        published: Arc<Published>,
        driver: Driver,
        meters: Arc<Meters>,
    ) -> Lessor {
        Lessor {
            parts: Arc::new(Parts {
                alive: metrics::leases(),
                counted: AtomicUsize::new(0),
                group,
                published,
                driver,
                meters,
                reign: Mutex::default(),
                settled: watch::channel(0).0,
                expired: Mutex::default(),
                together: Arc::new(Semaphore::new(ENDINGS_MAX)),
                alone: Arc::new(Semaphore::new(ALONE_MAX)),
                checkpoints: Arc::new(Semaphore::new(CHECKPOINTS_MAX)),
            }),
        }
    }

    /// Runs as long as the replica does; acts where it leads.
    pub(crate) async fn run(self) {
        let mut leadership = self.parts.group.watch_leadership();
        loop {
            let now = *leadership.borrow_and_update();
            if now.here {
                self.reign(now.term, &mut leadership).await;
                self.parts.published.leases().end_news();
                *self.lock() = None;
                self.count(0);
                self.settle();
                // It may lead again already, in another term.
                if *leadership.borrow() != now {
                    continue;
                }
            }
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    /// Keeps the time of all leases as long as this replica leads in a term.
    async fn reign(&self, term: u64, leadership: &mut watch::Receiver<Leadership>) {
        let still = |now: &Leadership| now.here && now.term == term;
        // Only a confirmed leader has applied all that earlier ones have committed.
        while self.parts.group.confirm().await.is_err() {
            if !still(&leadership.borrow_and_update()) {
                return;
            }
            _ = timeout(AGAIN_AFTER, leadership.changed()).await;
        }
        let leases = self.parts.published.leases().begin_news();
        *self.lock() = Some(Reign::new(term, leases, Instant::now()));
        let mut settled = self.parts.settled.subscribe();
        loop {
            settled.borrow_and_update();
            let next = self.act(term).unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                changed = leadership.changed() => {
                    if changed.is_err() || !still(&leadership.borrow_and_update()) {
                        return;
                    }
                }
                () = self.parts.published.leases().changed() => {}
                // What was under way has its turn again.
                _ = settled.changed() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Does what is due; when the next is.
    fn act(&self, term: u64) -> Option<Instant> {
        let mut guard = self.lock();
        let reign = guard.as_mut()?;
        let now = Instant::now();
        reign.hear(self.parts.published.leases().news(), now);
        let mut over = Vec::new();
        while let Some((id, due)) = reign.next_due(now) {
            match due {
                Due::Checkpoint { grant, rest } => {
                    let this = self.clone();
                    tokio::spawn(async move { this.checkpoint(term, id, grant, rest).await });
                }
                Due::End { grant } => over.push((id, grant)),
            }
        }
        self.end_soon(term, over);
        self.count(reign.len());
        reign.next_at()
    }

    /// Records how much time a lease has left.
    async fn checkpoint(&self, term: u64, id: u64, grant: u64, rest: Duration) {
        let Ok(_place) = self.parts.checkpoints.acquire().await else {
            return;
        };
        let rest_ms = (rest.as_millis() as u64).max(1);
        let step = LeaseStep {
            rest_ms,
            ..step(Kind::Checkpoint, id, grant)
        };
        let deadline = Instant::now() + STEP_WAIT;
        let done = self.parts.driver.own(alone(step), term, deadline).await;
        let recorded = done
            .is_ok_and(|done| done.problem.is_none())
            .then_some(rest);
        self.with(term, |reign| reign.checkpointed(id, grant, recorded));
        self.settle();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reign>> {
        self.parts.reign.lock().expect("no panic under this lock")
    }

    /// Works on the reign of a term, with all that has been applied; `None` if it is over.
    fn with<T>(&self, term: u64, work: impl FnOnce(&mut Reign) -> T) -> Option<T> {
        let mut guard = self.lock();
        let reign = guard.as_mut().filter(|reign| reign.term == term)?;
        reign.hear(self.parts.published.leases().news(), Instant::now());
        Some(work(reign))
    }

    fn count(&self, leases: usize) {
        let before = self.parts.counted.swap(leases, Ordering::Relaxed);
        self.parts.alive.increment(leases as f64 - before as f64);
    }

    fn settle(&self) {
        self.parts.settled.send_modify(|turn| *turn += 1);
    }
}

fn step(kind: Kind, id: u64, grant: u64) -> LeaseStep {
    LeaseStep {
        kind: kind as i32,
        id,
        grant,
        ..LeaseStep::default()
    }
}

/// A transaction of nothing but a step.
fn alone(step: LeaseStep) -> Txn {
    all(vec![operation(Asked::Lease(step))])
}

/// A transaction of these operations, whatever there is.
fn all(operations: Vec<Operation>) -> Txn {
    Txn {
        then: operations,
        ..Txn::default()
    }
}

fn lease_step(kind: Kind, id: u64, grant: u64) -> Operation {
    operation(Asked::Lease(step(kind, id, grant)))
}

fn operation(operation: Asked) -> Operation {
    Operation {
        operation: Some(operation),
    }
}

/// Whoever asks finds the leader.
fn over() -> Failure {
    Failure::NotLeader { leader: None }
}
