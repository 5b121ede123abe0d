//! `caucus bench`: a closed-loop load generator.
//!
//! Every logical client has exactly one request in flight and sends the next one when the answer is
//! there. The same keys and values go to Caucus (HTTP and etcd's gRPC), to etcd (gRPC and JSON
//! gateway) and to ZooKeeper, so that the numbers compare.
//!
//! ```text
//!   run ── prepare ──▶ thread 1: connect, preload ─┐
//!    │                 thread n: connect, preload ─┤
//!    │◀───────────────── prepared ─────────────────┘
//!    ├── schedule ──▶  every client: request, answer, record, again
//!    ├── reads /proc of the servers where the measured window begins and ends
//!    └── report        one histogram, merged from the threads
//! ```
//!
//! Invariant: an answer counts if it arrives inside the measured window, whatever it says; errors
//! are never part of the latencies or of the throughput.
//!
//! Absent on purpose: open-loop load, pipelining, TLS, retries. A failed request is a counted error.
#![allow(
    clippy::disallowed_methods,
    reason = "a load generator measures with the real clock and runs its own tasks"
)]

mod args;
mod driver;
mod error;
mod etcd_grpc;
mod http;
mod keyspace;
mod process;
mod report;
mod scenario;
mod tally;
mod target;
mod workload;
mod zookeeper;

use std::sync::Arc;

pub(crate) use args::Args;
pub(crate) use error::Error;

/// Runs one benchmark and prints its report to standard output.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let args = Arc::new(args.validate()?);
    let outcome = match args.workload.is_scenario() {
        true => scenario::drive(&args).await?,
        false => driver::drive(Arc::clone(&args)).await?,
    };
    let report = report::Report::new(&args, &outcome);
    match args.output {
        args::Output::Table => print!("{}", report.to_table()),
        args::Output::Json => println!("{}", report.to_json()),
    }
    match report.requests {
        0 => Err(Error::NoAnswer(report.first_error.unwrap_or_default())),
        _ => Ok(()),
    }
}
