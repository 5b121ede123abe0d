//! What the controller decides.

use std::collections::BTreeSet;

use caucus_ring::{ClusterId, NodeId, Roles};

use crate::catalog::{Catalog, Command, RegisterNode, StorageUuid};
use crate::controller::{Beginning, decide};
use crate::{Bootstrap, Voter};

fn beginning() -> Beginning {
    Beginning {
        cluster_id: ClusterId([9; 16]),
        voters: vec![Voter {
            replica: 11,
            node: 1,
            peer_addr: "n1:1".to_owned(),
        }],
        bootstrap: Bootstrap {
            vnodes: 64,
            groups: 4,
            replication: 3,
            initial_nodes: 2,
            created_at_ms: 5,
        },
    }
}

fn node(id: u32, shard: bool) -> Command {
    Command::RegisterNode(RegisterNode {
        id: NodeId(id),
        storage: StorageUuid([id as u8; 16]),
        peer_address: format!("n{id}:1"),
        client_address: format!("n{id}:2"),
        zone: String::new(),
        roles: Roles {
            shard,
            ..Roles::ALL
        },
    })
}

#[test]
fn it_creates_the_cluster_then_the_groups_then_rests() {
    let (beginning, mut catalog) = (beginning(), Catalog::new());
    let all: BTreeSet<NodeId> = (1..=9).map(NodeId).collect();
    let init = decide(&catalog, &all, &beginning).unwrap();
    assert!(matches!(init, Command::InitCluster(_)));
    catalog.apply(init).answer.unwrap();
    assert_eq!(decide(&catalog, &all, &beginning), None, "no node is there");

    // A router is no shard.
    for (id, shard) in [(1, true), (2, false)] {
        catalog.apply(node(id, shard)).answer.unwrap();
        assert_eq!(decide(&catalog, &all, &beginning), None);
    }
    catalog.apply(node(3, true)).answer.unwrap();
    let silent = BTreeSet::from([NodeId(1), NodeId(2)]);
    assert_eq!(decide(&catalog, &silent, &beginning), None);
    let create = decide(&catalog, &all, &beginning).unwrap();
    match &create {
        Command::CreateGroups(groups) => assert_eq!(groups.len(), 4),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        decide(&catalog, &all, &beginning),
        Some(create.clone()),
        "the same again"
    );
    catalog.apply(create).answer.unwrap();
    assert_eq!(decide(&catalog, &all, &beginning), None);
}
