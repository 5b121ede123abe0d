//! One attempt of a transaction over groups, from Prepared to the answer.

use std::time::Duration;

use caucus_api::Failure;
use caucus_api::shard::reply::Body;
use caucus_api::shard::request::Body as Ask;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Abort, Answer, Commit, Decide, Forget, Part, Prepare, TxnDone, Write};
use caucus_planted as planted;
use futures::future::join_all;
use prost::Message;
use tokio::time::{Instant, sleep};

use super::{Driver, Live};
use crate::sequencer::WriteJob;
use crate::state::txn;

/// Of a request's time, this is kept for the steps after the last Prepare.
const DECIDE_RESERVE: Duration = Duration::from_millis(500);
/// A step that ends an attempt may take this long before it is left to recovery.
const END_WAIT: Duration = Duration::from_secs(10);
/// A transaction that met an older one pauses this long, so that it doesn't meet it again at once.
const CONFLICT_PAUSE: Duration = Duration::from_millis(2);

/// How an attempt ended.
enum End {
    /// Answered so.
    Answer(TxnDone),
    /// Not committed, certainly.
    Failed(Failure),
    /// Nobody here knows: another leader takes it up.
    Lost(Failure),
}

impl Driver {
    pub(super) async fn run(&self, job: WriteJob, live: Live, age: u64, part: Part) {
        let Some((write, prepare)) = decode(&job) else {
            return job.fail(Failure::Internal(
                "a transaction that was read once".to_owned(),
            ));
        };
        let begun = Instant::now();
        let meters = self.parts.meters.clone();
        let end = self.attempt(&write, &prepare, &live, age, part, job.deadline);
        match end.await {
            End::Answer(done) => {
                if done.problem.is_none() {
                    meters.committed.increment(1);
                    meters.txn_seconds.record(begun.elapsed().as_secs_f64());
                }
                let revision = done.revision;
                job.answer(Body::Txn(done), revision);
            }
            End::Failed(Failure::Conflict) => {
                meters.conflicts.increment(1);
                self.begin_anew(job, write, prepare, age).await;
            }
            End::Failed(failure) => {
                meters.aborted.increment(1);
                job.fail(failure);
            }
            End::Lost(failure) => job.fail(failure),
        }
    }

    /// The same request with the age of its first attempt.
    async fn begin_anew(&self, mut job: WriteJob, mut write: Write, prepare: Prepare, age: u64) {
        if job.deadline <= Instant::now() + CONFLICT_PAUSE {
            return job.fail(Failure::Deadline { unknown: false });
        }
        sleep(CONFLICT_PAUSE).await;
        write.action = Some(Action::Prepare(Prepare { age, ..prepare }));
        job.encoded = write.encode_to_vec().into();
        self.send(job);
    }

    async fn attempt(
        &self,
        write: &Write,
        prepare: &Prepare,
        live: &Live,
        age: u64,
        own: Part,
        deadline: Instant,
    ) -> End {
        let attempt = live.attempt;
        let Some(tree) = &prepare.txn else {
            return End::Failed(Failure::Invalid("there is no transaction".to_owned()));
        };
        planted::at(planted::TXN_COORDINATOR_PREPARED);
        let mut parts = vec![own];
        let others = self
            .prepare_others(write, prepare, attempt, age, deadline)
            .await;
        for part in others {
            match part {
                Ok(part) => parts.push(part),
                Err(failure) => return self.abort(write, prepare, attempt, failure).await,
            }
        }
        let path = txn::path(tree, &txn::holds(tree, &txn::merge_parts(&parts)));
        let problems = parts.iter().flat_map(|part| &part.problems);
        if let Some(problem) = txn::first_problem(tree, &path, problems) {
            return match self.abort(write, prepare, attempt, Failure::Conflict).await {
                End::Failed(_) => End::Answer(TxnDone {
                    problem: Some(problem),
                    ..TxnDone::default()
                }),
                end => end,
            };
        }
        planted::at(planted::TXN_ALL_PREPARED);
        let decided = step(
            write,
            Action::Decide(Decide {
                attempt,
                path: path.clone(),
            }),
        );
        match self.here(decided, deadline).await {
            Ok(Body::Txn(done)) => self.finish(write, prepare, attempt, done, deadline).await,
            Ok(_) => End::Lost(Failure::Internal(
                "a decision was answered with nothing".to_owned(),
            )),
            // Somebody has aborted it.
            Err(Failure::Conflict) => End::Failed(Failure::Conflict),
            Err(Failure::Deadline { unknown: false }) => {
                let failure = Failure::Deadline { unknown: false };
                self.abort(write, prepare, attempt, failure).await
            }
            Err(_) if planted::is(planted::TOLD_BEFORE_DECIDED) => End::Answer(TxnDone {
                revision: attempt,
                forgotten: true,
                ..TxnDone::default()
            }),
            Err(failure) => End::Lost(unknown(failure)),
        }
    }

