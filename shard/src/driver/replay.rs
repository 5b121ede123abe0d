//! The answer to a transaction that was executed before, read again in the history below its revision.

use caucus_api::Failure;
use caucus_api::shard::reply::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Prepare, TxnDone, Write};
use prost::Message;
use tokio::time::Instant;

use super::Driver;
use crate::sequencer::WriteJob;

impl Driver {
    pub(super) async fn answer_again(&self, job: WriteJob, revision: u64) {
        let answer = match Write::decode(job.encoded.clone()) {
            Ok(write) => {
                self.read_request_again(&write, revision, job.deadline)
                    .await
            }
            Err(error) => Err(Failure::Internal(error.to_string())),
        };
        match answer {
            Ok(done) => job.answer(Body::Txn(done), revision),
            Err(failure) => job.fail(failure),
        }
    }

    async fn read_request_again(
        &self,
        write: &Write,
        revision: u64,
        deadline: Instant,
    ) -> Result<TxnDone, Failure> {
        match &write.action {
            Some(Action::Prepare(prepare)) => {
                self.read_again(write, prepare, revision, deadline).await
            }
            Some(Action::Txn(tree)) => {
                let prepare = self.alone(tree)?;
                self.read_again(write, &prepare, revision, deadline).await
            }
            // An id that was used for something else.
            Some(_) | None => Ok(forgotten(revision)),
        }
    }

    pub(super) async fn read_again(
        &self,
        write: &Write,
        prepare: &Prepare,
        revision: u64,
        deadline: Instant,
    ) -> Result<TxnDone, Failure> {
        let before = revision.saturating_sub(1);
        let evaluated = self.evaluate(write, prepare, before, deadline).await;
        match evaluated {
            Ok(Some(done)) if done.problem.is_none() => Ok(TxnDone { revision, ..done }),
            // It can't be read any more.
            Ok(_) | Err(Failure::Compacted { .. }) => Ok(forgotten(revision)),
            Err(failure) => Err(failure),
        }
    }
}

/// It was executed at a revision; what it answered isn't known any more.
fn forgotten(revision: u64) -> TxnDone {
    TxnDone {
        revision,
        forgotten: true,
        ..TxnDone::default()
    }
}
