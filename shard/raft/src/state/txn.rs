//! Reading and changing the state of one replica.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use caucus_engine::{Direction, Engine, Error, Scan, Space, WriteBatch, keys};

/// The state of one replica, as far as it is in the engine. Cheap to clone.
#[derive(Clone)]
pub struct StateView {
    engine: Arc<dyn Engine>,
    /// Changes when a snapshot takes the place of the state.
    storage: Arc<AtomicU32>,
}

impl StateView {
    /// The state that lies under `storage`. A host makes those of its replicas; whoever drives a state
    /// machine without a log makes its own.
    pub fn new(engine: Arc<dyn Engine>, storage: keys::StorageId) -> StateView {
        StateView {
            engine,
            storage: Arc::new(AtomicU32::new(storage)),
        }
    }

    pub(crate) fn swap(&self, storage: keys::StorageId) {
        self.storage.store(storage, Ordering::Release);
    }

    /// Where the state is now: the first part of each of its keys. When a snapshot has taken its place,
    /// the keys under the old number go away: who reads several things, or one thing that may not be
    /// missing, asks again afterwards and keeps what was read only if the number is the same.
    pub fn storage(&self) -> keys::StorageId {
        self.storage.load(Ordering::Acquire)
    }

    /// The engine under it.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The value of a key of the state.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.engine.get(Space::State, key)
    }

    /// The keys of a range in ascending order.
    pub fn scan<'a>(&'a self, range: &Range<Bytes>) -> Result<Box<dyn Scan + Send + 'a>, Error> {
        self.engine
            .scan(Space::State, &range.start, &range.end, Direction::Forward)
    }
}

/// The changes of one round of applies: they enter the engine as one batch. Reads see them.
pub struct Txn {
    view: StateView,
    storage: keys::StorageId,
    changes: HashMap<Bytes, Option<Bytes>>,
}

impl Txn {
    /// No changes yet.
    pub fn new(view: StateView) -> Txn {
        let storage = view.storage();
        Txn {
            view,
            storage,
            changes: HashMap::new(),
        }
    }

    /// The first part of each key.
    pub fn storage(&self) -> keys::StorageId {
        self.storage
    }

    /// The value of a key, with the changes so far.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.changes.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.view.get(key),
        }
    }

    /// Sets a key.
    pub fn put(&mut self, key: Bytes, value: impl Into<Bytes>) {
        self.changes.insert(key, Some(value.into()));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Bytes) {
        self.changes.insert(key, None);
    }

    /// Each key once, with its last value.
    pub fn into_batch(self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for (key, value) in self.changes {
            match value {
                Some(value) => batch.put(Space::State, key, value),
                None => batch.delete(Space::State, key),
            }
        }
        batch
    }
}
