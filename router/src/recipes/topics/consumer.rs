//! Durable consumers: what they have acknowledged, under a name.

use bytes::Bytes;
use caucus_api::shard::{RangeRead, Record};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::retain::{self, Removed, json};
use super::{Error, From, inside};
use crate::Router;
use crate::recipes::Steps;
use crate::recipes::steps::below;

/// Attempts when others change the same.
pub(super) const ATTEMPTS_MAX: usize = 64;

/// A durable consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Everything below is acknowledged.
    pub acked: u64,
    /// Its messages are shared by those who fetch.
    pub shared: bool,
    /// Of a shared one: the next that nobody has taken yet.
    #[serde(default)]
    pub(super) next: u64,
    /// Of a shared one: what is taken or acknowledged from `acked` on, in order and without gaps.
    #[serde(default)]
    pub(super) ranges: Vec<Taken>,
}

/// Messages of a shared consumer that somebody has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) from: u64,
    /// Exclusive.
    pub(super) to: u64,
    pub(super) done: bool,
    pub(super) member: String,
    /// Until then nobody else gets them, in ms of Unix time.
    pub(super) until_ms: u64,
    /// How often they were given to somebody.
    pub(super) times: u32,
}

impl Consumer {
    fn read(record: &Record) -> Option<Consumer> {
        serde_json::from_slice(&record.value).ok()
    }

    /// How many messages it has before it.
    pub fn lag(&self, next: u64) -> u64 {
        next.saturating_sub(self.acked)
    }

    /// How many messages somebody has taken and not acknowledged.
    pub fn pending(&self) -> u64 {
        let pending = self.ranges.iter().filter(|taken| !taken.done);
        pending.map(|taken| taken.to - taken.from).sum()
    }
}

pub(super) fn key(topic: &str, name: &str) -> Bytes {
    inside(topic, &format!("c/{name}"))
}

/// A consumer, its record's revision, and the first and the next offset of the topic.
pub(super) async fn look(
    router: &Router,
    topic: &str,
    name: &str,
    deadline: Instant,
) -> Result<(Consumer, u64, (u64, u64)), Error> {
    let steps = Steps::new()
        .read(&key(topic, name))
        .read(&inside(topic, "n"))
        .read(&inside(topic, "r"));
    let mut done = steps.run(router, None, deadline).await?;
    let record = done.record(0).ok_or(Error::NoConsumer)?;
    let next = done.record(1).as_ref().and_then(retain::number);
    let removed = Removed::read(done.record(2).as_ref());
    let mut consumer = Consumer::read(&record).ok_or(Error::NoConsumer)?;
    // What was let go can't be waited for.
    consumer.skip_to(removed.first);
    let ends = (removed.first, next.unwrap_or(0));
    Ok((consumer, record.mod_revision, ends))
}

impl Consumer {
    fn skip_to(&mut self, first: u64) {
        if self.acked >= first {
            return;
        }
        self.acked = first;
        self.next = self.next.max(first);
        self.ranges.retain(|taken| taken.to > first);
        if let Some(taken) = self.ranges.first_mut() {
            taken.from = taken.from.max(first);
        }
    }
}

/// Writes a consumer if it is as it was.
pub(super) async fn write(
    router: &Router,
    topic: &str,
    name: &str,
    consumer: &Consumer,
    revision: u64,
    deadline: Instant,
) -> Result<bool, Error> {
    let key = key(topic, name);
    let steps = Steps::new().if_changed(&key, revision);
    let steps = steps.put(&key, json(consumer));
    Ok(steps.run(router, None, deadline).await?.held)
}

/// Makes a consumer that begins somewhere.
pub async fn create_consumer(
    router: &Router,
    topic: &str,
    name: &str,
    from: From,
    shared: bool,
    deadline: Instant,
) -> Result<Consumer, Error> {
    let standing = retain::show(router, topic, deadline).await?;
    let (first, next) = (standing.first, standing.next);
    let at = match from {
        From::First => first,
        From::Last => next,
        From::Offset(offset) if offset < first => return Err(Error::Gone { offset, first }),
        From::Offset(offset) if offset > next => return Err(Error::Beyond { offset, next }),
        From::Offset(offset) => offset,
    };
    let consumer = Consumer {
        acked: at,
        shared,
        next: at,
        ranges: Vec::new(),
    };
    match write(router, topic, name, &consumer, 0, deadline).await? {
        true => Ok(consumer),
        false => Err(Error::Exists),
    }
}

/// A consumer, and the next offset of the topic.
pub async fn consumer(
    router: &Router,
    topic: &str,
    name: &str,
    deadline: Instant,
) -> Result<(Consumer, u64), Error> {
    let (consumer, _, (_, next)) = look(router, topic, name, deadline).await?;
    Ok((consumer, next))
}

/// All consumers by name, and the next offset of the topic.
pub async fn consumers(
    router: &Router,
    topic: &str,
    deadline: Instant,
) -> Result<(Vec<(String, Consumer)>, u64), Error> {
    let prefix = inside(topic, "c/");
    let steps = Steps::new().read(&inside(topic, "n")).range(RangeRead {
        span: Some(below(&prefix)),
        ..RangeRead::default()
    });
    let mut done = steps.run(router, None, deadline).await?;
    let next = done.record(0).as_ref().and_then(retain::number);
    let items = done.ranged(1).items.into_iter();
    let consumers = items.filter_map(|item| {
        let name = item.key.strip_prefix(&prefix[..])?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        Some((name, Consumer::read(item.record.as_ref()?)?))
    });
    Ok((consumers.collect(), next.unwrap_or(0)))
}

/// Removes a consumer.
pub async fn remove_consumer(
    router: &Router,
    topic: &str,
    name: &str,
    deadline: Instant,
) -> Result<(), Error> {
    let (_, revision, _) = look(router, topic, name, deadline).await?;
    let key = key(topic, name);
    let steps = Steps::new().if_changed(&key, revision).remove(&key);
    match steps.run(router, None, deadline).await?.held {
        true => Ok(()),
        false => Err(Error::Contended),
    }
}

/// Lets a consumer go on somewhere else, forwards or back; what its members have taken is forgotten.
pub async fn seek(
    router: &Router,
    topic: &str,
    name: &str,
    offset: u64,
    deadline: Instant,
) -> Result<Consumer, Error> {
    for _ in 0..ATTEMPTS_MAX {
        let (before, revision, (first, next)) = look(router, topic, name, deadline).await?;
        if offset < first {
            return Err(Error::Gone { offset, first });
        }
        if offset > next {
            return Err(Error::Beyond { offset, next });
        }
        let consumer = Consumer {
            acked: offset,
            shared: before.shared,
            next: offset,
            ranges: Vec::new(),
        };
        if write(router, topic, name, &consumer, revision, deadline).await? {
            return Ok(consumer);
        }
    }
    Err(Error::Contended)
}
