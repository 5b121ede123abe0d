//! Reading and changing the state of one replica.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use caucus_engine::{Direction, Engine, Error, Reader, Scan, Space, WriteBatch, keys};

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
    changes: Changes,
}

/// In the order of keys: scans need it, and a batch in order enters the engine faster.
type Changes = BTreeMap<Bytes, Option<Bytes>>;

impl Txn {
    /// No changes yet.
    pub fn new(view: StateView) -> Txn {
        let storage = view.storage();
        Txn {
            view,
            storage,
            changes: Changes::new(),
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

impl Reader for Txn {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match space {
            Space::State => Txn::get(self, key),
            Space::Log => self.view.engine.get(space, key),
        }
    }

    /// A scan shows the changes made before it began.
    fn scan<'a>(
        &'a self,
        space: Space,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Box<dyn Scan + Send + 'a>, Error> {
        let stored = self.view.engine.scan(space, start, end, direction)?;
        if space == Space::Log {
            return Ok(stored);
        }
        let open = end.is_empty();
        if !open && start >= end {
            return Ok(stored);
        }
        Ok(Box::new(Overlaid {
            stored,
            stored_next: None,
            stored_known: false,
            changes: &self.changes,
            start: Bytes::copy_from_slice(start),
            end: (!open).then(|| Bytes::copy_from_slice(end)),
            direction,
            from: None,
        }))
    }
}

/// A scan of the engine with changes over it.
struct Overlaid<'a> {
    stored: Box<dyn Scan + Send + 'a>,
    stored_next: Option<(Bytes, Bytes)>,
    stored_known: bool,
    changes: &'a Changes,
    start: Bytes,
    end: Option<Bytes>,
    direction: Direction,
    /// Where the changes go on: past this key, or at it after a seek.
    from: Option<Bound<Bytes>>,
}

impl Overlaid<'_> {
    fn next_change(&self) -> Option<(&Bytes, &Option<Bytes>)> {
        let start = Bound::Included(&self.start[..]);
        let end = match &self.end {
            Some(end) => Bound::Excluded(&end[..]),
            None => Bound::Unbounded,
        };
        let from = self.from.as_ref().map(|from| match from {
            Bound::Included(key) => Bound::Included(&key[..]),
            Bound::Excluded(key) => Bound::Excluded(&key[..]),
            Bound::Unbounded => Bound::Unbounded,
        });
        // A bound outside the range leaves nothing; `BTreeMap::range` would panic.
        match self.direction {
            Direction::Forward => {
                let start = from.unwrap_or(start);
                let mut rest = self.changes.range::<[u8], _>((start, Bound::Unbounded));
                let next = rest.next()?;
                let inside = self.end.as_ref().is_none_or(|end| next.0 < end);
                inside.then_some(next)
            }
            Direction::Reverse => {
                let end = from.unwrap_or(end);
                let mut rest = self.changes.range::<[u8], _>((Bound::Unbounded, end));
                let next = rest.next_back()?;
                (next.0 >= &self.start).then_some(next)
            }
        }
    }

    fn comes_first(&self, change: &[u8], stored: &[u8]) -> bool {
        match self.direction {
            Direction::Forward => change <= stored,
            Direction::Reverse => change >= stored,
        }
    }
}

impl Scan for Overlaid<'_> {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        loop {
            if !self.stored_known {
                self.stored_next = self.stored.next()?;
                self.stored_known = true;
            }
            let change = self.next_change();
            let change = change.filter(|(key, _)| {
                let stored = self.stored_next.as_ref();
                stored.is_none_or(|(stored, _)| self.comes_first(key, stored))
            });
            let Some((key, value)) = change.map(|(key, value)| (key.clone(), value.clone())) else {
                self.stored_known = self.stored_next.is_none();
                return Ok(self.stored_next.take());
            };
            if self
                .stored_next
                .as_ref()
                .is_some_and(|(stored, _)| *stored == key)
            {
                self.stored_next = None;
                self.stored_known = false;
            }
            self.from = Some(Bound::Excluded(key.clone()));
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
    }

    fn seek(&mut self, key: &[u8]) {
        self.stored.seek(key);
        self.stored_known = false;
        self.stored_next = None;
        let inside = match self.direction {
            Direction::Forward => key.max(&self.start),
            Direction::Reverse => key,
        };
        let beyond = match (&self.end, self.direction) {
            (Some(end), Direction::Reverse) => key >= &end[..],
            (None, _) | (Some(_), Direction::Forward) => false,
        };
        self.from = match (beyond, &self.end) {
            (true, Some(end)) => Some(Bound::Excluded(end.clone())),
            _ => Some(Bound::Included(Bytes::copy_from_slice(inside))),
        };
    }
}

#[cfg(test)]
#[path = "txn_tests.rs"]
mod tests;
