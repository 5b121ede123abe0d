//! The catalog: the replicated state of the placement group.
//!
//! ```text
//!  Command ──▶ Catalog::apply ──▶ Outcome { answer, changed, effects }
//!                   │
//!                   └──▶ cluster_map(): what routers and nodes follow
//! ```
//!
//! Pure: no clock, IO or randomness; ids, times and random numbers come in with
//! the command. One door: [`Catalog::apply`], whose arms are calls into one file
//! for each family of verbs. Only `apply` advances the epoch, and exactly when the
//! cluster map changes. A refused command changes nothing.
//!
//! Deliberately absent: deciding (the planner), liveness and load (they stay in
//! memory), granting revisions (the oracle; here is only its ceiling).

mod apply;
mod ceiling;
mod command;
mod groups;
mod init;
mod invariants;
mod nodes;
mod outcome;
mod records;
mod rules;
mod state;
mod wire;

pub use command::{Command, InitCluster, RegisterNode, SetRules};
pub use init::{GROUPS_MAX, REPLICAS_PER_GROUP_MAX};
pub use invariants::Violation;
pub use nodes::{ADDRESS_BYTES_MAX, NODE_ID_MAX, NODES_MAX, ZONE_BYTES_MAX};
pub use outcome::{Answer, Changed, Effect, GroupFault, Outcome, Refusal};
pub use records::{GroupRecord, NodeRecord, Settings, StorageUuid};
pub use state::Catalog;
pub use wire::DecodeError;

#[cfg(test)]
mod tests;
