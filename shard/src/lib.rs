//! The data groups of a node: sequencing, state, reads, watches.
//!
//! ```text
//!  Requests ─▶ Shard ─▶ Sequencer ─▶ raft::Group ─▶ state::GroupState ─▶ engine
//!                ├────▶ Reads ─▶ confirm ─▶ engine               │
//!                └────▶ watch::Hub ◀── feed of changes ◀─────────┘
//! ```
//!
//! Deliberately absent so far, with room in the formats: moves of vnodes.

mod compaction;
mod driver;
mod inflight;
mod lessor;
mod list;
mod metrics;
mod names;
mod options;
mod patience;
mod reads;
mod requests;
mod revisions;
mod sequencer;
mod server;
mod shard;
pub mod state;
#[cfg(test)]
mod tests;
mod watch;

pub use driver::OtherGroups;
pub use metrics::describe as describe_metrics;
pub use names::Clock;
pub use options::Options;
pub use revisions::RevisionSource;
pub use server::Server;
pub use shard::{Activations, Led, Shard, ShardParts};
