//! What can go wrong with a benchmark as a whole, and with one request of it.

/// Why a benchmark has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// A client could not reach its server before the load began.
    #[error("cannot prepare the load on {endpoint}: {cause}")]
    Prepare {
        /// The server that was asked.
        endpoint: String,
        /// What it answered, or why it didn't.
        cause: String,
    },
    /// Not one request of the measured window was answered well.
    #[error("no request succeeded; first error: {0}")]
    NoAnswer(String),
    /// A process of `--pids` can't be read.
    #[error("cannot read the usage of process {pid}: {cause}")]
    Process {
        /// The process that was named.
        pid: u32,
        /// The error of the system.
        cause: std::io::Error,
    },
    /// The load generator itself failed.
    #[error("load thread failed: {0}")]
    Thread(String),
}

/// Why one request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered, but not with success; the connection is still good.
    Refused(String),
    /// The connection is gone or talks nonsense; the next request opens a new one.
    Broken(String),
}

impl Failure {
    /// What to show of it.
    pub(super) fn message(&self) -> &str {
        match self {
            Failure::Refused(message) | Failure::Broken(message) => message,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Broken(error.to_string())
    }
}
