//! `caucus server`, `caucus join` and `caucus config`: from the command line to a checked
//! configuration, and on to the node.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{ConfigArgs, JoinArgs, ServerArgs};
use crate::config::{self, Checked, Layers};
use crate::fatal::Fatal;
use crate::{logging, node};

/// Runs a node until it is told to stop.
pub(crate) fn run(args: ServerArgs) -> Result<(), Fatal> {
    if let Some(parent) = args.parent {
        end_with(parent)?;
    }
    serve(layers(args.config)?.check()?)
}

/// Runs a node that has no number yet and finds the cluster through others.
pub(crate) fn join(args: JoinArgs) -> Result<(), Fatal> {
    if let Some(parent) = args.parent {
        end_with(parent)?;
    }
    let seeds = args.seed.join(",");
    let layers = layers(args.config)?
        .set("node.id", "0", "join")?
        .set("node.roles", "router,shard", "join")?
        .set("cluster.seeds", &seeds, "--seed")?;
    serve(layers.check()?)
}

/// Prints the reference.
pub(crate) fn reference() -> Result<(), Fatal> {
    print!("{}", config::REFERENCE);
    Ok(())
}

/// Prints what a server would run with.
pub(crate) fn check(args: ConfigArgs) -> Result<(), Fatal> {
    print!("{}", layers(args)?.check()?.to_toml());
    Ok(())
}

fn layers(args: ConfigArgs) -> Result<Layers, config::Error> {
    let mut layers = config::surroundings(args.config.as_deref())?;
    let named = [
        ("--data-dir", "node.data_dir", args.data_dir),
        ("--zone", "node.zone", args.zone),
        ("--listen-client", "listen.client", args.listen_client),
        ("--listen-peer", "listen.peer", args.listen_peer),
        ("--log", "log.filter", args.log),
    ];
    for (flag, field, value) in named {
        if let Some(value) = value {
            layers = layers.set(field, &value, flag)?;
        }
    }
    for assignment in &args.set {
        layers = layers.assignment(assignment)?;
    }
    Ok(layers)
}

fn serve(config: Checked) -> Result<(), Fatal> {
    logging::start(&config.log);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match config.node.threads {
        0 => {}
        threads => _ = runtime.worker_threads(threads as usize),
    }
    let runtime = runtime.enable_all().build().map_err(Fatal::failed)?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        stop_on_signal(shutdown.clone()).map_err(Fatal::failed)?;
        Ok(node::run(config, shutdown).await?)
    })
}

/// The first SIGINT or SIGTERM stops the node in good order, the second one ends the process.
fn stop_on_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        for attempt in 0.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            match attempt {
                0 => shutdown.cancel(),
                _ => std::process::exit(1),
            }
        }
    });
    Ok(())
}

/// Asks the system to kill this process when its parent is gone, however that ended.
pub(crate) fn end_with(parent: i32) -> Result<(), Fatal> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(Fatal::failed)?;
    // It may have ended before it was asked for.
    match getppid() == Pid::from_raw(parent) {
        true => Ok(()),
        false => Err(Fatal::failed("the process that started this node is gone")),
    }
}
