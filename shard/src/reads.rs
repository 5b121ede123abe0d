//! Linearizable reads of one group: one leadership confirmation for all that wait.
//!
//! For each read (protocols.md §5): the confirmation began after it arrived; every write of its keys
//! that was under way when it arrived is settled; then the state is read as it is. A leader that
//! loses a write's fate answers "ask the new leader", never with data.

use std::sync::Arc;

use caucus_api::shard::reply::Body;
use caucus_api::shard::{
    Changes, Evaluate, Fate, FateIs, Followed, Found, Get, History, List, Part, Replay, Reply,
    TxnDone,
};
use caucus_api::{Failure, ReplyTo, limits};
use caucus_engine::keys;
use caucus_planted as planted;
use caucus_raft::{ConfirmError, Group, aside};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::inflight::{InFlight, Settled, Wait};
use crate::list;
use crate::metrics::Meters;
use crate::state::txn::{self, Footprint, Trouble, View};
use crate::state::versions::{self, When};
use crate::state::{self, Published};
use crate::watch;

/// Reads that share a confirmation.
const ROUND_READS_MAX: usize = 4096;
/// A listing of more vnodes than this gets a thread that may block.
const VNODES_INLINE_MAX: usize = 4;

/// A read that waits.
pub(crate) struct ReadJob {
    pub(crate) call: u64,
    pub(crate) at_least: u64,
    pub(crate) rules_version: u64,
    pub(crate) what: What,
    pub(crate) deadline: Instant,
    pub(crate) reply: ReplyTo,
}

/// What is read.
pub(crate) enum What {
    Get(Get),
    List(List),
    History(History),
    Fate(Fate),
    Evaluate(Evaluate, Footprint),
    Replay(Replay),
}

impl What {
    /// The revision as of which it is read, if that isn't the present.
    fn at(&self) -> Option<u64> {
        let at = match self {
            What::Get(get) => get.revision,
            What::List(list) => list.revision,
            What::Evaluate(evaluate, _) => evaluate.base,
            What::History(_) | What::Fate(_) | What::Replay(_) => 0,
        };
        Some(at).filter(|at| *at > 0)
    }

    fn when(&self) -> When {
        self.at().map_or(When::Now, When::At)
    }
}

/// The read task of one group.
#[derive(Clone)]
pub(crate) struct Reads {
    pub(crate) group: Group,
    pub(crate) published: Arc<Published>,
    pub(crate) inflight: Arc<InFlight>,
    /// Of all groups of the node.
    pub(crate) long_reads: Arc<Semaphore>,
    pub(crate) meters: Arc<Meters>,
}

