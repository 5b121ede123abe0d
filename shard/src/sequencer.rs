//! The sequencer of one group: gathers writes, gets revisions for them, proposes one entry.
//!
//! ```text
//!  queue ─▶ gather all that waits ─▶ ticket ─▶ ask for a block ─▶ propose ─▶ (reply) settle, answer
//!             ▲                         │ no answer in time: void, ask anew         │
//!             └──────── overtaken: a new revision ◀─────────────────────────────────┘
//! ```
//!
//! Rules (protocols.md §2): a batch is closed before its ask is sent, and a grant serves only that
//! batch, in the term in which it was asked for. Everything that carries a revision leaves through this
//! task, in one order. While a block or an entry is under way the next batch gathers, which is all the
//! batching there is. A write that is not proposed was not applied, and its sender is told so; one
//! that was proposed and not answered is unknown, and its sender asks again under the same id. A write
//! whose deadline passes is answered then if it is in a batch, and when its turn comes if it is in the
//! queue.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::outcome::Kind as OutcomeKind;
use caucus_api::shard::reply::Body;
use caucus_api::shard::{Batch, Command, Outcome, Reply, SessionProgress, TxnDone};
use caucus_api::{Failure, ReplyTo};
use caucus_planted as planted;
use caucus_raft::{Group, ProposeError};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use crate::Options;
use crate::driver::Driver;
use crate::inflight::{InFlight, Ticket};
use crate::metrics::Meters;
use crate::names::NamesTime;
use crate::patience::Patience;
use crate::revisions::Revisions;
use crate::state::txn::Footprint;
use crate::state::{Applied, Holder, Published, Refusal, Verdict};

/// A write that waits.
pub(crate) struct WriteJob {
    pub(crate) call: u64,
    pub(crate) at_least: u64,
    pub(crate) touches: Touches,
    /// What the sequencer must know of a step of a transaction.
    pub(crate) step: Option<Step>,
    pub(crate) session: u64,
    /// It is sequenced in this term or not at all.
    pub(crate) term: Option<u64>,
    pub(crate) encoded: Bytes,
    pub(crate) deadline: Instant,
    pub(crate) reply: ReplyTo,
}

/// The keys that a write touches, for reads that come while it is under way.
pub(crate) enum Touches {
    Key(Bytes),
    Many(Footprint),
    /// Its keys are locked, or it changes none.
    Nothing,
}

/// A transaction or a step of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The coordinator's Prepare, or a transaction of this group alone: what follows is driven here.
    Drive,
    /// A participant's Prepare, with the age of its request: the older of two waits.
    Join { attempt: u64, age: u64 },
    /// A participant's Commit.
    Commit,
    /// Anything else.
    Follow,
}

impl WriteJob {
    pub(crate) fn answer(self, body: Body, revision: u64) {
        (self.reply)(Reply {
            call: self.call,
            revision: self.at_least.max(revision),
            body: Some(body),
        });
    }

    pub(crate) fn fail(self, failure: Failure) {
        (self.reply)(Reply {
            call: self.call,
            revision: self.at_least,
            body: Some(Body::Error(failure.into())),
        });
    }
}

/// How far each session has got, for all groups of a node.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    progress: Mutex<HashMap<u64, SessionProgress>>,
}

/// Sessions that a node remembers the progress of. A forgotten one only makes groups remember more.
const SESSIONS_MAX: usize = 10_000;

impl Sessions {
    pub(crate) fn note(&self, progress: SessionProgress) {
        let mut known = self.progress.lock().expect("no panic under this lock");
        if known.len() >= SESSIONS_MAX && !known.contains_key(&progress.session) {
            known.clear();
        }
        let entry = known.entry(progress.session).or_insert(progress);
        entry.finished_below = entry.finished_below.max(progress.finished_below);
        entry.stamp = entry.stamp.max(progress.stamp);
    }

    fn of(&self, sessions: &HashSet<u64>) -> Vec<SessionProgress> {
        let known = self.progress.lock().expect("no panic under this lock");
        sessions
            .iter()
            .filter_map(|session| known.get(session).copied())
            .collect()
    }
}

/// The sequencer's task and what it works with.
pub(crate) struct Sequencer {
    pub(crate) group: Group,
    pub(crate) queue: mpsc::Receiver<WriteJob>,
    pub(crate) driver: Driver,
    pub(crate) published: Arc<Published>,
    pub(crate) inflight: Arc<InFlight>,
    pub(crate) revisions: Revisions,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) options: Options,
    pub(crate) patience: Patience,
    pub(crate) time: Arc<Mutex<NamesTime>>,
    pub(crate) meters: Arc<Meters>,
}

