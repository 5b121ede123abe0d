//! An ordered map that keeps the versions somebody may still want.
//!
//! Batch number `n` writes versions stamped `n`; the view at `n` is the state after the first `n`
//! batches. Snapshots and scans are views pinned at the number they began at, and what is synced
//! is a view as well: a crash is a jump back to it. So one structure serves all three.

use crate::error::{Error, Result};
use crate::{Direction, Op, Space, WriteBatch};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

/// Versions of one key, oldest first; `None` is a delete. Never empty.
type Versions = Vec<(u64, Option<Bytes>)>;

/// A part of a space.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Both spaces, in versions.
#[derive(Default)]
pub(super) struct VersionedMap {
    log: BTreeMap<Bytes, Versions>,
    state: BTreeMap<Bytes, Versions>,
    /// Number of the last batch.
    last: u64,
    /// Views in use, with the number of their users. All versions they show are kept.
    pins: BTreeMap<u64, usize>,
    /// Keys with a version that becomes garbage once every view is at or past the number.
    garbage: VecDeque<(u64, Space, Bytes)>,
    /// Bytes of all keys and values held.
    bytes: u64,
    /// Where reading fails.
    spoilt: BTreeSet<(Space, Bytes)>,
}

impl VersionedMap {
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn pinned(&self) -> usize {
        self.pins.values().sum()
    }

    fn map(&self, space: Space) -> &BTreeMap<Bytes, Versions> {
        match space {
            Space::Log => &self.log,
            Space::State => &self.state,
        }
    }

    fn map_mut(&mut self, space: Space) -> &mut BTreeMap<Bytes, Versions> {
        match space {
            Space::Log => &mut self.log,
            Space::State => &mut self.state,
        }
    }

    pub(super) fn apply(&mut self, batch: &WriteBatch) {
        self.last += 1;
        for op in batch.ops() {
            match op {
                Op::Put { space, key, value } => self.set(*space, key, Some(value.clone())),
                Op::Delete { space, key } => self.set(*space, key, None),
                Op::DeleteRange { start, end, .. } if start >= end => {}
                Op::DeleteRange { space, start, end } => {
                    let keys: Vec<Bytes> = self
                        .map(*space)
                        .range::<[u8], _>((Bound::Included(&start[..]), Bound::Excluded(&end[..])))
                        .map(|(key, _)| key.clone())
                        .collect();
                    for key in keys {
                        self.set(*space, &key, None);
                    }
                }
            }
        }
    }

    fn set(&mut self, space: Space, key: &Bytes, value: Option<Bytes>) {
        if !self.spoilt.is_empty() {
            self.spoilt.remove(&(space, key.clone()));
        }
        let last = self.last;
        let value_len = value.as_ref().map_or(0, Bytes::len) as u64;
        let map = self.map_mut(space);
        let Some(versions) = map.get_mut(key) else {
            if value.is_some() {
                map.insert(key.clone(), vec![(last, value)]);
                self.bytes += key.len() as u64 + value_len;
            }
            return;
        };
        let mut freed = 0;
        if let Some((_, old)) = versions.pop_if(|(stamp, _)| *stamp == last) {
            freed = old.map_or(0, |old| old.len()) as u64;
        }
        versions.push((last, value));
        self.bytes = self.bytes + value_len - freed;
        self.garbage.push_back((last, space, key.clone()));
    }

    /// Free what no pinned view and no view at or past `oldest` shows.
    pub(super) fn collect(&mut self, oldest: u64) {
        let floor = self.pins.keys().next().map_or(oldest, |p| oldest.min(*p));
        while let Some((stamp, _, _)) = self.garbage.front()
            && *stamp <= floor
            && let Some((_, space, key)) = self.garbage.pop_front()
        {
            self.prune(space, &key, floor);
        }
    }

    fn prune(&mut self, space: Space, key: &Bytes, floor: u64) {
        let map = self.map_mut(space);
        let Some(versions) = map.get_mut(key) else {
            return;
        };
        // The newest version at or before the floor is what a view there shows.
        let shown = versions.partition_point(|(stamp, _)| *stamp <= floor);
        let mut freed: usize = versions
            .drain(..shown.saturating_sub(1))
            .map(|(_, value)| value.map_or(0, |value| value.len()))
            .sum();
        if shown > 0 && versions[0].1.is_none() {
            versions.remove(0);
        }
        if versions.is_empty() {
            freed += key.len();
            map.remove(key);
        }
        self.bytes -= freed as u64;
    }

