//! The first plan, from catalog to catalog.

use std::collections::BTreeSet;

use caucus_ring::{ClusterId, GroupId, NodeId, Replica, ReplicaId, ReplicaRole, Ring, Roles};

use super::*;
use crate::catalog::{Catalog, Command, InitCluster, RegisterNode, Settings, StorageUuid};

fn catalog(vnodes: u32, groups_wanted: u32, nodes: &[(Roles, &str)]) -> Catalog {
    let mut catalog = Catalog::new();
    let settings = Settings {
        cluster_id: ClusterId([1; 16]),
        vnodes,
        groups_wanted,
        replication: 3,
        created_at_ms: 0,
    };
    let voter = Replica {
        id: ReplicaId(1),
        node: NodeId(1),
        role: ReplicaRole::Voter,
    };
    let init = InitCluster {
        settings,
        placement: vec![voter],
        rules: Vec::new(),
    };
    assert!(catalog.apply(Command::InitCluster(init)).answer.is_ok());
    for (id, (roles, zone)) in (1..).zip(nodes) {
        let register = RegisterNode {
            id: NodeId(id),
            storage: StorageUuid([id as u8; 16]),
            peer_address: "peer:1".to_owned(),
            client_address: "client:1".to_owned(),
            zone: (*zone).to_owned(),
            roles: *roles,
        };
        assert!(
            catalog
                .apply(Command::RegisterNode(register))
                .answer
                .is_ok()
        );
    }
    catalog
}

fn all(catalog: &Catalog) -> BTreeSet<NodeId> {
    catalog.nodes().map(|record| record.node.id).collect()
}

const ROUTER: Roles = Roles {
    router: true,
    shard: false,
    placement: false,
};

#[test]
fn the_catalog_takes_the_plan_and_arcs_are_even() {
    for (nodes, groups) in [(1, 1), (2, 3), (3, 6), (5, 10), (32, 64)] {
        let mut catalog = catalog(4096, groups, &vec![(Roles::ALL, ""); nodes]);
        let plan = initial(&catalog, &all(&catalog)).unwrap();
        assert_eq!(plan, initial(&catalog, &all(&catalog)).unwrap());
        assert_eq!(
            plan.cost().replicas,
            u64::from(groups) * nodes.min(3) as u64
        );
        for step in &plan.steps {
            assert!(catalog.apply(step.command()).answer.is_ok(), "{plan}");
        }
        assert_eq!(catalog.check(), Ok(()));

        let ring = Ring::new(4096).unwrap();
        let mut arcs = vec![0_u128; groups as usize];
        for (owner, arc) in catalog.owners().iter().zip(ring.arcs()) {
            arcs[owner.0 as usize - 1] += u128::from(*arc);
        }
        let mean = (1_u128 << 64) / u128::from(groups);
        assert!(arcs.iter().all(|arc| *arc <= mean + mean / 20), "{arcs:?}");
        assert_eq!(
            initial(&catalog, &all(&catalog)),
            Err(Unplannable::GroupsExist)
        );
    }
}

#[test]
fn only_usable_shards_get_replicas() {
    let nodes = [
        (Roles::ALL, ""),
        (ROUTER, ""),
        (Roles::ALL, ""),
        (Roles::ALL, ""),
    ];
    let catalog = catalog(64, 0, &nodes);
    let plan = initial(&catalog, &BTreeSet::from([1, 2, 3].map(NodeId))).unwrap();
    let Some(Step::CreateGroups(groups)) = plan.steps.first() else {
        panic!("{plan}");
    };
    // Two groups for each usable shard.
    assert_eq!(groups.len(), 4);
    for group in groups {
        let mut nodes: Vec<u32> = group.record.replicas.iter().map(|r| r.node.0).collect();
        nodes.sort_unstable();
        assert_eq!(nodes, [1, 3]);
    }
    let leaders = groups
        .iter()
        .filter(|group| group.record.replicas[0].node == NodeId(1));
    assert_eq!(leaders.count(), 2);
    assert_eq!(
        initial(&catalog, &BTreeSet::from([NodeId(2)])),
        Err(Unplannable::NoShardNode)
    );
    assert_eq!(
        initial(&Catalog::new(), &BTreeSet::new()),
        Err(Unplannable::NotInitialized)
    );
}

#[test]
fn ids_go_on_after_those_of_the_placement_group() {
    let catalog = catalog(
        64,
        2,
        &[(Roles::ALL, "a"), (Roles::ALL, "b"), (Roles::ALL, "a")],
    );
    let plan = initial(&catalog, &all(&catalog)).unwrap();
    let Some(Step::CreateGroups(groups)) = plan.steps.first() else {
        panic!("{plan}");
    };
    let ids: Vec<u64> = groups
        .iter()
        .flat_map(|g| &g.record.replicas)
        .map(|r| r.id.0)
        .collect();
    assert_eq!(ids, [2, 3, 4, 5, 6, 7]);
    assert_eq!(groups[0].record.id, GroupId(1));
}

#[test]
fn a_plan_can_be_read() {
    let catalog = catalog(64, 2, &[(Roles::ALL, ""); 3]);
    let plan = initial(&catalog, &all(&catalog)).unwrap();
    assert_eq!(
        plan.to_string(),
        "plan from epoch 4: 6 replicas to build, 0 bytes to copy, \
         0.00 % of the ring and 0 leaders to move\n\
         1. create 2 groups\n   \
         group 1 on nodes 1 2 3, 32 vnodes, 49.96 % of the ring\n   \
         group 2 on nodes 2 1 3, 32 vnodes, 50.04 % of the ring\n"
    );
}
