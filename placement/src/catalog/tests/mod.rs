//! The catalog under test: verb by verb, under random commands, and in bytes.

mod bytes;
mod random;
mod verbs;

use caucus_ring::{ClusterId, NodeId, Replica, ReplicaId, ReplicaRole, Roles, Vnode, VnodeSet};

use super::*;

pub(super) fn replica(id: u64, node: u32) -> Replica {
    Replica {
        id: ReplicaId(id),
        node: NodeId(node),
        role: ReplicaRole::Voter,
    }
}

pub(super) fn init() -> InitCluster {
    InitCluster {
        settings: Settings {
            cluster_id: ClusterId([1; 16]),
            vnodes: 8,
            groups_wanted: 2,
            replication: 3,
            created_at_ms: 1_700_000_000_000,
        },
        placement: vec![replica(1, 1), replica(2, 2), replica(3, 3)],
        rules: Vec::new(),
    }
}

pub(super) fn register(id: u32, storage: u8) -> RegisterNode {
    RegisterNode {
        id: NodeId(id),
        storage: StorageUuid([storage; 16]),
        peer_address: format!("host{storage}:1"),
        client_address: format!("host{storage}:2"),
        zone: "z".to_owned(),
        roles: Roles::ALL,
    }
}

pub(super) fn vnodes(numbers: std::ops::Range<u16>) -> VnodeSet {
    numbers.map(Vnode).collect()
}

pub(super) fn record(id: u32, replicas: &[(u64, u32)], owns: std::ops::Range<u16>) -> GroupRecord {
    GroupRecord {
        id: caucus_ring::GroupId(id),
        replicas: replicas
            .iter()
            .map(|&(id, node)| replica(id, node))
            .collect(),
        vnodes: vnodes(owns),
    }
}

/// Two groups over nodes 1 to 3.
pub(super) fn groups() -> Vec<GroupRecord> {
    vec![
        record(1, &[(4, 1), (5, 2), (6, 3)], 0..4),
        record(2, &[(7, 2), (8, 3), (9, 1)], 4..8),
    ]
}

/// A catalog with nodes 1 to 3 and no groups.
pub(super) fn registered() -> Catalog {
    let mut catalog = Catalog::new();
    let nodes = (1..=3).map(|id| Command::RegisterNode(register(id, id as u8)));
    for command in std::iter::once(Command::InitCluster(init())).chain(nodes) {
        assert!(apply(&mut catalog, command).answer.is_ok());
    }
    catalog
}

/// A catalog with two groups, one of them active.
pub(super) fn grouped() -> Catalog {
    let mut catalog = registered();
    let commands = [
        Command::CreateGroups(groups()),
        Command::ActivateGroup(caucus_ring::GroupId(1)),
    ];
    for command in commands {
        assert!(apply(&mut catalog, command).answer.is_ok());
    }
    catalog
}

/// Applies a command and checks all that holds for every one of them.
pub(super) fn apply(catalog: &mut Catalog, command: Command) -> Outcome {
    let before = catalog.clone();
    let decoded = Command::decode(&command.encode());
    assert_eq!(decoded.as_ref(), Ok(&command));
    let outcome = catalog.apply(command);
    assert_eq!(catalog.check(), Ok(()));

    let shown = |catalog: &Catalog| {
        catalog
            .map_content()
            .map(|content| (content.nodes, content.groups, content.owners, content.rules))
    };
    let map_changed = shown(&before) != shown(catalog);
    let steps = u64::from(map_changed);
    assert_eq!(
        catalog.epoch().0 - before.epoch().0,
        steps,
        "the epoch rises iff the map changes"
    );
    assert_eq!(outcome.changed.catalog, before.encode() != catalog.encode());
    assert_eq!(
        outcome.changed.ceiling,
        before.ceiling() < catalog.ceiling()
    );
    assert!(before.ceiling() <= catalog.ceiling());
    if outcome.answer.is_err() {
        assert_eq!(&before, catalog, "a refusal leaves no trace");
        assert_eq!(outcome.effects, []);
    }
    let told = outcome
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::MapChanged { .. }));
    assert_eq!(told, map_changed);
    assert_eq!(
        Catalog::decode(&catalog.encode(), catalog.ceiling()).as_ref(),
        Ok(&*catalog)
    );
    assert_eq!(catalog.cluster_map().is_some(), catalog.is_initialized());
    outcome
}
