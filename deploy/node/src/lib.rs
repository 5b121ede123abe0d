//! A node, put together: its engine, its network and its clocks are passed in, so that the process of an
//! operator and a simulation run the same one.
//!
//! ```text
//!  clients ───▶ Router ─▶ NodeLinks ─▶ (here) Shard, (elsewhere) peer port
//!  peer port ─▶ Dispatch ─▶ raft Inbox | shard Server | Placement
//!  Host: the replicas of all groups, one engine under them
//! ```
//!
//! Order at start: placement replica (if it has one and lost no other, see `registration`), registration, map, data
//! groups, router. The end is the reverse.
//!
//! Deliberately absent: files, the client port, metrics and signals. They are the process's.

mod directory;
mod dispatch;
mod others;
mod parts;
mod placement;
mod registration;
mod reports;
mod running;

pub use parts::{Error, Parts, Random, Roles, Settings, Surroundings};
pub use running::{Node, Serving};
