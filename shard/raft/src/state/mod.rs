//! The state of a replica: what the layer above implements, and how openraft drives it.

mod adapter;
mod machine;
mod places;
mod txn;

pub(crate) use adapter::{Adapter, OpenraftSnapshot, SnapshotSource, StateSnapshot};
pub use machine::{Position, StateMachine};
pub(crate) use places::Places;
pub use txn::{StateView, Txn};
