//! Transactions that write in no branch: snapshot reads over their groups, without an entry in any log.
//!
//! They read as of the revision that the caller names in `at_least`, one that was granted before it asked:
//! then everything that anybody was told of is in it (protocols.md §5 and §6).

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::reply::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Evaluate, Prepare, Problem, TxnDone, Write};
use prost::Message;
use tokio::time::Instant;

use super::Driver;
use crate::sequencer::WriteJob;
use crate::state::txn;

impl Driver {
    /// Answers a transaction that only reads.
    pub(crate) fn read_only(&self, job: WriteJob) {
        let Ok(place) = self.parts.waiting.clone().try_acquire_owned() else {
            return job.fail(Failure::Busy("transactions that only read".to_owned()));
        };
        let this = self.clone();
        tokio::spawn(async move {
            let (at, encoded, deadline) = (job.at_least, job.encoded.clone(), job.deadline);
            match this.read_as_of(encoded, at, deadline).await {
                Ok(done) => job.answer(Body::Txn(done), at),
                Err(failure) => job.fail(failure),
            }
            drop(place);
        });
    }

    async fn read_as_of(
        &self,
        encoded: Bytes,
        at: u64,
        deadline: Instant,
    ) -> Result<TxnDone, Failure> {
        let write = Write::decode(encoded);
        let mut write = write.map_err(|error| Failure::Internal(error.to_string()))?;
        let prepare = match write.action.take() {
            Some(Action::Prepare(prepare)) => prepare,
            Some(Action::Txn(tree)) => self.alone(&tree)?,
            Some(_) | None => return Err(Failure::Internal("it reads nothing".to_owned())),
        };
        let evaluated = self.evaluate_at(&write, &prepare, at, deadline).await;
        evaluated.map_err(|failure| match failure {
            // What was compacted meanwhile is newer than `at`: a newer one will do as well.
            Failure::Compacted { .. } => Failure::Busy("the revision was compacted".to_owned()),
            failure => failure,
        })
    }

    async fn evaluate_at(
        &self,
        write: &Write,
        prepare: &Prepare,
        at: u64,
        deadline: Instant,
    ) -> Result<TxnDone, Failure> {
        let Some(tree) = &prepare.txn else {
            return Ok(TxnDone::default());
        };
        let evaluate = Evaluate {
            txn: Some(tree.clone()),
            base: at,
            ..Evaluate::default()
        };
        let path = match txn::has_compares(tree) {
            // Nothing is to be known before the branch is.
            false => txn::path(tree, &[]),
            true => {
                let mut parts = Vec::new();
                for body in self
                    .evaluate_all(write, prepare, &evaluate, deadline)
                    .await?
                {
                    match body {
                        Body::Prepared(part) => parts.push(part),
                        _ => return Err(nonsense()),
                    }
                }
                txn::path(tree, &txn::holds(tree, &txn::merge_parts(&parts)))
            }
        };
        let evaluate = Evaluate {
            answers: true,
            path: path.clone(),
            ..evaluate
        };
        let (mut parts, mut problems) = (Vec::new(), Vec::<Problem>::new());
        for body in self
            .evaluate_all(write, prepare, &evaluate, deadline)
            .await?
        {
            match body {
                Body::Txn(done) => {
                    problems.extend(done.problem);
                    parts.push(done.answers);
                }
                _ => return Err(nonsense()),
            }
        }
        if let Some(problem) = txn::first_problem(tree, &path, &problems) {
            return Ok(TxnDone {
                problem: Some(problem),
                ..TxnDone::default()
            });
        }
        Ok(TxnDone {
            revision: at,
            answers: txn::merge_answers(tree, &path, parts),
            path,
            ..TxnDone::default()
        })
    }
}

fn nonsense() -> Failure {
    Failure::Internal("a group answered another question".to_owned())
}
