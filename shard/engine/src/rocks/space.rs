//! The free-space guard: stop user writes while there is still room to delete.
//!
//! A full disk is a trap: freeing space takes writes (a delete is a record in the log, compaction
//! needs room for its output), and a write-ahead log that could not be written cannot be mended
//! without opening the engine again. So user writes are refused while some free space is left,
//! and essential ones go on.

use crate::SpaceState;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Age past which the free space is looked up again.
const REFRESH_MS: u64 = 100;

/// Cached free space of a file system. All fields are hints of their own, hence relaxed.
pub(super) struct SpaceGuard {
    path: PathBuf,
    reserve_bytes: u64,
    started: Instant,
    checked_ms: AtomicU64,
    free_bytes: AtomicU64,
    /// Written since the last look: a fast writer must not run through the reserve in one period.
    written_bytes: AtomicU64,
    low: AtomicBool,
}

impl SpaceGuard {
    pub(super) fn new(path: &Path, reserve_bytes: u64) -> Result<Self> {
        // Real time on purpose: it only spaces out look-ups of a real disk.
        #[allow(clippy::disallowed_methods)]
        let started = Instant::now();
        let guard = Self {
            path: path.to_owned(),
            reserve_bytes,
            started,
            checked_ms: AtomicU64::new(0),
            free_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            low: AtomicBool::new(false),
        };
        guard.look(0);
        Ok(guard)
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Relaxed)
    }

    pub(super) fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Whether space was low at the last look.
    pub(super) fn is_low(&self) -> bool {
        self.low.load(Relaxed)
    }

    /// Count bytes on their way to the disk.
    pub(super) fn written(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Relaxed);
    }

    /// The state, looked up again if the last look is too old or too much was written since.
    pub(super) fn state(&self) -> SpaceState {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let old = now_ms.saturating_sub(self.checked_ms.load(Relaxed)) >= REFRESH_MS;
        let busy = self.written_bytes.load(Relaxed) > self.reserve_bytes / 4;
        if old || busy {
            self.look(now_ms);
        }
        if self.low.load(Relaxed) {
            SpaceState::Low
        } else {
            SpaceState::Ok
        }
    }

    fn look(&self, now_ms: u64) {
        self.checked_ms.store(now_ms, Relaxed);
        self.written_bytes.store(0, Relaxed);
        match file_system(&self.path) {
            Ok((free, _)) => {
                self.free_bytes.store(free, Relaxed);
                // Leaving takes a quarter more than entering, lest the state flap.
                let was_low = self.low.load(Relaxed);
                let margin = if was_low { self.reserve_bytes / 4 } else { 0 };
                let low = free < self.reserve_bytes + margin;
                if low != was_low {
                    self.low.store(low, Relaxed);
                    tracing::warn!(low, free_bytes = free, "storage space state changed");
                }
            }
            Err(error) => tracing::warn!(%error, "free space is unknown"),
        }
    }
}

/// Bytes available and bytes in all of the file system that holds `path`.
pub(super) fn file_system(path: &Path) -> Result<(u64, u64)> {
    let fs = rustix::fs::statvfs(path).map_err(|errno| Error::from(std::io::Error::from(errno)))?;
    Ok((
        fs.f_bavail.saturating_mul(fs.f_frsize),
        fs.f_blocks.saturating_mul(fs.f_frsize),
    ))
}
