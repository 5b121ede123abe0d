//! Watching a group: routers ask again and again what has changed of the keys that they watch.
//!
//! ```text
//!  apply ─▶ feed ─▶ hub ─┬─ session of a router: its interests, how far it has been told
//!                        │     ▲ Follow (turn, what else it watches) ── answered when there is something
//!                        └─ mark: a round that shows that nothing at or below a revision follows
//! ```
//!
//! A router holds one question open for each group. What it watches is told once and kept by the leader,
//! so that a question is small; if leader or router lose count, the router tells it all again. An event
//! goes to a router once, however many of its clients watch the key.

mod feed;
mod hub;
mod mark;
mod past;
mod session;

#[cfg(test)]
pub(crate) use feed::Since;
pub(crate) use feed::{Change, Feed};
pub(crate) use hub::{FollowJob, Hub};
pub(crate) use past::past;
pub(crate) use session::{interests, wants};
