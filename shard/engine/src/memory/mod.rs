//! The engine in memory: a model of a disk that can crash, fail and be slow on command.
//!
//! It promises exactly what [`crate::Engine`] does and not a bit more: un-synced batches are lost
//! in a [`crash`](MemoryEngine::crash), a sync makes durable what was written before it was asked
//! for and nothing later, and recovery finds a prefix of the batches. A simulator holds a clone
//! of the handle and drives the faults; without them it is a fast engine that keeps nothing.
//!
//! No thread, no clock, no randomness: callbacks run on the thread that calls
//! [`Engine::sync`] or [`release_syncs`](MemoryEngine::release_syncs).

mod read;
mod versions;

use crate::error::{Error, Result};
use crate::{
    Direction, Engine, Reader, Scan, Snapshot, Space, SpaceState, Stats, SyncDone, WriteBatch,
};
use bytes::Bytes;
use read::{MemoryScan, MemorySnapshot, Pin};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use versions::VersionedMap;

/// The engine in memory. A clone is another handle of the same engine.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    inner: RwLock<Inner>,
}

/// Everything behind the lock. No callback runs under it.
#[derive(Default)]
struct Inner {
    map: VersionedMap,
    /// Number of the last batch that a crash keeps.
    synced: u64,
    /// Sync requests while syncs are held: the last batch each one covers, and whom to tell.
    /// Never contended: the lock only makes the callbacks, which are not `Sync`, fit in.
    waiting: Mutex<Vec<(u64, SyncDone)>>,
    held: bool,
    fail_write: Option<Error>,
    fail_sync: Option<Error>,
    poison: Option<Error>,
    low: bool,
    crashed: bool,
    requests: u64,
    syncs: u64,
}