impl Sequencer {
    /// Runs until the queue is closed.
    pub(crate) async fn run(mut self) {
        let slots = Arc::new(Semaphore::new(self.options.entries_under_way_max));
        let mut jobs = Vec::new();
        let mut held = None;
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            if !self.gather(&slots, &mut jobs, &mut held).await {
                return;
            }
            let leadership = self.group.leadership();
            if !leadership.here {
                let leader = leadership.leader;
                for job in jobs.drain(..) {
                    job.fail(Failure::NotLeader { leader });
                }
                continue;
            }
            let batch = of_term(std::mem::take(&mut jobs), leadership.term);
            let batch = self.without_locked(batch);
            if batch.is_empty() {
                continue;
            }
            self.sequence(leadership.term, batch, slot).await;
        }
    }

    /// Takes all that waits, up to the limits of an entry. While an entry is under way a small batch
    /// waits for its end, or until it isn't small any more: an entry costs much the same whatever is in
    /// it, so few large ones leave more of the machine to the writes than many small ones (as Nagle's
    /// algorithm, RFC 896, does it for packets). `false`: the queue is closed.
    async fn gather(
        &mut self,
        slots: &Semaphore,
        jobs: &mut Vec<WriteJob>,
        held: &mut Option<WriteJob>,
    ) -> bool {
        let first = match held.take() {
            Some(job) => job,
            None => match self.queue.recv().await {
                Some(job) => job,
                None => return false,
            },
        };
        let mut gathered = Gathered {
            bytes: first.encoded.len(),
            jobs,
            held,
        };
        gathered.jobs.push(first);
        let others = self.options.entries_under_way_max.saturating_sub(1) as u32;
        let mut alone = false;
        loop {
            // Whoever is ready to run now may have a write for this batch too.
            tokio::task::yield_now().await;
            while !gathered.is_full(&self.options)
                && let Ok(job) = self.queue.try_recv()
            {
                gathered.take(job, &self.options);
            }
            if alone || gathered.is_worth_an_entry(&self.options) {
                break;
            }
            let deadline = gathered.next_deadline();
            tokio::select! {
                biased;
                // All slots: no other entry is under way.
                _ = slots.acquire_many(others) => alone = true,
                job = self.queue.recv() => match job {
                    Some(job) => gathered.take(job, &self.options),
                    None => break,
                },
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        fail_late(jobs, || Failure::Deadline { unknown: false });
        true
    }

    /// What would be refused for a lock waits for its end, or gives up, without an entry in the log. What
    /// is known of locks here may lag behind the log, which decides.
    fn without_locked(&self, jobs: Vec<WriteJob>) -> Vec<WriteJob> {
        let standing = self.driver.standing();
        if standing.is_empty() {
            return jobs;
        }
        let mut free = Vec::with_capacity(jobs.len());
        for job in jobs {
            // Its own locks, if it was prepared before: it is to be told so once more.
            let is_own = |holder: &Holder| match job.step {
                Some(Step::Join { attempt, .. }) => attempt == holder.attempt,
                Some(_) | None => false,
            };
            match standing.in_the_way(&job.touches) {
                None => free.push(job),
                Some(holder) if is_own(&holder) => free.push(job),
                Some(holder) => {
                    refuse(job, Refusal::Locked(holder), &self.driver, &self.meters);
                }
            }
        }
        free
    }

    /// Gets revisions for a batch and proposes it.
    async fn sequence(&mut self, term: u64, mut jobs: Vec<WriteJob>, slot: OwnedSemaphorePermit) {
        let Some((first_revision, ticket)) = self.ask(term, &mut jobs).await else {
            let leader = self.group.leadership().leader;
            for job in jobs {
                job.fail(Failure::NotLeader { leader });
            }
            return;
        };
        let sessions = jobs.iter().map(|job| job.session).collect();
        let (time_ms, forget_before_ms) = {
            let mut time = self.time.lock().expect("no panic under this lock");
            time.now(term, self.published.names())
        };
        let batch = Batch {
            first_revision,
            writes: jobs.iter().map(|job| job.encoded.clone()).collect(),
            progress: self.sessions.of(&sessions),
            time_ms,
            forget_before_ms,
        };
        let command = Command {
            command: Some(Kind::Batch(batch)),
        };
        self.meters.batch_writes.record(jobs.len() as f64);
        let proposed = Instant::now();
        let answer = self
            .group
            .propose(term, command.encode_to_vec().into())
            .await;
        let driver = self.driver.clone();
        let meters = self.meters.clone();
        match answer {
            Ok(answer) => {
                tokio::spawn(async move {
                    let (jobs, result) = answered(jobs, answer).await;
                    meters
                        .entry_seconds
                        .record(proposed.elapsed().as_secs_f64());
                    finish(jobs, result, ticket, &driver, &meters);
                    drop(slot);
                });
            }
            Err(error) => {
                let jobs = jobs.into_iter().map(Some).collect();
                finish(jobs, Err(error), ticket, &driver, &meters);
            }
        }
    }

    /// Asks until there is an answer, for those who still have time. `None`: leadership in `term` is
    /// over, or nobody is left.
    async fn ask(&mut self, term: u64, jobs: &mut Vec<WriteJob>) -> Option<(u64, Ticket)> {
        loop {
            fail_late(jobs, || Failure::Unavailable {
                reason: "the placement group grants no revisions".to_owned(),
                unknown: false,
            });
            if jobs.is_empty() {
                return None;
            }
            let ticket = self.inflight.open(touched(jobs));
            let started = Instant::now();
            let late_max = match planted::is(planted::JOINS_AFTER_ASK) {
                true => 16,
                false => 0,
            };
            let asked = self.revisions.ask(jobs.len() as u32 + late_max);
            let granted = timeout(self.patience.now(), asked).await;
            match granted {
                Ok(Some(_)) => self.patience.answered(started.elapsed()),
                Ok(None) => {}
                Err(_) => self.patience.passed(),
            }
            let leadership = self.group.leadership();
            let leads = leadership.here && leadership.term == term;
            match granted {
                Ok(Some(first)) if leads => {
                    self.meters
                        .ask_seconds
                        .record(started.elapsed().as_secs_f64());
                    let late = (0..late_max).map_while(|_| self.queue.try_recv().ok());
                    jobs.extend(late);
                    return Some((first, ticket));
                }
                Ok(_) | Err(_) => {
                    // Void: whatever is still granted for it is thrown away, so no read has to
                    // wait for it.
                    self.meters.asks_void.increment(1);
                    ticket.settle();
                }
            }
            if !leads {
                return None;
            }
            if matches!(granted, Ok(None)) {
                // The oracle said no at once; it says the same until it has a leader.
                tokio::time::sleep(self.options.ask_timeout / 5).await;
            }
        }
    }
}

/// Refuses what was decided in an earlier term: what it was decided on may have changed since.
fn of_term(jobs: Vec<WriteJob>, term: u64) -> Vec<WriteJob> {
    let is_late = |job: &WriteJob| job.term.is_some_and(|wanted| wanted != term);
    if !jobs.iter().any(is_late) {
        return jobs;
    }
    let (late, live): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_late);
    for job in late {
        job.fail(Failure::NotLeader { leader: None });
    }
    live
}

