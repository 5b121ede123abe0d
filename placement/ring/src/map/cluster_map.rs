//! The cluster map with its ring: the one way from a key to a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::lease::parse_lease_key;
use crate::{
    ClusterId, Epoch, Group, GroupId, MapContent, Node, NodeId, Ring, RingError, RoutingKey, Rules,
    Vnode, VnodeSet, route_range,
};

/// A read-only extract of the catalog at one epoch.
///
/// Invariants, checked when it is built: as many owners as the ring has vnodes;
/// every owner is a group of the map (or nobody, before there are groups); no
/// group or node twice; the placement group has its own id and owns nothing.
#[derive(Clone, Debug)]
pub struct ClusterMap {
    /// Nodes and groups sorted by id, so that look-ups are binary searches.
    content: MapContent,
    ring: Arc<Ring>,
}

/// Content that doesn't make a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// No ring has so many vnodes.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The table and the ring disagree.
    #[error("the table has {owners} owners for {vnodes} vnodes")]
    OwnerCount {
        /// Length of the table.
        owners: usize,
        /// Vnodes of the ring.
        vnodes: u32,
    },
    /// A vnode belongs to a group that the map doesn't have.
    #[error("vnode {vnode} belongs to group {group}, which doesn't exist")]
    UnknownOwner {
        /// The vnode.
        vnode: Vnode,
        /// Its owner in the table.
        group: GroupId,
    },
    /// Two groups with one id, or a data group with the placement group's id, or
    /// the other way round.
    #[error("group id {0} is used twice or for the wrong kind of group")]
    GroupId(GroupId),
    /// Two nodes with one id.
    #[error("node id {0} is used twice")]
    NodeId(NodeId),
}

impl ClusterMap {
    /// Builds the map and its ring.
    pub fn new(content: MapContent) -> Result<ClusterMap, MapError> {
        let ring = Arc::new(Ring::new(content.vnodes)?);
        ClusterMap::with_ring(content, ring)
    }

    /// Builds the map on a ring that is at hand (from the map before it); on a new
    /// one if that ring has another number of vnodes.
    pub fn with_ring(mut content: MapContent, ring: Arc<Ring>) -> Result<ClusterMap, MapError> {
        if ring.vnodes() != content.vnodes {
            return ClusterMap::new(content);
        }
        content.nodes.sort_by_key(|node| node.id);
        content.groups.sort_by_key(|group| group.id);
        check(&content)?;
        Ok(ClusterMap { content, ring })
    }

    /// The version of the map.
    pub fn epoch(&self) -> Epoch {
        self.content.epoch
    }

    /// Which cluster it is of.
    pub fn cluster_id(&self) -> ClusterId {
        self.content.cluster_id
    }

    /// The ring that it stands on.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// How keys become routing keys.
    pub fn rules(&self) -> &Rules {
        &self.content.rules
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> &[Node] {
        &self.content.nodes
    }

    /// All data groups, by id.
    pub fn groups(&self) -> &[Group] {
        &self.content.groups
    }

    /// The placement group.
    pub fn placement(&self) -> &Group {
        &self.content.placement
    }

    /// The owner of each vnode, by its number.
    pub fn owners(&self) -> &[GroupId] {
        &self.content.owners
    }

    /// Whether the vnodes have owners, that is, whether data groups exist.
    pub fn has_owners(&self) -> bool {
        !self.content.groups.is_empty()
    }

    /// All that it consists of.
    pub fn content(&self) -> &MapContent {
        &self.content
    }

    /// A node by its id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        let found = self.content.nodes.binary_search_by_key(&id, |node| node.id);
        found.ok().map(|index| &self.content.nodes[index])
    }

    /// A group by its id, the placement group included.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        if id == GroupId::PLACEMENT {
            return Some(&self.content.placement);
        }
        let found = self
            .content
            .groups
            .binary_search_by_key(&id, |group| group.id);
        found.ok().map(|index| &self.content.groups[index])
    }

    /// The part of a key that is hashed.
    pub fn routing_key<'k>(&self, key: &'k [u8]) -> RoutingKey<'k> {
        self.content.rules.routing_key(key)
    }

    /// The vnode of a key: a function of the key and the rules, not of the epoch.
    pub fn vnode(&self, key: &[u8]) -> Vnode {
        self.ring.vnode(self.routing_key(key))
    }

    /// The owner of a vnode; [`GroupId::PLACEMENT`] if it has none.
    pub fn owner(&self, vnode: Vnode) -> GroupId {
        let owner = self.content.owners.get(usize::from(vnode.0));
        owner.copied().unwrap_or(GroupId::PLACEMENT)
    }

    /// The vnode of a key and the group that owns it. [`GroupId::PLACEMENT`] means
    /// that there are no groups yet (see [`has_owners`](Self::has_owners)).
    pub fn locate(&self, key: &[u8]) -> (Vnode, GroupId) {
        let vnode = self.vnode(key);
        (vnode, self.owner(vnode))
    }

    /// The home of a request, given its smallest key or range start.
    pub fn home_vnode(&self, smallest_key: &[u8]) -> Vnode {
        match parse_lease_key(smallest_key) {
            Some(lease) => self.ring.lease_vnode(lease),
            None => self.vnode(smallest_key),
        }
    }

    /// The vnodes that keys in `[start, end)` can fall on; see [`route_range`].
    pub fn route_range(&self, start: &[u8], end: &[u8]) -> VnodeSet {
        route_range(&self.content.rules, &self.ring, start, end)
    }

    /// Cuts a set of vnodes by their owners: groups rise, their sets are disjoint,
    /// not empty, and together the whole set.
    pub fn split_by_group(&self, vnodes: &VnodeSet) -> Vec<(GroupId, VnodeSet)> {
        if let Some(vnode) = vnodes.only() {
            return vec![(self.owner(vnode), vnodes.clone())];
        }
        let mut by_group: BTreeMap<GroupId, VnodeSet> = BTreeMap::new();
        for vnode in vnodes.iter() {
            by_group.entry(self.owner(vnode)).or_default().insert(vnode);
        }
        by_group.into_iter().collect()
    }
}

/// Maps are equal if their content is; the ring follows from it.
impl PartialEq for ClusterMap {
    fn eq(&self, other: &ClusterMap) -> bool {
        self.content == other.content
    }
}

impl Eq for ClusterMap {}

/// `content` comes sorted.
fn check(content: &MapContent) -> Result<(), MapError> {
    if content.owners.len() != content.vnodes as usize {
        return Err(MapError::OwnerCount {
            owners: content.owners.len(),
            vnodes: content.vnodes,
        });
    }
    if content.placement.id != GroupId::PLACEMENT {
        return Err(MapError::GroupId(content.placement.id));
    }
    if let Some(pair) = content
        .nodes
        .windows(2)
        .find(|pair| pair[0].id == pair[1].id)
    {
        return Err(MapError::NodeId(pair[0].id));
    }
    let mut ids = BTreeSet::from([GroupId::PLACEMENT]);
    if let Some(twice) = content.groups.iter().find(|group| !ids.insert(group.id)) {
        return Err(MapError::GroupId(twice.id));
    }
    let nobody_owns = content.groups.is_empty();
    let owned = (0..=u16::MAX).map(Vnode).zip(&content.owners);
    for (vnode, owner) in owned {
        let known = ids.contains(owner) && (nobody_owns || *owner != GroupId::PLACEMENT);
        if !known {
            return Err(MapError::UnknownOwner {
                vnode,
                group: *owner,
            });
        }
    }
    Ok(())
}