impl Reads {
    /// Runs until the queue is closed.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<ReadJob>) {
        let mut jobs = Vec::new();
        while queue.recv_many(&mut jobs, ROUND_READS_MAX).await > 0 {
            // Whoever is ready to run now may have a read for this round too.
            tokio::task::yield_now().await;
            while jobs.len() < ROUND_READS_MAX
                && let Ok(job) = queue.try_recv()
            {
                jobs.push(job);
            }
            self.meters.read_round.record(jobs.len() as f64);
            // Taken after the reads arrived, so it names at least what was under way then.
            let waits: Vec<Wait> = jobs.iter().map(|job| self.wait_for(&job.what)).collect();
            match self.confirm().await {
                Ok(()) => {
                    // A leader installs no snapshot, so this one is whole and has been opened.
                    let storage = self.group.view().storage();
                    for (job, wait) in jobs.drain(..).zip(waits) {
                        self.serve_when_over(job, wait, storage);
                    }
                }
                Err(error) => {
                    let failure = failure(error);
                    for job in jobs.drain(..) {
                        self.fail(job, failure.clone());
                    }
                }
            }
        }
    }

    async fn confirm(&self) -> Result<(), ConfirmError> {
        if planted::is(planted::READ_NOT_CONFIRMED) && self.group.leadership().here {
            return Ok(());
        }
        match self.group.confirm().await {
            Err(ConfirmError::NoQuorum) if planted::is(planted::READ_FALLS_BACK) => Ok(()),
            confirmed => confirmed.map(|_| ()),
        }
    }

    fn wait_for(&self, what: &What) -> Wait {
        let passes = match what.at() {
            None => planted::READ_PASSES_WRITES,
            Some(_) => planted::SNAPSHOT_READ_PASSES_GRANTS,
        };
        if planted::is(passes) {
            return Wait::default();
        }
        match what {
            What::Get(get) => self.inflight.on_key(&get.key),
            What::List(list) => self.inflight.on_range(&list.start, &list.end),
            What::History(history) => self.inflight.on_key(&history.key),
            What::Evaluate(_, footprint) => self.inflight.on_all(footprint),
            // What isn't applied isn't decided; what is replayed was applied in this group before.
            What::Fate(_) | What::Replay(_) => Wait::default(),
        }
    }

    /// The prepared transaction that may still change what is read.
    fn stopped_by(&self, what: &What) -> Option<u64> {
        if planted::is(planted::READ_PASSES_PREPARED) {
            return None;
        }
        let standing = self.published.standing();
        match what {
            What::Get(get) => standing.stops_key(&get.key, what.at()),
            What::List(list) => standing.stops_range(&list.start, &list.end, what.at()),
            What::History(history) => standing.stops_key(&history.key, None),
            What::Evaluate(_, footprint) => standing.stops(footprint, what.at()),
            What::Fate(_) | What::Replay(_) => None,
        }
    }

    fn serve_when_over(&self, job: ReadJob, wait: Wait, storage: keys::StorageId) {
        let mut job = job;
        if wait.is_over() && self.is_short(&job.what) {
            match self.serve(job, storage) {
                None => return,
                Some(stopped) => job = stopped.job,
            }
        }
        let this = self.clone();
        tokio::spawn(async move {
            if !wait.is_over() {
                this.meters.read_waits.increment(1);
                match tokio::time::timeout_at(job.deadline, wait.over()).await {
                    Ok(Settled::Yes) => {}
                    Ok(Settled::Lost) => {
                        return this.fail(job, Failure::NotLeader { leader: None });
                    }
                    Err(_) => return this.fail(job, Failure::Deadline { unknown: false }),
                }
            }
            this.serve_when_unlocked(job, storage).await;
        });
    }

    async fn serve_when_unlocked(&self, mut job: ReadJob, storage: keys::StorageId) {
        loop {
            let served = if self.is_short(&job.what) {
                self.serve(job, storage)
            } else {
                let permit = self.long_reads.clone().acquire_owned();
                let Ok(Ok(permit)) = tokio::time::timeout_at(job.deadline, permit).await else {
                    return self.fail(job, Failure::Deadline { unknown: false });
                };
                // The reply is part of the job, so nobody is left without an answer if this is
                // cancelled by the end of the runtime: then the link ends too.
                let this = self.clone();
                let serve = move || {
                    let _permit = permit;
                    this.serve(job, storage)
                };
                aside(self.group.view().engine().as_ref(), serve)
                    .await
                    .unwrap_or(None)
            };
            let Some(stopped) = served else { return };
            job = stopped.job;
            self.meters.read_locked.increment(1);
            let unlocked = self.published.standing().unlocked(stopped.by);
            if tokio::time::timeout_at(job.deadline, unlocked)
                .await
                .is_err()
            {
                let failure = Failure::Unavailable {
                    reason: "a transaction over several groups isn't decided yet".to_owned(),
                    unknown: false,
                };
                return self.fail(job, failure);
            }
        }
    }

    fn is_short(&self, what: &What) -> bool {
        match what {
            What::Get(_) | What::Fate(_) => true,
            What::List(list) => list.vnodes.len() <= 3 * VNODES_INLINE_MAX,
            What::Evaluate(evaluate, _) => evaluate.vnodes.len() <= 3 * VNODES_INLINE_MAX,
            What::History(_) | What::Replay(_) => false,
        }
    }

    /// Answers, unless a prepared transaction stops the read: then it is given back.
    fn serve(&self, job: ReadJob, storage: keys::StorageId) -> Option<Stopped> {
        // Before the locks are looked at and the data is read: what is read is then at or above it.
        let highest = self.published.highest();
        if let Some(by) = self.stopped_by(&job.what) {
            return Some(Stopped { job, by });
        }
        let rules_version = job.rules_version;
        let read = match &job.what {
            What::Get(get) => self.get(get, job.what.when(), rules_version, storage),
            What::List(list) => self.list(list, job.what.when(), rules_version, storage),
            What::History(history) => self.history(history, rules_version, storage),
            What::Fate(fate) => Ok((self.fate(fate), 0)),
            What::Evaluate(evaluate, _) => self.evaluate(evaluate, rules_version, storage),
            What::Replay(replay) => self.replay(replay, rules_version),
        };
        // After the data was read: what was compacted meanwhile may be missing in it.
        let compacted = self.published.compacted();
        match read {
            Ok(_) if self.group.view().storage() != storage => {
                self.fail(job, Failure::NotLeader { leader: None });
            }
            Ok(_) if job.what.at().is_some_and(|at| at < compacted) => {
                self.fail(
                    job,
                    Failure::Compacted {
                        revision: compacted,
                    },
                );
            }
            Ok((body, revision)) => {
                self.meters.read.increment(1);
                (job.reply)(Reply {
                    call: job.call,
                    revision: highest.max(job.at_least).max(revision),
                    body: Some(body),
                });
            }
            Err(failure) => self.fail(job, failure),
        }
        None
    }

    fn fail(&self, job: ReadJob, failure: Failure) {
        self.meters.unread.increment(1);
        (job.reply)(Reply {
            call: job.call,
            revision: job.at_least,
            body: Some(Body::Error(failure.into())),
        });
    }

    /// The body, and the highest revision in it.
    fn get(
        &self,
        get: &Get,
        when: When,
        rules_version: u64,
        storage: keys::StorageId,
    ) -> Result<(Body, u64), Failure> {
        let vnode = self.published.scope().vnode(&get.key, rules_version)?;
        let found = match when {
            When::Now => versions::get(
                &**self.group.view().engine(),
                storage,
                vnode,
                &get.key,
                when,
            ),
            // Two lookups, which a write may come between.
            When::At(_) => {
                let snapshot = self.group.view().engine().snapshot();
                versions::get(snapshot.as_ref(), storage, vnode, &get.key, when)
            }
        };
        let mut record = found.map_err(engine_failure)?;
        if get.head
            && let Some(record) = &mut record
        {
            record.value.clear();
        }
        let revision = record.as_ref().map_or(0, |record| record.mod_revision);
        Ok((Body::Found(Found { record }), revision))
    }

    fn list(
        &self,
        list: &List,
        when: When,
        rules_version: u64,
        storage: keys::StorageId,
    ) -> Result<(Body, u64), Failure> {
        let asked = self.published.scope().vnodes(&list.vnodes, rules_version)?;
        let snapshot = self.group.view().engine().snapshot();
        // After the snapshot: it then names every vnode that holds keys in it.
        let occupied = asked.intersection(&self.published.occupied());
        let when = match when {
            // Nothing in the snapshot is newer, so the current records are the ones.
            When::At(at) if self.highest_in(snapshot.as_ref(), storage)? <= at => When::Now,
            when => when,
        };
        let mut listed = list::list(snapshot.as_ref(), storage, &occupied, list, when)
            .map_err(engine_failure)?;
        listed.compacted = self.published.compacted();
        let revisions = listed.items.iter().filter_map(|item| item.record.as_ref());
        let revision = revisions.map(|record| record.mod_revision).max();
        Ok((Body::Listed(listed), revision.unwrap_or(0)))
    }

    /// The highest revision in a snapshot: what is published lags behind the engine.
    fn highest_in(
        &self,
        snapshot: &dyn caucus_engine::Reader,
        storage: keys::StorageId,
    ) -> Result<u64, Failure> {
        state::highest(snapshot, storage).map_err(engine_failure)
    }

    fn history(
        &self,
        history: &History,
        rules_version: u64,
        storage: keys::StorageId,
    ) -> Result<(Body, u64), Failure> {
        let vnode = self.published.scope().vnode(&history.key, rules_version)?;
        let compacted = self.published.compacted();
        let snapshot = self.group.view().engine().snapshot();
        let below = match history.below {
            0 => u64::MAX,
            below => below,
        };
        let limit = (history.limit as usize).clamp(1, limits::PAGE_KEYS_MAX);
        let found = versions::changes(
            snapshot.as_ref(),
            storage,
            vnode,
            &history.key,
            below..compacted,
            limit,
        );
        let (changes, more) = found.map_err(engine_failure)?;
        let revision = changes.first().map_or(0, |change| change.revision);
        Ok((Body::Changes(Changes { changes, more }), revision))
    }

    /// What happened to keys after a revision. The confirmation has brought all that was applied anywhere.
    fn replay(&self, replay: &Replay, rules_version: u64) -> Result<(Body, u64), Failure> {
        let scope = self.published.scope();
        let interests = watch::interests(&scope, &replay.interests, rules_version)?;
        let through = replay.through.max(self.published.feed().position());
        let wants = |key: &[u8]| watch::wants(&interests, key);
        let between = (replay.after, through);
        let past = watch::past(&self.group, &self.published, &wants, between)?;
        let (events, position) = past;
        let followed = Followed {
            events,
            position,
            out_of_step: false,
        };
        Ok((Body::Followed(followed), position))
    }

    fn fate(&self, fate: &Fate) -> Body {
        let attempt = self.published.standing().get(fate.attempt);
        Body::Fate(match attempt {
            Some(attempt) => FateIs {
                revision: attempt.revision,
                path: attempt.path.clone(),
                aborted: false,
            },
            // The coordinator was the first to prepare it, so it was here and has gone.
            None => FateIs {
                aborted: true,
                ..FateIs::default()
            },
        })
    }

    fn evaluate(
        &self,
        asked: &Evaluate,
        rules_version: u64,
        storage: keys::StorageId,
    ) -> Result<(Body, u64), Failure> {
        let scope = self.published.scope();
        let vnodes = scope.vnodes(&asked.vnodes, rules_version)?;
        let tree = asked.txn.as_ref();
        let tree = tree.ok_or_else(|| Failure::Invalid("there is no transaction".to_owned()))?;
        let routing = scope.routing(rules_version)?;
        let snapshot = self.group.view().engine().snapshot();
        let occupied = self.published.occupied();
        let part = txn::Part {
            reader: snapshot.as_ref(),
            storage,
            routing,
            vnodes: &vnodes,
            occupied: &occupied,
            compacted: self.published.compacted(),
            leases: None,
        };
        // A transaction that only reads may read as of the revision that it is evaluated at.
        let revision = asked.revision.max(asked.base.saturating_add(1));
        let mut view = View::new(part, When::At(asked.base), revision);
        let body = match asked.answers {
            false => {
                let part = survey(tree, &view).map_err(engine_failure)?;
                Body::Prepared(part)
            }
            true => match txn::answer(tree, &asked.path, &mut view) {
                Ok(answers) => Body::Txn(TxnDone {
                    revision: asked.revision,
                    path: asked.path.clone(),
                    answers,
                    ..TxnDone::default()
                }),
                Err(Trouble::Engine(error)) => return Err(engine_failure(error)),
                Err(Trouble::Problem(problem)) => Body::Txn(TxnDone {
                    problem: Some(problem),
                    ..TxnDone::default()
                }),
            },
        };
        Ok((body, 0))
    }
}

/// A read that has to wait.
struct Stopped {
    job: ReadJob,
    /// For this attempt.
    by: u64,
}

fn survey(tree: &caucus_api::shard::Txn, view: &View<'_>) -> Result<Part, caucus_engine::Error> {
    match txn::survey(tree, view) {
        Ok(compared) => Ok(Part {
            compared,
            problems: txn::problems(tree, view)?,
        }),
        Err(Trouble::Engine(error)) => Err(error),
        Err(Trouble::Problem(problem)) => Ok(Part {
            problems: vec![problem],
            ..Part::default()
        }),
    }
}

pub(crate) fn failure(error: ConfirmError) -> Failure {
    match error {
        ConfirmError::NotLeader { leader } => Failure::NotLeader { leader },
        ConfirmError::NoQuorum => Failure::Unavailable {
            reason: "the group has no majority".to_owned(),
            unknown: false,
        },
        ConfirmError::Stopped(reason) => Failure::Unavailable {
            reason,
            unknown: false,
        },
    }
}

fn engine_failure(error: caucus_engine::Error) -> Failure {
    Failure::Internal(error.to_string())
}
