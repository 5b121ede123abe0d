//! What the tests with real processes share.
//!
//! | file | does |
//! |---|---|
//! | `cluster` | starts `caucus dev`, kills nodes, starts them again, takes all down |
//! | `process` | one process: its output, its end, its exit code |
//! | `ports` | ports that nobody uses |
//! | `disk` | file systems that are soon full |
//! | `http` | HTTP/1.1 byte by byte, so that a test sees what a connection does |
//! | `kv` | keys and values over `http` |
//! | `load` | writers that know exactly what the cluster owes them |
//! | `metrics` | what `/metrics` says |
//! | `packages` | the machine's package database as records |
//! | `random` | numbers that are the same in each run (`caucus-power`'s) |
//! | `servers` | nodes started one by one, whose network, disk and clock can be made to fail |
//! | `strace` | syncs that are slow, or fail |
//! | `wait` | waiting for conditions |
//! | `watch` | watching over `http`, and coming back |
//! | `wires` | the network between nodes: a proxy whose wires can be cut |
//! | `sources` | the repository's own files, for `tidy` |
//!
//! Invariant: nothing started here outlives its handle, also if the test panics.
#![allow(
    clippy::disallowed_methods,
    reason = "real processes run on the real clock"
)]

pub mod cluster;
pub mod disk;
pub mod http;
pub mod kv;
pub mod load;
pub mod metrics;
pub mod packages;
pub mod ports;
pub mod process;
pub mod servers;
pub mod sources;
pub mod strace;
pub mod wait;
pub mod watch;
pub mod wires;

pub use caucus_power::random;
pub use cluster::{Cluster, Options};

/// Says that a test can't be done here, where it is seen: what `print!` writes is kept from view if the test
/// passes.
pub fn say_skipped(why: &str) {
    use std::io::Write;
    // Nobody to tell, then.
    let _ = writeln!(std::io::stderr(), "SKIPPED, a test of the cluster: {why}");
}
