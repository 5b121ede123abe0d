//! Where work goes that may have to wait for a disk.

use caucus_engine::Reader;
use tokio::task::{JoinError, spawn_blocking};

/// Runs long work on an engine: on a thread that may block, if its calls do. An engine in memory has
/// nothing to wait for, and a simulation no threads.
///
/// # Errors
///
/// The work panicked, or the runtime ends.
pub async fn aside<T: Send + 'static>(
    engine: &(impl Reader + Sync + ?Sized),
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match engine.may_block() {
        true => spawn_blocking(work).await,
        false => Ok(work()),
    }
}
