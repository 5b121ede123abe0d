//! Many Raft groups in one process: openraft behind our own log, wire and state.
//!
//! ```text
//!            Group (propose, confirm, leadership)        one a replica
//!              │
//!   openraft ──┼── log/    one writer and one fsync for all groups
//!              ├── net/    appends, votes, leaders' standing, snapshots as frames of the peers' links
//!              └── state/  StateMachine of the layer above, one engine batch a round of applies
//! ```
//!
//! No type of openraft leaves this crate, and none of its encodings reaches a disk or a socket: both
//! are ours (`wire`), so another version of it can't change bytes. Snapshots are never files: the
//! state is in the engine always, so "building" one names it and sending one scans it.
//!
//! Deliberately absent: lease reads (a restarted voter may vote while the old leader's lease lasts),
//! hibernation of groups, quorum reads from followers.

mod aside;
mod confirm;
mod error;
mod group;
mod host;
mod log;
mod metrics;
mod net;
mod options;
mod pulse;
mod state;
#[cfg(test)]
mod tests;
mod types;
mod wire;

pub use aside::aside;
pub use confirm::Confirmed;
pub use error::{ConfirmError, HostError, ProposeError};
pub use group::{Group, Leadership, Progress};
pub use host::{Host, HostParts};
pub use metrics::describe as describe_metrics;
pub use net::{Directory, Inbox};
pub use options::Options;
pub use state::{Position, StateMachine, StateView, Txn};
pub use types::Reply;
