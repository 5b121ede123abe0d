//! What the leader does for writes that are not answered with their entry: those that wait for a lock,
//! and transactions over groups, from the coordinator's Prepare to the answer.
//!
//! ```text
//!  sequencer ─▶ Prepared here ─▶ Prepare there ─▶ Decide here ─▶ Commit there ─▶ answer ─▶ Forget here
//!                                     │ no, or no answer
//!                                     └▶ Abort here ─▶ Abort there ─▶ a new attempt, or a failure
//! ```
//!
//! What is in memory here is only a cache: [`recover`](Driver::recover) finds in the state what no driver
//! of this leader works on, and ends it (protocols.md §6). A client is told "committed" only of what is
//! applied in the coordinator's log.

mod attempt;
mod evaluate;
mod read_only;
mod recovery;
mod replay;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use caucus_api::Failure;
use caucus_api::shard::reply::Body;
use caucus_api::shard::request::Body as Ask;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Outcome, Part, Reply, RequestId, Txn, TxnDone, Write};
use caucus_planted as planted;
use caucus_raft::Group;
use futures::future::BoxFuture;
use prost::Message;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::metrics::Meters;
use crate::reads::{ReadJob, What};
use crate::sequencer::{Step, Touches, WriteJob};
use crate::state::{Published, Standing, txn};

/// Writes of a group that may wait for locks.
const WAITING_MAX: usize = 4096;

/// The way to the leaders of other groups.
pub trait OtherGroups: Send + Sync + 'static {
    /// Asks the leader of a group, again until there is an answer or the deadline passes. All that is
    /// sent this way may be sent twice.
    fn ask(
        &self,
        group: u32,
        body: Ask,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Reply, Failure>>;

    /// Executes a transaction as a client would, over whatever groups its keys are in.
    fn transact(&self, txn: Txn, deadline: Instant)
    -> BoxFuture<'static, Result<TxnDone, Failure>>;
}

/// Drives the transactions of one group. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Driver {
    parts: Arc<Parts>,
}

struct Parts {
    group: Group,
    published: Arc<Published>,
    others: Arc<dyn OtherGroups>,
    writes: mpsc::Sender<WriteJob>,
    reads: mpsc::Sender<ReadJob>,
    meters: Arc<Meters>,
    /// Attempts that a task of this leader works on.
    live: Mutex<HashSet<u64>>,
    waiting: Arc<Semaphore>,
}

/// As long as it lives, nobody else takes up the attempt.
struct Live {
    parts: Arc<Parts>,
    attempt: u64,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.parts.live().remove(&self.attempt);
    }
}

impl Parts {
    fn live(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.live.lock().expect("no panic under this lock")
    }
}

impl Driver {
    pub(crate) fn new(
        group: Group,
        published: Arc<Published>,
        others: Arc<dyn OtherGroups>,
        writes: mpsc::Sender<WriteJob>,
        reads: mpsc::Sender<ReadJob>,
        meters: Arc<Meters>,
    ) -> Driver {
        Driver {
            parts: Arc::new(Parts {
                group,
                published,
                others,
                writes,
                reads,
                meters,
                live: Mutex::default(),
                waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            }),
        }
    }

    /// Puts a write into the queue again: it gets a new revision.
    pub(crate) fn send(&self, job: WriteJob) {
        if let Err(full) = self.parts.writes.try_send(job) {
            full.into_inner()
                .fail(Failure::Busy("the group's queue of writes".to_owned()));
        }
    }

    /// The same when an attempt has ended. Meanwhile it has no revision.
    pub(crate) fn when_unlocked(&self, job: WriteJob, attempt: u64) {
        let Ok(place) = self.parts.waiting.clone().try_acquire_owned() else {
            return job.fail(Failure::Busy("writes that wait for locks".to_owned()));
        };
        let this = self.clone();
        tokio::spawn(async move {
            let unlocked = this.parts.published.standing().unlocked(attempt);
            let in_time = timeout_at(job.deadline, unlocked).await.is_ok();
            drop(place);
            match in_time {
                true => this.send(job),
                false => job.fail(Failure::Unavailable {
                    reason: "a transaction over several groups isn't decided yet".to_owned(),
                    unknown: false,
                }),
            }
        });
    }

    /// Drives a transaction that is prepared here; `false` in between: somebody does already.
    pub(crate) fn drive(&self, job: WriteJob, attempt: u64, age: u64, part: Part) {
        let Some(live) = self.take(attempt) else {
            // The same request again; when its attempt has ended, its outcome is known.
            return self.when_unlocked(job, attempt);
        };
        let this = self.clone();
        tokio::spawn(async move { this.run(job, live, age, part).await });
    }

