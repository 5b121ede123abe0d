//! The command line: every command and option, nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::endpoints::Cluster;
use crate::{bench, coordinate, dev, import, kv, txn, watch};

/// Caucus: a sharded coordination service.
#[derive(Debug, Parser)]
#[command(name = "caucus", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node.
    Server(ServerArgs),
    /// Run a node that joins a cluster, found through one of its nodes.
    Join(JoinArgs),
    /// Run a whole cluster on this machine, each node in a process of its own.
    Dev(dev::Args),
    /// Read and write keys.
    #[command(subcommand)]
    Kv(kv::Command),
    /// Show changes of keys as they happen.
    Watch(watch::Args),
    /// Execute a transaction: if, then, else.
    Txn(txn::Args),
    /// Let go of what was replaced or deleted up to a revision.
    Compact(txn::CompactArgs),
    /// Copy the data of another store.
    #[command(subcommand)]
    Import(import::Command),
    /// Show the cluster: its nodes, groups and their leaders.
    Cluster(ClusterArgs),
    /// Publish and read configuration; explain and check that of a server.
    #[command(subcommand)]
    Config(coordinate::Config),
    /// Grant leases, keep them alive, end them.
    #[command(subcommand)]
    Lease(coordinate::Lease),
    /// Hold a lock while a command runs.
    Lock(coordinate::Lock),
    /// Lead while a command runs.
    Elect(coordinate::Elect),
    /// Register instances of services and find them.
    #[command(subcommand)]
    Service(coordinate::Service),
    /// Publish messages and read them.
    #[command(subcommand)]
    Topic(coordinate::Topic),
    /// Put load on a cluster and report throughput and latency.
    Bench(Box<bench::Args>),
    /// Print a completion script.
    Completions {
        /// The shell that reads it.
        shell: clap_complete::Shell,
    },
}

/// Sources of a node's configuration: file, environment, flags, the later wins.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file; `caucus config reference` prints one with every field explained.
    #[arg(long, env = "CAUCUS_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where the node keeps everything [node.data_dir].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,

    /// Failure domain of the node [node.zone].
    #[arg(long)]
    pub(crate) zone: Option<String>,

    /// Address for clients [listen.client].
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen_client: Option<String>,

    /// Address for other nodes [listen.peer].
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen_peer: Option<String>,

    /// What is logged [log.filter].
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// Any field of the configuration.
    #[arg(long, value_name = "SECTION.FIELD=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Options of `caucus server`.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,

    /// End together with this process, which started us.
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) parent: Option<i32>,
}

/// Options of `caucus join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// Peer address of a node of the cluster; more than one may be given.
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST:PORT")]
    pub(crate) seed: Vec<String>,

    /// Where the configuration comes from.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,

    /// End together with this process, which started us.
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) parent: Option<i32>,
}

/// Options of `caucus cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// The cluster to ask.
    #[command(flatten)]
    pub(crate) cluster: Cluster,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: crate::output::Form,
}
