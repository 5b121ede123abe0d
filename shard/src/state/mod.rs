//! The state machine of a data group: commands in, outcomes out.
//!
//! ```text
//!  Command ──▶ GroupState::apply ──▶ owner? seen? rules? revision? ──▶ put / delete ──▶ Outcome
//!                                     │                                    │
//!                                     └ Refusal: no trace anywhere         ├ record, vnode record
//!                                                                          └ de-duplication record
//! ```
//!
//! Invariants: a write on a vnode that the group doesn't own changes nothing; an id executes once;
//! revisions rise along the log; all that a round of entries changes enters the engine as one batch.
//! What is kept in memory (vnode records, heads, the de-duplication table) is derived from the engine and
//! read again when a snapshot takes its place.

mod attempts;
pub(crate) mod changes;
mod dedup;
mod heads;
mod idempotent;
pub(crate) mod leases;
mod machine;
mod number;
mod ownership;
mod published;
pub(crate) mod record;
#[cfg(test)]
mod tests;
mod transact;
pub(crate) mod txn;
pub(crate) mod versions;
mod write;

pub(crate) use attempts::Standing;
pub use machine::{Applied, GroupState, Refusal, Verdict};
pub use published::Published;
pub(crate) use published::Scope;
pub use txn::Holder;

/// The highest revision applied in the state that a reader sees.
pub(crate) fn highest(
    reader: &dyn caucus_engine::Reader,
    storage: caucus_engine::keys::StorageId,
) -> Result<u64, caucus_engine::Error> {
    record::position(reader, storage).map(|position| position.highest)
}
