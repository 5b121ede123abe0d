//! Settings of the RocksDB engine, and how they become RocksDB's own.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel,
    WriteBufferManager,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The reserve is at most this fraction of the file system.
const RESERVE_DIVISOR: u64 = 4;

/// Settings of a [`RocksEngine`](super::RocksEngine). The defaults keep an idle node far below
/// 100 MiB and a busy one near `block_cache_bytes` plus `write_buffers_bytes`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for blocks read from disk, indexes and filters included.
    pub block_cache_bytes: usize,
    /// Size at which one memtable is flushed to a file.
    pub write_buffer_bytes: usize,
    /// Memory for all memtables of both spaces; past it the largest is flushed early.
    pub write_buffers_bytes: usize,
    /// Size of the write-ahead log at which the memtables that hold it back are flushed. Bounds
    /// the time a start takes.
    pub wal_bytes_max: u64,
    /// Open files kept for reading.
    pub open_files_max: i32,
    /// Threads for flush and compaction.
    pub background_jobs: i32,
    /// Size of one table file.
    pub table_bytes: u64,
    /// Size of the first level below the files that flushes make; each further one is ten times it.
    pub level_bytes: u64,
    /// Bytes that one compaction rewrites, if it can be so few; none: RocksDB's own choice.
    pub compaction_bytes_max: Option<u64>,
    /// Free space kept for essential writes and for compaction. It counts for at most a quarter of
    /// the file system, so that a small one is of use too. Zero turns the guard off.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            block_cache_bytes: 32 * MIB,
            write_buffer_bytes: 32 * MIB,
            write_buffers_bytes: 64 * MIB,
            wal_bytes_max: 128 * MIB as u64,
            open_files_max: 512,
            background_jobs: 2,
            table_bytes: 16 * MIB as u64,
            level_bytes: 64 * MIB as u64,
            compaction_bytes_max: None,
            reserve_bytes: 64 * MIB as u64,
        }
    }
}

/// On a smaller one all sizes are cut.
const SMALL_DISK_BYTES: u64 = 1 << 30;
/// Smaller buffers than this serve nobody.
const BUFFER_BYTES_MIN: u64 = 64 * KIB as u64;

impl Options {
    /// The same for a file system of `total` bytes. What waits to be flushed or compacted must find
    /// room in the reserve, also at the next open; so on a small disk less may wait. From 1 GiB on
    /// the defaults stay as they are.
    pub(super) fn fitted(&self, total: u64) -> Options {
        let part = |divisor: u64| (total / divisor).max(BUFFER_BYTES_MIN);
        let buffer = |bytes: usize, divisor| {
            usize::try_from(part(divisor)).map_or(bytes, |part| part.min(bytes))
        };
        Options {
            write_buffer_bytes: buffer(self.write_buffer_bytes, 32),
            write_buffers_bytes: buffer(self.write_buffers_bytes, 16),
            wal_bytes_max: self.wal_bytes_max.min(part(8)),
            table_bytes: self.table_bytes.min(part(64)),
            level_bytes: self.level_bytes.min(part(16)),
            compaction_bytes_max: match total < SMALL_DISK_BYTES {
                true => Some(part(16)),
                false => self.compaction_bytes_max,
            },
            reserve_bytes: self.reserve_bytes.min(total / RESERVE_DIVISOR),
            ..self.clone()
        }
    }

    /// Database-wide options.
    pub(super) fn database(&self) -> rocksdb::Options {
        let mut db = rocksdb::Options::default();
        db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        // The manifest says which write-ahead logs there must be, and how long each was when the next one was
        // begun. Else one that is gone or cut at a record leaves a hole: the next one is replayed all the same.
        db.set_track_and_verify_wals_in_manifest(true);
        // Writes only fill a buffer; the sync thread writes and syncs it (see `syncer`).
        db.set_manual_wal_flush(true);
        db.set_max_total_wal_size(self.wal_bytes_max);
        db.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
            self.write_buffers_bytes,
            false,
        ));
        db.set_max_open_files(self.open_files_max);
        db.set_max_background_jobs(self.background_jobs);
        // SST files reach the disk in small steps, so that a flush doesn't delay an fsync.
        db.set_bytes_per_sync(MIB as u64);
        db.set_stats_dump_period_sec(0);
        db.set_stats_persist_period_sec(0);
        db.set_skip_stats_update_on_db_open(true);
        db.set_log_level(LogLevel::Warn);
        db.set_max_log_file_size(MIB);
        db.set_keep_log_file_num(4);
        db
    }

    /// Options of the column family for Raft logs: entries are written once in order, read once
    /// or never, and dropped in ranges, mostly before they leave the memtable. No filter: every
    /// lookup is for an entry that exists.
    pub(super) fn log(&self, cache: &Cache) -> rocksdb::Options {
        let mut cf = self.family();
        let mut table = Self::table(cache);
        table.set_block_size(32 * KIB);
        cf.set_block_based_table_factory(&table);
        // A flush of two memtables at once drops what the second one deleted.
        cf.set_max_write_buffer_number(4);
        cf.set_level_zero_file_num_compaction_trigger(2);
        cf
    }

    /// Options of the column family for state: point reads all over, many of keys that don't
    /// exist (request ids, locks), hence a filter over whole keys.
    pub(super) fn state(&self, cache: &Cache) -> rocksdb::Options {
        let mut cf = self.family();
        let mut table = Self::table(cache);
        table.set_block_size(8 * KIB);
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        cf.set_block_based_table_factory(&table);
        cf.set_max_write_buffer_number(3);
        cf
    }

    /// What both column families share.
    fn family(&self) -> rocksdb::Options {
        let mut cf = rocksdb::Options::default();
        cf.set_compression_type(DBCompressionType::Lz4);
        cf.set_write_buffer_size(self.write_buffer_bytes);
        cf.set_target_file_size_base(self.table_bytes);
        cf.set_max_bytes_for_level_base(self.level_bytes);
        if let Some(bytes) = self.compaction_bytes_max {
            cf.set_max_compaction_bytes(bytes);
        }
        // Reads must not hide damage: RocksDB checks the files against their manifest on open and
        // each block against its checksum on read.
        cf.set_paranoid_checks(true);
        cf
    }

    /// Table format of both column families. Indexes and filters live in the cache: that is what
    /// bounds memory when data grows.
    fn table(cache: &Cache) -> BlockBasedOptions {
        let mut table = BlockBasedOptions::default();
        table.set_format_version(5);
        table.set_block_cache(cache);
        table.set_index_type(BlockBasedIndexType::BinarySearch);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_waits_on_a_small_disk() {
        let small = Options::default().fitted(32 * MIB as u64);
        assert_eq!(small.reserve_bytes, 8 * MIB as u64);
        assert_eq!(small.wal_bytes_max, 4 * MIB as u64);
        assert_eq!(small.write_buffers_bytes, 2 * MIB);
        assert_eq!(small.write_buffer_bytes, MIB);
        let all = Options::default();
        let large = all.fitted(1 << 30);
        assert_eq!(format!("{large:?}"), format!("{all:?}"));
        let none = Options {
            reserve_bytes: 0,
            ..Options::default()
        };
        assert_eq!(none.fitted(0).reserve_bytes, 0);
    }
}
