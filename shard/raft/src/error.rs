//! What can happen to a user of a group.

/// Why a proposal has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This replica doesn't lead, or not in the named term: the command was not appended.
    #[error("this replica does not lead the group in that term")]
    NotLeader {
        /// The leader's node, if known.
        leader: Option<u32>,
    },
    /// Leadership was lost after the command was appended: it may be committed, now or later.
    #[error("leadership was lost while the command was under way")]
    Unknown,
    /// The replica has stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

/// Why leadership could not be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// This replica doesn't lead.
    #[error("this replica does not lead the group")]
    NotLeader {
        /// The leader's node, if known.
        leader: Option<u32>,
    },
    /// No majority answered in time.
    #[error("no majority of the group answered in time")]
    NoQuorum,
    /// The replica has stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

/// Why a replica could not be opened or did stop.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] caucus_engine::Error),
    /// What is stored contradicts itself. The replica stays stopped and keeps its data.
    #[error("replica {replica} of group {group} is in doubt: {reason}")]
    InDoubt {
        /// The group.
        group: u32,
        /// The replica.
        replica: u64,
        /// What was found.
        reason: String,
    },
    /// openraft gave up.
    #[error("replica {replica} of group {group} cannot run: {reason}")]
    Fatal {
        /// The group.
        group: u32,
        /// The replica.
        replica: u64,
        /// Its reason.
        reason: String,
    },
}