    /// Answers a transaction again that was executed before.
    pub(crate) fn replay(&self, job: WriteJob, outcome: Outcome) {
        let this = self.clone();
        tokio::spawn(async move { this.answer_again(job, outcome.revision).await });
    }

    /// The transactions over groups that stand here.
    pub(crate) fn standing(&self) -> &Standing {
        self.parts.published.standing()
    }

    fn take(&self, attempt: u64) -> Option<Live> {
        self.parts.live().insert(attempt).then(|| Live {
            parts: self.parts.clone(),
            attempt,
        })
    }

    /// A step in this group's log.
    async fn here(&self, write: Write, deadline: Instant) -> Result<Body, Failure> {
        let (told, answer) = oneshot::channel();
        let job = WriteJob {
            call: 0,
            at_least: 0,
            touches: Touches::Nothing,
            step: Some(Step::Follow),
            session: 0,
            term: None,
            encoded: write.encode_to_vec().into(),
            deadline,
            reply: Box::new(move |reply| _ = told.send(reply)),
        };
        // A step is worth waiting for: it ends what is already in the state.
        let sent = timeout_at(deadline, self.parts.writes.send(job)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return Err(Failure::Deadline { unknown: false });
        }
        body(answer.await.ok())
    }

    /// A transaction of this group alone that its leader makes by itself, in this term or not at all. It
    /// may be applied though this fails.
    pub(crate) async fn own(
        &self,
        tree: Txn,
        term: u64,
        deadline: Instant,
    ) -> Result<TxnDone, Failure> {
        let touches = Touches::Many(txn::footprint(&tree));
        let write = self.own_write(tree)?;
        let (told, answer) = oneshot::channel();
        let job = WriteJob {
            call: 0,
            at_least: 0,
            touches,
            step: None,
            session: 0,
            term: (!planted::is(planted::LEASE_STEP_OF_OLD_TERM)).then_some(term),
            encoded: write.encode_to_vec().into(),
            deadline,
            reply: Box::new(move |reply| _ = told.send(reply)),
        };
        let sent = timeout_at(deadline, self.parts.writes.send(job)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return Err(Failure::Deadline { unknown: false });
        }
        done(body(answer.await.ok())?)
    }

    /// The same in another group, whoever leads it.
    pub(crate) async fn own_there(
        &self,
        group: u32,
        tree: Txn,
        deadline: Instant,
    ) -> Result<TxnDone, Failure> {
        let write = self.own_write(tree)?;
        let ask = Ask::Write(write.encode_to_vec().into());
        done(self.there(group, ask, deadline).await?)
    }

    fn own_write(&self, tree: Txn) -> Result<Write, Failure> {
        let scope = self.parts.published.scope();
        let routing = scope.routing.as_ref().ok_or(Failure::Moved { epoch: 0 })?;
        Ok(Write {
            // It isn't remembered.
            id: Some(RequestId::default()),
            rules_version: routing.rules.version(),
            action: Some(Action::Own(tree)),
            ..Write::default()
        })
    }

    /// A transaction over any groups, as a client's.
    pub(crate) async fn anywhere(&self, tree: Txn, deadline: Instant) -> Result<TxnDone, Failure> {
        self.parts.others.transact(tree, deadline).await
    }

    /// A question to this group's own state.
    async fn look(
        &self,
        what: What,
        rules_version: u64,
        deadline: Instant,
    ) -> Result<Body, Failure> {
        let (told, answer) = oneshot::channel();
        let job = ReadJob {
            call: 0,
            at_least: 0,
            rules_version,
            what,
            deadline,
            reply: Box::new(move |reply| _ = told.send(reply)),
        };
        if self.parts.reads.try_send(job).is_err() {
            return Err(Failure::Busy("the group's queue of reads".to_owned()));
        }
        body(answer.await.ok())
    }

    pub(crate) async fn there(
        &self,
        group: u32,
        ask: Ask,
        deadline: Instant,
    ) -> Result<Body, Failure> {
        let reply = self.parts.others.ask(group, ask, deadline).await?;
        body(Some(reply))
    }

    pub(crate) fn this_group(&self) -> u32 {
        self.parts.group.id()
    }
}

fn body(reply: Option<Reply>) -> Result<Body, Failure> {
    match reply.and_then(|reply| reply.body) {
        Some(Body::Error(error)) => Err(error.into()),
        Some(body) => Ok(body),
        // Nobody is left who could answer: the node is being stopped.
        None => Err(Failure::Unavailable {
            reason: "the node is stopping".to_owned(),
            unknown: true,
        }),
    }
}

fn done(body: Body) -> Result<TxnDone, Failure> {
    match body {
        Body::Txn(done) => Ok(done),
        _ => Err(Failure::Internal(
            "a transaction was answered with something else".to_owned(),
        )),
    }
}
