//! The vnodes of a group: which it owns, how many keys they hold, the hash of what they hold.
//!
//! Nearly every write changes the record of its vnode. To write them all with each round of applies
//! would double the keys of a round; so a round writes one journal record with what it changed, and
//! only now and then the vnode records themselves, with which the journal ends. Where the journal is cut
//! depends on the rounds of a replica; what the two say together does not.

use std::collections::{BTreeSet, HashMap};

use caucus_engine::keys;
use caucus_raft::{StateView, Txn};
use caucus_ring::{Vnode, VnodeSet};
use prost::Message;

use super::record::{JournalRecord, OWNED, VnodeChange, VnodeRecord, corrupt};

/// Journal records before the vnode records are written.
const JOURNAL_RECORDS_MAX: usize = 512;

/// In memory: the vnode records, and which of them have changed since they were written.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    vnodes: HashMap<Vnode, Held>,
    /// In this round.
    changed: BTreeSet<Vnode>,
    /// Since the vnode records were written; in the journal.
    journaled: BTreeSet<Vnode>,
    /// The journal's records, by log index.
    journal: Vec<u64>,
    /// The sum of all vnodes' hashes.
    total: u128,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    keys: u64,
    hash: u128,
    state: u32,
    move_id: u64,
}

impl Ownership {
    pub(super) fn load(view: &StateView) -> Result<Ownership, caucus_engine::Error> {
        let mut this = Ownership::default();
        let range = keys::kind_range(view.storage(), keys::state_kind::VNODE);
        let mut scan = view.scan(&range)?;
        while let Some((key, value)) = scan.next()? {
            let number = key[range.start.len()..]
                .try_into()
                .map_err(|_| corrupt("the key of a vnode record"))?;
            let record = VnodeRecord::decode(value).map_err(|_| corrupt("a vnode record"))?;
            let vnode = Vnode(u16::from_be_bytes(number));
            this.vnodes.insert(vnode, Held::read(record)?);
        }
        this.load_journal(view)?;
        let hashes = this.vnodes.values().map(|held| held.hash);
        this.total = hashes.fold(0, u128::wrapping_add);
        Ok(this)
    }

    /// The vnodes that hold past records: one seek each.
    pub(super) fn with_history(view: &StateView) -> Result<VnodeSet, caucus_engine::Error> {
        let mut vnodes = VnodeSet::new();
        let range = keys::kind_range(view.storage(), keys::state_kind::HISTORY);
        let mut scan = view.scan(&range)?;
        while let Some((key, _)) = scan.next()? {
            let (vnode, _, _) = keys::parse_history(view.storage(), &key)
                .ok_or_else(|| corrupt("the key of a past record"))?;
            vnodes.insert(Vnode(vnode));
            scan.seek(&keys::vnode_range(view.storage(), keys::state_kind::HISTORY, vnode).end);
        }
        Ok(vnodes)
    }

    fn load_journal(&mut self, view: &StateView) -> Result<(), caucus_engine::Error> {
        let range = keys::kind_range(view.storage(), keys::state_kind::JOURNAL);
        let mut scan = view.scan(&range)?;
        while let Some((key, value)) = scan.next()? {
            let index = key[range.start.len()..]
                .try_into()
                .map_err(|_| corrupt("the key of a journal record"))?;
            let record = JournalRecord::decode(value).map_err(|_| corrupt("a journal record"))?;
            for change in record.changes {
                let vnode = u16::try_from(change.vnode).map_err(|_| corrupt("a vnode number"))?;
                self.journaled.insert(Vnode(vnode));
                self.vnodes.insert(Vnode(vnode), Held::read(change.record)?);
            }
            self.journal.push(u64::from_be_bytes(index));
        }
        Ok(())
    }

    /// The vnodes that hold at least one key.
    pub(super) fn occupied(&self) -> VnodeSet {
        let occupied = self.vnodes.iter().filter(|(_, held)| held.keys > 0);
        occupied.map(|(vnode, _)| *vnode).collect()
    }

    pub(super) fn owns_all(&self, vnodes: &VnodeSet) -> bool {
        vnodes.iter().all(|vnode| self.owns(vnode))
    }

    /// Takes vnodes as the group's first ones.
    pub(super) fn begin(&mut self, owned: &VnodeSet) {
        for vnode in owned.iter() {
            let held = self.vnodes.entry(vnode).or_default();
            held.state = OWNED;
            self.changed.insert(vnode);
        }
    }

    pub(super) fn owns(&self, vnode: Vnode) -> bool {
        self.vnodes
            .get(&vnode)
            .is_some_and(|held| held.state == OWNED)
    }

    pub(super) fn owned(&self) -> VnodeSet {
        let mut owned: Vec<Vnode> = self
            .vnodes
            .iter()
            .filter(|(_, held)| held.state == OWNED)
            .map(|(vnode, _)| *vnode)
            .collect();
        owned.sort_unstable();
        owned.into_iter().collect()
    }

    /// A record of a vnode came, changed or went; hashes of the absent are 0. Whether the vnode was
    /// empty before.
    pub(super) fn changed(&mut self, vnode: Vnode, keys: i64, old: u128, new: u128) -> bool {
        let held = self.vnodes.entry(vnode).or_default();
        let was_empty = held.keys == 0;
        held.keys = held.keys.saturating_add_signed(keys);
        held.hash = held.hash.wrapping_sub(old).wrapping_add(new);
        self.total = self.total.wrapping_sub(old).wrapping_add(new);
        self.changed.insert(vnode);
        was_empty
    }

    pub(super) fn total(&self) -> u128 {
        self.total
    }

    /// Writes what has changed since the last call, at the end of a round that ended at `index`.
    pub(super) fn write(&mut self, txn: &mut Txn, index: u64) {
        if self.changed.is_empty() {
            return;
        }
        if self.journal.len() < JOURNAL_RECORDS_MAX {
            let changes = self.changed.iter().map(|vnode| VnodeChange {
                vnode: u32::from(vnode.0),
                record: self.record(*vnode),
            });
            let record = JournalRecord {
                changes: changes.collect(),
            };
            txn.put(keys::journal(txn.storage(), index), record.encode_to_vec());
            self.journal.push(index);
            self.journaled.append(&mut self.changed);
            return;
        }
        self.journaled.append(&mut self.changed);
        for vnode in std::mem::take(&mut self.journaled) {
            let key = keys::vnode(txn.storage(), vnode.0);
            txn.put(key, self.record(vnode).encode_to_vec());
        }
        for index in self.journal.drain(..) {
            txn.delete(keys::journal(txn.storage(), index));
        }
    }

    fn record(&self, vnode: Vnode) -> VnodeRecord {
        let held = self.vnodes.get(&vnode).copied().unwrap_or_default();
        VnodeRecord {
            keys: held.keys,
            hash: held.hash.to_le_bytes().to_vec(),
            state: held.state,
            move_id: held.move_id,
        }
    }
}

impl Held {
    fn read(record: VnodeRecord) -> Result<Held, caucus_engine::Error> {
        let hash = record.hash.try_into();
        Ok(Held {
            keys: record.keys,
            hash: u128::from_le_bytes(hash.map_err(|_| corrupt("a vnode hash"))?),
            state: record.state,
            move_id: record.move_id,
        })
    }
}
