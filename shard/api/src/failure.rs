//! Why a group didn't do what it was asked: errors as data, with what to do next.

use crate::shard::{Error, error::Code};

/// A request's failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Another replica leads; the node, if known.
    #[error("this replica does not lead the group")]
    NotLeader {
        /// The leading node, if known.
        leader: Option<u32>,
    },
    /// The group doesn't own the key's vnode at this point of its log.
    #[error("the key has moved to another group")]
    Moved {
        /// A map of at least this epoch says where.
        epoch: u64,
    },
    /// A queue is full.
    #[error("too many requests are waiting: {0}")]
    Busy(String),
    /// The disk is full.
    #[error("no space left on the node's disk")]
    NoSpace,
    /// The group, or the placement group, has no leader with a majority. `unknown`: the write may
    /// have been applied.
    #[error("no majority answered in time: {reason}")]
    Unavailable {
        /// What was being waited for.
        reason: String,
        /// Whether the write may have been applied or may still be.
        unknown: bool,
    },
    /// The request is older than what the group remembers of requests.
    #[error("the request is older than what the group remembers")]
    Expired,
    /// The asked-for revision doesn't exist yet.
    #[error("the revision has not been granted yet")]
    FutureRevision,
    /// The request makes no sense to the group.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// This node has no replica of the group.
    #[error("this node has no replica of the group")]
    NoReplica,
    /// The node can't serve the group: its replica stopped.
    #[error("internal: {0}")]
    Internal(String),
    /// The caller's deadline passed. `unknown` as in `Unavailable`.
    #[error("the deadline passed")]
    Deadline {
        /// Whether the write may have been applied or may still be.
        unknown: bool,
    },
    /// The routing rules of sender and group differ.
    #[error("the group has other routing rules")]
    Rules,
    /// The revision that was asked for is compacted.
    #[error("nothing below revision {revision} is kept")]
    Compacted {
        /// The lowest that can be read.
        revision: u64,
    },
    /// The client gave this request the name of another one, which was executed.
    #[error("this name was given to another request before")]
    NameTaken,
    /// The transaction met an older one: it is to begin anew, with its age.
    #[error("an older transaction is in the way")]
    Conflict,
}

/// What a sender can do about a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Ask again, elsewhere, at once.
    Redirect,
    /// Follow the map to a newer epoch, then ask again.
    Refresh,
    /// Ask again after a pause.
    Retry,
    /// Final.
    Final,
}

impl Failure {
    /// What the sender can do. A retry of a write is safe because it carries its request id.
    pub fn outlook(&self) -> Outlook {
        match self {
            Failure::NotLeader { .. } | Failure::NoReplica => Outlook::Redirect,
            Failure::Moved { .. } | Failure::Rules => Outlook::Refresh,
            Failure::Busy(_)
            | Failure::Unavailable { .. }
            | Failure::Internal(_)
            | Failure::Conflict => Outlook::Retry,
            Failure::NoSpace
            | Failure::Expired
            | Failure::FutureRevision
            | Failure::Invalid(_)
            | Failure::Compacted { .. }
            | Failure::NameTaken
            | Failure::Deadline { .. } => Outlook::Final,
        }
    }

    /// Whether a write that failed so may have been applied, or may still be.
    pub fn is_unknown(&self) -> bool {
        match self {
            Failure::Unavailable { unknown, .. } | Failure::Deadline { unknown } => *unknown,
            Failure::Internal(_) => true,
            Failure::NotLeader { .. }
            | Failure::Moved { .. }
            | Failure::Busy(_)
            | Failure::NoSpace
            | Failure::Expired
            | Failure::FutureRevision
            | Failure::Invalid(_)
            | Failure::NoReplica
            | Failure::Compacted { .. }
            | Failure::Conflict
            | Failure::NameTaken
            | Failure::Rules => false,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let (code, leader_node, epoch) = match &failure {
            Failure::NotLeader { leader } => (Code::NotLeader, leader.unwrap_or(0), 0),
            Failure::Moved { epoch } => (Code::Moved, 0, *epoch),
            Failure::Busy(_) => (Code::Busy, 0, 0),
            Failure::NoSpace => (Code::NoSpace, 0, 0),
            Failure::Unavailable { .. } => (Code::Unavailable, 0, 0),
            Failure::Expired => (Code::Expired, 0, 0),
            Failure::FutureRevision => (Code::FutureRevision, 0, 0),
            Failure::Invalid(_) => (Code::Invalid, 0, 0),
            Failure::NoReplica => (Code::NoReplica, 0, 0),
            Failure::Internal(_) => (Code::Internal, 0, 0),
            Failure::Deadline { .. } => (Code::Deadline, 0, 0),
            Failure::Rules => (Code::Rules, 0, 0),
            Failure::Compacted { .. } => (Code::Compacted, 0, 0),
            Failure::Conflict => (Code::Conflict, 0, 0),
            Failure::NameTaken => (Code::NameTaken, 0, 0),
        };
        let revision = match &failure {
            Failure::Compacted { revision } => *revision,
            _ => 0,
        };
        let message = match &failure {
            Failure::Invalid(text) | Failure::Internal(text) | Failure::Busy(text) => text.clone(),
            Failure::Unavailable { reason, .. } => reason.clone(),
            _ => String::new(),
        };
        Error {
            code: code as i32,
            message,
            leader_node,
            epoch,
            outcome_unknown: failure.is_unknown(),
            revision,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let unknown = error.outcome_unknown;
        match error.code() {
            Code::NotLeader => Failure::NotLeader {
                leader: Some(error.leader_node).filter(|node| *node != 0),
            },
            Code::Moved => Failure::Moved { epoch: error.epoch },
            Code::Busy => Failure::Busy(error.message),
            Code::NoSpace => Failure::NoSpace,
            Code::Unavailable => Failure::Unavailable {
                reason: error.message,
                unknown,
            },
            Code::Expired => Failure::Expired,
            Code::FutureRevision => Failure::FutureRevision,
            Code::Invalid => Failure::Invalid(error.message),
            Code::NoReplica => Failure::NoReplica,
            Code::Internal | Code::Unspecified => Failure::Internal(error.message),
            Code::Deadline => Failure::Deadline { unknown },
            Code::Rules => Failure::Rules,
            Code::Compacted => Failure::Compacted {
                revision: error.revision,
            },
            Code::Conflict => Failure::Conflict,
            Code::NameTaken => Failure::NameTaken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_survive_the_wire() {
        for failure in [
            Failure::NotLeader { leader: Some(3) },
            Failure::NotLeader { leader: None },
            Failure::Moved { epoch: 9 },
            Failure::Busy("the group's queue of reads".to_owned()),
            Failure::NoSpace,
            Failure::NameTaken,
            Failure::Unavailable {
                reason: "the oracle".to_owned(),
                unknown: true,
            },
            Failure::Expired,
            Failure::FutureRevision,
            Failure::Invalid("no".to_owned()),
            Failure::NoReplica,
            Failure::Internal("x".to_owned()),
            Failure::Deadline { unknown: false },
            Failure::Rules,
            Failure::Compacted { revision: 7 },
            Failure::Conflict,
        ] {
            assert_eq!(Failure::from(Error::from(failure.clone())), failure);
        }
    }
}
