//! What a node is made of.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use caucus_engine::{Engine, Stats};
use caucus_peer::{Listener, Net};
use caucus_placement::{Bootstrap, Voter};
use caucus_raft::HostError;
use caucus_router::{Retention, RouterOptions};
use tokio_util::sync::CancellationToken;

/// Why a node ended, or didn't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its replica of the placement group can't run.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The cluster doesn't take it as it is.
    #[error("the cluster refuses this node: {0}")]
    Refused(String),
    /// The system gave no random bytes.
    #[error("cannot start: {0}")]
    System(String),
}

/// What a process does for its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// It may hold replicas of data groups.
    pub shard: bool,
    /// It takes requests of clients.
    pub router: bool,
    /// It holds a replica of the placement group, if it is one of its members.
    pub placement: bool,
}

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Only nodes of the same cluster talk to each other.
    pub cluster_name: String,
    /// The number of the node; none if the cluster assigns it.
    pub node: Option<NonZeroU32>,
    /// What the node does.
    pub roles: Roles,
    /// How other nodes reach it, `host:port`.
    pub peer_addr: String,
    /// How clients reach it, `host:port`.
    pub client_addr: String,
    /// Replicas of a group go to different zones, where nodes name one.
    pub zone: String,
    /// The first members of the placement group, the one that begins it first.
    pub voters: Vec<Voter>,
    /// Peer addresses at which the placement group can be found.
    pub seeds: Vec<String>,
    /// How the cluster begins.
    pub bootstrap: Bootstrap,
    /// Of all replicas.
    pub raft: caucus_raft::Options,
    /// Of the data groups.
    pub shard: caucus_shard::Options,
    /// Of the router.
    pub router: RouterOptions,
    /// How much of the past is kept.
    pub keeps: Retention,
}

/// A source of random bytes, or why there are none.
pub type Random = Arc<dyn Fn(&mut [u8]) -> Result<(), String> + Send + Sync>;

/// What comes in from outside of the cluster.
#[derive(Clone)]
pub struct Surroundings {
    /// Fills a slice with random bytes.
    pub random: Random,
    /// Sees the engine's figures about once a second.
    pub on_stats: Arc<dyn Fn(&Stats) + Send + Sync>,
}

/// A node's parts.
pub struct Parts {
    /// What the operator decides.
    pub settings: Settings,
    /// Where everything is stored.
    pub engine: Arc<dyn Engine>,
    /// The file of the synced marks; `None`: none are kept.
    pub marks: Option<PathBuf>,
    /// The id of the cluster, where it is known from before.
    pub cluster_id: Option<Bytes>,
    /// The id of the storage: made with it, and gone with it.
    pub storage_id: Bytes,
    /// How other nodes are reached.
    pub net: Arc<dyn Net>,
    /// The peer port.
    pub listener: Box<dyn Listener>,
    /// What comes in from outside.
    pub surroundings: Surroundings,
    /// Ends everything.
    pub shutdown: CancellationToken,
}
