//! Reading: gets, scans, and snapshots that own what they read from.

use super::failure;
use super::store::Store;
use crate::error::Result;
use crate::{Direction, Reader, Scan, Snapshot, Space};
use bytes::Bytes;
use rocksdb::{DB, DBPinnableSlice, DBRawIterator, ReadOptions};
use std::sync::Arc;

impl Reader for Store {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let family = self.family(space)?;
        owned(self.db().get_pinned_cf(family, key))
    }

    fn multi_get(&self, space: Space, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let family = self.family(space)?;
        let values = self.db().batched_multi_get_cf(family, keys, false);
        values.into_iter().map(owned).collect()
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Box<dyn Scan + Send + 'a>> {
        let family = self.family(space)?;
        let iterator = self.db().raw_iterator_cf_opt(family, bounds(start, end));
        Ok(RocksScan::boxed(iterator, end, direction))
    }
}

/// A snapshot that keeps the database open.
pub(super) struct RocksSnapshot {
    /// Declared, and so dropped, before `store`. Private, never handed out with its lifetime.
    snapshot: rocksdb::Snapshot<'static>,
    store: Arc<Store>,
}

impl RocksSnapshot {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let db: *const DB = store.db();
        // SAFETY: the reference is valid for as long as `snapshot` uses it. The `DB` lies inside
        // the allocation of the `Arc`, which never moves and is never mutated through anything
        // but shared references; this struct holds a strong count of it in `store`; and fields
        // drop in the order of declaration, so `snapshot`, which uses the reference when it
        // drops, is gone before that count is released. The lifetime doesn't leak: the field is
        // private and every borrow handed out (scans) is bound to `&self` instead.
        let db: &'static DB = unsafe { &*db };
        Self {
            snapshot: db.snapshot(),
            store,
        }
    }
}

impl Snapshot for RocksSnapshot {}

impl Reader for RocksSnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let family = self.store.family(space)?;
        owned(self.snapshot.get_pinned_cf(family, key))
    }

    fn multi_get(&self, space: Space, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let family = self.store.family(space)?;
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        let values = self
            .store
            .db()
            .batched_multi_get_cf_opt(family, keys, false, &options);
        values.into_iter().map(owned).collect()
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Box<dyn Scan + Send + 'a>> {
        let family = self.store.family(space)?;
        let iterator = self
            .snapshot
            .raw_iterator_cf_opt(family, bounds(start, end));
        Ok(RocksScan::boxed(iterator, end, direction))
    }
}

fn owned(value: Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>) -> Result<Option<Bytes>> {
    let value = value.map_err(failure)?;
    Ok(value.map(|value| Bytes::copy_from_slice(&value)))
}

fn bounds(start: &[u8], end: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(start);
    if !end.is_empty() {
        // RocksDB wants ordered bounds; an inverted range is an empty one.
        options.set_iterate_upper_bound(end.max(start));
    }
    options
}

/// A scan over a raw iterator, which has the bounds already.
struct RocksScan<'a> {
    iterator: DBRawIterator<'a>,
    end: Box<[u8]>,
    direction: Direction,
    position: Position,
}

/// Where the iterator stands. Moves are made when the next pair is asked for, not before: the
/// step past the last pair wanted may be a long one over deleted keys.
enum Position {
    Start,
    /// On the pair that was returned last.
    Returned,
    /// Already on the pair to return.
    Sought,
}

impl<'a> RocksScan<'a> {
    fn boxed(
        iterator: DBRawIterator<'a>,
        end: &[u8],
        direction: Direction,
    ) -> Box<dyn Scan + Send + 'a> {
        Box::new(Self {
            iterator,
            end: end.into(),
            direction,
            position: Position::Start,
        })
    }
}

impl Scan for RocksScan<'_> {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        match (&self.position, self.direction) {
            (Position::Start, Direction::Forward) => self.iterator.seek_to_first(),
            (Position::Start, Direction::Reverse) => self.iterator.seek_to_last(),
            (Position::Returned, Direction::Forward) if self.iterator.valid() => {
                self.iterator.next();
            }
            (Position::Returned, Direction::Reverse) if self.iterator.valid() => {
                self.iterator.prev();
            }
            (Position::Returned | Position::Sought, _) => {}
        }
        self.position = Position::Returned;
        let Some((key, value)) = self.iterator.item() else {
            // Invalid is the end or an error; the status tells which.
            self.iterator.status().map_err(failure)?;
            return Ok(None);
        };
        Ok(Some((
            Bytes::copy_from_slice(key),
            Bytes::copy_from_slice(value),
        )))
    }

    fn seek(&mut self, key: &[u8]) {
        self.position = Position::Sought;
        match self.direction {
            Direction::Forward => self.iterator.seek(key),
            Direction::Reverse if !self.end.is_empty() && key >= &*self.end => {
                self.iterator.seek_to_last();
            }
            Direction::Reverse => self.iterator.seek_for_prev(key),
        }
    }
}
