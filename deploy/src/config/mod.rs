//! The configuration of a node.
//!
//! `deploy/config/caucus.toml` is compiled in and is the default: there is no second place for one.
//! On top of it come the file named by `--config`, the environment and flags, each as a TOML table;
//! the result is read into [`Config`], and [`Config::validate`] turns that into [`Checked`], which is
//! all that a node gets to see.
//!
//! ```text
//!   caucus.toml ◀── file ◀── CAUCUS_SECTION_FIELD ◀── --set, flags      load
//!        └───────────────▶ Config ── validate ──▶ Checked
//! ```
//!
//! Invariant: a field that no struct below knows is an error that names it, wherever it came from.

mod checked;
mod load;
mod validate;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use checked::Checked;
pub(crate) use load::{Error, Layers, surroundings};

/// The commented reference file.
pub(crate) const REFERENCE: &str = include_str!("../../config/caucus.toml");

/// All settings of a node, as they stand in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Who this node is.
    pub(crate) node: Node,
    /// Where it listens.
    pub(crate) listen: Listen,
    /// The cluster it belongs to.
    pub(crate) cluster: Cluster,
    /// Timing and limits of consensus.
    pub(crate) raft: Raft,
    /// The storage engine.
    pub(crate) storage: Storage,
    /// The client port.
    pub(crate) http: Http,
    /// How much of the past is kept.
    pub(crate) history: History,
    /// Requests that clients name.
    pub(crate) idempotency: Idempotency,
    /// etcd's API.
    pub(crate) etcd: Etcd,
    /// Logging.
    pub(crate) log: Log,
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    /// From 1; 0 if the cluster assigns it.
    pub(crate) id: u32,
    /// Empty: none.
    pub(crate) name: String,
    /// Failure domain; empty: none.
    pub(crate) zone: String,
    /// Everything the node keeps.
    pub(crate) data_dir: PathBuf,
    /// What the process does.
    pub(crate) roles: Vec<Role>,
    /// Threads of the runtime; 0: one for each core.
    pub(crate) threads: u32,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Answers clients.
    Router,
    /// Holds replicas of data groups.
    Shard,
    /// Holds a replica of the placement group.
    Placement,
}

/// Where the node listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    /// For clients.
    pub(crate) client: SocketAddr,
    /// For other nodes.
    pub(crate) peer: SocketAddr,
    /// `host:port`; empty: as `client`.
    pub(crate) advertise_client: String,
    /// `host:port`; empty: as `peer`.
    pub(crate) advertise_peer: String,
}

/// The cluster that the node belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// Clusters refuse each other by it.
    pub(crate) name: String,
    /// The first members of the placement group.
    pub(crate) initial_placement: Vec<PlacementMember>,
    /// Shard nodes that must have registered before the data groups are created.
    pub(crate) initial_nodes: u32,
    /// Data groups; 0: two for each initial node.
    pub(crate) groups: u32,
    /// Points of the ring.
    pub(crate) vnodes: u32,
    /// Replicas of each data group.
    pub(crate) replication: u32,
    /// Peer addresses to ask when joining.
    pub(crate) seeds: Vec<String>,
}

/// One first member of the placement group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlacementMember {
    /// Its node's number.
    pub(crate) id: u32,
    /// Its peer address, `host:port`.
    pub(crate) peer: String,
}

/// Timing and limits of consensus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raft {
    /// Between heartbeats of an idle leader.
    pub(crate) heartbeat_interval_ms: u64,
    /// Shortest silence after which a follower starts an election.
    pub(crate) election_timeout_ms_min: u64,
    /// Longest.
    pub(crate) election_timeout_ms_max: u64,
    /// Bytes in one append message.
    pub(crate) append_bytes_max: usize,
    /// Recent entries that a replica keeps in memory.
    pub(crate) tail_bytes_max: usize,
    /// A larger log is cut.
    pub(crate) log_bytes_max: u64,
    /// What a cut leaves.
    pub(crate) log_bytes_kept: u64,
    /// Bytes in one chunk of a snapshot.
    pub(crate) snapshot_chunk_bytes: usize,
}

/// The storage engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Storage {
    /// Which one.
    pub(crate) engine: Engine,
    /// Memory for blocks read from disk.
    pub(crate) block_cache_bytes: usize,
    /// Size of a memtable.
    pub(crate) write_buffer_bytes: usize,
    /// Memory for all memtables.
    pub(crate) write_buffers_bytes: usize,
    /// Free space kept for essential writes.
    pub(crate) free_space_reserve_bytes: u64,
}

/// Implementations of the storage engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// Keeps everything on disk.
    RocksDb,
    /// Forgets everything when the process ends.
    Memory,
}

/// The client port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    /// Connections at a time.
    pub(crate) connections_max: usize,
    /// Deadline of a request.
    pub(crate) request_timeout_ms: u64,
    /// Deadline for the head of a request, also the first bytes of it.
    pub(crate) header_timeout_ms: u64,
    /// Deadline for the rest of a request.
    pub(crate) body_timeout_ms: u64,
    /// What requests under way get when the node stops.
    pub(crate) shutdown_timeout_ms: u64,
}

/// How much of the past is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct History {
    /// Revisions; 0: no limit of this kind.
    pub(crate) keep_revisions: u64,
    /// Seconds; 0: no limit of this kind.
    pub(crate) keep_seconds: u64,
}

/// Requests that clients name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Idempotency {
    /// How long they are remembered.
    pub(crate) window_seconds: u64,
    /// How many a group remembers.
    pub(crate) keys_max: usize,
}

/// etcd's API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Etcd {
    /// Operations of a branch of a transaction.
    pub(crate) txn_operations_max: usize,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// As `tracing_subscriber::EnvFilter` reads it.
    pub(crate) filter: String,
    /// Form of a line.
    pub(crate) format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For eyes.
    Text,
    /// For machines.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        toml::from_str(REFERENCE).expect("the reference configuration is tested")
    }
}

impl Config {
    /// As TOML, for a generated file.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `section.field` of every leaf.
    fn fields(config: &toml::Table) -> Vec<String> {
        let mut found = Vec::new();
        for (section, fields) in config {
            let fields = fields.as_table().expect("sections hold fields");
            found.extend(fields.keys().map(|field| format!("{section}.{field}")));
        }
        found.sort();
        found
    }

    #[test]
    fn the_reference_is_the_default_and_mentions_every_field() {
        let reference: toml::Table = REFERENCE.parse().unwrap();
        let default = toml::Table::try_from(Config::default()).unwrap();
        assert_eq!(fields(&reference), fields(&default));
        assert_eq!(reference, default);
    }

    #[test]
    fn every_field_of_the_reference_has_a_comment() {
        let mut explained = false;
        for line in REFERENCE.lines() {
            if line.starts_with('#') {
                explained = true;
            } else if line.is_empty() || line.starts_with('[') {
                explained = false;
            } else {
                assert!(explained, "no comment above `{line}`");
            }
        }
    }

    #[test]
    fn a_generated_file_reads_back() {
        let config = Config::default();
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    }
}
