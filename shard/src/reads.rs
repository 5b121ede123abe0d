//! Linearizable reads of one group: one leadership confirmation for all that wait.
//!
//! For each read (protocols.md §5): the confirmation began after it arrived; every write of its keys
//! that was under way when it arrived is settled; then the state is read as it is. A leader that
//! loses a write's fate answers "ask the new leader", never with data.

use std::sync::Arc;

use caucus_api::shard::reply::Body;
use caucus_api::shard::{Found, Get, List, Reply};
use caucus_api::{Failure, ReplyTo};
use caucus_engine::keys;
use caucus_raft::{ConfirmError, Group};
use caucus_ring::VnodeSet;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::inflight::{InFlight, Settled, Wait};
use crate::list;
use crate::metrics::Meters;
use crate::state::{Published, decode_record};

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
}

/// The read task of one group.
#[derive(Clone)]
pub(crate) struct Reads {
    pub(crate) group: Group,
    pub(crate) published: Arc<Published>,
    pub(crate) inflight: Arc<InFlight>,
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
            match self.group.confirm().await {
                Ok(_) => {
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

    fn wait_for(&self, what: &What) -> Wait {
        match what {
            What::Get(get) => self.inflight.on_key(&get.key),
            What::List(list) => self.inflight.on_range(&list.start, &list.end),
        }
    }

    fn serve_when_over(&self, job: ReadJob, wait: Wait, storage: keys::StorageId) {
        if wait.is_over() && self.is_short(&job.what) {
            return self.serve(job, storage);
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
            if this.is_short(&job.what) {
                return this.serve(job, storage);
            }
            // The reply is part of the job, so nobody is left without an answer if this is
            // cancelled by the end of the runtime: then the link ends too.
            tokio::task::spawn_blocking(move || this.serve(job, storage));
        });
    }

    fn is_short(&self, what: &What) -> bool {
        match what {
            What::Get(_) => true,
            What::List(list) => list.vnodes.len() <= 3 * VNODES_INLINE_MAX,
        }
    }

    fn serve(&self, job: ReadJob, storage: keys::StorageId) {
        // Before the data is read: what is read is then at or above it.
        let highest = self.published.highest();
        let read = match &job.what {
            What::Get(get) => self.get(get, job.rules_version, storage),
            What::List(list) => self.list(list, job.rules_version, storage),
        };
        match read {
            Ok(_) if self.group.view().storage() != storage => {
                self.fail(job, Failure::NotLeader { leader: None });
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
        rules_version: u64,
        storage: keys::StorageId,
    ) -> Result<(Body, u64), Failure> {
        let scope = self.published.scope();
        let routing = scope.routing.as_ref().ok_or(Failure::Moved { epoch: 0 })?;
        if routing.rules.version() != rules_version {
            return Err(Failure::Rules);
        }
        let vnode = routing.ring.vnode(routing.rules.routing_key(&get.key));
        if !scope.owned.contains(vnode) {
            return Err(Failure::Moved { epoch: 0 });
        }
        let stored = self
            .group
            .view()
            .get(&keys::current(storage, vnode.0, &get.key))
            .map_err(engine_failure)?;
        let mut record = stored
            .map(decode_record)
            .transpose()
            .map_err(engine_failure)?;
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
        rules_version: u64,
        storage: keys::StorageId,
    ) -> Result<(Body, u64), Failure> {
        let asked = VnodeSet::from_packed(&list.vnodes)
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        let scope = self.published.scope();
        let routing = scope.routing.as_ref().ok_or(Failure::Moved { epoch: 0 })?;
        if routing.rules.version() != rules_version {
            return Err(Failure::Rules);
        }
        if !asked.is_subset(&scope.owned) {
            return Err(Failure::Moved { epoch: 0 });
        }
        let snapshot = self.group.view().engine().snapshot();
        // After the snapshot: it then names every vnode that holds keys in it.
        let occupied = asked.intersection(&self.published.occupied());
        let listed =
            list::list(snapshot.as_ref(), storage, &occupied, list).map_err(engine_failure)?;
        let revisions = listed.items.iter().filter_map(|item| item.record.as_ref());
        let revision = revisions.map(|record| record.mod_revision).max();
        Ok((Body::Listed(listed), revision.unwrap_or(0)))
    }
}

fn failure(error: ConfirmError) -> Failure {
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
