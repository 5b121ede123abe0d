//! How far this process's session has got, shared between who finishes requests and who sends.

use std::sync::atomic::{AtomicU64, Ordering};

use caucus_api::shard::SessionProgress;

/// The session's watermark: all its sequences below `finished_below` are finished and will never be
/// sent again. It only rises, so a reader that sees an old value says too little and never too much.
#[derive(Debug)]
pub struct Progress {
    session: u64,
    finished_below: AtomicU64,
    stamp: AtomicU64,
}

impl Progress {
    /// The start of a session; `session` is random and never used again.
    pub fn new(session: u64) -> Progress {
        Progress {
            session,
            finished_below: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
        }
    }

    /// The session's number.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Raises the watermark.
    pub fn raise(&self, finished_below: u64, stamp: u64) {
        // A plain load first: most requests finish out of order and raise nothing.
        if self.finished_below.load(Ordering::Relaxed) < finished_below {
            self.finished_below
                .fetch_max(finished_below, Ordering::Relaxed);
        }
        if self.stamp.load(Ordering::Relaxed) < stamp {
            self.stamp.fetch_max(stamp, Ordering::Relaxed);
        }
    }

    /// The watermark.
    pub fn finished_below(&self) -> u64 {
        self.finished_below.load(Ordering::Relaxed)
    }

    /// As it is told to nodes.
    pub fn message(&self) -> SessionProgress {
        SessionProgress {
            session: self.session,
            finished_below: self.finished_below(),
            stamp: self.stamp.load(Ordering::Relaxed),
        }
    }
}
