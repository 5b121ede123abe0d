//! The placement group's state machine: any bytes, and any way of applying them.

use std::sync::Arc;

use bytes::Bytes;
use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Direction, Engine, Reader, Space, keys};
use caucus_raft::{Position, StateMachine, StateView, Txn};
use caucus_ring::{
    ClusterId, GroupId, NodeId, Replica, ReplicaId, ReplicaRole, Revision, Roles, Vnode,
};
use proptest::prelude::*;

use crate::catalog::{
    Command, GroupRecord, InitCluster, RegisterNode, SetRules, Settings, StorageUuid,
};
use crate::machine::{ApplyResult, Machine, machine};

const STORAGE: keys::StorageId = 1;
/// `record` of [`keys::meta`]: the applied index, as the Raft adapter keeps it beside the state.
const META_APPLIED: u8 = 1;

/// A replica's machine on an engine, driven without a log.
struct Rig {
    engine: MemoryEngine,
    machine: Machine,
    index: u64,
}

impl Rig {
    fn open(engine: MemoryEngine) -> Rig {
        let (mut machine, _) = machine();
        let shared: Arc<dyn Engine> = Arc::new(engine.clone());
        machine.open(&StateView::new(shared, STORAGE)).unwrap();
        let applied = engine.get(Space::State, &keys::meta(STORAGE, META_APPLIED));
        let applied = applied.unwrap();
        Rig {
            engine,
            machine,
            index: applied.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap())),
        }
    }

    /// What each command was answered; `None`: it can't be read, and the replica stops.
    fn round(&mut self, commands: &[Vec<u8>]) -> Vec<Option<ApplyResult>> {
        let shared: Arc<dyn Engine> = Arc::new(self.engine.clone());
        let mut txn = Txn::new(StateView::new(shared, STORAGE));
        let mut answers = Vec::new();
        for command in commands {
            self.index += 1;
            let at = Position {
                term: 1,
                index: self.index,
            };
            let command = Bytes::copy_from_slice(command);
            match self.machine.apply(&mut txn, at, command, true) {
                Ok(reply) => answers.push(Some(reply.take().unwrap())),
                Err(_) => {
                    answers.push(None);
                    break;
                }
            }
        }
        self.machine.finish(&mut txn).unwrap();
        let index = self.index.to_be_bytes().to_vec();
        txn.put(keys::meta(STORAGE, META_APPLIED), index);
        self.engine.write(txn.into_batch().essential()).unwrap();
        self.machine.published(Position {
            term: 1,
            index: self.index,
        });
        answers
    }

    /// All that is stored, but how far it is.
    fn dump(&self) -> Vec<(Bytes, Bytes)> {
        let range = keys::prefix_range(STORAGE);
        let scan = self
            .engine
            .scan(Space::State, &range.start, &range.end, Direction::Forward);
        let mut scan = scan.unwrap();
        let mut pairs = Vec::new();
        while let Some(pair) = scan.next().unwrap() {
            pairs.push(pair);
        }
        pairs.retain(|(key, _)| *key != keys::meta(STORAGE, META_APPLIED));
        pairs
    }
}

fn replica(id: u64, node: u32) -> Replica {
    Replica {
        id: ReplicaId(id),
        node: NodeId(node),
        role: ReplicaRole::Voter,
    }
}

fn node(id: u32) -> Command {
    Command::RegisterNode(RegisterNode {
        id: NodeId(id),
        storage: StorageUuid([id as u8; 16]),
        peer_address: format!("host{id}:1"),
        client_address: format!("host{id}:2"),
        zone: "z".to_owned(),
        roles: Roles::ALL,
    })
}

