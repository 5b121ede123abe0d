//! The cluster map: look-ups, checks and its frozen bytes.

use std::sync::Arc;

use caucus_ring::{
    ClusterId, ClusterMap, DecodeError, Epoch, Group, GroupId, GroupState, MapContent, MapError,
    Node, NodeId, Replica, ReplicaId, ReplicaRole, Roles, Rule, RuleEntry, Rules, Vnode, VnodeSet,
};

fn replica(id: u64, node: u32) -> Replica {
    Replica {
        id: ReplicaId(id),
        node: NodeId(node),
        role: ReplicaRole::Voter,
    }
}

fn group(id: u32, replicas: Vec<Replica>) -> Group {
    Group {
        id: GroupId(id),
        state: GroupState::Active,
        replicas,
    }
}

fn content() -> MapContent {
    let node = |id: u32| Node {
        id: NodeId(id),
        peer_address: format!("n{id}:1"),
        client_address: format!("n{id}:2"),
        zone: "z".to_owned(),
        roles: Roles::ALL,
    };
    let mut learning = group(2, vec![replica(3, 2)]);
    learning.replicas[0].role = ReplicaRole::Learner;
    learning.state = GroupState::Bootstrapping;
    MapContent {
        epoch: Epoch(5),
        cluster_id: ClusterId([0xab; 16]),
        vnodes: 4,
        rules: Rules::new(
            3,
            vec![RuleEntry {
                prefix: b"/a/".to_vec(),
                rule: Rule::Segments(1),
            }],
        )
        .unwrap(),
        nodes: vec![node(2), node(1)],
        groups: vec![learning, group(1, vec![replica(2, 1)])],
        placement: group(0, vec![replica(1, 1)]),
        owners: [1, 2, 2, 1].map(GroupId).to_vec(),
    }
}

#[test]
fn finds_things() {
    let map = ClusterMap::new(content()).unwrap();
    assert_eq!(map.node(NodeId(2)).unwrap().peer_address, "n2:1");
    assert_eq!(map.node(NodeId(3)), None);
    assert_eq!(
        map.group(GroupId(1)).unwrap().preferred_leader(),
        Some(NodeId(1))
    );
    assert_eq!(map.group(GroupId(0)), Some(map.placement()));
    assert_eq!(map.group(GroupId(9)), None);
    let (vnode, owner) = map.locate(b"/a/b/c");
    assert_eq!(vnode, map.home_vnode(b"/a/z/z/z"));
    assert_eq!(owner, map.owners()[usize::from(vnode.0)]);
    assert_eq!(map.route_range(b"/a/", b"/a0"), VnodeSet::single(vnode));
}

#[test]
fn splits_by_owner() {
    let map = ClusterMap::new(content()).unwrap();
    let set = |vnodes: &[u16]| vnodes.iter().copied().map(Vnode).collect::<VnodeSet>();
    assert_eq!(
        map.split_by_group(&VnodeSet::full(4)),
        [(GroupId(1), set(&[0, 3])), (GroupId(2), set(&[1, 2]))]
    );
    assert_eq!(map.split_by_group(&set(&[2])), [(GroupId(2), set(&[2]))]);
    assert_eq!(map.split_by_group(&set(&[])), []);
}

#[test]
fn nobody_owns_before_there_are_groups() {
    let mut early = content();
    early.groups.clear();
    early.owners = vec![GroupId::PLACEMENT; 4];
    let map = ClusterMap::new(early).unwrap();
    assert!(!map.has_owners());
    assert_eq!(map.locate(b"x").1, GroupId::PLACEMENT);
}

#[test]
fn refuses_what_does_not_fit() {
    let broken = |change: fn(&mut MapContent)| {
        let mut content = content();
        change(&mut content);
        ClusterMap::new(content).unwrap_err()
    };
    assert!(matches!(broken(|c| c.vnodes = 1), MapError::Ring(_)));
    assert!(matches!(
        broken(|c| c.vnodes = 5),
        MapError::OwnerCount {
            owners: 4,
            vnodes: 5
        }
    ));
    let unknown = MapError::UnknownOwner {
        vnode: Vnode(1),
        group: GroupId(7),
    };
    assert_eq!(broken(|c| c.owners[1] = GroupId(7)), unknown);
    assert!(matches!(
        broken(|c| c.owners[1] = GroupId(0)),
        MapError::UnknownOwner { .. }
    ));
    assert_eq!(
        broken(|c| c.groups[0].id = GroupId(1)),
        MapError::GroupId(GroupId(1))
    );
    assert_eq!(
        broken(|c| c.groups[0].id = GroupId(0)),
        MapError::GroupId(GroupId(0))
    );
    assert_eq!(
        broken(|c| c.placement.id = GroupId(1)),
        MapError::GroupId(GroupId(1))
    );
    assert_eq!(
        broken(|c| c.nodes[0].id = NodeId(1)),
        MapError::NodeId(NodeId(1))
    );
}

#[test]
fn bytes_are_frozen() {
    let map = ClusterMap::new(content()).unwrap();
    let hex: String = map
        .encode()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "08051210abababababababababababababababab180120042a0d080312090a032f612f10011801\
         3213080112046e313a311a046e313a3222017a28073213080212046e323a311a046e323a3222017a2807\
         3a0c080110021a060802100118013a0c080210011a0608031002180242\
         0a10021a060801100118014a0401020201"
    );
    assert_eq!(ClusterMap::decode(&map.encode()), Ok(map.clone()));
    let onto = ClusterMap::decode_onto(&map.encode(), map.ring()).unwrap();
    assert!(Arc::ptr_eq(onto.ring(), map.ring()));
}

#[test]
fn refuses_foreign_bytes() {
    let map = ClusterMap::new(content()).unwrap();
    let mut bytes = map.encode();
    assert!(ClusterMap::decode(&bytes[..20]).is_err());
    // The field of the seed's version: tag 3, varint, value 1.
    let at = bytes.windows(2).position(|pair| pair == [0x18, 1]).unwrap();
    bytes[at + 1] = 2;
    assert_eq!(ClusterMap::decode(&bytes), Err(DecodeError::SeedVersion(2)));
}
