//! Locks: mutexes, read/write locks and semaphores, strictly first come, first served.
//!
//! An attempt is a key in the lock's directory that holds what it asks for, attached to a lease; the [queue]
//! says whose turn it is. The key's create revision is the *fencing token*: it rises with each holder of a name,
//! for ever. Whoever checks it where the work is done is safe from holders that believe too long that they hold;
//! nobody else is (design.md §9.10).
//!
//! Unless the caller brings a lease, one is granted with the attempt, at home beside it: so to take a lock that
//! is free is one entry of one group's log, and to release it another one.
//!
//! [queue]: super::queue

mod acquire;
mod entry;
mod release;
mod show;

pub use self::acquire::acquire;
pub use self::entry::{Kind, PERMITS_MAX};
pub use self::release::{check, force, release};
pub use self::show::{Attempt, show};

use std::time::Duration;

use caucus_ring::Revision;

use super::queue::Ended;

/// The kind of the directory.
const KIND: &str = "lock";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What kind of lock it is.
    pub kind: Kind,
    /// How long it is held without a sign of life, in seconds. With a lease, that one's time counts.
    pub ttl_s: u64,
    /// After so long without a sign of life it is given to the next only after so many more seconds.
    pub delay_s: u64,
    /// How long to wait for it; zero: not at all.
    pub wait: Duration,
    /// A note about who holds it.
    pub owner: String,
    /// The caller's lease.
    pub lease: Option<u64>,
}

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The key of the attempt.
    pub key: bytes::Bytes,
    /// Its create revision: the fencing token.
    pub token: u64,
    /// The lease that keeps it.
    pub lease: u64,
    /// The store's revision.
    pub revision: Revision,
}

/// Why a lock isn't held, or not released.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// Others hold it, and went on to as long as the caller waited.
    #[error("the lock is held, and {ahead} are before you")]
    NotAcquired {
        /// How many attempts came before.
        ahead: usize,
    },
    /// The lease of the attempt ended, or somebody removed it.
    #[error("the lease of the attempt has ended, or it was removed")]
    Lost,
    /// There is no such lease.
    #[error("there is no such lease")]
    LeaseNotFound,
    /// Those who use a lock at the same time must agree on what it is.
    #[error("the lock is in use as another kind, or with another number of permits: {used}")]
    OtherKind {
        /// What it is used as.
        used: String,
    },
    /// Nobody holds it under this key and token.
    #[error("no attempt stands under this key and token")]
    NotHeld,
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Error {
        match ended {
            Ended::Store(error) => Error::Store(error),
            Ended::LeaseNotFound => Error::LeaseNotFound,
            Ended::Lost => Error::Lost,
            Ended::Late { ahead } => Error::NotAcquired { ahead },
        }
    }
}