impl Inner {
    fn waiting(&mut self) -> &mut Vec<(u64, SyncDone)> {
        self.waiting
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Free versions that neither a reader nor a crash can need.
    fn collect(&mut self) {
        self.map.collect(self.synced);
    }

    /// The error that every read gets.
    fn check_alive(&self) -> Result<()> {
        if self.crashed {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// The error that every write and sync gets.
    fn check_writable(&self) -> Result<()> {
        self.check_alive()?;
        match &self.poison {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// One sync of the simulated device, up to batch `covered`.
    fn sync(&mut self, covered: u64) -> Result<()> {
        self.check_writable()?;
        self.syncs += 1;
        if let Some(error) = self.fail_sync.take() {
            let error = Error::poisoned(error);
            self.poison = Some(error.clone());
            return Err(error);
        }
        self.synced = self.synced.max(covered);
        self.collect();
        Ok(())
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryEngine {
    /// An empty engine: syncs complete at once, nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lose power: a new engine holds what was synced. This one answers [`Error::Closed`] from
    /// now on, and its waiting callbacks are dropped without a call: a dead process tells nobody.
    pub fn crash(&self) -> MemoryEngine {
        self.crash_with(0)
    }

    /// Lose power after the device happened to keep the first `keep_batches` un-synced batches.
    pub fn crash_with(&self, keep_batches: u64) -> MemoryEngine {
        let mut inner = self.shared.write();
        inner.crashed = true;
        let waiting = std::mem::take(inner.waiting());
        let kept = inner
            .synced
            .saturating_add(keep_batches)
            .min(inner.map.last());
        let map = inner.map.at(kept);
        drop(inner);
        // A dropped callback may drop handles of this engine: not under the lock.
        drop(waiting);
        MemoryEngine {
            shared: Arc::new(Shared {
                inner: RwLock::new(Inner {
                    map,
                    ..Inner::default()
                }),
            }),
        }
    }

    /// Lose power and the disk: a new engine, with nothing. For the rest as [`crash`](MemoryEngine::crash).
    pub fn wipe(&self) -> MemoryEngine {
        drop(self.crash());
        MemoryEngine::new()
    }

    /// Let a bit of a stored value rot: snapshots and what a crash leaves have it too. False if no value is there.
    pub fn rot(&self, space: Space, key: &[u8], bit: u64) -> bool {
        self.shared.write().map.rot(space, key, bit)
    }

    /// Let a stored value rot so that it shows, as it does where values stand in blocks with checksums: who reads it
    /// gets [`Error::Corruption`], until it is written anew. False if no value is there.
    pub fn spoil(&self, space: Space, key: &[u8]) -> bool {
        self.shared.write().map.spoil(space, key)
    }

    /// The key that a number picks among those with a value.
    pub fn pick(&self, space: Space, number: u64) -> Option<Bytes> {
        self.shared.read().map.nth(space, number)
    }

    /// Batches that a crash would lose.
    pub fn unsynced_batches(&self) -> u64 {
        let inner = self.shared.read();
        inner.map.last() - inner.synced
    }

    /// Let sync requests wait from now on, as on a slow device.
    pub fn hold_syncs(&self) {
        self.shared.write().held = true;
    }

    /// Complete the waiting requests, in order and as one sync, and hold no more of them.
    pub fn release_syncs(&self) {
        let mut inner = self.shared.write();
        inner.held = false;
        Self::complete(inner);
    }

    /// Complete the requests that wait now, as one sync; later ones are held still.
    pub fn complete_syncs(&self) {
        Self::complete(self.shared.write());
    }

    fn complete(mut inner: RwLockWriteGuard<'_, Inner>) {
        let waiting = std::mem::take(inner.waiting());
        let Some((covered, _)) = waiting.last() else {
            return;
        };
        let outcome = inner.sync(*covered);
        drop(inner);
        for (_, done) in waiting {
            done(outcome.clone());
        }
    }

    /// Number of sync requests that wait.
    pub fn held_syncs(&self) -> usize {
        self.shared.write().waiting().len()
    }

    /// Let the next write fail with `error` and change nothing.
    pub fn fail_next_write(&self, error: Error) {
        self.shared.write().fail_write = Some(error);
    }

    /// Let the next sync fail with `error`. As on a real device that is final: see
    /// [`Error::Poisoned`].
    pub fn fail_next_sync(&self, error: Error) {
        self.shared.write().fail_sync = Some(error);
    }

    /// Set what [`Engine::space`] says; when low, only essential batches are accepted.
    pub fn set_space(&self, state: SpaceState) {
        self.shared.write().low = match state {
            SpaceState::Ok => false,
            SpaceState::Low => true,
        };
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: WriteBatch) -> Result<()> {
        let mut inner = self.shared.write();
        inner.check_writable()?;
        if let Some(error) = inner.fail_write.take() {
            return Err(error);
        }
        if inner.low && !batch.is_essential() {
            return Err(Error::NoSpace {
                context: "simulated".to_owned(),
            });
        }
        inner.map.apply(&batch);
        Ok(())
    }

    fn sync(&self, done: SyncDone) {
        let mut inner = self.shared.write();
        inner.requests += 1;
        let covered = inner.map.last();
        if inner.held && !inner.crashed {
            inner.waiting().push((covered, done));
            return;
        }
        let outcome = inner.sync(covered);
        drop(inner);
        done(outcome);
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        let pin = Arc::new(Pin::latest(&self.shared));
        Arc::new(MemorySnapshot { pin })
    }

    /// Deletes have taken no space anyhow, but for what snapshots hold.
    fn compact(&self) -> Result<()> {
        Ok(())
    }

    fn space(&self) -> SpaceState {
        if self.shared.read().low {
            SpaceState::Low
        } else {
            SpaceState::Ok
        }
    }

    fn stats(&self) -> Stats {
        let inner = self.shared.read();
        Stats {
            memtable_bytes: inner.map.bytes(),
            snapshots: inner.map.pinned() as u64,
            sync_requests: inner.requests,
            syncs: inner.syncs,
            poisoned: inner.poison.clone(),
            ..Stats::default()
        }
    }
}

impl Reader for MemoryEngine {
    fn may_block(&self) -> bool {
        false
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let inner = self.shared.read();
        inner.check_alive()?;
        inner.map.get(space, key, inner.map.last())
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Box<dyn Scan + Send + 'a>> {
        self.shared.read().check_alive()?;
        let pin = Arc::new(Pin::latest(&self.shared));
        Ok(Box::new(MemoryScan::new(pin, space, start, end, direction)))
    }
}
