//! What a cluster map consists of, as plain values.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterId, Epoch, GroupId, NodeId, ReplicaId, Rules};

/// Everything that a [`ClusterMap`](crate::ClusterMap) is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapContent {
    /// The version of this map.
    pub epoch: Epoch,
    /// Which cluster it is of.
    pub cluster_id: ClusterId,
    /// How many vnodes the ring has; fixed at creation.
    pub vnodes: u32,
    /// How keys become routing keys.
    pub rules: Rules,
    /// All registered nodes.
    pub nodes: Vec<Node>,
    /// All data groups.
    pub groups: Vec<Group>,
    /// The placement group; its id is [`GroupId::PLACEMENT`].
    pub placement: Group,
    /// The owner of each vnode, by its number: as many as there are vnodes.
    /// [`GroupId::PLACEMENT`] means that it has none yet.
    pub owners: Vec<GroupId>,
}

/// A node as others need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// `host:port` where other nodes reach it.
    pub peer_address: String,
    /// `host:port` where clients reach it.
    pub client_address: String,
    /// What may fail together with it; empty if unknown.
    pub zone: String,
    /// What it runs.
    pub roles: Roles,
}

/// What a node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roles {
    /// The stateless front door.
    pub router: bool,
    /// Replicas of data groups.
    pub shard: bool,
    /// A replica of the placement group.
    pub placement: bool,
}

impl Roles {
    /// All three, the default of a process.
    pub const ALL: Roles = Roles {
        router: true,
        shard: true,
        placement: true,
    };
}

/// As `router+shard`, or `none`.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (self.router, "router"),
            (self.shard, "shard"),
            (self.placement, "placement"),
        ];
        let names: Vec<&str> = named
            .iter()
            .filter(|role| role.0)
            .map(|role| role.1)
            .collect();
        f.write_str(
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join("+")
            }
            .as_str(),
        )
    }
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// How far its life has come.
    pub state: GroupState,
    /// Its members; the first is the preferred leader.
    pub replicas: Vec<Replica>,
}

impl Group {
    /// The node that should lead it when all are well.
    pub fn preferred_leader(&self) -> Option<NodeId> {
        self.replicas.first().map(|replica| replica.node)
    }

    /// The member on a node.
    pub fn replica_on(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.node == node)
    }
}

/// How far the life of a group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// Decided; its nodes are to create its replicas.
    Bootstrapping,
    /// It has reported that it runs.
    Active,
}

impl GroupState {
    /// Whether requests can be sent to it.
    pub fn can_serve(self) -> bool {
        match self {
            GroupState::Bootstrapping => false,
            GroupState::Active => true,
        }
    }
}

/// One member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// Its id, never used twice.
    pub id: ReplicaId,
    /// The node that it is on.
    pub node: NodeId,
    /// Its say in the group.
    pub role: ReplicaRole,
}

/// What say a replica has in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaRole {
    /// It votes and counts for the majority.
    Voter,
    /// It only follows the log.
    Learner,
}

impl ReplicaRole {
    /// Whether it counts for the majority.
    pub fn votes(self) -> bool {
        match self {
            ReplicaRole::Voter => true,
            ReplicaRole::Learner => false,
        }
    }
}
