//! Topics: messages in one order, kept for a while, read by offset; at least once.
//!
//! ```text
//!  /@topic/name/n               the next offset
//!  /@topic/name/b               bytes published so far
//!  /@topic/name/m/offset        the messages that were published together, under the first one's offset
//!  /@topic/name/p               what is kept: the policy
//!  /@topic/name/r               what has been let go: the first offset that is there
//!  /@topic/name/c/consumer      a durable consumer: what it has acknowledged, and who has taken what
//! ```
//!
//! Offsets are dense, 0, 1, 2, …: a publication takes the next ones when it is applied, so publishers never meet. It
//! is one key, however many messages it has: that is what makes batches fast.
//!
//! Messages are live keys: compaction of the store doesn't touch them. What the policy lets go is removed by
//! whoever publishes, a bounded part at a time.

mod batch;
mod consume;
mod consumer;
mod publish;
mod retain;
mod subscribe;

pub use self::batch::{MESSAGES_MAX, Message, Stored};
pub use self::consume::{Fetched, ack, fetch};
pub use self::consumer::{Consumer, consumer, consumers, create_consumer, remove_consumer, seek};
pub use self::publish::{Published, publish};
pub use self::retain::{Policy, Standing, remove, set_policy, show};
pub use self::subscribe::{Subscription, page};

use bytes::Bytes;

use super::directory;

/// The kind of the directory.
const KIND: &str = "topic";

/// Where to begin to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the first message that is kept.
    First,
    /// After the last one there is.
    Last,
    /// At this offset.
    Offset(u64),
}

/// Why nothing was published or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// Not kept any more.
    #[error("offset {offset} isn't kept any more: the first is {first}")]
    Gone {
        /// What was asked for.
        offset: u64,
        /// The first that is kept.
        first: u64,
    },
    /// Not there yet.
    #[error("offset {offset} is beyond the end: the next message will be {next}")]
    Beyond {
        /// What was asked for.
        offset: u64,
        /// The next offset.
        next: u64,
    },
    /// Acknowledged already.
    #[error("everything below {acked} is acknowledged; `seek` goes back")]
    Behind {
        /// Up to where.
        acked: u64,
    },
    /// There is no such consumer.
    #[error("there is no such consumer")]
    NoConsumer,
    /// There is one of that name.
    #[error("a consumer of this name is there already")]
    Exists,
    /// Whether it is shared or not was decided when it was made.
    #[error("{0}")]
    Kind(&'static str),
    /// Too much is taken and not acknowledged.
    #[error("too many messages are taken and not acknowledged")]
    Full,
    /// Others changed the same at the same time again and again.
    #[error("others change the same at the same time")]
    Contended,
}

fn inside(topic: &str, what: &str) -> Bytes {
    let mut key = directory(KIND, topic).to_vec();
    key.extend_from_slice(what.as_bytes());
    key.into()
}

/// The key of the messages whose first has an offset; it sorts as the offset does.
fn messages_at(topic: &str, offset: u64) -> Bytes {
    inside(topic, &format!("m/{offset:020}"))
}

/// The first offset of a key of messages.
fn offset_of(topic: &str, key: &[u8]) -> Option<u64> {
    let digits = key.strip_prefix(&inside(topic, "m/")[..])?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