/// What a batch touches.
fn touched(jobs: &[WriteJob]) -> Footprint {
    let mut touched = Footprint::with_capacity(jobs.len());
    for job in jobs {
        match &job.touches {
            Touches::Key(key) => touched.key(key, true),
            Touches::Many(footprint) => touched.extend(footprint),
            Touches::Nothing => {}
        }
    }
    touched
}

/// The writes of the next entry.
struct Gathered<'a> {
    jobs: &'a mut Vec<WriteJob>,
    bytes: usize,
    /// One that came when there was no room for it.
    held: &'a mut Option<WriteJob>,
}

impl Gathered<'_> {
    /// To be called only while it isn't full.
    fn take(&mut self, job: WriteJob, options: &Options) {
        let bytes = self.bytes + job.encoded.len();
        if bytes > options.batch_bytes_max {
            *self.held = Some(job);
            return;
        }
        self.bytes = bytes;
        self.jobs.push(job);
    }

    /// Who comes later may have less time than who came first.
    fn next_deadline(&self) -> Instant {
        let deadlines = self.jobs.iter().map(|job| job.deadline);
        deadlines.min().unwrap_or_else(Instant::now)
    }

    fn is_full(&self, options: &Options) -> bool {
        self.held.is_some() || self.jobs.len() >= options.batch_writes_max
    }

    fn is_worth_an_entry(&self, options: &Options) -> bool {
        self.is_full(options)
            || self.jobs.len() >= options.beside_writes_min
            || self.bytes >= options.beside_bytes_min
    }
}

/// Answers those who have run out of time.
fn fail_late(jobs: &mut Vec<WriteJob>, failure: impl Fn() -> Failure) {
    let now = Instant::now();
    if jobs.iter().any(|job| job.deadline <= now) {
        let (late, live): (Vec<_>, Vec<_>) = std::mem::take(jobs)
            .into_iter()
            .partition(|job| job.deadline <= now);
        *jobs = live;
        for job in late {
            job.fail(failure());
        }
    }
}

