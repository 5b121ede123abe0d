//! The messages between routers, data groups and the placement group, and the log of a data group.
//!
//! One definition in `proto/` serves all; the modules are generated. The bytes are for ever: fields
//! are only ever added, and `tests/golden.rs` pins the encodings that stand in logs.

/// Data groups: log commands, state records, requests.
pub mod shard {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/caucus.shard.rs"));
}

/// The placement group's requests.
pub mod placement {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/caucus.placement.rs"));
}

pub mod arrange;
mod failure;
mod groups;
pub mod interests;
pub mod limits;
pub mod range;
pub mod txn;

pub use failure::{Failure, Outlook};
pub use groups::{Groups, ReplyTo};
