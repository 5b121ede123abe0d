//! Reading the memory engine: pinned views and scans over them.

use super::Shared;
use super::versions::Bounds;
use crate::error::Result;
use crate::{Direction, Reader, Scan, Snapshot, Space};
use bytes::Bytes;
use std::ops::Bound;
use std::sync::Arc;

/// Keeps the versions of a view from being freed.
pub(super) struct Pin {
    shared: Arc<Shared>,
    view: u64,
}

impl Pin {
    /// Pin the latest view.
    pub(super) fn latest(shared: &Arc<Shared>) -> Self {
        let mut inner = shared.write();
        let view = inner.map.last();
        inner.map.pin(view);
        drop(inner);
        Self {
            shared: Arc::clone(shared),
            view,
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut inner = self.shared.write();
        inner.map.unpin(self.view);
        inner.collect();
    }
}

/// A snapshot is a pinned view. It outlives a crash of its engine, as a reader that got its data
/// before would.
pub(super) struct MemorySnapshot {
    pub(super) pin: Arc<Pin>,
}

impl Snapshot for MemorySnapshot {}

impl Reader for MemorySnapshot {
    fn may_block(&self) -> bool {
        false
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let inner = self.pin.shared.read();
        inner.map.get(space, key, self.pin.view)
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Box<dyn Scan + Send + 'a>> {
        let pin = Arc::clone(&self.pin);
        Ok(Box::new(MemoryScan::new(pin, space, start, end, direction)))
    }
}

/// A scan that looks up one pair at a time, so that it holds no lock in between.
pub(super) struct MemoryScan {
    pin: Arc<Pin>,
    space: Space,
    start: Bytes,
    /// Empty is open.
    end: Bytes,
    direction: Direction,
    position: Position,
}

/// Where the next pair is looked for.
enum Position {
    /// From the end of the bounds where the direction begins.
    Start,
    /// Past this key.
    Past(Bytes),
    /// At this key or past it.
    From(Bytes),
    /// Nowhere.
    Exhausted,
}

impl MemoryScan {
    pub(super) fn new(
        pin: Arc<Pin>,
        space: Space,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Self {
        Self {
            pin,
            space,
            start: Bytes::copy_from_slice(start),
            end: Bytes::copy_from_slice(end),
            direction,
            position: Position::Start,
        }
    }

    /// The part of the bounds that is still to come.
    fn rest(&self) -> Option<Bounds<'_>> {
        let start = Bound::Included(&self.start[..]);
        let end = if self.end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(&self.end[..])
        };
        let within_start = |key: &Bytes| *key >= self.start;
        let within_end = |key: &Bytes| self.end.is_empty() || *key < self.end;
        Some(match (&self.position, self.direction) {
            (Position::Start, _) => (start, end),
            (Position::Past(key), Direction::Forward) => (Bound::Excluded(key), end),
            (Position::Past(key), Direction::Reverse) => (start, Bound::Excluded(key)),
            (Position::From(key), Direction::Forward) if within_start(key) => {
                (Bound::Included(key), end)
            }
            (Position::From(key), Direction::Reverse) if within_end(key) => {
                (start, Bound::Included(key))
            }
            (Position::From(_), _) => (start, end),
            (Position::Exhausted, _) => return None,
        })
    }
}

impl Scan for MemoryScan {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        let pair = match self.rest() {
            Some(bounds) => {
                let inner = self.pin.shared.read();
                let first = (self.space, bounds, self.direction);
                inner.map.first(first, self.pin.view)?
            }
            None => None,
        };
        self.position = match &pair {
            Some((key, _)) => Position::Past(key.clone()),
            None => Position::Exhausted,
        };
        Ok(pair)
    }

    fn seek(&mut self, key: &[u8]) {
        self.position = Position::From(Bytes::copy_from_slice(key));
    }
}
