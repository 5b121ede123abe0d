//! From key to node: a cluster map with the ways to its nodes and what is known of leaders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use caucus_client::{NodeHandle, NodeLinks};
use caucus_ring::{ClusterMap, Epoch, GroupId, NodeId};

/// All that routing needs, made once for each map. What changes between maps is in atomics.
pub(crate) struct Table {
    map: Arc<ClusterMap>,
    /// As in the map, sorted by id.
    groups: Vec<GroupRoute>,
    /// Nodes with replicas, sorted by id.
    nodes: Vec<(NodeId, NodeHandle)>,
    local: Option<NodeId>,
}

/// What is known of one group.
pub(crate) struct GroupRoute {
    id: GroupId,
    can_serve: bool,
    replicas: Vec<NodeId>,
    /// The node that led last; 0 if none is known.
    leader: AtomicU32,
    /// When the group last answered, in milliseconds of the router's life; 0 for never.
    answered_ms: AtomicU64,
}

impl Table {
    /// Leaders known before stay known.
    pub(crate) fn new(map: Arc<ClusterMap>, links: &NodeLinks, before: Option<&Table>) -> Table {
        let groups: Vec<GroupRoute> = map
            .groups()
            .iter()
            .map(|group| {
                let known = before.and_then(|before| before.group(group.id));
                GroupRoute {
                    id: group.id,
                    can_serve: group.state.can_serve(),
                    replicas: group.replicas.iter().map(|replica| replica.node).collect(),
                    leader: AtomicU32::new(known.map_or(0, |known| known.leader_number())),
                    answered_ms: AtomicU64::new(known.map_or(0, GroupRoute::answered_ms)),
                }
            })
            .collect();
        let nodes: Vec<(NodeId, NodeHandle)> = map
            .nodes()
            .iter()
            .filter(|node| {
                node.roles.shard || groups.iter().any(|group| group.replicas.contains(&node.id))
            })
            .map(|node| (node.id, links.node(node.id, &node.peer_address)))
            .collect();
        links.retain(|addr| map.nodes().iter().any(|node| node.peer_address == addr));
        Table {
            map,
            groups,
            nodes,
            local: links.local(),
        }
    }

    pub(crate) fn map(&self) -> &Arc<ClusterMap> {
        &self.map
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.map.epoch()
    }

    pub(crate) fn groups(&self) -> &[GroupRoute] {
        &self.groups
    }

    /// A data group by its id.
    pub(crate) fn group(&self, id: GroupId) -> Option<&GroupRoute> {
        let found = self.groups.binary_search_by_key(&id, |group| group.id);
        found.ok().map(|index| &self.groups[index])
    }

    /// The group that a key is in, if there is one that serves.
    pub(crate) fn route(&self, key: &[u8]) -> Option<&GroupRoute> {
        let (_, owner) = self.map.locate(key);
        self.group(owner).filter(|group| group.can_serve)
    }

    /// Where to send next. `wanted` is a node that was named, or the one after a node that failed.
    pub(crate) fn pick(
        &self,
        group: &GroupRoute,
        wanted: Option<NodeId>,
    ) -> Option<(NodeId, &NodeHandle)> {
        let known = wanted.or_else(|| group.leader());
        if let Some(found) = known.and_then(|node| self.node(node)) {
            return Some(found);
        }
        // Nobody is known to lead. A replica in this process names the leader at no cost.
        let local = self.local.filter(|node| group.replicas.contains(node));
        let first = local.or_else(|| group.replicas.first().copied());
        first.and_then(|node| self.node(node))
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<(NodeId, &NodeHandle)> {
        let found = self.nodes.binary_search_by_key(&id, |(node, _)| *node);
        found.ok().map(|index| (id, &self.nodes[index].1))
    }
}

impl GroupRoute {
    pub(crate) fn id(&self) -> GroupId {
        self.id
    }

    pub(crate) fn can_serve(&self) -> bool {
        self.can_serve
    }

    /// The node that led last.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        Some(self.leader_number())
            .filter(|node| *node != 0)
            .map(NodeId)
    }

    fn leader_number(&self) -> u32 {
        self.leader.load(Ordering::Relaxed)
    }

    pub(crate) fn answered_ms(&self) -> u64 {
        self.answered_ms.load(Ordering::Relaxed)
    }

    /// A node answered as leader. Looks before it writes: all cores share these words.
    pub(crate) fn answered(&self, node: NodeId, now_ms: u64) {
        if self.leader_number() != node.0 {
            self.leader.store(node.0, Ordering::Relaxed);
        }
        if self.answered_ms() != now_ms {
            self.answered_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// A node did not answer as leader: others needn't try it.
    pub(crate) fn failed(&self, node: NodeId) {
        let _ = self
            .leader
            .compare_exchange(node.0, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The replica to try after the one on this node.
    pub(crate) fn after(&self, node: NodeId) -> Option<NodeId> {
        let at = self.replicas.iter().position(|replica| *replica == node);
        let next = at.map_or(0, |at| (at + 1) % self.replicas.len());
        self.replicas.get(next).copied()
    }

    /// A node was named as leader by another.
    pub(crate) fn named(&self, node: NodeId) {
        self.leader.store(node.0, Ordering::Relaxed);
    }
}
