//! What the tests with real processes share.
//!
//! | file | does |
//! |---|---|
//! | `cluster` | starts `caucus dev`, kills nodes, starts them again, takes all down |
//! | `process` | one process: its output, its end, its exit code |
//! | `ports` | ports that nobody uses |
//! | `http` | HTTP/1.1 byte by byte, so that a test sees what a connection does |
//! | `kv` | keys and values over `http` |
//! | `load` | writers that know exactly what the cluster owes them |
//! | `packages` | the machine's package database as records |
//! | `wait` | waiting for conditions |
//! | `sources` | the repository's own files, for `tidy` |
//!
//! Invariant: nothing started here outlives its handle, also if the test panics.
#![allow(
    clippy::disallowed_methods,
    reason = "real processes run on the real clock"
)]

pub mod cluster;
pub mod http;
pub mod kv;
pub mod load;
pub mod packages;
pub mod ports;
pub mod process;
pub mod sources;
pub mod wait;

pub use cluster::{Cluster, Options};
