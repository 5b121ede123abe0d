//! Why the router gave a request up.

/// A request that was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Error {
    /// Why.
    pub reason: Reason,
    /// What has become of it.
    pub outcome: Outcome,
}

impl Error {
    /// Nothing can be asked of anybody yet.
    pub(crate) fn no_map(outcome: Outcome) -> Error {
        Error {
            reason: Reason::Unavailable("there is no cluster map yet".to_owned()),
            outcome,
        }
    }

    /// A key was to be attached to a lease that there isn't.
    pub(crate) fn lease_not_found() -> Error {
        Error {
            reason: Reason::LeaseNotFound,
            outcome: Outcome::NotApplied,
        }
    }

    /// Whether a write was refused only because its id is too old: under another one it may go on.
    pub(crate) fn is_stale_id(&self) -> bool {
        self.reason == Reason::Expired && self.outcome == Outcome::NotApplied
    }
}

/// What has become of a request that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It only reads.
    Read,
    /// The write has not been applied and will not be.
    NotApplied,
    /// The write may have been applied, or may still be.
    Unknown,
}

/// Why a request was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A disk is full.
    #[error("no space left on a node's disk")]
    NoSpace,
    /// Older than what the group remembers.
    #[error("the request is older than what the group remembers")]
    Expired,
    /// The asked-for revision does not exist yet.
    #[error("the revision has not been granted yet")]
    FutureRevision,
    /// The asked-for revision is compacted.
    #[error("nothing below revision {revision} is kept")]
    Compacted {
        /// The lowest that can be read.
        revision: u64,
    },
    /// The client gave this request the name of another one, which was executed.
    #[error("this Idempotency-Key was given to another request before")]
    NameTaken,
    /// The lease that a key was to be attached to isn't there.
    #[error("there is no such lease")]
    LeaseNotFound,
    /// A transaction met an older one.
    #[error("an older transaction is in the way")]
    Conflict,
    /// It makes no sense to the group.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// Queues stayed full until the deadline.
    #[error("too many requests are waiting: {0}")]
    Busy(String),
    /// Nobody could do it until the deadline; what the last attempt ended with.
    #[error("no node could answer in time: {0}")]
    Unavailable(String),
    /// It was under way when the deadline passed.
    #[error("the deadline passed while the request was under way")]
    Deadline,
}
