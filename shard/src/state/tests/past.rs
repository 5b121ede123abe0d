//! Reads of the past against a model that keeps every state that there was.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Batch, Compact, Delete, KeyChange, Operation, Place, Put, Record, Remove, RequestId, Span, Txn,
    Write, operation,
};
use caucus_engine::{Space, WriteBatch, keys};
use proptest::prelude::*;
use prost::Message;

use super::super::Verdict;
use super::super::versions::{self, RangeScan, When};
use super::history::{History, KEYS, bootstrap, command, rules};
use super::rig::{Entry, Rig};

type State = BTreeMap<Bytes, Record>;

#[derive(Debug, Clone)]
enum Step {
    Put(usize, u8),
    Delete(usize),
    /// Deletes a range and then puts a key, at one revision.
    Replace(usize, usize, u8),
    Restart,
    /// Compacts up to one of the revisions so far.
    Compact(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS.len();
    let step = prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key.clone().prop_map(Step::Delete),
        3 => (key.clone(), key, any::<u8>()).prop_map(|(a, b, value)| Step::Replace(a, b, value)),
        1 => Just(Step::Restart),
        1 => any::<prop::sample::Index>().prop_map(Step::Compact),
    ];
    prop::collection::vec(step, 1..40)
}

struct World {
    rig: Option<Rig>,
    plain: History,
    index: u64,
    revision: u64,
    compacted: u64,
    /// The state as of each revision that changed anything.
    states: BTreeMap<u64, State>,
}

impl World {
    fn new() -> World {
        let mut rig = Rig::memory(1000);
        rig.round(&[Entry {
            index: 1,
            command: bootstrap(),
        }]);
        World {
            rig: Some(rig),
            plain: History::new(1000),
            index: 1,
            revision: 1,
            compacted: 0,
            states: BTreeMap::from([(0, State::new())]),
        }
    }

    fn rig(&mut self) -> &mut Rig {
        self.rig.as_mut().unwrap()
    }

    fn latest(&self) -> State {
        self.states.values().next_back().unwrap().clone()
    }

    fn is_mine(&self, key: &[u8]) -> bool {
        let model = &self.plain.model;
        model.owned.contains(model.vnode(key))
    }

    fn apply(&mut self, kind: Kind) -> Vec<Verdict> {
        self.index += 1;
        let entry = Entry {
            index: self.index,
            command: command(kind),
        };
        let answers = self.rig().round(&[entry]);
        answers[0]
            .clone()
            .map_or_else(Vec::new, |applied| applied.verdicts)
    }

    /// Executes one write; `change` says what it does if it is executed.
    fn write(&mut self, key: &[u8], action: Action, change: impl FnOnce(&mut State, u64)) {
        // Other groups' revisions lie between.
        self.revision += 3;
        let write = Write {
            id: Some(RequestId {
                session: 1,
                sequence: self.revision,
                stamp: self.revision,
            }),
            key: Bytes::copy_from_slice(key),
            rules_version: rules().version(),
            action: Some(action),
            ..Write::default()
        };
        let batch = Batch {
            first_revision: self.revision,
            writes: vec![write.encode_to_vec().into()],
            progress: Vec::new(),
            ..Batch::default()
        };
        let verdicts = self.apply(Kind::Batch(batch));
        match &verdicts[0] {
            Verdict::Done(_) | Verdict::Txn(_) => {
                let mut state = self.latest();
                change(&mut state, self.revision);
                self.states.insert(self.revision, state);
            }
            verdict => panic!("{verdict:?}"),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(key, value) if self.is_mine(KEYS[key]) => {
                let put = Put {
                    value: vec![value].into(),
                    ..Put::default()
                };
                self.write(KEYS[key], Action::Put(put), |state, revision| {
                    place(state, KEYS[key], value, revision);
                });
            }
            Step::Delete(key) if self.is_mine(KEYS[key]) => {
                self.write(KEYS[key], Action::Delete(Delete {}), |state, _| {
                    state.remove(KEYS[key]);
                });
            }
            Step::Replace(from, key, value) if self.is_mine(KEYS[key]) => {
                let tree = replace(KEYS[from], KEYS[key], value, &self.plain);
                self.write(KEYS[key], Action::Txn(tree), |state, revision| {
                    state.retain(|key, _| key < KEYS[from]);
                    place(state, KEYS[key], value, revision);
                });
            }
            Step::Put(..) | Step::Delete(_) | Step::Replace(..) => {}
            Step::Restart => self.rig = self.rig.take().map(Rig::restart),
            Step::Compact(index) => {
                let revisions: Vec<u64> = self.states.keys().copied().collect();
                let upto = *index.get(&revisions);
                self.apply(Kind::Compact(Compact { revision: upto }));
                self.compacted = self.compacted.max(upto);
                self.collect_garbage();
            }
        }
        self.check();
    }

