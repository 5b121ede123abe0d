//! One replica's state machine on an engine, driven without a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Direction, Engine, Space, WriteBatch, keys};
use caucus_raft::{Position, StateMachine, StateView, Txn};
use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use super::super::published::Published;
use super::super::record::{JournalRecord, VnodeRecord};
use super::super::{Applied, GroupState};

/// `record` of [`keys::meta`]: the applied index, as the Raft adapter keeps it beside the state.
const META_APPLIED: u8 = 1;

/// A command where it stands in the log.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) index: u64,
    pub(super) command: Bytes,
}

/// All pairs of a replica's state, without the storage id.
pub(super) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) struct Rig {
    engine: Arc<dyn Engine>,
    storage: keys::StorageId,
    state: GroupState,
    pub(super) published: Arc<Published>,
    applied: u64,
    items_max: usize,
}

impl Rig {
    /// With nothing in it, in memory.
    pub(super) fn memory(items_max: usize) -> Rig {
        Rig::open(Arc::new(MemoryEngine::new()), 1, items_max, 0)
    }

    /// With what the engine has.
    pub(super) fn open(
        engine: Arc<dyn Engine>,
        storage: keys::StorageId,
        items_max: usize,
        applied: u64,
    ) -> Rig {
        let (state, published) = GroupState::new();
        let mut state = state.with_dedup_items_max(items_max);
        let found = engine.get(Space::State, &keys::meta(storage, META_APPLIED));
        let found = found
            .unwrap()
            .map(|found| u64::from_be_bytes(found[..].try_into().unwrap()));
        let applied = found.unwrap_or(applied);
        state
            .open(&StateView::new(engine.clone(), storage))
            .unwrap();
        if applied > 0 {
            state.published(at(applied));
        }
        Rig {
            engine,
            storage,
            state,
            published,
            applied,
            items_max,
        }
    }

    /// Whether a state machine takes a state.
    pub(super) fn try_open(pairs: &Pairs) -> bool {
        let engine = Arc::new(MemoryEngine::new());
        let mut batch = WriteBatch::new();
        for (key, value) in pairs {
            let key = [&[0, 0, 0, 1], &key[..]].concat();
            batch.put(Space::State, key, value.clone());
        }
        engine.write(batch).unwrap();
        let (mut state, _) = GroupState::new();
        state.open(&StateView::new(engine, 1)).is_ok()
    }

    /// Applies entries as one round; the answer to each batch.
    pub(super) fn round(&mut self, entries: &[Entry]) -> Vec<Option<Applied>> {
        let mut txn = Txn::new(StateView::new(self.engine.clone(), self.storage));
        let mut answers = Vec::new();
        for entry in entries {
            let reply = self
                .state
                .apply(&mut txn, at(entry.index), entry.command.clone(), true);
            answers.push(reply.unwrap().take());
            self.applied = entry.index;
        }
        self.state.finish(&mut txn).unwrap();
        let applied = self.applied.to_be_bytes().to_vec();
        txn.put(keys::meta(self.storage, META_APPLIED), applied);
        self.engine.write(txn.into_batch().essential()).unwrap();
        self.state.published(at(self.applied));
        answers
    }

    /// Applies each entry as a round of its own.
    pub(super) fn one_by_one(&mut self, entries: &[Entry]) -> Vec<Option<Applied>> {
        let rounds = entries.chunks(1).flat_map(|entry| self.round(entry));
        rounds.collect()
    }

    /// Forgets what is in memory and reads it again.
    pub(super) fn restart(self) -> Rig {
        Rig::open(self.engine, self.storage, self.items_max, self.applied)
    }

    /// Another replica that has nothing yet, and keeps it under this storage id.
    pub(super) fn fresh(&self, storage: keys::StorageId) -> Rig {
        Rig::open(Arc::new(MemoryEngine::new()), storage, self.items_max, 0)
    }

