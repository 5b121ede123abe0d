//! Data groups.

use caucus_ring::{Group, GroupId, GroupState, ReplicaId, VnodeSet};

use super::apply::{Change, Verdict};
use super::init::{GROUPS_MAX, bounds, members};
use super::state::Cluster;
use super::{Answer, GroupFault, GroupRecord, Refusal};

pub(super) fn create(cluster: &mut Cluster, records: Vec<GroupRecord>) -> Verdict {
    let total = cluster.groups.len() as u64 + records.len() as u64;
    bounds(
        "the number of new groups",
        records.len() as u64,
        1,
        GROUPS_MAX.into(),
    )?;
    bounds("the number of groups", total, 1, GROUPS_MAX.into())?;
    let next = check(cluster, &records)?;
    for record in records {
        for vnode in record.vnodes.iter() {
            cluster.owners[usize::from(vnode.0)] = record.id;
        }
        let state = GroupState::Bootstrapping;
        let group = Group {
            id: record.id,
            state,
            replicas: record.replicas,
        };
        cluster.groups.insert(record.id, group);
    }
    (cluster.next_group, cluster.next_replica) = next;
    Ok((Answer::GroupsCreated, Change::Map))
}

pub(super) fn activate(cluster: &mut Cluster, id: GroupId) -> Verdict {
    let group = cluster
        .groups
        .get_mut(&id)
        .ok_or(Refusal::UnknownGroup(id))?;
    let change = match group.state {
        GroupState::Bootstrapping => Change::Map,
        GroupState::Active => Change::Nothing,
    };
    group.state = GroupState::Active;
    Ok((Answer::GroupActivated, change))
}

/// Checks all records; the ids that are free after them.
fn check(cluster: &Cluster, records: &[GroupRecord]) -> Result<(GroupId, ReplicaId), Refusal> {
    // All vnodes for the first groups, none for later ones.
    let mut free = match cluster.groups.is_empty() {
        true => VnodeSet::full(cluster.settings.vnodes),
        false => VnodeSet::new(),
    };
    let mut next = (cluster.next_group, cluster.next_replica);
    for record in records {
        next = check_one(cluster, record, next, &free).map_err(|fault| Refusal::Group {
            group: record.id,
            fault,
        })?;
        free = free.difference(&record.vnodes);
    }
    match free.len() {
        0 => Ok(next),
        missing => Err(Refusal::VnodesMissing { missing }),
    }
}

/// Ids rise within a command, so that "not below the next one" also means "not
/// twice".
fn check_one(
    cluster: &Cluster,
    record: &GroupRecord,
    (next_group, mut next_replica): (GroupId, ReplicaId),
    free: &VnodeSet,
) -> Result<(GroupId, ReplicaId), GroupFault> {
    let taken = GroupFault::IdTaken { next: next_group };
    if record.id < next_group {
        return Err(taken);
    }
    let following = GroupId(record.id.0.checked_add(1).ok_or(taken)?);
    members(&record.replicas)?;
    let mut ids: Vec<ReplicaId> = record.replicas.iter().map(|replica| replica.id).collect();
    ids.sort_unstable();
    for id in ids {
        let taken = GroupFault::ReplicaIdTaken {
            id,
            next: next_replica,
        };
        if id < next_replica {
            return Err(taken);
        }
        next_replica = ReplicaId(id.0.checked_add(1).ok_or(taken)?);
    }
    for replica in &record.replicas {
        let shard = cluster
            .nodes
            .get(&replica.node)
            .is_some_and(|record| record.node.roles.shard);
        if !shard {
            return Err(GroupFault::NoShardNode(replica.node));
        }
    }
    if !record.vnodes.is_subset(free) {
        return Err(GroupFault::Vnodes);
    }
    Ok((following, next_replica))
}
