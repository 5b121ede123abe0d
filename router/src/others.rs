//! The way of a data group to another one, for transactions over several.

use caucus_api::Failure;
use caucus_api::shard::request::Body;
use caucus_api::shard::{Reply, Txn, TxnDone};
use caucus_ring::GroupId;
use tokio::time::Instant;

use crate::attempt::{Stop, Target};
use crate::retry::Retry;
use crate::{Error, Outcome, Reason, Router};

impl Router {
    /// Asks the leader of a group, again until there is an answer or the deadline passes. What is asked
    /// is sent as it is: it may arrive twice, and if it names vnodes, these are the sender's matter.
    pub async fn ask_group(
        &self,
        group: u32,
        body: &Body,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let table = self.table().ok_or_else(|| Failure::Unavailable {
            reason: "there is no cluster map yet".to_owned(),
            unknown: false,
        })?;
        let is_write = matches!(body, Body::Write(_));
        let retry = Retry::new(is_write, u64::from(group));
        let target = Target::Group(&table, GroupId(group));
        match self
            .run_target(target, body, 0, retry, deadline, None)
            .await
        {
            Ok(reply) => Ok(reply),
            Err(Stop::Stale) => Err(Failure::Moved { epoch: 0 }),
            Err(Stop::Failed(error)) => Err(failure(error)),
        }
    }

    /// Executes a transaction that a group asks for.
    pub async fn transact_for_group(
        &self,
        txn: Txn,
        deadline: Instant,
    ) -> Result<TxnDone, Failure> {
        let transacted = self.txn(txn, deadline).await.map_err(failure)?;
        Ok(transacted.done)
    }
}

fn failure(error: Error) -> Failure {
    let unknown = error.outcome == Outcome::Unknown;
    match error.reason {
        Reason::NoSpace => Failure::NoSpace,
        Reason::Expired => Failure::Expired,
        Reason::FutureRevision => Failure::FutureRevision,
        Reason::Compacted { revision } => Failure::Compacted { revision },
        Reason::LeaseNotFound => Failure::Invalid("there is no such lease".to_owned()),
        Reason::Conflict => Failure::Conflict,
        Reason::NameTaken => Failure::NameTaken,
        Reason::Invalid(why) => Failure::Invalid(why),
        Reason::Busy(what) => Failure::Busy(what),
        Reason::Unavailable(reason) => Failure::Unavailable { reason, unknown },
        Reason::Deadline => Failure::Deadline { unknown },
    }
}
