//! Where the cluster is, as the command line says it.

use std::time::Duration;

pub(crate) use caucus_sdk::{Ask, Endpoints, Error, Problem};

use crate::fatal::Fatal;

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the cluster is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Cluster {
    /// Nodes of the cluster, separated by commas; any of them does, the others stand in for it.
    #[arg(
        long,
        env = "CAUCUS_ENDPOINTS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7400",
        value_name = "URL"
    )]
    pub(crate) endpoints: Vec<String>,

    /// Time for one request, in seconds.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
}

impl Cluster {
    /// Ready to send; nothing is connected yet.
    pub(crate) fn connect(&self) -> Result<Endpoints, Fatal> {
        connect(&self.endpoints, Duration::from_secs(self.timeout))
    }

    /// The same for what keeps leases alive and holds locks.
    pub(crate) fn client(&self) -> Result<caucus_sdk::Client, Fatal> {
        Ok(caucus_sdk::Client::of(self.connect()?))
    }
}

fn connect(bases: &[String], timeout: Duration) -> Result<Endpoints, Fatal> {
    let endpoints = Endpoints::new(bases, timeout);
    endpoints.map_err(|bad| Fatal::setup(format!("--endpoints: {bad}")))
}

/// The nodes of a development cluster.
pub(crate) fn of_dev(urls: impl Iterator<Item = String>) -> Result<Endpoints, Fatal> {
    connect(&urls.collect::<Vec<_>>(), PROBE_TIMEOUT)
}

impl From<Error> for Fatal {
    fn from(error: Error) -> Self {
        Fatal::failed(error)
    }
}

impl From<caucus_sdk::BadHeader> for Fatal {
    fn from(bad: caucus_sdk::BadHeader) -> Self {
        Fatal::setup(bad.to_string())
    }
}
