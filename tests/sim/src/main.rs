//! `caucus-sim`: a whole cluster in one process and one thread, with everything from one seed.
//!
//! ```text
//!  seed ─▶ Plan ─▶ World: hosts (runtime, clocks, disk) ─── wire ─── hosts with routers and clients
//!                    ▲ Nemesis: crashes, cuts, pauses, disks          │ Recorder
//!                    └─ step by step ─▶ healed ─▶ judge ◀─────────────┘ caucus-history
//! ```
//!
//! What runs is the product: `caucus_node` on the in-memory engine, whose un-synced data a crash loses.
//! Only sockets, disks, clocks and randomness are simulated. The same seed gives the same trace, byte for byte; so a
//! failure is found again by its number.

mod clients;
mod entropy;
mod host;
mod judge;
mod leaders;
mod lessees;
mod lockers;
mod many;
mod nemesis;
mod plain;
mod plan;
mod run;
mod scene;
mod socket;
mod takers;
mod trace;
mod watchers;
mod wire;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Simulates clusters, each from one seed.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Args {
    /// Runs this seed alone
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Runs so many seeds
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    seeds: u64,
    /// The first of them; by default one that was never used
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// Prints all that happens
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Simulated seconds with faults
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    length: u64,
    /// Begins no seed after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Writes what came of all seeds to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// So many at a time; by default one a core
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
    /// The bug that is planted in every run; with more than one seed, the first that finds it ends them.
    /// `all`: one after the other
    #[arg(long, value_name = "NAME")]
    planted: Option<String>,
    /// Where histories of runs that failed are kept
    #[arg(long, value_name = "DIR", default_value = "target/sim")]
    keep: PathBuf,
}

/// The log of the simulated nodes goes to standard error if this is set, as `RUST_LOG` would be.
const LOG: &str = "CAUCUS_SIM_LOG";

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(seed) = args.seed else {
        return many::run(&args);
    };
    if std::env::var_os(LOG).is_some() {
        let filter = tracing_subscriber::EnvFilter::from_env(LOG);
        let log = tracing_subscriber::fmt().with_env_filter(filter);
        log.with_writer(std::io::stderr).init();
    }
    #[cfg(feature = "planted")]
    let planted = match args.planted.as_deref().map(caucus_planted::Bug::named) {
        Some(None) => return unknown_bug(),
        planted => planted.flatten(),
    };
    #[cfg(not(feature = "planted"))]
    if args.planted.is_some() {
        return unknown_bug();
    }
    let report = run::run(run::Order {
        seed,
        #[cfg(feature = "planted")]
        planted,
        length: args.length * 1000,
        traces: args.trace,
        keep: args.keep,
    });
    println!("{}", report.value);
    ExitCode::from(u8::from(!report.is_ok))
}

fn unknown_bug() -> ExitCode {
    if caucus_planted::COMPILED_IN {
        let names = caucus_planted::ALL.map(|bug| bug.name);
        eprintln!("there are the bugs {}", names.join(", "));
    } else {
        eprintln!(
            "no bugs are compiled into this program: tests/sim/planted builds one that has them"
        );
    }
    ExitCode::from(2)
}
