//! To give a lock back, or to take it from somebody.

use bytes::Bytes;
use caucus_ring::Revision;
use tokio::time::Instant;

use super::Error;
use super::entry;
use crate::recipes::queue::give_back;
use crate::{RequestName, Router};

/// Gives back what is held, or leaves the queue. The lease that was granted with it ends with it, and with that
/// all keys that were attached to it since.
pub async fn release(
    router: &Router,
    lock: &str,
    key: &Bytes,
    token: u64,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Revision, Error> {
    let (lease, own) = entry::queue(lock).lease(key).ok_or(Error::NotHeld)?;
    let own = own.then_some(lease);
    let given = give_back(router, key, token, own, name, deadline).await?;
    given.ok_or(Error::NotHeld)
}

/// Removes the attempt of a lease, whoever holds it; for operators.
pub async fn force(
    router: &Router,
    lock: &str,
    lease: u64,
    deadline: Instant,
) -> Result<Revision, Error> {
    let (attempts, _) = super::show(router, lock, deadline).await?;
    let mut attempts = attempts.into_iter();
    let attempt = attempts.find(|attempt| attempt.lease == lease);
    let attempt = attempt.ok_or(Error::NotHeld)?;
    release(router, lock, &attempt.key, attempt.token, None, deadline).await
}

/// Whether an attempt stands, and it is its turn.
pub async fn check(
    router: &Router,
    lock: &str,
    key: &Bytes,
    token: u64,
    deadline: Instant,
) -> Result<Revision, Error> {
    let (attempts, revision) = super::show(router, lock, deadline).await?;
    let mut attempts = attempts.into_iter();
    match attempts.find(|attempt| attempt.key == *key && attempt.token == token) {
        Some(attempt) if attempt.holds => Ok(revision),
        Some(_) | None => Err(Error::NotHeld),
    }
}
