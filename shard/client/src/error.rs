//! Why a node or the placement group has not answered.

use std::sync::Arc;

/// Why a request to a node has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection could be made: the request was certainly not received.
    #[error("cannot connect to {addr}: {reason}")]
    Unreachable {
        /// The node's address.
        addr: Arc<str>,
        /// The operating system's words.
        reason: Arc<str>,
    },
    /// The connection ended after the request was sent, or was about to be: it may have been
    /// received.
    #[error("the connection to {addr} broke")]
    Broken {
        /// The node's address.
        addr: Arc<str>,
    },
    /// As many requests to the node are open as may be: it was not sent.
    #[error("too many requests to {addr} are waiting")]
    Busy {
        /// The node's address.
        addr: Arc<str>,
    },
}

impl CallError {
    /// Whether the node certainly did not receive the request.
    pub fn is_unsent(&self) -> bool {
        match self {
            CallError::Unreachable { .. } | CallError::Busy { .. } => true,
            CallError::Broken { .. } => false,
        }
    }
}

/// Why the placement group has not done what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// No replica answered as leader before the deadline.
    #[error("the placement group did not answer in time: {last}")]
    Unavailable {
        /// What the last attempt ended with.
        last: String,
    },
    /// Final: it can't be done as it was asked.
    #[error("refused by the placement group: {0}")]
    Refused(String),
    /// The request makes no sense to the placement group.
    #[error("invalid request to the placement group: {0}")]
    Invalid(String),
}
