//! `caucus`: one binary for nodes, operators and users.
//!
//! ```text
//!   server, join ── config ── node      a node, with the roles of its configuration
//!   dev ── caucus server × N            a cluster on one machine, a process each
//!   kv, txn, watch, import, bench ── endpoints clients of a running cluster
//!   lease, lock, elect, config, service, topic  the same
//!   completions                         nothing runs
//! ```
//!
//! Data goes to standard output and talk to standard error. Exit code 2: the command line, the
//! configuration or the machine has to change first; 1: it was tried and failed.
#![allow(
    clippy::disallowed_methods,
    reason = "the binary is where the real clock and real tasks are handed out"
)]

mod bench;
mod cli;
mod cluster;
mod config;
mod coordinate;
mod dev;
mod endpoints;
mod fatal;
mod identity;
mod import;
mod kv;
mod listen;
mod logging;
mod node;
mod output;
mod server;
mod txn;
mod watch;

use std::future::Future;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use fatal::Fatal;

const _: () = assert!(
    cfg!(feature = "planted") || !caucus_planted::COMPILED_IN,
    "bugs are planted in a binary that is to be shipped: build it apart from what enables them"
);

/// Requests are many small allocations on several threads, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match is_fit().and_then(|()| execute(Cli::parse().command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            if !fatal.message.is_empty() {
                eprintln!("error: {}", fatal.message);
            }
            ExitCode::from(fatal.code)
        }
    }
}

/// A binary with bugs and places to fail at does nothing without one that is named.
#[cfg(feature = "planted")]
fn is_fit() -> Result<(), Fatal> {
    use caucus_planted::{POINTS_VARIABLE, VARIABLE};
    let message = match caucus_planted::from_environment() {
        Ok(Some(_)) => return Ok(()),
        Ok(None) if std::env::var_os(POINTS_VARIABLE).is_some() => return Ok(()),
        Ok(None) => {
            format!("this binary is for tests: {VARIABLE} or {POINTS_VARIABLE} says what fails")
        }
        Err(why) => why,
    };
    Err(Fatal { code: 2, message })
}

#[cfg(not(feature = "planted"))]
fn is_fit() -> Result<(), Fatal> {
    Ok(())
}

fn execute(command: Command) -> Result<(), Fatal> {
    match command {
        Command::Server(args) => server::run(args),
        Command::Join(args) => server::join(args),
        Command::Dev(args) => on_one_core(dev::run(args)),
        Command::Kv(command) => on_one_core(kv::run(command)),
        Command::Txn(args) => on_one_core(txn::run(args)),
        Command::Watch(args) => on_one_core(watch::run(args)),
        Command::Compact(args) => on_one_core(txn::compact(args)),
        Command::Import(command) => on_one_core(import::run(command)),
        Command::Cluster(args) => on_one_core(cluster::run(args)),
        Command::Config(command) => on_one_core(coordinate::config(command)),
        Command::Lease(command) => on_one_core(coordinate::lease(command)),
        Command::Lock(args) => exit_code(on_one_core(coordinate::lock(args))?),
        Command::Elect(args) => exit_code(on_one_core(coordinate::elect(args))?),
        Command::Service(command) => on_one_core(coordinate::service(command)),
        Command::Topic(command) => on_one_core(coordinate::topic(command)),
        Command::Bench(args) => Ok(on_one_core(bench::run(*args))?),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "caucus", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// The exit code of another command is this one's.
fn exit_code(code: u8) -> Result<(), Fatal> {
    let message = String::new();
    match code {
        0 => Ok(()),
        code => Err(Fatal { code, message }),
    }
}

/// Runs on the main thread alone. `dev` counts on it: the system ends its children when the
/// *thread* that started them is gone.
fn on_one_core<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .expect("the system gives an event queue")
        .block_on(future)
}
