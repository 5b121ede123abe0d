//! Transactions over groups that stand in the state: prepared ones with their locks, and in the
//! coordinator those that are decided and not yet confirmed by all.
//!
//! Readers see them through [`Standing`], which lags in the safe direction: a lock shows there before
//! the entry that takes it is in the engine, and goes when the entry that drops it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use caucus_api::shard::Attempt;
use caucus_engine::keys;
use caucus_planted as planted;
use caucus_raft::{StateView, Txn};
use prost::Message;
use tokio::sync::watch;

use super::record::corrupt;
use super::txn::{self, Footprint, Holder, Locks};
use crate::sequencer::Touches;

/// What the state machine knows of them.
#[derive(Default)]
pub(super) struct Attempts {
    all: BTreeMap<u64, Arc<Attempt>>,
    locks: Locks,
    /// What readers are to be told with the next position.
    ended: Vec<(u64, Option<Arc<Attempt>>)>,
}

impl Attempts {
    pub(super) fn load(
        state: &StateView,
        standing: &Standing,
    ) -> Result<Attempts, caucus_engine::Error> {
        let mut attempts = Attempts::default();
        let range = keys::kind_range(state.storage(), keys::state_kind::TXN);
        let mut scan = state.scan(&range)?;
        while let Some((_, stored)) = scan.next()? {
            let attempt = Attempt::decode(stored).map_err(|_| corrupt("a transaction"))?;
            if attempt.revision == 0 && planted::is(planted::PREPARED_FORGOTTEN_ON_RESTART) {
                continue;
            }
            attempts.take(Arc::new(attempt));
        }
        if planted::is(planted::LOCKS_FORGOTTEN_ON_RESTART) {
            attempts.locks = Locks::default();
        }
        standing.replace(&attempts);
        Ok(attempts)
    }

    fn take(&mut self, attempt: Arc<Attempt>) {
        if attempt.revision == 0 {
            let footprint = footprint(&attempt);
            self.locks
                .lock(attempt.attempt, attempt.age, attempt.floor, footprint);
        }
        self.all.insert(attempt.attempt, attempt);
    }

    pub(super) fn get(&self, attempt: u64) -> Option<&Arc<Attempt>> {
        self.all.get(&attempt)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// No change at or below it follows: the highest revision applied, or what that was before the oldest
    /// Prepare that isn't decided.
    pub(super) fn frontier(&self, highest: u64) -> u64 {
        if planted::is(planted::EVENTS_BEFORE_FRONTIER) {
            return highest;
        }
        let undecided = self.all.values().filter(|attempt| attempt.revision == 0);
        let floors = undecided.map(|attempt| attempt.floor);
        floors.min().map_or(highest, |floor| floor.min(highest))
    }

    pub(super) fn in_the_way(&self, footprint: &Footprint) -> Option<Holder> {
        match self.locks.is_empty() {
            true => None,
            false => self.locks.in_the_way(footprint),
        }
    }

    pub(super) fn in_the_way_of_key(&self, key: &[u8]) -> Option<Holder> {
        self.locks.in_the_way_of_key(key)
    }

    /// Prepares: locks, for readers at once.
    pub(super) fn prepare(&mut self, txn: &mut Txn, attempt: Attempt, standing: &Standing) {
        let key = keys::attempt(txn.storage(), attempt.attempt);
        txn.put(key, attempt.encode_to_vec());
        let attempt = Arc::new(attempt);
        standing.add(&attempt, footprint(&attempt));
        self.take(attempt);
    }

    /// Records the decision, and unlocks.
    pub(super) fn decide(&mut self, txn: &mut Txn, attempt: u64, revision: u64, path: Vec<bool>) {
        let Some(standing) = self.all.get_mut(&attempt) else {
            return;
        };
        let decided = Arc::make_mut(standing);
        decided.revision = revision;
        decided.path = path;
        let key = keys::attempt(txn.storage(), attempt);
        txn.put(key, decided.encode_to_vec());
        self.locks.unlock(attempt);
        self.ended.push((attempt, Some(standing.clone())));
    }

    /// Removes, and unlocks.
    pub(super) fn remove(&mut self, txn: &mut Txn, attempt: u64) {
        if self.all.remove(&attempt).is_some() {
            txn.delete(keys::attempt(txn.storage(), attempt));
            self.locks.unlock(attempt);
            self.ended.push((attempt, None));
        }
    }

    /// What was applied is in the engine: readers may go on.
    pub(super) fn publish(&mut self, standing: &Standing) {
        if !self.ended.is_empty() {
            standing.end(self.ended.drain(..));
        }
    }
}

/// Keys of other groups do no harm in it: nobody asks for them here.
fn footprint(attempt: &Attempt) -> Footprint {
    let prepare = attempt.prepare.as_ref();
    let tree = prepare.and_then(|prepare| prepare.txn.as_ref());
    tree.map_or_else(Footprint::default, txn::footprint)
}

/// What readers and the leader's tasks know of them.
#[derive(Debug)]
pub(crate) struct Standing {
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    all: BTreeMap<u64, Arc<Attempt>>,
    locks: Locks,
}

impl Default for Standing {
    fn default() -> Standing {
        Standing {
            table: Mutex::default(),
            changed: watch::channel(0).0,
        }
    }
}

impl Standing {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic under this lock")
    }