    /// Flip one bit of the value of a key, in all versions; false if there is none.
    pub(super) fn rot(&mut self, space: Space, key: &[u8], bit: u64) -> bool {
        let mut has_rotted = false;
        for (_, value) in self.map_mut(space).get_mut(key).into_iter().flatten() {
            let Some(whole) = value.as_ref().filter(|value| !value.is_empty()) else {
                continue;
            };
            let mut bytes = whole.to_vec();
            let at = (bit / 8 % bytes.len() as u64) as usize;
            bytes[at] ^= 1 << (bit % 8);
            *value = Some(Bytes::from(bytes));
            has_rotted = true;
        }
        has_rotted
    }

    /// The key of that number, counted round and round.
    pub(super) fn nth(&self, space: Space, number: u64) -> Option<Bytes> {
        let stored = |(key, versions)| at(versions, self.last).map(|_| key);
        let keys = self.map(space).iter().filter_map(stored);
        let number = number.checked_rem(keys.clone().count() as u64)?;
        keys.clone().nth(number as usize).cloned()
    }

    /// Let reads of a key fail; false if it has no value.
    pub(super) fn spoil(&mut self, space: Space, key: &[u8]) -> bool {
        let is_stored = self
            .map(space)
            .get(key)
            .is_some_and(|versions| at(versions, self.last).is_some());
        if is_stored {
            self.spoilt.insert((space, Bytes::copy_from_slice(key)));
        }
        is_stored
    }

    fn check(&self, space: Space, key: &[u8]) -> Result<()> {
        if !self.spoilt.is_empty() && self.spoilt.contains(&(space, Bytes::copy_from_slice(key))) {
            return Err(Error::Corruption {
                context: "simulated".to_owned(),
            });
        }
        Ok(())
    }

    pub(super) fn pin(&mut self, view: u64) {
        *self.pins.entry(view).or_default() += 1;
    }

    pub(super) fn unpin(&mut self, view: u64) {
        if let Some(users) = self.pins.get_mut(&view) {
            *users -= 1;
            if *users == 0 {
                self.pins.remove(&view);
            }
        }
    }

    pub(super) fn get(&self, space: Space, key: &[u8], view: u64) -> Result<Option<Bytes>> {
        self.check(space, key)?;
        Ok(self
            .map(space)
            .get(key)
            .and_then(|versions| at(versions, view)))
    }

    /// The first pair within `bounds` as of `view`, from the side that `direction` begins at.
    pub(super) fn first(
        &self,
        (space, bounds, direction): (Space, Bounds<'_>, Direction),
        view: u64,
    ) -> Result<Option<(Bytes, Bytes)>> {
        if is_empty(bounds) {
            return Ok(None);
        }
        let mut range = self.map(space).range::<[u8], _>(bounds);
        let shown = |(key, versions): (&Bytes, &Versions)| Some((key.clone(), at(versions, view)?));
        let found = match direction {
            Direction::Forward => range.find_map(shown),
            Direction::Reverse => range.rev().find_map(shown),
        };
        if let Some((key, _)) = &found {
            self.check(space, key)?;
        }
        Ok(found)
    }

    /// The view as a map of its own, as the only version.
    pub(super) fn at(&self, view: u64) -> VersionedMap {
        let mut copy = VersionedMap::default();
        for space in Space::ALL {
            for (key, versions) in self.map(space) {
                if let Some(value) = at(versions, view) {
                    copy.set(space, key, Some(value));
                }
            }
        }
        copy.spoilt = self.spoilt.clone();
        copy
    }
}

/// The value that a view shows.
fn at(versions: &Versions, view: u64) -> Option<Bytes> {
    let shown = versions.partition_point(|(stamp, _)| *stamp <= view);
    versions[..shown].last()?.1.clone()
}

/// Whether no key fits; `BTreeMap::range` panics on some of these.
fn is_empty(bounds: Bounds<'_>) -> bool {
    match bounds {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Excluded(start), Bound::Included(end))
        | (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
    }
}
