//! Transactions that write in no branch: snapshot reads over their groups, without an entry in any log.
//!
//! They read as of the revision that the caller names in `at_least`, one that was granted before it asked:
//! then everything that anybody was told of is in it (protocols.md §5 and §6).

use bytes::Bytes;
use caucus_api::Failure;
use caucus_api::shard::reply::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{TxnDone, Write};
use prost::Message;
use tokio::time::Instant;

use super::Driver;
use crate::sequencer::WriteJob;

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
        match self.evaluate(&write, &prepare, at, deadline).await {
            Ok(Some(done)) if done.problem.is_some() => Ok(done),
            Ok(Some(done)) => Ok(TxnDone {
                revision: at,
                ..done
            }),
            Ok(None) => Err(Failure::Internal(
                "a group answered another question".to_owned(),
            )),
            // What was compacted meanwhile is newer than `at`: a newer one will do as well.
            Err(Failure::Compacted { .. }) => {
                Err(Failure::Busy("the revision was compacted".to_owned()))
            }
            Err(failure) => Err(failure),
        }
    }
}