    /// Another replica, on another engine, that gets the state as a snapshot.
    pub(super) fn restore(&self) -> Rig {
        self.restore_without(0)
    }

    /// The same with a snapshot that lacks one kind of records.
    pub(super) fn restore_without(&self, kind: u8) -> Rig {
        let engine = Arc::new(MemoryEngine::new());
        let storage = self.storage + 6;
        let mut batch = WriteBatch::new();
        for (key, value) in self.dump().into_iter().filter(|pair| pair.0[0] != kind) {
            batch.put(
                Space::State,
                [&storage.to_be_bytes()[..], &key].concat(),
                value,
            );
        }
        batch.put(
            Space::State,
            keys::meta(storage, META_APPLIED),
            self.applied.to_be_bytes().to_vec(),
        );
        engine.write(batch).unwrap();
        Rig::open(engine, storage, self.items_max, self.applied)
    }

    /// The index up to which everything is applied.
    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// The state as readers have it.
    pub(super) fn view(&self) -> StateView {
        StateView::new(self.engine.clone(), self.storage)
    }

    /// All that the engine has of this replica, but how far it is.
    pub(super) fn dump(&self) -> Pairs {
        let range = keys::prefix_range(self.storage);
        let scan = self
            .engine
            .scan(Space::State, &range.start, &range.end, Direction::Forward);
        let mut scan = scan.unwrap();
        let mut pairs = Pairs::new();
        while let Some((key, value)) = scan.next().unwrap() {
            pairs.insert(key[range.start.len()..].to_vec(), value.to_vec());
        }
        pairs.remove(&[keys::state_kind::META, META_APPLIED][..]);
        pairs
    }

    /// All that must be the same however the log was cut into rounds: where the journal of vnode
    /// records is cut depends on them, what it says does not.
    pub(super) fn essence(&self) -> (Pairs, BTreeMap<u32, VnodeRecord>) {
        let mut pairs = self.dump();
        let mut vnodes = BTreeMap::new();
        // VNODE sorts before JOURNAL, and the journal by age.
        for (key, value) in &pairs {
            if key[0] == keys::state_kind::VNODE {
                let vnode = u16::from_be_bytes([key[1], key[2]]);
                let record = VnodeRecord::decode(&value[..]).unwrap();
                vnodes.insert(u32::from(vnode), record);
            } else if key[0] == keys::state_kind::JOURNAL {
                let journal = JournalRecord::decode(&value[..]).unwrap();
                let changes = journal.changes.into_iter();
                vnodes.extend(changes.map(|change| (change.vnode, change.record)));
            }
        }
        let depends = [keys::state_kind::VNODE, keys::state_kind::JOURNAL];
        pairs.retain(|key, _| !depends.contains(&key[0]));
        (pairs, vnodes)
    }

    /// Leases of other groups that keys may be attached to here, as the engine has them.
    pub(super) fn opened(&self) -> BTreeMap<u64, u64> {
        let pairs = self.dump().into_iter();
        let open = pairs.filter(|(key, _)| key[0] == keys::state_kind::OPEN);
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        open.map(|(key, value)| (number(&key[1..]), number(&value)))
            .collect()
    }

    /// The stored users' records, by vnode and key.
    pub(super) fn records(&self) -> BTreeMap<(u16, Vec<u8>), Vec<u8>> {
        let pairs = self.dump().into_iter();
        let current = pairs.filter(|(key, _)| key[0] == keys::state_kind::CURRENT);
        current
            .map(|(key, value)| {
                let vnode = u16::from_be_bytes([key[1], key[2]]);
                ((vnode, key[3..].to_vec()), value)
            })
            .collect()
    }
}

/// One number for all pairs.
pub(super) fn hash(pairs: &Pairs) -> u128 {
    let mut hash = Xxh3::new();
    for (key, value) in pairs {
        for part in [key, value] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.digest128()
}

fn at(index: u64) -> Position {
    Position { term: 1, index }
}
