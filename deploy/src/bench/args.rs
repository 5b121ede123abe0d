//! The options of `caucus bench`.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::Error;

/// Load a running cluster and report throughput and latency.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// What the clients do.
    #[arg(value_enum)]
    pub(super) workload: Workload,

    /// The system and the protocol under load.
    #[arg(long, value_enum, default_value = "caucus")]
    pub(super) target: Target,

    /// Servers, separated by commas; connections are spread over them in turn.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(super) endpoints: Vec<String>,

    /// Logical clients; each has one request in flight.
    #[arg(long, default_value_t = 256)]
    pub(super) clients: usize,

    /// Connections that the clients share.
    ///
    /// Default: one a client for HTTP/1.1 and ZooKeeper, which carry one request at a time here;
    /// four an endpoint for gRPC, which carries many.
    #[arg(long)]
    pub(super) connections: Option<usize>,

    /// Threads of the load generator [default: half of the cores, at least one].
    #[arg(long)]
    pub(super) threads: Option<usize>,

    /// Number of different keys.
    #[arg(long, default_value_t = 10_000)]
    pub(super) keys: usize,

    /// Directories that the keys are spread over: keys are `PREFIX/DIRECTORY/KEY`.
    #[arg(long, default_value_t = 4096)]
    pub(super) directories: usize,

    /// First segment of all keys.
    ///
    /// With more than one segment all keys share one routing key of the default rule, and so one
    /// data group.
    #[arg(long, default_value = "/bench")]
    pub(super) key_prefix: String,

    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub(super) value_size: usize,

    /// Length of the measured window (`8s`, `500ms`, `2m`).
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(super) duration: Duration,

    /// Load before the measured window.
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub(super) warmup: Duration,

    /// Share of gets in the mixed workload, in percent.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) mix: u8,

    /// Puts in a request of the batch workload, or messages in one of the publish workload.
    #[arg(long, default_value_t = 100)]
    pub(super) batch_size: usize,

    /// Topics of the publish workload.
    #[arg(long, default_value_t = 16)]
    pub(super) topics: usize,

    /// Writers of the watchers and leases workloads.
    #[arg(long, default_value_t = 16)]
    pub(super) writers: usize,

    /// Take it that the keys exist; otherwise each is written once before the load.
    #[arg(long)]
    pub(super) skip_preload: bool,

    /// Server processes on this machine whose CPU time and memory are reported.
    #[arg(long, value_delimiter = ',')]
    pub(super) pids: Vec<u32>,

    /// Form of the report.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: Output,
}

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Workload {
    /// Overwrite one key a request.
    Put,
    /// Read one key a request, linearizable where the system has that as its default.
    Get,
    /// Gets and puts, divided by `--mix`.
    Mixed,
    /// Overwrite `--batch-size` keys a request (Caucus over HTTP only).
    Batch,
    /// If a key exists, overwrite it, else read it: one transaction (gRPC only).
    Txn,
    /// The same of two keys in different directories, for Caucus usually in two groups (gRPC only).
    Txn2,
    /// List all keys with their values; each whole listing is one operation (gRPC only).
    List,
    /// Take a lock that nobody else wants and give it back: both are one operation. Over gRPC with etcd's service of
    /// locks, under a lease of the client's; with ZooKeeper by its recipe.
    Lock,
    /// Publish `--batch-size` messages a request (Caucus over HTTP only); a message is one operation.
    Publish,
    /// Each client watches one of the keys, while `--writers` overwrite them; an event at one watcher is one operation,
    /// and its latency is from the put's begin (gRPC only).
    Watchers,
    /// All clients want the same lock; a turn is one operation, and its latency is the wait (gRPC only).
    Waiters,
    /// Each client has a lease that it keeps alive, while `--writers` write; a write is one operation. Then 10,000
    /// leases with a key each end at once, while they write (gRPC only).
    Leases,
}

/// The system and the protocol under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Target {
    /// Caucus over HTTP/1.1 and JSON.
    Caucus,
    /// etcd's JSON gateway over HTTP/1.1.
    EtcdJson,
    /// What speaks etcd's gRPC API: etcd, and Caucus on its client port.
    EtcdGrpc,
    /// ZooKeeper over its own protocol.
    Zookeeper,
}