    /// What the compaction task does in time.
    fn collect_garbage(&mut self) {
        let compacted = self.compacted;
        let view = self.rig().view();
        let range = keys::kind_range(view.storage(), keys::state_kind::HISTORY);
        let mut scan = view.scan(&range).unwrap();
        let mut batch = WriteBatch::new();
        while let Some((key, _)) = scan.next().unwrap() {
            let (_, _, until) = keys::parse_history(view.storage(), &key).unwrap();
            if until <= compacted {
                batch.delete(Space::State, key);
            }
        }
        view.engine().write(batch).unwrap();
    }

    fn check(&mut self) {
        let compacted = self.compacted;
        assert_eq!(self.rig().published.compacted(), compacted);
        let view = self.rig().view();
        let occupied = self.rig().published.occupied();
        for (revision, state) in self.states.range(compacted..) {
            for when in [*revision, revision + 1] {
                // The revision after belongs to the same state: revisions are three apart.
                let read = |start: &[u8], end: &[u8]| {
                    let reader = &**view.engine();
                    let at = When::At(when);
                    let scan =
                        RangeScan::open(reader, view.storage(), &occupied, (start, end), at, 3);
                    let (mut scan, mut found) = (scan.unwrap(), State::new());
                    while let Some((key, record)) = scan.next().unwrap() {
                        assert!(found.last_key_value().is_none_or(|(last, _)| *last < key));
                        found.insert(key, record);
                    }
                    found
                };
                assert_eq!(read(b"", b""), *state, "at {when}");
                let (start, end) = (KEYS[1].min(KEYS[4]), KEYS[1].max(KEYS[4]));
                let inside: State = state
                    .range(Bytes::from_static(start)..Bytes::from_static(end))
                    .map(|(key, record)| (key.clone(), record.clone()))
                    .collect();
                assert_eq!(read(start, end), inside, "a part at {when}");
                for key in KEYS {
                    let vnode = self.plain.model.vnode(key);
                    let (reader, storage) = (&**view.engine(), view.storage());
                    let found = versions::get(reader, storage, vnode, key, When::At(when));
                    assert_eq!(found.unwrap().as_ref(), state.get(key), "{key:?} at {when}");
                }
            }
        }
        for key in KEYS {
            self.check_changes(&view, key);
        }
    }

    fn check_changes(&self, view: &caucus_raft::StateView, key: &'static [u8]) {
        let mut expected = Vec::new();
        let mut before: Option<&Record> = None;
        for (revision, state) in &self.states {
            let record = state.get(key);
            if record != before {
                expected.push(KeyChange {
                    revision: *revision,
                    record: record.cloned(),
                });
            }
            before = record;
        }
        // What is valid at the compacted revision is kept with the change that made it.
        let kept = expected
            .iter()
            .rposition(|change| change.revision <= self.compacted);
        let mut expected = expected.split_off(kept.unwrap_or(0));
        if expected
            .first()
            .is_some_and(|c| c.record.is_none() && c.revision <= self.compacted)
        {
            expected.remove(0);
        }
        expected.reverse();
        let vnode = self.plain.model.vnode(key);
        for (below, limit) in [(u64::MAX, 100), (u64::MAX, 2), (self.revision, 3)] {
            let (reader, storage) = (&**view.engine(), view.storage());
            let between = below..self.compacted;
            let found = versions::changes(reader, storage, vnode, key, between, limit).unwrap();
            let mut wanted = expected.clone();
            wanted.retain(|change| change.revision < below);
            let more = wanted.len() > limit;
            wanted.truncate(limit);
            assert_eq!(found, (wanted, more), "{key:?} below {below}, {limit}");
        }
    }
}

fn place(state: &mut State, key: &'static [u8], value: u8, revision: u64) {
    let old = state.get(key);
    let record = Record {
        create_revision: old.map_or(revision, |old| old.create_revision),
        mod_revision: revision,
        version: old.map_or(1, |old| old.version + 1),
        value: vec![value].into(),
        ..Record::default()
    };
    state.insert(Bytes::from_static(key), record);
}

/// Deletes all keys of the group from `from` on, then puts `key`.
fn replace(from: &'static [u8], key: &'static [u8], value: u8, plain: &History) -> Txn {
    let remove = Remove {
        span: Some(Span {
            start: Bytes::from_static(from),
            end: Bytes::new(),
            range: true,
            vnodes: plain.model.owned.to_packed().into(),
        }),
        previous: false,
        ..Remove::default()
    };
    let place = Place {
        key: Bytes::from_static(key),
        put: Some(Put {
            value: vec![value].into(),
            ..Put::default()
        }),
        ..Place::default()
    };
    let operation = |operation| Operation {
        operation: Some(operation),
    };
    Txn {
        then: vec![
            operation(operation::Operation::Remove(remove)),
            operation(operation::Operation::Place(place)),
        ],
        ..Txn::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_state_can_be_read_until_it_is_compacted(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
    }
}
