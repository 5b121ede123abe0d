//! From the configuration to the engine and the settings of the replicas.

use std::path::PathBuf;
use std::sync::Arc;

use caucus_engine::Engine;
use caucus_engine::memory::MemoryEngine;
use caucus_engine::rocks::{self, RocksEngine};

use crate::config::{self, Checked};
use crate::identity::DataDir;

/// The file of the synced marks, in the data directory.
const MARKS: &str = "SYNCED";
/// The log of one group takes at most this part of the disk ...
const LOG_DIVISOR: u64 = 64;
/// ... but may always have this many bytes.
const LOG_BYTES_MIN: u64 = 256 << 10;

/// Opens the engine that the configuration names.
pub(super) fn open(
    config: &Checked,
    data_dir: &DataDir,
) -> Result<Arc<dyn Engine>, caucus_engine::Error> {
    let storage = &config.storage;
    Ok(match storage.engine {
        config::Engine::Memory => Arc::new(MemoryEngine::new()),
        config::Engine::RocksDb => Arc::new(RocksEngine::open(
            data_dir.store(),
            rocks::Options {
                block_cache_bytes: storage.block_cache_bytes,
                write_buffer_bytes: storage.write_buffer_bytes,
                write_buffers_bytes: storage.write_buffers_bytes,
                reserve_bytes: storage.free_space_reserve_bytes,
                ..rocks::Options::default()
            },
        )?),
    })
}

/// Where the synced marks are; an engine that keeps nothing has none.
pub(super) fn marks(config: &Checked) -> Option<PathBuf> {
    match config.storage.engine {
        config::Engine::Memory => None,
        config::Engine::RocksDb => Some(config.node.data_dir.join(MARKS)),
    }
}

/// The settings of all replicas. Logs that would fill a small disk by themselves are kept shorter there.
pub(super) fn raft_options(config: &Checked) -> caucus_raft::Options {
    let raft = &config.raft;
    let log_bytes_max = raft.log_bytes_max.min(log_share(config));
    caucus_raft::Options {
        heartbeat_interval_ms: raft.heartbeat_interval_ms,
        election_timeout_ms_min: raft.election_timeout_ms_min,
        election_timeout_ms_max: raft.election_timeout_ms_max,
        append_bytes_max: raft.append_bytes_max,
        tail_bytes_max: raft.tail_bytes_max,
        log_bytes_max,
        log_bytes_kept: raft.log_bytes_kept.min(log_bytes_max / 2),
        snapshot_chunk_bytes: raft.snapshot_chunk_bytes,
    }
}

/// What the log of one group may take of the disk.
fn log_share(config: &Checked) -> u64 {
    let disk = match config.storage.engine {
        config::Engine::Memory => return u64::MAX,
        config::Engine::RocksDb => rustix::fs::statvfs(&config.node.data_dir),
    };
    // The engine has just been opened there; it would have said what is wrong.
    disk.map_or(u64::MAX, |disk| {
        let total = disk.f_blocks.saturating_mul(disk.f_frsize);
        (total / LOG_DIVISOR).max(LOG_BYTES_MIN)
    })
}
