//! The way into the data groups of a node, the same for a request from a link and for one from the
//! router in the same process.

use crate::shard::{Reply, Request, SessionProgress};

/// Takes the answer of one request. Runs on the group's task and must not block.
pub type ReplyTo = Box<dyn FnOnce(Reply) + Send>;

/// The data groups that a node serves.
pub trait Groups: Send + Sync + 'static {
    /// Takes one request; `reply` is called exactly once, with [`Reply::call`] equal to the
    /// request's. Never blocks: a full queue is answered with `BUSY`.
    fn submit(&self, request: Request, reply: ReplyTo);

    /// Notes how far the sending session has got; it goes into the log with the next write.
    fn progress(&self, progress: SessionProgress);
}
