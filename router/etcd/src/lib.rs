//! The etcd v3 API: what goes over the wire, how requests are checked, and how JSON becomes gRPC.
//!
//! ```text
//!  gRPC ──▶ tonic's server of a service ──┐
//!                                         ├──▶ one implementation of its trait (an Arc)
//!  JSON ──▶ gateway ──────────────────────┘
//! ```
//!
//! Nothing here knows where keys are kept: who implements the traits does.

/// The messages and services of the API.
// Generated: what needs explaining is explained where a message is used.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    rustdoc::all
)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.serde.rs"));
}

/// Keys with their values, and events.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
    include!(concat!(env!("OUT_DIR"), "/mvccpb.serde.rs"));
}

/// The messages and the service of elections.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.serde.rs"));
}

/// The messages and the service of locks.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.serde.rs"));
}

pub mod check;
pub mod codec;
pub mod errors;
pub mod gateway;
mod json;
#[cfg(feature = "testing")]
pub mod real;
#[cfg(feature = "testing")]
pub mod script;

pub use errors::{CancelReason, Error, NO_WATCH};
