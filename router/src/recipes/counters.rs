//! Counters and sequences: a decimal integer that is added to.
//!
//! A sequence is a counter of which numbers are taken: one at a time without gaps, or a block for speed,
//! whose rest is lost with whoever took it. No number is given twice: an addition that is tried again
//! is the same one.

use bytes::Bytes;
use caucus_api::limits::NUMBER_TYPE;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::{Put, Record};
use caucus_ring::Revision;
use tokio::time::Instant;

use super::{Steps, directory};
use crate::{RequestName, Router};

/// The kind of the directory.
const KIND: &str = "counter";

/// A counter at a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Its value; 0 if it was never counted.
    pub value: i64,
    /// The revision of its last change; 0: there is none.
    pub changed: Revision,
    /// The store's revision at which this was so.
    pub revision: Revision,
}

/// Why a counter wasn't changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// The sum doesn't fit 64 bits.
    #[error("the sum would not be a signed 64-bit number")]
    Overflow,
    /// Somebody wrote something else at its key.
    #[error("what stands at the counter's key is no number")]
    NotANumber,
}

fn key(name: &str) -> Bytes {
    let mut key = directory(KIND, name).to_vec();
    key.extend_from_slice(b"value");
    key.into()
}

/// Reads a counter.
pub async fn read(router: &Router, name: &str, deadline: Instant) -> Result<Count, Error> {
    let read = router.get(key(name), false, Revision(0), deadline).await?;
    let record = read.record.unwrap_or_default();
    Ok(Count {
        value: number(&record)?,
        changed: Revision(record.mod_revision),
        revision: read.revision,
    })
}

/// Adds to a counter; the value after it.
pub async fn add(
    router: &Router,
    counter: &str,
    number: i64,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Count, Error> {
    let steps = Steps::new().add(&key(counter), number);
    let mut done = steps.run(router, name, deadline).await?;
    match done.problem.as_ref().map(|problem| problem.kind()) {
        None => {}
        Some(ProblemKind::Overflow) => return Err(Error::Overflow),
        Some(_) => return Err(Error::NotANumber),
    }
    let record = done.changed(0).record.unwrap_or_default();
    Ok(Count {
        value: self::number(&record)?,
        changed: done.revision,
        revision: done.store,
    })
}

/// Sets a counter, whatever it was.
pub async fn set(
    router: &Router,
    counter: &str,
    value: i64,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Count, Error> {
    let put = Put {
        value: value.to_string().into(),
        content_type: NUMBER_TYPE.to_owned(),
        ..Put::default()
    };
    let steps = Steps::new().put(&key(counter), put);
    let done = steps.run(router, name, deadline).await?;
    Ok(Count {
        value,
        changed: done.revision,
        revision: done.store,
    })
}

/// Forgets a counter: it is 0 again.
pub async fn remove(
    router: &Router,
    counter: &str,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Revision, Error> {
    let steps = Steps::new().remove(&key(counter));
    Ok(steps.run(router, name, deadline).await?.store)
}

fn number(record: &Record) -> Result<i64, Error> {
    if record.value.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(&record.value).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or(Error::NotANumber)
}
