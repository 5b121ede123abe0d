//! To publish.

use caucus_api::shard::{Put, Sequence};
use caucus_ring::Revision;
use prost::Message as _;
use tokio::time::Instant;

use super::batch::{Batch, CONTENT_TYPE, Message};
use super::retain::{self, Policy, Removed};
use super::{Error, inside};
use crate::recipes::Steps;
use crate::{RequestName, Router};

/// What was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The offset of the first message.
    pub first: u64,
    /// The offset of the last one.
    pub last: u64,
    /// When.
    pub revision: Revision,
}

/// Publishes messages, of which there is at least one; they follow each other. The same name of a request
/// publishes once.
pub async fn publish(
    router: &Router,
    topic: &str,
    messages: Vec<Message>,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Published, Error> {
    let count = messages.len() as u64;
    let time_ms = (router.options().unix_ms)();
    let batch = Batch { messages, time_ms }.encode_to_vec();
    let bytes = batch.len();
    let steps = Steps::new()
        .sequence(Sequence {
            counter: inside(topic, "n"),
            prefix: inside(topic, "m/"),
            count,
            put: Some(Put {
                value: batch.into(),
                content_type: CONTENT_TYPE.to_owned(),
                ..Put::default()
            }),
        })
        .add(&inside(topic, "b"), bytes as i64)
        .read(&inside(topic, "p"))
        .read(&inside(topic, "r"));
    let mut done = steps.run(router, name, deadline).await?;
    let sequenced = done.sequenced(0);
    let published = Published {
        first: sequenced.first,
        last: sequenced.first + count - 1,
        revision: done.revision,
    };
    let total = done.changed(1).record;
    let total = total.and_then(|record| retain::number(&record));
    if let Some(policy) = done.record(2).as_ref().and_then(Policy::read) {
        let removed = Removed::read(done.record(3).as_ref());
        let (next, bytes) = (published.last + 1, total.unwrap_or(0));
        if policy.is_exceeded(next, bytes, time_ms, &removed) {
            let (router, topic) = (router.clone(), topic.to_owned());
            tokio::spawn(async move {
                let deadline = Instant::now() + router.options().timeout;
                if let Err(error) = retain::let_go(&router, &topic, deadline).await {
                    tracing::debug!(topic, %error, "old messages are let go later");
                }
            });
        }
    }
    Ok(published)
}
