//! Verb by verb: what it does and what it refuses.

use caucus_ring::{
    Epoch, GroupId, NodeId, ReplicaId, ReplicaRole, Revision, Roles, Rule, RuleEntry,
};

use super::*;

fn refusal(catalog: &mut Catalog, command: Command) -> Refusal {
    apply(catalog, command).answer.unwrap_err()
}

fn group_fault(catalog: &mut Catalog, records: Vec<GroupRecord>) -> GroupFault {
    match refusal(catalog, Command::CreateGroups(records)) {
        Refusal::Group { fault, .. } => fault,
        other => panic!("{other:?}"),
    }
}

fn rules(prefixes: &[&str]) -> Vec<RuleEntry> {
    let entry = |prefix: &&str| RuleEntry {
        prefix: prefix.as_bytes().to_vec(),
        rule: Rule::Directory,
    };
    prefixes.iter().map(entry).collect()
}

#[test]
fn nothing_goes_before_init_but_the_ceiling() {
    let mut catalog = Catalog::new();
    for command in [
        Command::RegisterNode(register(1, 1)),
        Command::CreateGroups(groups()),
        Command::ActivateGroup(GroupId(1)),
        Command::SetRules(SetRules {
            expected_version: 0,
            entries: Vec::new(),
        }),
    ] {
        assert_eq!(refusal(&mut catalog, command), Refusal::NotInitialized);
    }
    assert!(
        apply(&mut catalog, Command::RaiseCeiling(Revision(5)))
            .answer
            .is_ok()
    );
    assert!(
        apply(&mut catalog, Command::InitCluster(init()))
            .answer
            .is_ok()
    );
    assert_eq!(
        (catalog.epoch(), catalog.ceiling()),
        (Epoch(1), Revision(5))
    );
}

#[test]
fn init_happens_once() {
    let mut catalog = registered();
    let epoch = catalog.epoch();
    let again = apply(&mut catalog, Command::InitCluster(init()));
    assert_eq!(
        again.answer,
        Ok(Answer::Initialized {
            cluster_id: init().settings.cluster_id
        })
    );
    assert_eq!(catalog.epoch(), epoch);
    let mut other = init();
    other.settings.vnodes = 16;
    let refused = refusal(&mut catalog, Command::InitCluster(other));
    assert!(matches!(refused, Refusal::AlreadyInitialized { .. }));
}

#[test]
fn init_is_checked() {
    let broken = |change: fn(&mut InitCluster)| {
        let mut command = init();
        change(&mut command);
        refusal(&mut Catalog::new(), Command::InitCluster(command))
    };
    assert!(matches!(
        broken(|c| c.settings.vnodes = 1),
        Refusal::Ring(_)
    ));
    assert!(matches!(
        broken(|c| c.settings.vnodes = 65537),
        Refusal::Ring(_)
    ));
    assert!(matches!(
        broken(|c| c.settings.groups_wanted = 9),
        Refusal::OutOfBounds { max: 8, .. }
    ));
    assert!(matches!(
        broken(|c| c.settings.replication = 0),
        Refusal::OutOfBounds { .. }
    ));
    assert!(matches!(
        broken(|c| c.placement.clear()),
        Refusal::Group { .. }
    ));
    assert!(matches!(
        broken(|c| c.placement[1].node = NodeId(1)),
        Refusal::Group { .. }
    ));
    assert!(matches!(
        broken(|c| c.placement[1].id = ReplicaId(1)),
        Refusal::Group { .. }
    ));
    assert!(matches!(
        broken(|c| c.placement[1].node = NodeId(0)),
        Refusal::OutOfBounds { .. }
    ));
    assert!(matches!(
        broken(|c| c.rules = rules(&["/a"])),
        Refusal::Rules(_)
    ));
}

#[test]
fn nodes_get_ids_past_all_others() {
    let mut catalog = registered();
    for (id, storage, expected) in [
        (0, 10, 4),
        (0, 11, 5),
        (0, 10, 4),
        (20, 12, 20),
        (0, 13, 21),
    ] {
        let answer = apply(&mut catalog, Command::RegisterNode(register(id, storage))).answer;
        assert_eq!(
            answer,
            Ok(Answer::Registered {
                node: NodeId(expected)
            }),
            "{id} {storage}"
        );
    }
}

