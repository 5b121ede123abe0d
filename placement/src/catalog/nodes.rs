//! Nodes.

use caucus_ring::{Node, NodeId};

use super::apply::{Change, Verdict};
use super::init::bounds;
use super::state::Cluster;
use super::{Answer, NodeRecord, Refusal, RegisterNode, StorageUuid};

/// The most nodes.
pub const NODES_MAX: usize = 1024;
/// The greatest node id.
pub const NODE_ID_MAX: u32 = 1_000_000;
/// The longest address.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// The longest zone.
pub const ZONE_BYTES_MAX: usize = 63;

pub(super) fn register(cluster: &mut Cluster, register: RegisterNode) -> Verdict {
    let id = identify(cluster, register.id, register.storage)?;
    check_texts(&register)?;
    check_roles(cluster, id, &register)?;
    let record = NodeRecord {
        node: Node {
            id,
            peer_address: register.peer_address,
            client_address: register.client_address,
            zone: register.zone,
            roles: register.roles,
        },
        storage: register.storage,
    };
    let answer = Answer::Registered { node: id };
    if cluster.nodes.get(&id) == Some(&record) {
        return Ok((answer, Change::Nothing));
    }
    cluster.nodes.insert(id, record);
    cluster.next_node = cluster.next_node.max(NodeId(id.0 + 1));
    Ok((answer, Change::Map))
}

/// Who this is. A storage is registered once and for ever under one id, so a lost
/// answer to "give me an id" can be asked for again.
fn identify(cluster: &Cluster, claimed: NodeId, storage: StorageUuid) -> Result<NodeId, Refusal> {
    let known = cluster
        .nodes
        .values()
        .find(|record| record.storage == storage);
    if let Some(owner) = known.map(|record| record.node.id) {
        let same = claimed == NodeId(0) || claimed == owner;
        let taken = Refusal::StorageTaken {
            storage,
            owner,
            node: claimed,
        };
        return if same { Ok(owner) } else { Err(taken) };
    }
    let id = if claimed == NodeId(0) {
        cluster.next_node
    } else {
        claimed
    };
    if let Some(record) = cluster.nodes.get(&id) {
        let registered = record.storage;
        return Err(Refusal::OtherStorage {
            node: id,
            registered,
            offered: storage,
        });
    }
    bounds("a node id", id.0.into(), 1, NODE_ID_MAX.into())?;
    bounds(
        "the number of nodes",
        cluster.nodes.len() as u64 + 1,
        1,
        NODES_MAX as u64,
    )?;
    Ok(id)
}

fn check_texts(register: &RegisterNode) -> Result<(), Refusal> {
    for (what, value, min, max) in [
        (
            "the peer address",
            &register.peer_address,
            1,
            ADDRESS_BYTES_MAX,
        ),
        (
            "the client address",
            &register.client_address,
            1,
            ADDRESS_BYTES_MAX,
        ),
        ("the zone", &register.zone, 0, ZONE_BYTES_MAX),
    ] {
        let blank = value.chars().any(|c| c.is_whitespace() || c.is_control());
        if blank || !(min..=max).contains(&value.len()) {
            // Cut, because the refusal travels and is logged.
            let value = value.chars().take(ADDRESS_BYTES_MAX).collect();
            return Err(Refusal::BadText {
                what,
                value,
                min,
                max,
            });
        }
    }
    Ok(())
}

/// A node can't give up a role that replicas on it need.
fn check_roles(cluster: &Cluster, id: NodeId, register: &RegisterNode) -> Result<(), Refusal> {
    let roles = register.roles;
    let has_data = cluster
        .groups
        .values()
        .any(|group| group.replica_on(id).is_some());
    let has_placement = cluster.placement.iter().any(|replica| replica.node == id);
    for (missing, role) in [
        (
            !(roles.router || roles.shard || roles.placement),
            "router, shard or placement",
        ),
        (has_data && !roles.shard, "shard"),
        (has_placement && !roles.placement, "placement"),
    ] {
        if missing {
            return Err(Refusal::RoleMissing { node: id, role });
        }
    }
    Ok(())
}
