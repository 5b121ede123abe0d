//! The vnodes of a group: which it owns, how many keys they hold, the hash of what they hold.

use std::collections::{BTreeSet, HashMap};

use caucus_engine::keys;
use caucus_raft::{StateView, Txn};
use caucus_ring::{Vnode, VnodeSet};
use prost::Message;

use super::record::{OWNED, VnodeRecord, corrupt};

/// In memory: the vnode records, and which of them have changed in this round.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    vnodes: HashMap<Vnode, Held>,
    changed: BTreeSet<Vnode>,
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
        let prefix = range.start.len();
        let mut scan = view.scan(&range)?;
        while let Some((key, value)) = scan.next()? {
            let number = key[prefix..]
                .try_into()
                .map_err(|_| corrupt("the key of a vnode record"))?;
            let record = VnodeRecord::decode(value).map_err(|_| corrupt("a vnode record"))?;
            let hash = record
                .hash
                .try_into()
                .map_err(|_| corrupt("a vnode hash"))?;
            let held = Held {
                keys: record.keys,
                hash: u128::from_le_bytes(hash),
                state: record.state,
                move_id: record.move_id,
            };
            this.total = this.total.wrapping_add(held.hash);
            this.vnodes.insert(Vnode(u16::from_be_bytes(number)), held);
        }
        Ok(this)
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

    /// A record of a vnode came, changed or went; hashes of the absent are 0.
    pub(super) fn changed(&mut self, vnode: Vnode, keys: i64, old: u128, new: u128) {
        let held = self.vnodes.entry(vnode).or_default();
        held.keys = held.keys.saturating_add_signed(keys);
        held.hash = held.hash.wrapping_sub(old).wrapping_add(new);
        self.total = self.total.wrapping_sub(old).wrapping_add(new);
        self.changed.insert(vnode);
    }

    pub(super) fn total(&self) -> u128 {
        self.total
    }

    /// Writes the records that have changed since the last call.
    pub(super) fn write(&mut self, txn: &mut Txn) {
        for vnode in std::mem::take(&mut self.changed) {
            let held = self.vnodes.get(&vnode).copied().unwrap_or_default();
            let record = VnodeRecord {
                keys: held.keys,
                hash: held.hash.to_le_bytes().to_vec(),
                state: held.state,
                move_id: held.move_id,
            };
            txn.put(keys::vnode(txn.storage(), vnode.0), record.encode_to_vec());
        }
    }
}

/// Which of `vnodes` hold at least one key, in a consistent view.
pub(crate) fn non_empty(
    reader: &dyn caucus_engine::Reader,
    storage: keys::StorageId,
    vnodes: &VnodeSet,
) -> Result<Vec<Vnode>, caucus_engine::Error> {
    let mut found = Vec::new();
    if vnodes.len() <= 8 {
        found.extend(vnodes.iter());
        return Ok(found);
    }
    let range = keys::kind_range(storage, keys::state_kind::VNODE);
    let mut scan = reader.scan(
        caucus_engine::Space::State,
        &range.start,
        &range.end,
        caucus_engine::Direction::Forward,
    )?;
    while let Some((key, value)) = scan.next()? {
        let number = key[range.start.len()..]
            .try_into()
            .map_err(|_| corrupt("the key of a vnode record"))?;
        let vnode = Vnode(u16::from_be_bytes(number));
        let record = VnodeRecord::decode(value).map_err(|_| corrupt("a vnode record"))?;
        if record.keys > 0 && vnodes.contains(vnode) {
            found.push(vnode);
        }
    }
    Ok(found)
}
