//! Creating the cluster.

use std::collections::{BTreeMap, BTreeSet};

use caucus_ring::{GroupId, NodeId, Replica, ReplicaId, RingError, Rules, VNODES_MAX, VNODES_MIN};

use super::apply::{Change, Verdict};
use super::nodes::NODE_ID_MAX;
use super::state::Cluster;
use super::{Answer, GroupFault, InitCluster, Refusal, Settings};

/// The most data groups.
pub const GROUPS_MAX: u32 = 4096;
/// The most replicas of a group.
pub const REPLICAS_PER_GROUP_MAX: u32 = 7;

pub(super) fn init_cluster(cluster: &mut Option<Cluster>, init: InitCluster) -> Verdict {
    let cluster_id = init.settings.cluster_id;
    let answer = Answer::Initialized { cluster_id };
    if let Some(existing) = cluster {
        // All that can't have changed since then; a repeated proposal is no error.
        if existing.settings == init.settings {
            return Ok((answer, Change::Nothing));
        }
        return Err(Refusal::AlreadyInitialized {
            cluster_id: existing.settings.cluster_id,
        });
    }
    *cluster = Some(create(init)?);
    Ok((answer, Change::Map))
}

fn create(init: InitCluster) -> Result<Cluster, Refusal> {
    check_settings(&init.settings)?;
    check_placement(&init.placement)?;
    let rules = Rules::new(u64::from(!init.rules.is_empty()), init.rules)?;
    let node = init
        .placement
        .iter()
        .map(|replica| replica.node.0)
        .max()
        .unwrap_or(0);
    let replica = init
        .placement
        .iter()
        .map(|replica| replica.id.0)
        .max()
        .unwrap_or(0);
    Ok(Cluster {
        owners: vec![GroupId::PLACEMENT; init.settings.vnodes as usize],
        settings: init.settings,
        rules,
        nodes: BTreeMap::new(),
        groups: BTreeMap::new(),
        placement: init.placement,
        // Bounded by the checks above, so nothing overflows.
        next_node: NodeId(node + 1),
        next_group: GroupId(1),
        next_replica: ReplicaId(replica + 1),
    })
}

fn check_settings(settings: &Settings) -> Result<(), Refusal> {
    if !(VNODES_MIN..=VNODES_MAX).contains(&settings.vnodes) {
        return Err(Refusal::Ring(RingError {
            vnodes: settings.vnodes,
        }));
    }
    let groups_max = GROUPS_MAX.min(settings.vnodes);
    bounds(
        "the number of groups",
        settings.groups_wanted.into(),
        0,
        groups_max.into(),
    )?;
    bounds(
        "the replication factor",
        settings.replication.into(),
        1,
        REPLICAS_PER_GROUP_MAX.into(),
    )
}

fn check_placement(replicas: &[Replica]) -> Result<(), Refusal> {
    members(replicas).map_err(|fault| Refusal::Group {
        group: GroupId::PLACEMENT,
        fault,
    })?;
    let mut ids = BTreeSet::new();
    for replica in replicas {
        bounds("a node id", replica.node.0.into(), 1, NODE_ID_MAX.into())?;
        bounds("a replica id", replica.id.0, 1, u32::MAX.into())?;
        if !ids.insert(replica.id) {
            let fault = GroupFault::ReplicaIdTaken {
                id: replica.id,
                next: ReplicaId(1),
            };
            return Err(Refusal::Group {
                group: GroupId::PLACEMENT,
                fault,
            });
        }
    }
    Ok(())
}

/// What holds for the members of any group.
pub(super) fn members(replicas: &[Replica]) -> Result<(), GroupFault> {
    if replicas.is_empty() || replicas.len() > REPLICAS_PER_GROUP_MAX as usize {
        return Err(GroupFault::ReplicaCount(replicas.len()));
    }
    let mut nodes = BTreeSet::new();
    if let Some(twice) = replicas.iter().find(|replica| !nodes.insert(replica.node)) {
        return Err(GroupFault::NodeTwice(twice.node));
    }
    if !replicas.iter().any(|replica| replica.role.votes()) {
        return Err(GroupFault::NoVoter);
    }
    Ok(())
}

pub(super) fn bounds(what: &'static str, got: u64, min: u64, max: u64) -> Result<(), Refusal> {
    if (min..=max).contains(&got) {
        Ok(())
    } else {
        Err(Refusal::OutOfBounds {
            what,
            got,
            min,
            max,
        })
    }
}
