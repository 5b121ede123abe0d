//! What a [`Placement`](crate::Placement) is made of.

use std::sync::Arc;
use std::time::Duration;

use caucus_raft::Group;
use tokio_util::sync::CancellationToken;

use crate::liveness;
use crate::view::CatalogView;

/// Time since some origin, monotonic.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// One replica's part of placement.
pub struct PlacementParts {
    /// The replica of group 0, started with the machine that belongs to `view`.
    pub group: Group,
    /// See [`machine()`](crate::machine()).
    pub view: Arc<CatalogView>,
    /// The first members of the placement group, preferred leader first; the same on all of them.
    pub voters: Vec<Voter>,
    /// How the cluster begins.
    pub bootstrap: Bootstrap,
    /// Random: the cluster's id, if it is this replica that creates it.
    pub random: [u8; 16],
    /// When silence means what.
    pub liveness: liveness::Options,
    /// The time.
    pub clock: Clock,
    /// Ends all that runs.
    pub shutdown: CancellationToken,
}

/// A first member of the placement group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// The replica's id in group 0.
    pub replica: u64,
    /// Its node.
    pub node: u32,
    /// `host:port` of the node's peer port: where it is until the catalog knows better.
    pub peer_addr: String,
}

/// How a cluster begins. Of no meaning once it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Vnodes of the ring.
    pub vnodes: u32,
    /// Data groups; 0 means two for each shard node.
    pub groups: u32,
    /// Replicas of a data group, if there are nodes enough.
    pub replication: u32,
    /// Data groups are made when so many shard nodes are there.
    pub initial_nodes: u32,
    /// Unix time, for people only.
    pub created_at_ms: u64,
}