#[test]
fn registering_again_updates_or_does_nothing() {
    let mut catalog = registered();
    let epoch = catalog.epoch();
    assert!(
        apply(&mut catalog, Command::RegisterNode(register(2, 2)))
            .answer
            .is_ok()
    );
    assert_eq!(catalog.epoch(), epoch);
    let mut moved = register(2, 2);
    moved.peer_address = "elsewhere:1".to_owned();
    let outcome = apply(&mut catalog, Command::RegisterNode(moved));
    assert_eq!(
        outcome.effects,
        [Effect::MapChanged {
            epoch: epoch.next()
        }]
    );
    assert_eq!(
        catalog.node(NodeId(2)).unwrap().node.peer_address,
        "elsewhere:1"
    );
}

#[test]
fn a_node_is_its_storage() {
    let mut catalog = registered();
    let refused = refusal(&mut catalog, Command::RegisterNode(register(2, 9)));
    let expected = Refusal::OtherStorage {
        node: NodeId(2),
        registered: StorageUuid([2; 16]),
        offered: StorageUuid([9; 16]),
    };
    assert_eq!(refused, expected);
    assert!(
        refused.to_string().contains("must join under a new id"),
        "{refused}"
    );
    let refused = refusal(&mut catalog, Command::RegisterNode(register(7, 2)));
    assert!(matches!(
        refused,
        Refusal::StorageTaken {
            owner: NodeId(2),
            node: NodeId(7),
            ..
        }
    ));
}

#[test]
fn registration_is_checked() {
    let broken = |change: fn(&mut RegisterNode)| {
        let mut command = register(2, 2);
        change(&mut command);
        refusal(&mut grouped(), Command::RegisterNode(command))
    };
    assert!(matches!(
        broken(|c| c.peer_address.clear()),
        Refusal::BadText { .. }
    ));
    assert!(matches!(
        broken(|c| c.client_address = "a b".to_owned()),
        Refusal::BadText { .. }
    ));
    assert!(matches!(
        broken(|c| c.zone = "z".repeat(64)),
        Refusal::BadText { .. }
    ));
    assert!(matches!(
        broken(|c| c.roles.shard = false),
        Refusal::RoleMissing { role: "shard", .. }
    ));
    let placement = broken(|c| c.roles.placement = false);
    assert!(matches!(
        placement,
        Refusal::RoleMissing {
            role: "placement",
            ..
        }
    ));
    assert!(matches!(
        broken(|c| c.roles = Roles::default()),
        Refusal::RoleMissing { .. }
    ));
    let far = Command::RegisterNode(register(NODE_ID_MAX + 1, 50));
    assert!(matches!(
        refusal(&mut grouped(), far),
        Refusal::OutOfBounds { .. }
    ));
}

#[test]
fn the_first_groups_own_everything() {
    let mut catalog = registered();
    assert!(
        apply(&mut catalog, Command::CreateGroups(groups()))
            .answer
            .is_ok()
    );
    let owners: Vec<u32> = catalog.owners().iter().map(|group| group.0).collect();
    assert_eq!(owners, [1, 1, 1, 1, 2, 2, 2, 2]);
    assert_eq!(
        (catalog.next_group(), catalog.next_replica()),
        (GroupId(3), ReplicaId(10))
    );
    let map = catalog.cluster_map().unwrap();
    assert_eq!(
        map.group(GroupId(2)).unwrap().preferred_leader(),
        Some(NodeId(2))
    );
    assert!(!map.group(GroupId(2)).unwrap().state.can_serve());
}

#[test]
fn later_groups_own_nothing() {
    let mut catalog = grouped();
    let owning = vec![record(3, &[(10, 1)], 0..1)];
    assert_eq!(group_fault(&mut catalog, owning), GroupFault::Vnodes);
    let empty = Command::CreateGroups(vec![record(3, &[(10, 1)], 0..0)]);
    assert!(apply(&mut catalog, empty).answer.is_ok());
}