    async fn prepare_others(
        &self,
        write: &Write,
        prepare: &Prepare,
        attempt: u64,
        age: u64,
        deadline: Instant,
    ) -> Vec<Result<Part, Failure>> {
        let reserve = DECIDE_RESERVE.min(deadline.saturating_duration_since(Instant::now()) / 4);
        let joined = step(
            write,
            Action::Prepare(Prepare {
                attempt,
                age,
                ..prepare.clone()
            }),
        );
        let encoded: bytes::Bytes = joined.encode_to_vec().into();
        let asks = self.others_of(prepare).map(|group| {
            let ask = Ask::Write(encoded.clone());
            async move {
                match self.there(group, ask, deadline - reserve).await {
                    Ok(Body::Prepared(part)) => Ok(part),
                    Ok(Body::Txn(TxnDone {
                        problem: Some(problem),
                        ..
                    })) => Ok(Part {
                        problems: vec![problem],
                        ..Part::default()
                    }),
                    Ok(_) => Err(Failure::Conflict),
                    Err(failure) => Err(failure),
                }
            }
        });
        join_all(asks).await
    }

    fn others_of<'p>(&self, prepare: &'p Prepare) -> impl Iterator<Item = u32> + use<'p> {
        let own = self.this_group();
        let groups = prepare
            .participants
            .iter()
            .map(|participant| participant.group);
        groups.filter(move |group| *group != own)
    }

    /// Ends an attempt that isn't decided. What the client is told holds only if that is in the log.
    async fn abort(&self, write: &Write, prepare: &Prepare, attempt: u64, failure: Failure) -> End {
        let aborted = step(write, Action::Abort(Abort { attempt }));
        let deadline = Instant::now() + END_WAIT;
        match self.here(aborted.clone(), deadline).await {
            Ok(Body::Txn(done)) => {
                return self.finish(write, prepare, attempt, done, deadline).await;
            }
            Ok(_) => {}
            Err(failure) => return End::Lost(unknown(failure)),
        }
        // Who isn't reached asks by itself.
        let encoded: bytes::Bytes = aborted.encode_to_vec().into();
        for group in self.others_of(prepare) {
            let (this, ask) = (self.clone(), Ask::Write(encoded.clone()));
            tokio::spawn(async move { _ = this.there(group, ask, deadline).await });
        }
        End::Failed(definite(failure))
    }

    /// After the decision: commits everywhere, collects the answers, forgets.
    async fn finish(
        &self,
        write: &Write,
        prepare: &Prepare,
        attempt: u64,
        decided: TxnDone,
        deadline: Instant,
    ) -> End {
        planted::at(planted::TXN_DECIDED);
        let (revision, path) = (decided.revision, decided.path.clone());
        let forgotten = decided.forgotten;
        // Commits go on after the client's time is up.
        let (this, context) = (self.clone(), (write.clone(), prepare.clone(), path.clone()));
        let committing = tokio::spawn(async move {
            let (write, prepare, path) = context;
            this.commit_others(&write, &prepare, attempt, revision, &path)
                .await
        });
        let Some(tree) = &prepare.txn else {
            return End::Failed(Failure::Invalid("there is no transaction".to_owned()));
        };
        if !forgotten && let Some(answers) = txn::known(tree, &path, &decided.answers) {
            // The decision is in the log, and the locks hide what isn't committed yet.
            return End::Answer(TxnDone {
                revision,
                path,
                answers,
                ..TxnDone::default()
            });
        }
        let answers = match tokio::time::timeout_at(deadline, committing).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) | Err(_) => return End::Lost(Failure::Deadline { unknown: true }),
        };
        let all: Option<Vec<Vec<Answer>>> = answers.into_iter().collect();
        let done = TxnDone {
            revision,
            ..TxnDone::default()
        };
        match all {
            Some(mut parts) if !forgotten => {
                parts.insert(0, decided.answers);
                End::Answer(TxnDone {
                    answers: txn::merge_answers(tree, &path, parts),
                    path,
                    ..done
                })
            }
            // An earlier driver had the answers: they are read again.
            Some(_) | None => match self.read_again(write, prepare, revision, deadline).await {
                Ok(done) => End::Answer(done),
                Err(failure) => End::Lost(unknown(failure)),
            },
        }
    }

    /// Commits in all other participants; their answers, `None` from those that had committed before or
    /// could not be reached. If all have confirmed, the decision is forgotten.
    pub(super) async fn commit_others(
        &self,
        write: &Write,
        prepare: &Prepare,
        attempt: u64,
        revision: u64,
        path: &[bool],
    ) -> Vec<Option<Vec<Answer>>> {
        let deadline = Instant::now() + END_WAIT;
        let commit = Action::Commit(Commit {
            attempt,
            revision,
            path: path.to_vec(),
        });
        let encoded: bytes::Bytes = step(write, commit).encode_to_vec().into();
        let asks = self.others_of(prepare).map(|group| {
            let ask = Ask::Write(encoded.clone());
            async move {
                let reply = self.there(group, ask, deadline).await;
                if reply.is_ok() {
                    planted::at(planted::TXN_ONE_COMMITTED);
                }
                reply
            }
        });
        let replies = join_all(asks).await;
        let confirmed = replies
            .iter()
            .all(|reply| matches!(reply, Ok(Body::Txn(_))));
        if confirmed || planted::is(planted::DECISION_FORGOTTEN_EARLY) {
            planted::at(planted::TXN_ALL_COMMITTED);
            // Not waited for: should it fail, recovery asks again.
            let (this, forget) = (
                self.clone(),
                step(write, Action::Forget(Forget { attempt })),
            );
            tokio::spawn(async move { _ = this.here(forget, deadline).await });
        }
        let answers = replies.into_iter().map(|reply| match reply {
            Ok(Body::Txn(done)) if !done.forgotten => Some(done.answers),
            Ok(_) | Err(_) => None,
        });
        answers.collect()
    }
}