/// From nothing to a cluster with two groups.
fn commands() -> Vec<Vec<u8>> {
    let group = |id: u32, first: u64, owns: std::ops::Range<u16>| GroupRecord {
        id: GroupId(id),
        replicas: (1..=3).map(|n| replica(first + u64::from(n), n)).collect(),
        vnodes: owns.map(Vnode).collect(),
    };
    let all = [
        Command::InitCluster(InitCluster {
            settings: Settings {
                cluster_id: ClusterId([1; 16]),
                vnodes: 8,
                groups_wanted: 2,
                replication: 3,
                created_at_ms: 1_700_000_000_000,
            },
            placement: (1..=3).map(|n| replica(u64::from(n), n)).collect(),
            rules: Vec::new(),
        }),
        node(1),
        node(2),
        node(3),
        Command::SetRules(SetRules {
            expected_version: 0,
            entries: Vec::new(),
        }),
        Command::RaiseCeiling(Revision(1 << 40)),
        Command::CreateGroups(vec![group(1, 3, 0..4), group(2, 6, 4..8)]),
        Command::ActivateGroup(GroupId(1)),
        Command::ActivateGroup(GroupId(2)),
        Command::RaiseCeiling(Revision(u64::MAX)),
    ];
    all.iter().map(Command::encode).collect()
}

type Damage = (prop::sample::Index, u8, prop::sample::Index, u8);

/// Flips, cuts, puts in, doubles, and puts the largest number there is.
fn damaged(mut commands: Vec<Vec<u8>>, damage: &[Damage]) -> Vec<Vec<u8>> {
    for (command, kind, at, value) in damage {
        let bytes = command.get(&commands).clone();
        let at = at.index(bytes.len().max(1)).min(bytes.len());
        let changed = match kind {
            0 if !bytes.is_empty() => {
                let mut bytes = bytes;
                bytes[at] ^= value;
                bytes
            }
            1 => bytes[..at].to_vec(),
            2 => [&bytes[..at], &[*value], &bytes[at..]].concat(),
            3 => [&bytes[..], &bytes[at..]].concat(),
            _ => [&bytes[..at], &[0xff; 9], &[1], &bytes[at..]].concat(),
        };
        let place = command.index(commands.len());
        commands[place] = changed;
    }
    commands
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = (
        any::<prop::sample::Index>(),
        0..5_u8,
        any::<prop::sample::Index>(),
        any::<u8>(),
    );
    prop::collection::vec(one, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// One by one, in one round, and with a restart after each: never a panic, the same answers and bytes;
    /// and what is refused leaves no trace.
    #[test]
    fn any_bytes_are_the_same_for_all_replicas(damage in damage(), more in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut commands = damaged(commands(), &damage);
        commands.push(more);
        let mut singly = Rig::open(MemoryEngine::new());
        let mut answers = Vec::new();
        for command in &commands {
            let before = singly.dump();
            let answer = singly.round(std::slice::from_ref(command));
            match &answer[0] {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => prop_assert_eq!(singly.dump(), before, "a trace"),
            }
            answers.extend(answer);
            if answers.last() == Some(&None) {
                break;
            }
        }
        let mut gathered = Rig::open(MemoryEngine::new());
        prop_assert_eq!(&gathered.round(&commands), &answers);
        prop_assert_eq!(gathered.dump(), singly.dump());
        // Power is lost somewhere: what the device had not kept is applied again.
        for kept in 0..answers.len() {
            let mut rig = Rig::open(MemoryEngine::new());
            for command in &commands[..answers.len()] {
                rig.round(std::slice::from_ref(command));
            }
            let mut rig = Rig::open(rig.engine.crash_with(kept as u64));
            prop_assert_eq!(rig.index, kept as u64);
            for command in &commands[kept..answers.len()] {
                rig.round(std::slice::from_ref(command));
            }
            prop_assert_eq!(rig.dump(), singly.dump(), "after {} rounds", kept);
        }
    }
}

/// The bytes above are worth nothing if none of them is read.
#[test]
fn undamaged_they_make_a_cluster() {
    let mut rig = Rig::open(MemoryEngine::new());
    let answers = rig.round(&commands());
    assert!(
        answers.iter().all(|answer| matches!(answer, Some(Ok(_)))),
        "{answers:?}"
    );
    // A replica that missed one of them is another.
    let mut lacking = Rig::open(MemoryEngine::new());
    lacking.round(&commands()[..8]);
    assert_ne!(lacking.dump(), rig.dump());
}