#[test]
fn groups_are_checked() {
    let broken = |change: fn(&mut Vec<GroupRecord>)| {
        let mut records = groups();
        change(&mut records);
        group_fault(&mut registered(), records)
    };
    let (next, taken) = (ReplicaId(9), ReplicaId(4));
    assert_eq!(
        broken(|r| r[1].id = GroupId(1)),
        GroupFault::IdTaken { next: GroupId(2) }
    );
    assert_eq!(
        broken(|r| r[0].id = GroupId(0)),
        GroupFault::IdTaken { next: GroupId(1) }
    );
    assert!(matches!(
        broken(|r| r[0].id = GroupId(u32::MAX)),
        GroupFault::IdTaken { .. }
    ));
    assert_eq!(
        broken(|r| r[1].replicas[2].id = ReplicaId(8)),
        GroupFault::ReplicaIdTaken {
            id: ReplicaId(8),
            next
        }
    );
    let low = GroupFault::ReplicaIdTaken {
        id: ReplicaId(3),
        next: taken,
    };
    assert_eq!(broken(|r| r[0].replicas[2].id = ReplicaId(3)), low);
    assert_eq!(
        broken(|r| r[0].replicas[1].node = NodeId(1)),
        GroupFault::NodeTwice(NodeId(1))
    );
    assert_eq!(
        broken(|r| r[0].replicas[1].node = NodeId(9)),
        GroupFault::NoShardNode(NodeId(9))
    );
    assert_eq!(
        broken(|r| r[0].replicas.clear()),
        GroupFault::ReplicaCount(0)
    );
    let deaf = broken(|r| {
        r[0].replicas
            .iter_mut()
            .for_each(|m| m.role = ReplicaRole::Learner)
    });
    assert_eq!(deaf, GroupFault::NoVoter);
    assert_eq!(broken(|r| r[1].vnodes = vnodes(3..8)), GroupFault::Vnodes);
    assert_eq!(broken(|r| r[1].vnodes = vnodes(4..9)), GroupFault::Vnodes);
    let partial = Command::CreateGroups(groups()[..1].to_vec());
    assert_eq!(
        refusal(&mut registered(), partial),
        Refusal::VnodesMissing { missing: 4 }
    );
    let none = Command::CreateGroups(Vec::new());
    assert!(matches!(
        refusal(&mut registered(), none),
        Refusal::OutOfBounds { .. }
    ));
    // The same plan twice: the ids tell.
    let twice = group_fault(&mut grouped(), groups());
    assert_eq!(twice, GroupFault::IdTaken { next: GroupId(3) });
}

#[test]
fn groups_become_active_once() {
    let mut catalog = grouped();
    let (epoch, first) = (catalog.epoch(), Command::ActivateGroup(GroupId(1)));
    assert_eq!(
        apply(&mut catalog, first).answer,
        Ok(Answer::GroupActivated)
    );
    assert_eq!(catalog.epoch(), epoch);
    assert!(
        apply(&mut catalog, Command::ActivateGroup(GroupId(2)))
            .changed
            .catalog
    );
    let unknown = Command::ActivateGroup(GroupId(9));
    assert_eq!(
        refusal(&mut catalog, unknown),
        Refusal::UnknownGroup(GroupId(9))
    );
}

#[test]
fn rules_are_set_while_no_group_can_hold_a_key() {
    let set = |expected_version, prefixes: &[&str]| {
        Command::SetRules(SetRules {
            expected_version,
            entries: rules(prefixes),
        })
    };
    let mut catalog = registered();
    let answer = apply(&mut catalog, set(0, &["/a/"])).answer;
    assert_eq!(answer, Ok(Answer::RulesSet { version: 1 }));
    let stale = refusal(&mut catalog, set(0, &["/b/"]));
    assert_eq!(
        stale,
        Refusal::RulesVersion {
            current: 1,
            expected: 0
        }
    );
    let repeated = apply(&mut catalog, set(0, &["/a/"])).answer;
    assert_eq!(repeated, Ok(Answer::RulesSet { version: 1 }));
    assert!(matches!(
        refusal(&mut catalog, set(1, &["/b"])),
        Refusal::Rules(_)
    ));
    assert_eq!(
        refusal(&mut grouped(), set(0, &["/b/"])),
        Refusal::RulesInUse
    );
}

#[test]
fn the_ceiling_never_goes_down() {
    let mut catalog = grouped();
    let (epoch, bytes) = (catalog.epoch(), catalog.encode());
    for (to, expected) in [(100, 100), (50, 100), (100, 100), (u64::MAX, u64::MAX)] {
        let outcome = apply(&mut catalog, Command::RaiseCeiling(Revision(to)));
        assert_eq!(
            outcome.answer,
            Ok(Answer::Ceiling {
                ceiling: Revision(expected)
            })
        );
    }
    assert_eq!((catalog.epoch(), catalog.encode()), (epoch, bytes));
}
