//! What the catalog keeps about each thing, beyond what the cluster map shows.

use std::fmt;

use caucus_ring::{ClusterId, GroupId, Node, Replica, VnodeSet};

/// The identity of a data directory, drawn at random when it is created. A node id
/// on another directory is another machine in disguise: it has lost its votes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageUuid(pub [u8; 16]);

impl fmt::Display for StorageUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StorageUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageUuid({self})")
    }
}

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// What the cluster map shows of it.
    pub node: Node,
    /// Its data directory; never changes.
    pub storage: StorageUuid,
}

/// A data group to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its id: not below the catalog's next group id.
    pub id: GroupId,
    /// Its first members, preferred leader first; ids not below the catalog's next
    /// replica id.
    pub replicas: Vec<Replica>,
    /// What it owns from the start. Only the first groups own anything then: later
    /// ones get their vnodes by moves.
    pub vnodes: VnodeSet,
}

/// What is fixed when the cluster is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which cluster this is.
    pub cluster_id: ClusterId,
    /// Vnodes of the ring.
    pub vnodes: u32,
    /// Data groups to begin with; 0 means two for each shard node.
    pub groups_wanted: u32,
    /// Replicas of a data group, if there are nodes enough.
    pub replication: u32,
    /// When it was created, by its creator's clock (Unix time). For people only.
    pub created_at_ms: u64,
}
