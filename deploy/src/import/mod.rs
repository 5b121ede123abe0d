//! `caucus import`: the data of another store, while that one goes on.

mod etcd;
mod state;

use crate::fatal::Fatal;

/// Copy the data of another store into a cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Copy the keys of a living etcd, as they are at one revision.
    Etcd(etcd::Args),
}

/// Does it.
pub(crate) async fn run(command: Command) -> Result<(), Fatal> {
    match command {
        Command::Etcd(args) => etcd::run(args).await,
    }
}
