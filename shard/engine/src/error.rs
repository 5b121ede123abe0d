//! What a storage operation can do to its caller.

/// Result of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine, as data: callers ask it questions, they don't parse its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file system has no room. From a write it means that nothing was written.
    #[error("no space left for storage: {context}")]
    NoSpace {
        /// What was refused or failed.
        context: String,
    },
    /// Bytes on disk are not what was written. The replica concerned must not go on.
    #[error("storage is corrupt: {context}")]
    Corruption {
        /// What was found.
        context: String,
    },
    /// The directory holds something this engine cannot open: another program's files, another
    /// format version.
    #[error("storage has another format: {context}")]
    Format {
        /// What was found.
        context: String,
    },
    /// The operating system refused an operation.
    #[error("storage input/output failed: {context}")]
    Io {
        /// What was refused.
        context: String,
    },
    /// A sync failed earlier. Reads go on; no write or sync succeeds until the engine is opened
    /// again, because nobody knows what of the un-synced data reached the disk.
    #[error("storage stopped after a failed sync: {0}")]
    Poisoned(Box<Error>),
    /// The engine is closed, or crashed in a simulation.
    #[error("storage is closed")]
    Closed,
}

impl Error {
    /// Whether the cause is a full file system; also true of a sync that failed for it.
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::NoSpace { .. } => true,
            Error::Poisoned(cause) => cause.is_no_space(),
            Error::Corruption { .. } | Error::Format { .. } | Error::Io { .. } | Error::Closed => {
                false
            }
        }
    }

    /// Whether stored bytes were found damaged.
    pub fn is_corruption(&self) -> bool {
        match self {
            Error::Corruption { .. } => true,
            Error::Poisoned(cause) => cause.is_corruption(),
            Error::NoSpace { .. } | Error::Format { .. } | Error::Io { .. } | Error::Closed => {
                false
            }
        }
    }

    /// Whether the engine must be opened again before it can accept another write.
    pub fn needs_reopen(&self) -> bool {
        match self {
            Error::Poisoned(_) | Error::Closed | Error::Corruption { .. } => true,
            Error::NoSpace { .. } | Error::Format { .. } | Error::Io { .. } => false,
        }
    }

    /// The error every operation gets after a sync failed for `cause`.
    pub(crate) fn poisoned(cause: Error) -> Error {
        match cause {
            Error::Poisoned(_) => cause,
            cause => Error::Poisoned(Box::new(cause)),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let context = error.to_string();
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::NoSpace { context }
            }
            _ => Error::Io { context },
        }
    }
}
