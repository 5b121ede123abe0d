//! The traits: what a storage engine promises.

use crate::WriteBatch;
use crate::error::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The two key spaces. One write-ahead log covers both, so a batch may touch both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Raft logs: written in order, read seldom, purged soon.
    Log,
    /// State machines: read and overwritten at random.
    State,
}

impl Space {
    /// All spaces.
    pub const ALL: [Space; 2] = [Space::Log, Space::State];
}

/// Order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Reverse,
}

/// Whether the file system has room for user writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceState {
    /// Every write is accepted.
    Ok,
    /// Only essential batches are accepted. Refuse user writes before they enter a log.
    Low,
}

/// Called once with the outcome of a sync.
///
/// It runs on a thread of the engine or, before `sync` returns, on the caller's. It must be
/// quick (the next sync waits for it) and must hold no lock that the caller of `sync` holds.
pub type SyncDone = Box<dyn FnOnce(Result<()>) + Send>;

/// Reading, from an engine (each call sees the latest) or a snapshot (all calls see one state).
pub trait Reader {
    /// Whether calls may wait for a disk: long work then belongs on a thread that may block.
    fn may_block(&self) -> bool {
        true
    }

    /// The value of `key`.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>>;

    /// The values of `keys`, in their order.
    fn multi_get(&self, space: Space, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().map(|key| self.get(space, key)).collect()
    }

    /// Keys from `start` to before `end`, as they are now: later writes don't show. An empty
    /// `end` is an open end.
    fn scan<'a>(
        &'a self,
        space: Space,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Box<dyn Scan + Send + 'a>>;
}

/// A running scan. Reads as it goes; holds old versions of data back from being freed, so it
/// should be short-lived.
pub trait Scan {
    /// The next pair, `None` past the last. After an error or `None`, only `seek` revives it.
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>>;

    /// Go on from `key`: forward at the first key at or after it, in reverse at the last key at
    /// or before it, always within the bounds of the scan. May go back as well.
    fn seek(&mut self, key: &[u8]);
}

/// A consistent view of both spaces that outlives the call that made it. While one lives, the
/// engine's files stay open and old versions stay on disk.
pub trait Snapshot: Reader + Send + Sync {}

/// A storage engine.
pub trait Engine: Reader + Send + Sync + 'static {
    /// Apply `batch`, wholly or not at all. On return readers see it, though it is not durable
    /// yet. Never waits for a running sync.
    ///
    /// After [`Error::NoSpace`] from a space check nothing was written. After any other error
    /// the batch may still turn up when the engine is opened again.
    fn write(&self, batch: WriteBatch) -> Result<()>;

    /// Make durable what was written before this call; `done` gets the outcome. Returns at once.
    /// Requests that gather while one sync runs share the next; callbacks run in order of request.
    fn sync(&self, done: SyncDone);

    /// A consistent view of both spaces as they are now.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// Rewrite all data files, so that what was deleted takes no space any more. Blocks, and may take as
    /// long as there is data; needs room for the new files beside the old ones.
    fn compact(&self) -> Result<()>;

    /// Whether there is room for user writes. Cheap: looked up at most every 100 ms.
    fn space(&self) -> SpaceState;

    /// Sizes and counts, for metrics. Not for the hot path.
    fn stats(&self) -> Stats;
}

/// What an engine uses and has done. Zero where an implementation has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of data files on disk, without the write-ahead log.
    pub disk_bytes: u64,
    /// Bytes of the write-ahead log on disk.
    pub wal_bytes: u64,
    /// Bytes of memory for recent writes.
    pub memtable_bytes: u64,
    /// Bytes of memory for cached blocks.
    pub block_cache_bytes: u64,
    /// Bytes of memory for indexes and filters outside the cache.
    pub table_readers_bytes: u64,
    /// Bytes that compaction has still to rewrite.
    pub pending_compaction_bytes: u64,
    /// Files in the first level: many of them slow down reads, and in the end writes.
    pub level0_files: u64,
    /// Errors met by flushes and compactions.
    pub background_errors: u64,
    /// Snapshots alive; in memory, scans too.
    pub snapshots: u64,
    /// Bytes free on the file system, as last looked up.
    pub free_bytes: u64,
    /// Free bytes below which user writes are refused.
    pub reserve_bytes: u64,
    /// Sync requests so far.
    pub sync_requests: u64,
    /// Syncs of the device so far; the difference to `sync_requests` is what sharing saved.
    pub syncs: u64,
    /// Time the last sync took.
    pub sync_last: Duration,
    /// Time all syncs took.
    pub sync_total: Duration,
    /// The error that stopped the engine, if one did.
    pub poisoned: Option<Error>,
}
