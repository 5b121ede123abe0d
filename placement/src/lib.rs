//! The placement of a cluster: who holds what, and what follows when that changes.
//!
//! ```text
//!   requests ──▶ Placement ──┬── oracle      grants revisions from memory, after a quorum round
//!                            ├── reports     who is alive, in the leader's memory
//!                            ├── proposals ──▶ Group (Raft) ──▶ Machine ──▶ catalog
//!                            └── map waits ◀──────────────────── CatalogView
//!   controller (leader only): CatalogView ──▶ decide ──▶ one command ──▶ Group
//! ```
//!
//! `catalog`, `planner`, `liveness` and `grants` are pure; the rest is what drives them. Every replica
//! answers with the cluster map that it has applied; all else is answered by the leader.

pub mod catalog;
mod controller;
mod grants;
pub mod liveness;
mod machine;
mod metrics;
mod oracle;
mod parts;
pub mod planner;
mod propose;
mod reports;
mod requests;
mod service;
mod view;

pub use machine::{ApplyResult, Machine, machine};
pub use metrics::describe as describe_metrics;
pub use oracle::BLOCK_REVISIONS_MAX;
pub use parts::{Bootstrap, Clock, PlacementParts, Voter};
pub use service::Placement;
pub use view::{Applied, CatalogView};

#[cfg(test)]
mod tests;
