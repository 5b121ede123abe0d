//! Which storage ids the replicas of this node use.
//!
//! A storage id is never used twice. A replica's record points to the id of its log and to that of
//! its state; a snapshot arrives under a new id and takes over with one pointer write. What no record
//! points to is removed when the node starts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use caucus_engine::{Direction, Engine, Error, Space, WriteBatch, keys};
use prost::Message;

/// `record` of [`keys::node`]: the next storage id.
const NEXT_STORAGE: u8 = 1;

/// Where one replica keeps its log and its state.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Place {
    #[prost(uint32, tag = "1")]
    pub(crate) log: keys::StorageId,
    #[prost(uint32, tag = "2")]
    pub(crate) state: keys::StorageId,
}

/// The storage ids of a node.
pub(crate) struct Places {
    engine: Arc<dyn Engine>,
    inner: Mutex<Inner>,
}

struct Inner {
    next: keys::StorageId,
    places: BTreeMap<(u32, u64), Place>,
}

impl Places {
    pub(crate) fn open(engine: Arc<dyn Engine>) -> Result<Places, Error> {
        let next = match engine.get(Space::State, &keys::node(NEXT_STORAGE))? {
            Some(bytes) => u32::from_be_bytes(bytes[..].try_into().map_err(|_| corrupt())?),
            None => 1,
        };
        let mut places = BTreeMap::new();
        let pointers = keys::kind_range(keys::NODE_STORAGE, keys::node_kind::POINTER);
        let mut scan = engine.scan(
            Space::State,
            &pointers.start,
            &pointers.end,
            Direction::Forward,
        )?;
        while let Some((key, value)) = scan.next()? {
            let (group, replica) = keys::parse_pointer(&key).ok_or_else(corrupt)?;
            let place = Place::decode(value).map_err(|_| corrupt())?;
            places.insert((group as u32, replica), place);
        }
        drop(scan);
        let this = Places {
            engine,
            inner: Mutex::new(Inner { next, places }),
        };
        this.sweep()?;
        Ok(this)
    }

    /// Removes what no replica points to: snapshots that were not finished, states that were
    /// replaced.
    fn sweep(&self) -> Result<(), Error> {
        let (next, mut used) = {
            let inner = self.lock();
            let used: Vec<_> = inner
                .places
                .values()
                .flat_map(|place| [place.log, place.state])
                .collect();
            (inner.next, used)
        };
        used.sort_unstable();
        used.dedup();
        let mut batch = WriteBatch::new();
        let mut from = 1;
        for id in used.into_iter().chain([next]) {
            if from < id {
                for space in Space::ALL {
                    let start = keys::prefix_range(from).start;
                    let end = keys::prefix_range(id).start;
                    batch.delete_range(space, start..end);
                }
            }
            from = id + 1;
        }
        self.engine.write(batch.essential())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic under this lock")
    }

    /// The place of a replica; a new one if it has none yet.
    pub(crate) fn of(&self, group: u32, replica: u64) -> Result<Place, Error> {
        if let Some(place) = self.lock().places.get(&(group, replica)) {
            return Ok(*place);
        }
        let place = Place {
            log: self.allocate()?,
            state: self.allocate()?,
        };
        let mut batch = WriteBatch::new();
        self.point(group, replica, place, &mut batch);
        self.engine.write(batch.essential())?;
        self.moved(group, replica, place);
        Ok(place)
    }

    /// A storage id that was never used before.
    pub(crate) fn allocate(&self) -> Result<keys::StorageId, Error> {
        let mut inner = self.lock();
        let id = inner.next;
        let next = id.checked_add(1).ok_or_else(corrupt)?;
        let mut batch = WriteBatch::new();
        batch.put(
            Space::State,
            keys::node(NEXT_STORAGE),
            Bytes::copy_from_slice(&next.to_be_bytes()),
        );
        self.engine.write(batch.essential())?;
        inner.next = next;
        Ok(id)
    }

    /// Adds to `batch` that a replica is at `place` from now on.
    pub(crate) fn point(&self, group: u32, replica: u64, place: Place, batch: &mut WriteBatch) {
        batch.put(
            Space::State,
            keys::pointer(u64::from(group), replica),
            place.encode_to_vec(),
        );
    }

    /// The batch of [`Places::point`] is written.
    pub(crate) fn moved(&self, group: u32, replica: u64, place: Place) {
        self.lock().places.insert((group, replica), place);
    }

    /// Removes a replica and all that it stored.
    pub(crate) fn wipe(&self, group: u32, replica: u64) -> Result<(), Error> {
        let Some(place) = self.lock().places.remove(&(group, replica)) else {
            return Ok(());
        };
        let mut batch = WriteBatch::new();
        batch.delete(Space::State, keys::pointer(u64::from(group), replica));
        batch.delete_range(Space::Log, keys::prefix_range(place.log));
        batch.delete_range(Space::State, keys::prefix_range(place.state));
        self.engine.write(batch.essential())
    }

    /// All replicas that have a place here.
    pub(crate) fn replicas(&self) -> Vec<(u32, u64)> {
        self.lock().places.keys().copied().collect()
    }
}

fn corrupt() -> Error {
    Error::Corruption {
        context: "a record of the node's storage ids".to_owned(),
    }
}