/// Waits for the answer to an entry. Whose deadline passes meanwhile is told that the outcome is
/// unknown, and leaves a gap.
async fn answered<T>(
    jobs: Vec<WriteJob>,
    answer: impl Future<Output = T>,
) -> (Vec<Option<WriteJob>>, T) {
    let mut jobs: Vec<_> = jobs.into_iter().map(Some).collect();
    let mut answer = std::pin::pin!(answer);
    loop {
        let Some(next) = jobs.iter().flatten().map(|job| job.deadline).min() else {
            return (jobs, answer.await);
        };
        if let Ok(answer) = timeout_at(next, &mut answer).await {
            return (jobs, answer);
        }
        let now = Instant::now();
        for slot in &mut jobs {
            if let Some(late) = slot.take_if(|job| job.deadline <= now) {
                late.fail(Failure::Deadline { unknown: true });
            }
        }
    }
}

/// Answers the writes of an entry that still wait.
fn finish(
    jobs: Vec<Option<WriteJob>>,
    result: Result<caucus_raft::Reply, ProposeError>,
    ticket: Ticket,
    driver: &Driver,
    meters: &Meters,
) {
    let failure = match result {
        Ok(reply) => match reply.take::<Applied>() {
            Some(applied) => {
                ticket.settle();
                return answer(jobs, applied, driver, meters);
            }
            None => Failure::Internal("an entry was answered with nothing".to_owned()),
        },
        Err(ProposeError::NotLeader { leader }) => {
            ticket.settle();
            Failure::NotLeader { leader }
        }
        Err(ProposeError::Unknown) => Failure::Unavailable {
            reason: "leadership was lost while the write was under way".to_owned(),
            unknown: true,
        },
        Err(ProposeError::Stopped(reason)) => Failure::Unavailable {
            reason,
            unknown: true,
        },
    };
    meters.failed.increment(jobs.len() as u64);
    for job in jobs.into_iter().flatten() {
        job.fail(failure.clone());
    }
}

fn answer(jobs: Vec<Option<WriteJob>>, applied: Applied, driver: &Driver, meters: &Meters) {
    for (job, verdict) in jobs.into_iter().zip(applied.verdicts) {
        let Some(mut job) = job else {
            continue;
        };
        // Also with a refusal: who was refused as too old must learn how old.
        job.at_least = job.at_least.max(applied.highest);
        match verdict {
            Verdict::Done(outcome) if outcome.kind() == OutcomeKind::Txn => {
                driver.replay(job, outcome)
            }
            Verdict::Done(outcome) => {
                meters.written.increment(1);
                job.answer(Body::Outcome(outcome), outcome.revision);
            }
            Verdict::Txn(done) => {
                meters.written.increment(1);
                let revision = done.revision;
                job.answer(Body::Txn(done), revision);
            }
            Verdict::Prepared { attempt, age, part } => match job.step {
                Some(Step::Drive) => driver.drive(job, attempt, age, part),
                Some(Step::Join { .. } | Step::Commit | Step::Follow) | None => {
                    planted::at(planted::TXN_PARTICIPANT_PREPARED);
                    job.answer(Body::Prepared(part), 0)
                }
            },
            Verdict::Committed {
                revision,
                path,
                answers,
            } => {
                if job.step == Some(Step::Commit) {
                    planted::at(planted::TXN_PARTICIPANT_COMMITTED);
                }
                let forgotten = answers.is_none();
                let done = TxnDone {
                    revision,
                    path,
                    answers: answers.unwrap_or_default(),
                    forgotten,
                    ..TxnDone::default()
                };
                job.answer(Body::Txn(done), revision);
            }
            Verdict::Stepped => job.answer(Body::Outcome(Outcome::default()), 0),
            Verdict::Refused(refusal) => refuse(job, refusal, driver, meters),
        }
    }
}

fn refuse(job: WriteJob, refusal: Refusal, driver: &Driver, meters: &Meters) {
    let failure = match refusal {
        Refusal::Overtaken => return driver.send(job),
        Refusal::Locked(holder) => {
            meters.write_locked.increment(1);
            match job.step {
                // It holds locks elsewhere: the younger ends, so that no two wait for each other.
                Some(Step::Join { age, .. }) if age >= holder.age => Failure::Conflict,
                Some(_) | None => return driver.when_unlocked(job, holder.attempt),
            }
        }
        Refusal::Problem(problem) => {
            let done = TxnDone {
                problem: Some(problem),
                ..TxnDone::default()
            };
            return job.answer(Body::Txn(done), 0);
        }
        Refusal::Aborted => Failure::Conflict,
        Refusal::Moved => Failure::Moved { epoch: 0 },
        Refusal::Expired => Failure::Expired,
        Refusal::Rules => Failure::Rules,
        Refusal::Malformed => Failure::Invalid("the write cannot be read".to_owned()),
        Refusal::NameTaken => Failure::NameTaken,
        Refusal::Full => Failure::Busy("transactions over several groups".to_owned()),
    };
    meters.refused.increment(1);
    job.fail(failure);
}
