//! `caucus dev`: a whole cluster on loopback, each node a child process of this one.
//!
//! ```text
//!   layout ──▶ DIR/node-1/caucus.toml ──▶ child 1 ─┐ ends
//!              DIR/node-n/caucus.toml ──▶ child n ─┤──────▶ supervise ──▶ "ready URL", exit code
//!                                        signals ──┘
//! ```
//!
//! Invariant: no child outlives this process, however it ends; see `child`.
//!
//! Absent on purpose: restarting a child that died. Who kills a node wants to see what the others do.

mod child;
mod layout;

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::config::Engine;
use crate::endpoints::{self, Endpoints};
use crate::fatal::Fatal;
use crate::server::end_with;
use child::{Ended, Stop};
use layout::Place;

/// Between two questions whether all nodes are ready.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// What nodes get to stop in good order.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Run a whole cluster on this machine, each node in a process of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes [default: those that the data directory holds, else 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) nodes: Option<u32>,

    /// Data groups of a new cluster [default: two a node].
    #[arg(long)]
    pub(crate) groups: Option<u32>,

    /// Where the nodes keep everything.
    #[arg(long, default_value = "./caucus-dev-data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,

    /// Client port of the first node; each further one is 10 above, peer ports are 1 above.
    #[arg(long, default_value_t = 7400)]
    pub(crate) port: u16,

    /// Storage engine of the nodes; `memory` forgets everything at the end.
    #[arg(long, value_enum, default_value = "rocksdb")]
    pub(crate) engine: Engine,

    /// Any field of the configuration, for all nodes.
    #[arg(long, value_name = "SECTION.FIELD=VALUE")]
    pub(crate) set: Vec<String>,

    /// End together with this process, which started us.
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) parent: Option<i32>,
}

/// Starts the cluster and runs it until a signal, or until no node is left.
pub(crate) async fn run(args: Args) -> Result<(), Fatal> {
    if let Some(parent) = args.parent {
        end_with(parent)?;
    }
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Fatal::failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Fatal::failed)?;
    let places = layout::places(&args)?;
    for place in &places {
        place.write()?;
    }
    let (stop, stop_asked) = watch::channel(Stop::No);
    let (ended, mut ends) = mpsc::channel(places.len());
    for place in &places {
        let pid = child::start(place, stop_asked.clone(), ended.clone())?;
        eprintln!("node {} pid {pid} {}", place.id, place.url());
    }
    drop(ended);
    let outcome = tokio::select! {
        outcome = supervise(&places, &mut ends) => outcome,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    take_down(stop, ends).await;
    outcome
}

/// Says when the cluster serves and which nodes end; returns when it can't go on.
async fn supervise(places: &[Place], ends: &mut mpsc::Receiver<Ended>) -> Result<(), Fatal> {
    let endpoints = endpoints::of_dev(places.iter().map(Place::url))?;
    let mut ready = false;
    let mut left = places.len();
    while left > 0 {
        tokio::select! {
            () = all_ready(&endpoints), if !ready => {
                println!("ready {}", places[0].url());
                ready = true;
            }
            Some(end) = ends.recv() => {
                if !ready {
                    return Err(Fatal {
                        code: end.code(),
                        message: format!("node {} ended: {}", end.node, end.reason()),
                    });
                }
                left -= 1;
                eprintln!("node {} ended: {}", end.node, end.reason());
            }
        }
    }
    Err(Fatal::failed("no node is left"))
}

async fn all_ready(endpoints: &Endpoints) {
    for index in 0..endpoints.len() {
        while !endpoints.is_ready(index).await {
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }
}

/// Asks all nodes to stop, and makes those that don't.
async fn take_down(stop: watch::Sender<Stop>, mut ends: mpsc::Receiver<Ended>) {
    let all_ended = async { while ends.recv().await.is_some() {} };
    tokio::pin!(all_ended);
    stop.send_replace(Stop::Terminate);
    if tokio::time::timeout(STOP_TIMEOUT, &mut all_ended)
        .await
        .is_err()
    {
        stop.send_replace(Stop::Kill);
        all_ended.await;
    }
}
