//! The open database: writing, syncing, and what happens after a failure.

use super::options::Options;
use super::space::{SpaceGuard, file_system};
use super::{failure, format, manifest, wal};
use crate::error::{Error, Result};
use crate::{Op, Space, SpaceState, Stats, WriteBatch};
use rocksdb::{
    BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    ErrorKind, WriteOptions, properties,
};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Names of the column families: on disk for ever.
const LOG: &str = "log";
const STATE: &str = "state";
/// RocksDB insists on this one; it stays empty.
const DEFAULT: &str = "default";
/// Memtables of all column families, those that wait to be flushed included.
const MEMTABLES_MAX: u64 = 8;
/// Between two attempts of a write that RocksDB holds back.
const HELD_BACK_PAUSE: Duration = Duration::from_millis(2);

/// The database with its guard. Shared by engine, snapshots and the sync thread; closes with the
/// last of them.
pub(super) struct Store {
    db: DB,
    cache: Cache,
    path: PathBuf,
    directory: PathBuf,
    /// As the file says, if it has been written since the open.
    manifest: Mutex<Option<manifest::Length>>,
    /// Set by the first sync that failed, never cleared: see [`Error::Poisoned`].
    poison: OnceLock<Error>,
    space: SpaceGuard,
    /// Compactions may be forced, see `reclaim`.
    is_small: bool,
    /// What flushes may have to write before writes are held back.
    memtables_bytes: u64,
    /// Failed flushes and compactions that writes have gone on after.
    errors_past: AtomicU64,
}

