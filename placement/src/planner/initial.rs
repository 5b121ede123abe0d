//! The first groups of a cluster.

use std::collections::BTreeSet;

use caucus_ring::{GroupId, NodeId, Replica, ReplicaId, ReplicaRole, Ring, Vnode, VnodeSet};

use super::seats::{Candidate, assign};
use super::spread::by_weight;
use super::{Plan, PlannedGroup, Step};
use crate::catalog::{Catalog, GROUPS_MAX, GroupRecord, Settings};

/// Data groups for each shard node, unless the cluster's creator says otherwise.
pub const GROUPS_PER_NODE_DEFAULT: usize = 2;

/// Why there is no plan for the first groups.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplannable {
    /// There is no cluster yet.
    #[error("the cluster is not initialized yet")]
    NotInitialized,
    /// It is past its beginning.
    #[error("the cluster has data groups already")]
    GroupsExist,
    /// Nobody to hold replicas.
    #[error("no usable node has the role shard")]
    NoShardNode,
}

/// Plans the first groups on those `usable` nodes that are shards: as many groups as
/// the settings want, of as many replicas (fewer if there are fewer nodes), owning
/// the ring between them in shares that are even by arc length.
pub fn initial(catalog: &Catalog, usable: &BTreeSet<NodeId>) -> Result<Plan, Unplannable> {
    let settings = catalog.settings().ok_or(Unplannable::NotInitialized)?;
    let ring = Ring::new(settings.vnodes).map_err(|_| Unplannable::NotInitialized)?;
    if catalog.groups().next().is_some() {
        return Err(Unplannable::GroupsExist);
    }
    let candidates = candidates(catalog, usable);
    if candidates.is_empty() {
        return Err(Unplannable::NoShardNode);
    }
    let groups = group_count(settings, candidates.len());
    let seats = assign(&candidates, groups, settings.replication as usize);
    let shares = shares(&ring, groups);
    let mut next_replica = catalog.next_replica().0;
    let mut planned = Vec::with_capacity(groups);
    for ((id, nodes), (vnodes, arc)) in (catalog.next_group().0..).zip(seats).zip(shares) {
        let mut replicas = Vec::with_capacity(nodes.len());
        for node in nodes {
            replicas.push(Replica {
                id: ReplicaId(next_replica),
                node,
                role: ReplicaRole::Voter,
            });
            next_replica += 1;
        }
        let record = GroupRecord {
            id: GroupId(id),
            replicas,
            vnodes,
        };
        planned.push(PlannedGroup { record, arc });
    }
    Ok(Plan {
        basis: catalog.epoch(),
        steps: vec![Step::CreateGroups(planned)],
    })
}

fn candidates(catalog: &Catalog, usable: &BTreeSet<NodeId>) -> Vec<Candidate> {
    let shards = catalog
        .nodes()
        .map(|record| &record.node)
        .filter(|node| node.roles.shard);
    let usable = shards.filter(|node| usable.contains(&node.id));
    usable
        .map(|node| Candidate {
            node: node.id,
            zone: node.zone.clone(),
        })
        .collect()
}

fn group_count(settings: &Settings, nodes: usize) -> usize {
    let wanted = match settings.groups_wanted {
        0 => nodes.saturating_mul(GROUPS_PER_NODE_DEFAULT),
        wanted => wanted as usize,
    };
    // No group without a vnode.
    wanted
        .min(GROUPS_MAX as usize)
        .min(settings.vnodes as usize)
}

/// The vnodes of each group and the length of their arcs.
fn shares(ring: &Ring, groups: usize) -> Vec<(VnodeSet, u128)> {
    let mut shares = vec![(VnodeSet::new(), 0); groups];
    let bins = by_weight(ring.arcs(), groups);
    for ((vnode, arc), bin) in (0..=u16::MAX).map(Vnode).zip(ring.arcs()).zip(bins) {
        shares[bin].0.insert(vnode);
        shares[bin].1 += u128::from(*arc);
    }
    shares
}
