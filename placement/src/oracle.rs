//! The oracle: one task that answers questions about revisions, on the leader.
//!
//! ```text
//!   ask() ─▶ queue ─▶ all that wait ─▶ Group::confirm() ─▶ answered in order from `Grants`
//!                          ▲                                     │ too few left below the limit
//!                          └──────── again, once the raise is applied ◀┘
//! ```
//!
//! A round confirms leadership for the questions that were there before it began; who comes meanwhile
//! waits for the next. The ceiling is raised in the background long before it is reached, so a grant
//! waits for the log only under a new leader whose first raise isn't applied yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use caucus_planted as planted;
use caucus_raft::{ConfirmError, Confirmed, Group};
use caucus_ring::Revision;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::Command;
use crate::grants::{Block, Grants, Raise};
use crate::metrics;
use crate::parts::{Clock, PlacementParts};
use crate::propose::propose;
use crate::view::CatalogView;

/// The largest block of revisions in one answer.
pub const BLOCK_REVISIONS_MAX: u32 = 1 << 20;
/// Questions that may wait; more are refused.
const QUEUE_MAX: usize = 8192;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// So many revisions.
    Block(u32),
    /// The last revision granted.
    Last,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Granted {
    Block(Block),
    Last { revision: u64, term: u64 },
}

/// Why there is no answer. Nothing was granted; to ask again is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denied {
    NotLeader { leader: Option<u32> },
    Unavailable(String),
}

/// Takes one answer; must not block.
pub(crate) type Answer = Box<dyn FnOnce(Result<Granted, Denied>) + Send>;

struct Question {
    wanted: Wanted,
    arrived: Duration,
    answer: Answer,
}

/// The way to the oracle of this replica. It answers also where it doesn't lead.
pub(crate) struct Oracle {
    queue: mpsc::Sender<Question>,
    clock: Clock,
}

impl Oracle {
    pub(crate) fn start(parts: &PlacementParts, tasks: &TaskTracker) -> Oracle {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let rounds = Rounds {
            group: parts.group.clone(),
            view: parts.view.clone(),
            clock: parts.clock.clone(),
            queue: waiting,
            arrived: Vec::new(),
            waiting: VecDeque::new(),
            grants: Grants::default(),
            raising: None,
            tasks: tasks.clone(),
            meters: metrics::Oracle::new(),
        };
        tasks.spawn(rounds.run(parts.shutdown.clone()));
        Oracle {
            queue,
            clock: parts.clock.clone(),
        }
    }

    /// Queues a question at once.
    pub(crate) fn ask(&self, wanted: Wanted, answer: Answer) {
        let question = Question {
            wanted,
            arrived: (self.clock)(),
            answer,
        };
        if let Err(refused) = self.queue.try_send(question) {
            let (reason, question) = match refused {
                mpsc::error::TrySendError::Full(question) => ("too many wait already", question),
                mpsc::error::TrySendError::Closed(question) => ("it is shut down", question),
            };
            (question.answer)(Err(Denied::Unavailable(format!(
                "the oracle answers nothing: {reason}"
            ))));
        }
    }
}

struct Rounds {
    group: Group,
    view: Arc<CatalogView>,
    clock: Clock,
    queue: mpsc::Receiver<Question>,
    arrived: Vec<Question>,
    /// Those of the round; between rounds those for whom the limit is too low.
    waiting: VecDeque<Question>,
    grants: Grants,
    /// The raise under way; the task tells whether it was applied.
    raising: Option<(Raise, JoinHandle<bool>)>,
    tasks: TaskTracker,
    meters: metrics::Oracle,
}

