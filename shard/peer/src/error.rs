//! What can go wrong between two nodes.

/// The link is closed; nothing more will be sent or arrive on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the peer is closed")]
pub struct Gone;

/// Why a call to a peer has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection could be made: the request was certainly not received.
    #[error("cannot connect to {addr}: {reason}")]
    Unreachable {
        /// The peer's address.
        addr: String,
        /// The operating system's words.
        reason: String,
    },
    /// The connection broke after the request was queued: it may or may not have been received.
    #[error("the connection to {addr} broke")]
    Broken {
        /// The peer's address.
        addr: String,
    },
    /// No answer came in time: the request may or may not have been received.
    #[error("{addr} did not answer in time")]
    Timeout {
        /// The peer's address.
        addr: String,
    },
    /// The answer is not what this service answers.
    #[error("{addr} sent an answer that cannot be read: {reason}")]
    Malformed {
        /// The peer's address.
        addr: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CallError {
    /// Whether the peer certainly didn't receive the request.
    pub fn is_unsent(&self) -> bool {
        matches!(self, CallError::Unreachable { .. })
    }
}
