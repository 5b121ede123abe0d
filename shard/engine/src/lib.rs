//! The storage engine: one ordered, atomic, two-space key-value store a node.
//!
//! A node keeps the Raft logs ([`Space::Log`]) and the states ([`Space::State`]) of all its
//! groups in one engine, so that one write-ahead log orders them: state is never durable ahead of
//! the log entry it came from.
//!
//! Two implementations run the same contract suite:
//!
//! - [`rocks::RocksEngine`] keeps its data in RocksDB;
//! - [`memory::MemoryEngine`] models what is synced and what is not, for simulation, and serves
//!   nodes that keep nothing on disk.
//!
//! What holds for both:
//!
//! - A [`WriteBatch`] is atomic and ordered. What survives a crash is a prefix of the batches,
//!   and at least every batch written before a [`Engine::sync`] that completed.
//! - A write is visible when [`Engine::write`] returns and durable when a later sync completes.
//! - A failed sync is final. The kernel may have dropped the pages it couldn't write, so a second
//!   fsync that succeeds proves nothing; the engine refuses writes until it is opened again.
//!
//! Absent on purpose: transactions, merge operators, time to live, compaction filters. The crate
//! knows no other crate of the workspace, and no RocksDB type leaves it.
//!
//! [`keys`] holds the layout of every key and [`record`] the framing of log records. Both are
//! bytes on disk: pinned by golden tests, never changed in place.

#![deny(missing_docs)]

mod batch;
mod engine;
mod error;
pub mod keys;
pub mod memory;
pub mod record;
pub mod rocks;

pub use batch::{Op, WriteBatch};
pub use engine::{Direction, Engine, Reader, Scan, Snapshot, Space, SpaceState, Stats, SyncDone};
pub use error::Error;