/// A step of a transaction, with the keys of the request that it belongs to.
pub(super) fn step(write: &Write, action: Action) -> Write {
    Write {
        action: Some(action),
        condition: None,
        ..write.clone()
    }
}

pub(super) fn decode(job: &WriteJob) -> Option<(Write, Prepare)> {
    let mut write = Write::decode(job.encoded.clone()).ok()?;
    match write.action.take() {
        Some(Action::Prepare(prepare)) => Some((write, prepare)),
        Some(_) | None => None,
    }
}

/// A participant's failure leaves nothing behind: the attempt was aborted.
fn definite(failure: Failure) -> Failure {
    match failure {
        Failure::Unavailable { reason, .. } => Failure::Unavailable {
            reason,
            unknown: false,
        },
        Failure::Deadline { .. } => Failure::Deadline { unknown: false },
        Failure::Internal(reason) => Failure::Unavailable {
            reason,
            unknown: false,
        },
        // Of the participant, not of this group.
        Failure::NotLeader { .. } | Failure::NoReplica => Failure::Unavailable {
            reason: "a participant of the transaction has no leader".to_owned(),
            unknown: false,
        },
        Failure::Moved { .. }
        | Failure::Busy(_)
        | Failure::NoSpace
        | Failure::Expired
        | Failure::FutureRevision
        | Failure::Invalid(_)
        | Failure::Rules
        | Failure::Compacted { .. }
        | Failure::NameTaken
        | Failure::Conflict => failure,
    }
}

fn unknown(failure: Failure) -> Failure {
    match failure {
        Failure::Deadline { .. } => Failure::Deadline { unknown: true },
        failure => Failure::Unavailable {
            reason: failure.to_string(),
            unknown: true,
        },
    }
}
