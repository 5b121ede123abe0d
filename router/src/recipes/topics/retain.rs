//! What is kept of a topic.

use bytes::Bytes;
use caucus_api::range::prefix_end;
use caucus_api::shard::{Put, Record};
use caucus_ring::Revision;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::batch::Batch;
use super::{Error, KIND, inside, offset_of};
use crate::recipes::{Steps, directory};
use crate::{Listing, Router};

/// Publications that are removed at a time.
const REMOVED_MAX: usize = 256;

/// What is kept: messages beyond any of these are let go, the oldest first. What was published together goes together,
/// and the newest always stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// So many messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_max: Option<u64>,
    /// So many bytes as they are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// Messages that were published at most this long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds_max: Option<u64>,
}

/// What has been let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Removed {
    /// The first offset that is there.
    pub(super) first: u64,
    /// Bytes that have gone.
    pub(super) bytes: u64,
    /// When what is first now was published, as far as that is known.
    pub(super) first_time_ms: u64,
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The first offset that is kept.
    pub first: u64,
    /// The next one.
    pub next: u64,
    /// Bytes that are kept.
    pub bytes: u64,
    /// What is kept.
    pub policy: Policy,
}

impl Policy {
    pub(super) fn read(record: &Record) -> Option<Policy> {
        serde_json::from_slice(&record.value).ok()
    }

    /// Whether something is to be let go.
    pub(super) fn is_exceeded(
        &self,
        next: u64,
        bytes: u64,
        now_ms: u64,
        removed: &Removed,
    ) -> bool {
        let over = |limit: Option<u64>, is: u64| limit.is_some_and(|limit| is > limit);
        over(self.messages_max, next.saturating_sub(removed.first))
            || over(self.bytes_max, bytes.saturating_sub(removed.bytes))
            || self.is_too_old(removed.first_time_ms, now_ms)
    }

    fn is_too_old(&self, time_ms: u64, now_ms: u64) -> bool {
        let age = now_ms.saturating_sub(time_ms);
        let limit = self.age_seconds_max;
        limit.is_some_and(|limit| age > limit.saturating_mul(1000))
    }
}

impl Removed {
    pub(super) fn read(record: Option<&Record>) -> Removed {
        let read = record.and_then(|record| serde_json::from_slice(&record.value).ok());
        read.unwrap_or_default()
    }
}

pub(super) fn json(stored: &impl Serialize) -> Put {
    Put {
        // It can be written: it has no maps.
        value: serde_json::to_vec(stored).unwrap_or_default().into(),
        content_type: "application/json".to_owned(),
        ..Put::default()
    }
}

pub(super) fn number(record: &Record) -> Option<u64> {
    std::str::from_utf8(&record.value).ok()?.parse().ok()
}

/// Lets go of what the policy doesn't keep, a bounded part of it. Two that do it at the same time don't do it twice.
pub(super) async fn let_go(router: &Router, topic: &str, deadline: Instant) -> Result<(), Error> {
    let (standing, removed, revision) = look(router, topic, deadline).await?;
    let now_ms = (router.options().unix_ms)();
    let start = inside(topic, "m/");
    let listing = Listing {
        end: prefix_end(&start).unwrap_or_default(),
        start,
        // One more shows that the last one isn't the newest.
        limit: REMOVED_MAX + 1,
        ..Listing::default()
    };
    let page = router.list(&listing, Revision(0), deadline).await?;
    let mut after = removed;
    let mut steps = Steps::new().if_changed(&inside(topic, "r"), revision);
    for pair in page.items.windows(2) {
        let (item, next) = (&pair[0], &pair[1]);
        let time_ms = batch(item).time_ms;
        after.first_time_ms = time_ms;
        let total = standing.bytes + removed.bytes;
        let policy = &standing.policy;
        if !policy.is_exceeded(standing.next, total, now_ms, &after) {
            break;
        }
        steps = steps.remove(&item.key);
        after.bytes += item.record.as_ref().map_or(0, |record| record.value.len()) as u64;
        after.first = offset_of(topic, &next.key).unwrap_or(after.first);
        after.first_time_ms = batch(next).time_ms;
    }
    if after != removed {
        let steps = steps.put(&inside(topic, "r"), json(&after));
        steps.run(router, None, deadline).await?;
    }
    Ok(())
}

fn batch(item: &caucus_api::shard::Item) -> Batch {
    let value = item.record.as_ref().map(|record| &record.value);
    value.map_or_else(Batch::default, Batch::read)
}

/// The topic, what has been let go, and the revision of that record.
pub(super) async fn look(
    router: &Router,
    topic: &str,
    deadline: Instant,
) -> Result<(Standing, Removed, u64), Error> {
    let steps = Steps::new()
        .read(&inside(topic, "n"))
        .read(&inside(topic, "b"))
        .read(&inside(topic, "p"))
        .read(&inside(topic, "r"));
    let mut done = steps.run(router, None, deadline).await?;
    let next = done.record(0).as_ref().and_then(number).unwrap_or(0);
    let bytes = done.record(1).as_ref().and_then(number).unwrap_or(0);
    let policy = done.record(2).as_ref().and_then(Policy::read);
    let record = done.record(3);
    let removed = Removed::read(record.as_ref());
    let standing = Standing {
        first: removed.first,
        next,
        bytes: bytes.saturating_sub(removed.bytes),
        policy: policy.unwrap_or_default(),
    };
    Ok((
        standing,
        removed,
        record.map_or(0, |record| record.mod_revision),
    ))
}

/// How a topic stands.
pub async fn show(router: &Router, topic: &str, deadline: Instant) -> Result<Standing, Error> {
    Ok(look(router, topic, deadline).await?.0)
}

/// Says what is kept.
pub async fn set_policy(
    router: &Router,
    topic: &str,
    policy: &Policy,
    deadline: Instant,
) -> Result<Revision, Error> {
    let steps = Steps::new().put(&inside(topic, "p"), json(policy));
    let done = steps.run(router, None, deadline).await?;
    let_go(router, topic, deadline).await?;
    Ok(done.revision)
}

/// Removes a topic with its consumers: its offsets begin anew.
pub async fn remove(router: &Router, topic: &str, deadline: Instant) -> Result<Revision, Error> {
    let all: Bytes = directory(KIND, topic);
    let steps = Steps::new().remove_below(&all);
    Ok(steps.run(router, None, deadline).await?.revision)
}
