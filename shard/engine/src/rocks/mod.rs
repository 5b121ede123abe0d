//! The engine on RocksDB: one database a node, a column family a [`Space`], one write-ahead log.
//!
//! ```text
//!   write ──▶ buffer of the log + memtable          (visible; waits for no fsync)
//!   sync  ──▶ queue ──▶ one thread: write out the buffer, fsync once, call back everyone
//! ```
//!
//! **Recovery mode: point in time.** At open RocksDB replays the write-ahead log up to the first
//! record it cannot trust, and drops the rest. So what opens is always a prefix of the batches,
//! of both spaces together. The other modes are worse here:
//!
//! - *Tolerate corrupted tail* refuses to open on a flipped bit in any record: the whole node
//!   stands still for damage that may concern one group.
//! - *Absolute consistency* refuses a torn tail as well, which every power loss may leave.
//! - *Skip corrupted* leaves holes: state ahead of its log.
//!
//! The price is that damage in the middle of the synced part loses its tail without an error. No
//! mode sees all such cases (a file cut at a record boundary, say), so the layer above must, and
//! does: log records carry a checksum and a hash chain ([`crate::record`]), and each replica
//! compares its log with a *synced mark* kept elsewhere. A replica in doubt stops.
//!
//! Of older write-ahead logs, which a newer one follows, the manifest knows the lengths: one that is missing or cut
//! is an error at open. Without that the newer one would be replayed behind the hole. How long the manifest itself
//! is stands in a file of ours (`manifest`). Zeros in the middle of a log, which it would pass over, are looked for (`wal`).
//!
//! **After a failed sync** the engine accepts no more writes ([`Error::Poisoned`]). The kernel
//! reports a failed write-back once and may drop the pages, and RocksDB may have lost its buffer,
//! so a retry that succeeds would be a lie. Reads go on. Open again to find what is on disk.
//!
//! **Disk full.** A free-space guard refuses user writes early ([`Options::reserve_bytes`]), so
//! that deletes, votes and compaction still have room; it lifts by itself, and deletes bring that about
//! (see `reclaim`). If a flush or compaction
//! hits a full disk, RocksDB refuses writes until it finds room again (it looks every few seconds), and
//! so do we where it would make them wait.
//! If the write-ahead log itself does, the engine is poisoned, see above; what was synced is
//! found at the next open.

mod format;
mod manifest;
mod options;
mod read;
mod reclaim;
mod space;
mod store;
mod syncer;
mod wal;

pub use options::Options;

use crate::error::{Error, Result};
use crate::{
    Direction, Engine, Reader, Scan, Snapshot, Space, SpaceState, Stats, SyncDone, WriteBatch,
};
use bytes::Bytes;
use read::RocksSnapshot;
use reclaim::Reclaim;
use std::path::Path;
use std::sync::Arc;
use store::Store;
use syncer::Syncer;

/// The engine on RocksDB.
///
/// Drop it to close: requests to sync are served, the thread is joined, the write-ahead log is
/// synced. Snapshots keep the database open, so drop them first to open the directory again.
pub struct RocksEngine {
    /// Declared before `store`, so that the threads end before the database closes.
    syncer: Syncer,
    reclaim: Reclaim,
    store: Arc<Store>,
}

impl RocksEngine {
    /// Open the engine in `path`, or create it there if the directory is empty or missing. Blocks
    /// while the write-ahead log is replayed.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let store = Arc::new(Store::open(path.as_ref(), &options)?);
        let syncer = Syncer::start(Arc::clone(&store))?;
        let reclaim = Reclaim::start(Arc::clone(&store))?;
        Ok(Self {
            syncer,
            reclaim,
            store,
        })
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: WriteBatch) -> Result<()> {
        self.store.write(&batch)?;
        if self.store.is_low() {
            self.reclaim.deleted(&batch);
        }
        Ok(())
    }

    fn sync(&self, done: SyncDone) {
        self.syncer.request(done);
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(RocksSnapshot::new(Arc::clone(&self.store)))
    }

    fn compact(&self) -> Result<()> {
        for space in Space::ALL {
            self.store.compact(space)?;
        }
        self.store.refresh_space();
        Ok(())
    }

    fn space(&self) -> SpaceState {
        self.store.space()
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.store.stats(&mut stats);
        self.syncer.stats(&mut stats);
        stats
    }
}

impl Reader for RocksEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        self.store.get(space, key)
    }

    fn multi_get(&self, space: Space, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.store.multi_get(space, keys)
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Box<dyn Scan + Send + 'a>> {
        self.store.scan(space, start, end, direction)
    }
}

/// RocksDB's error as ours. It has no kind for a full disk, only a text, pinned by a test.
fn failure(error: rocksdb::Error) -> Error {
    use rocksdb::ErrorKind;
    let kind = error.kind();
    let context = error.into_string();
    match kind {
        ErrorKind::Corruption => Error::Corruption { context },
        ErrorKind::InvalidArgument | ErrorKind::NotSupported => Error::Format { context },
        ErrorKind::ShutdownInProgress => Error::Closed,
        _ if context.contains("No space left on device") || context.contains("Disk quota") => {
            Error::NoSpace { context }
        }
        _ => Error::Io { context },
    }
}
