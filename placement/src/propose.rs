//! Proposing a command of the catalog and waiting for what it did.

use std::time::Duration;

use bytes::Bytes;
use caucus_raft::{Group, ProposeError};
use tokio::time::timeout;

use crate::catalog::{Answer, Command, Refusal};
use crate::machine::ApplyResult;

/// A proposal that isn't applied after so long has lost its majority; it may be applied later.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unproposed {
    /// It was not appended.
    NotLeader { leader: Option<u32> },
    /// It may be applied, now or later. All commands can be proposed again.
    Unknown(String),
    /// It changed nothing.
    Refused(Refusal),
}

/// Proposes in `term` and waits until it is applied here.
pub(crate) async fn propose(
    group: &Group,
    term: u64,
    command: &Command,
) -> Result<Answer, Unproposed> {
    let proposed = async {
        let reply = group.propose(term, Bytes::from(command.encode())).await?;
        reply.await
    };
    let reply = match timeout(PROPOSE_TIMEOUT, proposed).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(ProposeError::NotLeader { leader })) => {
            return Err(Unproposed::NotLeader { leader });
        }
        Ok(Err(error @ (ProposeError::Unknown | ProposeError::Stopped(_)))) => {
            return Err(Unproposed::Unknown(error.to_string()));
        }
        Err(_) => {
            let reason = "the placement group did not commit in time";
            return Err(Unproposed::Unknown(reason.to_owned()));
        }
    };
    match reply.take::<ApplyResult>() {
        Some(result) => result.map_err(Unproposed::Refused),
        None => Err(Unproposed::Unknown("the catalog gave no answer".to_owned())),
    }
}
