//! Confirming leadership: one round for all that wait.
//!
//! A confirmation is a quorum round that began after it was asked for, in which a majority upholds
//! this replica as the leader of its term (`net::standing` argues why that is enough), and the state
//! machine having applied an entry of that term. With the first such entry all that earlier leaders
//! committed is applied; what this one committed is acknowledged only after it is applied here. So a
//! look at the state sees all that was acknowledged when the confirmation was asked for.
//!
//! While one round runs, those who come gather for the next: a round that had begun already would say
//! nothing about them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use caucus_planted as planted;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::log::Log;
use crate::net::{Lines, Tally};
use crate::types::Raft;
use crate::wire::{Standing, To};
use crate::{ConfirmError, Leadership, metrics};

/// Applying what is committed takes no longer than this, or the replica is in trouble.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Proof that this replica led when it was asked for, and had applied an entry of its term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// The term it leads in.
    pub term: u64,
}

type Waiting = Vec<oneshot::Sender<Result<Confirmed, ConfirmError>>>;

pub(crate) struct Confirmer {
    pub(crate) group: u32,
    pub(crate) replica: u64,
    pub(crate) raft: Raft,
    pub(crate) log: Arc<Log>,
    pub(crate) lines: Arc<Lines>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) meters: Arc<metrics::Group>,
    /// The highest term of which an entry is known to be applied here.
    pub(crate) applied_term: AtomicU64,
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    running: bool,
    waiting: Waiting,
}

impl Confirmer {
    pub(crate) async fn confirm(self: &Arc<Self>) -> Result<Confirmed, ConfirmError> {
        let (sender, confirmed) = oneshot::channel();
        {
            let mut state = self.lock();
            state.waiting.push(sender);
            if !state.running {
                state.running = true;
                tokio::spawn(self.clone().run());
            }
        }
        let stopped = || Err(ConfirmError::Stopped("shut down".to_owned()));
        confirmed.await.unwrap_or_else(|_| stopped())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    async fn run(self: Arc<Self>) {
        loop {
            let mut waiting = {
                let mut state = self.lock();
                if state.waiting.is_empty() {
                    state.running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let started = Instant::now();
            let result = self.round().await;
            if planted::is(planted::CONFIRMED_BY_EARLIER_ROUND) {
                waiting.append(&mut self.lock().waiting);
            }
            self.meters.confirms.increment(1);
            self.meters
                .confirm_seconds
                .record(started.elapsed().as_secs_f64());
            for sender in waiting {
                // Whoever gave up meanwhile needs no answer.
                let _ = sender.send(result.clone());
            }
        }
    }

    async fn round(&self) -> Result<Confirmed, ConfirmError> {
        let led = *self.leadership.borrow();
        if self.leadership.has_changed().is_err() {
            return Err(ConfirmError::Stopped("it is shut down".to_owned()));
        }
        if !led.here || !self.log.upholds(led.term, self.replica) {
            let leader = led.leader.filter(|_| !led.here);
            return Err(ConfirmError::NotLeader { leader });
        }
        self.upheld(led.term).await?;
        if !planted::is(planted::CONFIRMED_BEFORE_OWN_ENTRY) {
            self.applied(led.term).await?;
        }
        Ok(Confirmed { term: led.term })
    }

    /// Whether a majority upholds this replica as the leader of `term`.
    async fn upheld(&self, term: u64) -> Result<(), ConfirmError> {
        // Cloned at once: while it is borrowed, openraft's core may wait.
        let metrics = self.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let configs: Vec<BTreeSet<u64>> = membership.membership().get_joint_config().clone();
        let voters: BTreeSet<u64> = configs.iter().flatten().copied().collect();
        let (tally, result) = Tally::open(configs, self.replica);
        for voter in voters.into_iter().filter(|voter| *voter != self.replica) {
            let standing = Standing {
                to: To {
                    group: self.group,
                    replica: voter,
                },
                term,
                leader: self.replica,
            };
            // A voter is a member, so its node is known.
            if let Some(member) = membership.membership().get_node(&voter) {
                self.lines.ask(member.node, standing, tally.clone());
            }
        }
        // Each question is answered, or its time passes; without a voter's node nobody counts it.
        drop(tally);
        result.await.unwrap_or(Err(ConfirmError::NoQuorum))
    }

    /// Waits until an entry of `term` is applied: a new leader's first, soon after its election.
    async fn applied(&self, term: u64) -> Result<(), ConfirmError> {
        if self.applied_term.load(Ordering::Relaxed) >= term {
            return Ok(());
        }
        let mut metrics = self.raft.metrics();
        let applied = async {
            loop {
                let last = metrics.borrow_watched().last_applied;
                if last.is_some_and(|last| last.committed_leader_id().term >= term) {
                    return Ok(());
                }
                if metrics.changed().await.is_err() {
                    return Err(ConfirmError::Stopped("it is shut down".to_owned()));
                }
            }
        };
        let applied = timeout(APPLY_TIMEOUT, applied).await;
        applied.unwrap_or(Err(ConfirmError::NoQuorum))?;
        self.applied_term.fetch_max(term, Ordering::Relaxed);
        Ok(())
    }
}
