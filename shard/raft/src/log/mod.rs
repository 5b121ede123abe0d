//! Raft logs of all groups of a node in one engine.
//!
//! ```text
//!  RaftCore (one a group) ──append──▶ Log: tail cache ──op──▶ Writer (one a node) ─▶ engine.write
//!        ▲                                   │ readable at once                  ─▶ engine.sync
//!        └────────── IOFlushed, after the sync that covers it ◀───────────────────────┘
//! ```
//!
//! Invariants: what a log reader sees of entries that are not yet written comes from the tail
//! cache; votes and appends reach the engine in the order in which openraft asked for them; a
//! callback runs only after a sync that began after its write.

mod mark;
mod read;
mod store;
mod tail;
mod writer;

pub(crate) use mark::{Mark, Marks};
pub(crate) use read::OpenError;
pub(crate) use store::{Log, LogHandle, LogPlace};
#[cfg(test)]
pub(crate) use writer::stopped;
pub(crate) use writer::{Op, Writer};