impl Store {
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self> {
        let opening = format::prepare(path)?;
        let (_, total) = file_system(path)?;
        let options = &options.fitted(total);
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        let mut database = options.database();
        database.create_if_missing(opening.is_new());
        database.create_missing_column_families(opening.is_new());
        let families = [
            ColumnFamilyDescriptor::new(DEFAULT, options.log(&cache)),
            ColumnFamilyDescriptor::new(LOG, options.log(&cache)),
            ColumnFamilyDescriptor::new(STATE, options.state(&cache)),
        ];
        let directory = format::database(path);
        if !opening.is_new() {
            manifest::check(path, &directory)?;
            wal::check(&directory)?;
        }
        let db = DB::open_cf_descriptors(&database, &directory, families).map_err(failure)?;
        let store = Self {
            db,
            cache,
            poison: OnceLock::new(),
            space: SpaceGuard::new(path, options.reserve_bytes)?,
            is_small: options.compaction_bytes_max.is_some(),
            memtables_bytes: MEMTABLES_MAX * options.write_buffer_bytes as u64,
            errors_past: AtomicU64::new(0),
            path: path.to_owned(),
            directory,
            manifest: Mutex::default(),
        };
        if opening.is_new() {
            store.must_be_empty()?;
            format::seal(path)?;
        }
        Ok(store)
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    pub(super) fn family(&self, space: Space) -> Result<&ColumnFamily> {
        let name = match space {
            Space::Log => LOG,
            Space::State => STATE,
        };
        // Open creates both and nothing drops them, so this never fails.
        self.db.cf_handle(name).ok_or(Error::Closed)
    }

    /// A database without the format file is one whose first open was cut short: nobody has
    /// written to it. Anything in it means the file was lost, and then its version is unknown.
    fn must_be_empty(&self) -> Result<()> {
        for space in Space::ALL {
            let mut scan = self.db.raw_iterator_cf(self.family(space)?);
            scan.seek_to_first();
            scan.status().map_err(failure)?;
            if scan.valid() {
                return Err(Error::Format {
                    context: "data without a format file".to_owned(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, batch: &WriteBatch) -> Result<()> {
        if let Some(error) = self.poison.get() {
            return Err(error.clone());
        }
        let is_low = self.space.state() == SpaceState::Low;
        if is_low && !batch.is_essential() {
            return Err(self.no_space("too little is left"));
        }
        self.space.written(batch.size_bytes() as u64);
        // Default options: in the write-ahead log, not synced. A synced write would hold
        // RocksDB's write queue, and every other group's applies with it, for an fsync.
        if self.space.free_bytes() < self.memtables_bytes {
            self.write_or_refuse(batch)
        } else {
            self.db.write(self.encode(batch)?).map_err(failure)
        }
    }

    /// For a disk on which the next flush may fail for want of space. RocksDB then holds writes back until
    /// there is space, so a caller would wait for ever; we wait only as long as nothing has failed.
    fn write_or_refuse(&self, batch: &WriteBatch) -> Result<()> {
        let mut options = WriteOptions::default();
        options.set_no_slowdown(true);
        loop {
            match self.db.write_opt(self.encode(batch)?, &options) {
                Ok(()) => {
                    self.errors_past.store(self.background_errors(), Relaxed);
                    return Ok(());
                }
                Err(error) if error.kind() != ErrorKind::Incomplete => return Err(failure(error)),
                Err(_) if self.background_errors() > self.errors_past.load(Relaxed) => {
                    return Err(self.no_space("a flush has failed"));
                }
                // Real time on purpose: a flush is under way on a real disk, and RocksDB has no call
                // that waits for it and not for space.
                #[allow(clippy::disallowed_methods)]
                Err(_) => std::thread::sleep(HELD_BACK_PAUSE),
            }
        }
    }

    fn no_space(&self, why: &str) -> Error {
        Error::NoSpace {
            context: format!(
                "{why}: {} bytes free, {} kept in reserve",
                self.space.free_bytes(),
                self.space.reserve_bytes()
            ),
        }
    }

    fn background_errors(&self) -> u64 {
        let number = self.db.property_int_value(properties::BACKGROUND_ERRORS);
        number.ok().flatten().unwrap_or(0)
    }

    fn encode(&self, batch: &WriteBatch) -> Result<rocksdb::WriteBatch> {
        let mut writes = rocksdb::WriteBatch::with_capacity_bytes(
            // Record header, then a tag, a column family and two lengths an operation.
            batch.size_bytes() + 16 * batch.len() + 16,
        );
        let (log, state) = (self.family(Space::Log)?, self.family(Space::State)?);
        let family = |space: &Space| match space {
            Space::Log => log,
            Space::State => state,
        };
        for op in batch.ops() {
            match op {
                Op::Put { space, key, value } => writes.put_cf(&family(space), key, value),
                Op::Delete { space, key } => writes.delete_cf(&family(space), key),
                // RocksDB refuses an inverted range; to us it is an empty one.
                Op::DeleteRange { start, end, .. } if start >= end => {}
                Op::DeleteRange { space, start, end } => {
                    writes.delete_range_cf(&family(space), start, end);
                }
            }
        }
        Ok(writes)
    }

    /// Write out and sync the write-ahead log. The one place that makes data durable.
    ///
    /// RocksDB upholds the order of log and state here: memtables are flushed to files only after
    /// it has synced the log files that hold their writes, of both column families.
    pub(super) fn sync(&self) -> Result<()> {
        if let Some(error) = self.poison.get() {
            return Err(error.clone());
        }
        self.db.flush_wal(true).map_err(|error| {
            let error = Error::poisoned(failure(error));
            // Only the sync thread syncs, so the cell is empty.
            let _ = self.poison.set(error.clone());
            error
        })
    }

    /// Write down how long the manifest is. A failure only leaves the older word standing.
    pub(super) fn note_manifest(&self) {
        // No code that can panic runs under this lock.
        let mut known = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = manifest::note(&self.path, &self.directory, &mut known) {
            tracing::warn!(%error, "the length of the manifest cannot be written down");
        }
    }

    /// Whether a sync has failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    pub(super) fn space(&self) -> SpaceState {
        self.space.state()
    }

    pub(super) fn is_low(&self) -> bool {
        self.space.is_low()
    }

    /// Make free space of what was deleted between two keys, as far as it goes.
    pub(super) fn reclaim(&self, space: Space, first: &[u8], last: &[u8]) -> Result<()> {
        // Both, because they share the write-ahead log.
        for space in Space::ALL {
            self.db.flush_cf(self.family(space)?).map_err(failure)?;
        }
        if self.is_small {
            let mut options = CompactOptions::default();
            options.set_exclusive_manual_compaction(false);
            let family = self.family(space)?;
            self.db
                .compact_range_cf_opt(family, Some(first), Some(last), &options);
        }
        Ok(())
    }

    /// Rewrite all of a space, its lowest level too.
    pub(super) fn compact(&self, space: Space) -> Result<()> {
        let family = self.family(space)?;
        self.db.flush_cf(family).map_err(failure)?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        let (all, end): (Option<&[u8]>, Option<&[u8]>) = (None, None);
        self.db.compact_range_cf_opt(family, all, end, &options);
        Ok(())
    }

    pub(super) fn refresh_space(&self) {
        self.space.state();
    }

    pub(super) fn stats(&self, stats: &mut Stats) {
        let level0 = properties::num_files_at_level(0);
        for space in Space::ALL {
            let number = |property: &CStr| {
                self.family(space)
                    .ok()
                    .and_then(|cf| self.db.property_int_value_cf(cf, property).ok().flatten())
                    .unwrap_or(0)
            };
            stats.memtable_bytes += number(properties::CUR_SIZE_ALL_MEM_TABLES.as_c_str());
            stats.pending_compaction_bytes +=
                number(properties::ESTIMATE_PENDING_COMPACTION_BYTES.as_c_str());
            stats.table_readers_bytes += number(properties::ESTIMATE_TABLE_READERS_MEM.as_c_str());
            stats.level0_files += number(level0.as_c_str());
            stats.disk_bytes += number(properties::TOTAL_SST_FILES_SIZE.as_c_str());
            // Counted for the whole database, whichever family is asked.
            stats.background_errors = number(properties::BACKGROUND_ERRORS.as_c_str());
            stats.snapshots = number(properties::NUM_SNAPSHOTS.as_c_str());
        }
        stats.block_cache_bytes = self.cache.get_usage() as u64;
        stats.wal_bytes = format::wal_bytes(&self.directory);
        stats.free_bytes = self.space.free_bytes();
        stats.reserve_bytes = self.space.reserve_bytes();
        stats.poisoned = self.poison.get().cloned();
    }
}