impl Rounds {
    async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.serve() => {}
        }
        if let Some((_, raising)) = self.raising {
            raising.abort();
        }
    }

    async fn serve(&mut self) {
        let mut leadership = self.group.watch_leadership();
        loop {
            // While some wait for a raise, the rest waits in the queue, which is bounded.
            let open = self.waiting.is_empty();
            tokio::select! {
                taken = self.queue.recv_many(&mut self.arrived, QUEUE_MAX), if open => {
                    if taken == 0 {
                        return;
                    }
                }
                (raise, applied) = ended(&mut self.raising) => {
                    self.raise_ended(raise, applied);
                    if self.waiting.is_empty() {
                        continue;
                    }
                }
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // A new leader raises the ceiling before anybody asks.
                    if !leadership.borrow_and_update().here {
                        continue;
                    }
                }
            }
            self.waiting.extend(self.arrived.drain(..));
            self.round().await;
            let queued = self.queue.len() + self.waiting.len();
            self.meters.queued.set(queued as f64);
        }
    }

    /// One confirmation for all that wait, begun after they arrived.
    async fn round(&mut self) {
        if !self.waiting.is_empty() {
            self.meters.round_requests.record(self.waiting.len() as f64);
        }
        let confirmed = match self.group.confirm().await {
            Ok(confirmed) => confirmed,
            Err(error) => match self.grants.term() {
                Some(term) if planted::is(planted::GRANTED_WITHOUT_QUORUM) => Confirmed { term },
                Some(_) | None => return self.deny(&denied(error)),
            },
        };
        let view = &self.view;
        if !self.grants.confirmed(confirmed.term, || view.applied()) {
            return self.deny(&Denied::NotLeader { leader: None });
        }
        self.answer(confirmed.term);
        self.raise();
    }

    /// Answers in the order of arrival, up to the first whose block is too large for the limit.
    fn answer(&mut self, term: u64) {
        let now = (self.clock)();
        while let Some(question) = self.waiting.front() {
            let granted = match question.wanted {
                Wanted::Block(count) => self.grants.grant(count).map(Granted::Block),
                Wanted::Last => {
                    let last = self.grants.last_granted();
                    last.map(|revision| Granted::Last { revision, term })
                }
            };
            let Some(granted) = granted else { return };
            let Some(question) = self.waiting.pop_front() else {
                return;
            };
            if let Granted::Block(block) = granted {
                self.meters.granted.increment(block.count.into());
                self.meters.grants.increment(1);
            }
            let took = now.saturating_sub(question.arrived);
            self.meters.grant_seconds.record(took.as_secs_f64());
            (question.answer)(Ok(granted));
        }
    }

    fn raise(&mut self) {
        let wanted = self.waiting.iter().map(|question| match question.wanted {
            Wanted::Block(count) => u64::from(count),
            Wanted::Last => 0,
        });
        let wanted = wanted.sum();
        let Some(raise) = self.grants.raise(wanted) else {
            if self.raising.is_none() {
                // Not one revision is left above the limit.
                self.deny(&Denied::Unavailable("no revisions are left".to_owned()));
            }
            return;
        };
        let group = self.group.clone();
        let proposing = self.tasks.spawn(async move {
            let command = Command::RaiseCeiling(Revision(raise.to));
            let proposed = propose(&group, raise.term, &command).await;
            if let Err(error) = &proposed {
                tracing::info!(?raise, ?error, "the oracle's ceiling was not raised");
            }
            proposed.is_ok()
        });
        // One that is replaced here was of an older term, and its end is of no use.
        self.raising = Some((raise, proposing));
    }

    fn raise_ended(&mut self, raise: Raise, applied: bool) {
        if applied {
            self.meters.raised.increment(1);
            self.grants.raised(raise);
        } else {
            self.meters.raise_failed.increment(1);
            self.grants.raise_failed(raise);
            self.deny(&Denied::Unavailable(
                "the ceiling of revisions could not be raised".to_owned(),
            ));
        }
    }

    fn deny(&mut self, denied: &Denied) {
        for question in self.waiting.drain(..) {
            (question.answer)(Err(denied.clone()));
        }
    }
}

/// The end of the raise under way, and whether it was applied; never, if there is none.
async fn ended(raising: &mut Option<(Raise, JoinHandle<bool>)>) -> (Raise, bool) {
    let Some((raise, proposing)) = raising else {
        return std::future::pending().await;
    };
    let ended = (*raise, proposing.await.unwrap_or(false));
    *raising = None;
    ended
}

fn denied(error: ConfirmError) -> Denied {
    match error {
        ConfirmError::NotLeader { leader } => Denied::NotLeader { leader },
        ConfirmError::NoQuorum | ConfirmError::Stopped(_) => Denied::Unavailable(error.to_string()),
    }
}