impl Workload {
    /// Whether it is more than a request each.
    pub(super) fn is_scenario(self) -> bool {
        matches!(
            self,
            Workload::Watchers | Workload::Waiters | Workload::Leases
        )
    }

    /// Whether only the gRPC client has it.
    fn is_grpc_only(self) -> bool {
        match self {
            Workload::Txn
            | Workload::Txn2
            | Workload::List
            | Workload::Watchers
            | Workload::Waiters
            | Workload::Leases => true,
            Workload::Put
            | Workload::Get
            | Workload::Mixed
            | Workload::Batch
            | Workload::Lock
            | Workload::Publish => false,
        }
    }
}

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Args {
    /// Fills in what depends on other options, and refuses what can't be run.
    pub(super) fn validate(mut self) -> Result<Self, Error> {
        let refuse = |message: &str| Err(Error::Options(message.to_owned()));
        let counts = [
            self.clients,
            self.keys,
            self.value_size,
            self.batch_size,
            self.topics,
            self.writers,
        ];
        if counts.contains(&0) {
            return refuse(
                "--clients, --keys, --value-size, --batch-size, --topics and --writers start at 1",
            );
        }
        let only_here = matches!(self.workload, Workload::Batch | Workload::Publish);
        if only_here && self.target != Target::Caucus {
            return refuse("the batch and publish workloads need --target caucus");
        }
        if self.workload == Workload::Lock && self.target == Target::EtcdJson {
            return refuse("the lock workload has no --target etcd-json");
        }
        if matches!(self.workload, Workload::Lock | Workload::Publish) {
            self.skip_preload = true;
        }
        if self.workload.is_grpc_only() && self.target != Target::EtcdGrpc {
            return refuse(
                "transactions, listings, watchers, waiters and leases need --target etcd-grpc",
            );
        }
        if !self.key_prefix.starts_with('/') || self.key_prefix.ends_with('/') {
            return refuse("--key-prefix begins with a slash and doesn't end with one");
        }
        self.directories = self.directories.clamp(1, self.keys);
        if self.workload == Workload::Txn2 && self.directories < 2 {
            return refuse("the txn2 workload needs two --directories");
        }
        let connections = self.connections.unwrap_or(match self.target {
            Target::EtcdGrpc => 4 * self.endpoints.len(),
            Target::Caucus | Target::EtcdJson | Target::Zookeeper => self.clients,
        });
        let connections = connections.clamp(1, self.clients);
        self.connections = Some(connections);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or(cores / 2);
        self.threads = Some(threads.clamp(1, connections));
        Ok(self)
    }

    /// Connections, after [`Args::validate`].
    pub(super) fn connections(&self) -> usize {
        self.connections.unwrap_or(self.clients)
    }

    /// Load threads, after [`Args::validate`].
    pub(super) fn threads(&self) -> usize {
        self.threads.unwrap_or(1)
    }
}

/// Reads `8`, `8s`, `500ms` or `2m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let count: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is not a duration"))?;
    match &text[digits.len()..] {
        "" | "s" => Ok(Duration::from_secs(count)),
        "ms" => Ok(Duration::from_millis(count)),
        "m" => Ok(Duration::from_secs(60 * count)),
        unit => Err(format!("unknown unit `{unit}`: use ms, s or m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn transactions_and_listings_need_grpc() {
        let validate = |options: &str| {
            let options = format!("bench {options} --endpoints a");
            let line = <CommandLine as clap::Parser>::parse_from(options.split(' '));
            line.args.validate().is_ok()
        };
        for workload in ["txn", "txn2", "list", "watchers", "waiters", "leases"] {
            assert!(!validate(workload), "{workload}");
            assert!(validate(&format!("{workload} --target etcd-grpc")));
        }
        assert!(!validate("txn2 --target etcd-grpc --directories 1"));
        assert!(!validate("batch --target etcd-grpc"));
    }

    #[test]
    fn durations_are_read_with_their_units() {
        assert_eq!(parse_duration("8"), Ok(Duration::from_secs(8)));
        assert_eq!(parse_duration("8s"), Ok(Duration::from_secs(8)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("2h").is_err());
        assert!(parse_duration("s").is_err());
    }
}
