//! The catalog's state and what can be read from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use caucus_ring::{
    ClusterMap, Epoch, Group, GroupId, GroupState, MapContent, NodeId, Replica, ReplicaId,
    Revision, Ring, Rules,
};

use super::{NodeRecord, Settings};

/// The replicated state of the placement group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Rises by one with each command that changes the cluster map; 0 only before
    /// the cluster is initialized.
    pub(super) epoch: Epoch,
    /// `None` before the cluster is initialized, never again after.
    pub(super) cluster: Option<Cluster>,
    /// No revision above it was granted, ever. Never goes down. Stored apart.
    pub(super) ceiling: Revision,
}

/// All but the epoch and the ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) settings: Settings,
    pub(super) rules: Rules,
    /// No two with one storage.
    pub(super) nodes: BTreeMap<NodeId, NodeRecord>,
    /// Replicas of one group are on different nodes, all of them registered shards.
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) placement: Vec<Replica>,
    /// One owner for each vnode: a group that exists, or nobody
    /// ([`GroupId::PLACEMENT`]) for all of them while there are no groups.
    pub(super) owners: Vec<GroupId>,
    /// Above all ids ever used, also those of what is gone.
    pub(super) next_node: NodeId,
    /// As `next_node`.
    pub(super) next_group: GroupId,
    /// As `next_node`.
    pub(super) next_replica: ReplicaId,
}

impl Catalog {
    /// The catalog before its first command.
    pub fn new() -> Catalog {
        Catalog::default()
    }

    /// The version of the cluster map.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The oracle's ceiling.
    pub fn ceiling(&self) -> Revision {
        self.ceiling
    }

    /// Whether the cluster exists.
    pub fn is_initialized(&self) -> bool {
        self.cluster.is_some()
    }

    /// What was fixed at creation.
    pub fn settings(&self) -> Option<&Settings> {
        self.cluster.as_ref().map(|cluster| &cluster.settings)
    }

    /// The routing rules in force.
    pub fn rules(&self) -> Option<&Rules> {
        self.cluster.as_ref().map(|cluster| &cluster.rules)
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.cluster
            .iter()
            .flat_map(|cluster| cluster.nodes.values())
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&NodeRecord> {
        self.cluster.as_ref()?.nodes.get(&id)
    }

    /// All data groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.cluster
            .iter()
            .flat_map(|cluster| cluster.groups.values())
    }

    /// A data group.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.cluster.as_ref()?.groups.get(&id)
    }

    /// The members of the placement group.
    pub fn placement(&self) -> &[Replica] {
        self.cluster
            .as_ref()
            .map_or(&[], |cluster| &cluster.placement)
    }

    /// The owner of each vnode, by its number.
    pub fn owners(&self) -> &[GroupId] {
        self.cluster.as_ref().map_or(&[], |cluster| &cluster.owners)
    }

    /// The first group id that was never used.
    pub fn next_group(&self) -> GroupId {
        self.cluster
            .as_ref()
            .map_or(GroupId(1), |cluster| cluster.next_group)
    }

    /// The first replica id that was never used.
    pub fn next_replica(&self) -> ReplicaId {
        self.cluster
            .as_ref()
            .map_or(ReplicaId(1), |cluster| cluster.next_replica)
    }

    /// What routers and nodes follow; `None` before the cluster is initialized.
    /// Makes a ring: ask for it when the epoch has changed, not for each request.
    pub fn cluster_map(&self) -> Option<ClusterMap> {
        self.cluster_map_on(None)
    }

    /// As [`cluster_map`](Self::cluster_map), on a ring that is at hand from the map before.
    pub fn cluster_map_on(&self, ring: Option<&Arc<Ring>>) -> Option<ClusterMap> {
        let content = self.map_content()?;
        let map = match ring {
            Some(ring) => ClusterMap::with_ring(content, ring.clone()),
            None => ClusterMap::new(content),
        };
        // The invariants of the catalog contain those of the map.
        map.ok()
    }

    pub(super) fn map_content(&self) -> Option<MapContent> {
        let cluster = self.cluster.as_ref()?;
        Some(MapContent {
            epoch: self.epoch,
            cluster_id: cluster.settings.cluster_id,
            vnodes: cluster.settings.vnodes,
            rules: cluster.rules.clone(),
            nodes: cluster
                .nodes
                .values()
                .map(|record| record.node.clone())
                .collect(),
            groups: cluster.groups.values().cloned().collect(),
            placement: Group {
                id: GroupId::PLACEMENT,
                state: GroupState::Active,
                replicas: cluster.placement.clone(),
            },
            owners: cluster.owners.clone(),
        })
    }
}
