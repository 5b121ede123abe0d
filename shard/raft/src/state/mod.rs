//! The state of a replica: what the layer above implements, and how openraft drives it.

mod adapter;
mod machine;
mod places;
mod staged;
mod txn;

pub(crate) use adapter::{Adapter, OpenraftSnapshot, SnapshotSource, StateSnapshot};
pub use machine::{Position, StateMachine};
pub(crate) use places::Places;
pub(crate) use staged::Staged;
pub use txn::{StateView, Txn};