    fn tell(&self) {
        self.changed.send_modify(|turn| *turn += 1);
    }

    fn replace(&self, attempts: &Attempts) {
        let mut table = self.lock();
        table.all = attempts.all.clone();
        table.locks = attempts.locks.clone();
        drop(table);
        self.tell();
    }

    fn add(&self, attempt: &Arc<Attempt>, footprint: Footprint) {
        let mut table = self.lock();
        table
            .locks
            .lock(attempt.attempt, attempt.age, attempt.floor, footprint);
        table.all.insert(attempt.attempt, attempt.clone());
        drop(table);
        self.tell();
    }

    fn end(&self, ended: impl Iterator<Item = (u64, Option<Arc<Attempt>>)>) {
        let mut table = self.lock();
        for (attempt, after) in ended {
            table.locks.unlock(attempt);
            match after {
                Some(after) => _ = table.all.insert(attempt, after),
                None => _ = table.all.remove(&attempt),
            }
        }
        drop(table);
        self.tell();
    }

    /// All attempts that stand.
    pub(crate) fn all(&self) -> Vec<Arc<Attempt>> {
        self.lock().all.values().cloned().collect()
    }

    /// One of them.
    pub(crate) fn get(&self, attempt: u64) -> Option<Arc<Attempt>> {
        self.lock().all.get(&attempt).cloned()
    }

    /// Changes with each attempt that comes or goes.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether an attempt still locks anything here.
    pub(crate) fn locks(&self, attempt: u64) -> bool {
        self.lock().locks.holds(attempt)
    }

    /// The attempt that a read has to wait for, as of a revision or of now.
    pub(crate) fn stops_key(&self, key: &[u8], at: Option<u64>) -> Option<u64> {
        self.lock().locks.stops_key(key, at)
    }

    /// As [`stops_key`](Self::stops_key) for a range.
    pub(crate) fn stops_range(&self, start: &[u8], end: &[u8], at: Option<u64>) -> Option<u64> {
        self.lock().locks.stops_range(start, end, at)
    }

    /// As [`stops_key`](Self::stops_key) for what a transaction reads.
    pub(crate) fn stops(&self, footprint: &Footprint, at: Option<u64>) -> Option<u64> {
        self.lock().locks.stops_all(footprint, at)
    }

    /// Whether no transaction over groups stands here.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().all.is_empty()
    }

    /// The lock that keeps a write of a key from executing, or a transaction.
    pub(crate) fn in_the_way(&self, what: &Touches) -> Option<Holder> {
        let table = self.lock();
        match what {
            Touches::Key(key) => table.locks.in_the_way_of_key(key),
            Touches::Many(footprint) => table.locks.in_the_way(footprint),
            Touches::Nothing => None,
        }
    }

    /// Waits until an attempt locks nothing here any more.
    pub(crate) async fn unlocked(&self, attempt: u64) {
        let mut changed = self.watch();
        while self.locks(attempt) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
