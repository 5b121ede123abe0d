//! Random commands: invariants hold after each, whatever comes.

use std::collections::{BTreeMap, BTreeSet};

use caucus_ring::{GroupId, NodeId, ReplicaId, Revision, Rule, RuleEntry};
use proptest::prelude::*;

use super::*;
use crate::planner;

/// A command, or one that is made from the catalog as it is then.
#[derive(Clone, Debug)]
enum Act {
    Command(Command),
    /// What the planner would do first.
    Plan,
    /// A later group on this node, with ids that are this far past the next ones.
    Grow(u32, u32),
}

fn act() -> impl Strategy<Value = Act> {
    let register = (0..6_u32, 1..7_u8, 0..3_u8).prop_map(|(id, storage, address)| {
        let mut node = register(id, storage);
        node.client_address = format!("at{address}");
        node.roles.shard = address > 0;
        Command::RegisterNode(node)
    });
    let member = (1..20_u64, 0..6_u32);
    let group = (
        0..5_u32,
        prop::collection::vec(member, 0..4),
        0..9_u16,
        0..9_u16,
    )
        .prop_map(|(id, replicas, from, to)| record(id, &replicas, from..to));
    let create = prop::collection::vec(group, 0..3).prop_map(Command::CreateGroups);
    let rules = (0..3_u64, prop::collection::vec(0..3_usize, 0..3)).prop_map(|(version, picks)| {
        let prefix = |pick: usize| [&b"/a/"[..], b"/a/b/", b"/c"][pick].to_vec();
        let entry = |pick| RuleEntry {
            prefix: prefix(pick),
            rule: Rule::Directory,
        };
        let entries = picks.into_iter().map(entry).collect();
        Command::SetRules(SetRules {
            expected_version: version,
            entries,
        })
    });
    let command = prop_oneof![
        1 => Just(Command::InitCluster(init())),
        4 => register,
        2 => create,
        2 => (0..5_u32).prop_map(|id| Command::ActivateGroup(GroupId(id))),
        1 => rules,
        1 => (0..100_u64).prop_map(|to| Command::RaiseCeiling(Revision(to))),
    ];
    prop_oneof![
        10 => command.prop_map(Act::Command),
        1 => Just(Act::Plan),
        1 => (1..6_u32, 0..3_u32).prop_map(|(node, past)| Act::Grow(node, past)),
    ]
}

fn command(catalog: &Catalog, act: Act) -> Option<Command> {
    match act {
        Act::Command(command) => Some(command),
        Act::Plan => {
            let all: BTreeSet<NodeId> = catalog.nodes().map(|record| record.node.id).collect();
            Some(
                planner::initial(catalog, &all)
                    .ok()?
                    .steps
                    .first()?
                    .command(),
            )
        }
        Act::Grow(node, past) => {
            let replica = catalog.next_replica().0 + u64::from(past);
            let id = catalog.next_group().0 + past;
            Some(Command::CreateGroups(vec![record(
                id,
                &[(replica, node)],
                0..0,
            )]))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn invariants_hold(initialized in any::<bool>(), acts in prop::collection::vec(act(), 0..40)) {
        let mut catalog = Catalog::new();
        if initialized {
            apply(&mut catalog, Command::InitCluster(init()));
        }
        let mut ever: BTreeMap<ReplicaId, (GroupId, NodeId)> = BTreeMap::new();
        let mut twin = catalog.clone();
        for act in acts {
            let Some(command) = command(&catalog, act) else { continue };
            // `apply` here checks what holds for every command.
            let outcome = apply(&mut catalog, command.clone());
            prop_assert_eq!(outcome, twin.apply(command));
            for group in catalog.groups() {
                for replica in &group.replicas {
                    let place = (group.id, replica.node);
                    prop_assert_eq!(*ever.entry(replica.id).or_insert(place), place);
                }
            }
        }
        prop_assert_eq!(catalog, twin);
    }

    #[test]
    fn foreign_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(command) = Command::decode(&bytes) {
            let mut catalog = grouped();
            apply(&mut catalog, command);
        }
        if let Ok(catalog) = Catalog::decode(&bytes, Revision(0)) {
            prop_assert_eq!(catalog.check(), Ok(()));
        }
    }
}
