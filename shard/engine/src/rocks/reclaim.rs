//! One thread that turns deletes into free space while the disk is nearly full.
//!
//! ```text
//!   write with deletes, space low ──▶ span of keys ──▶ flush ──▶ (small disk) compact the span ──▶ pause
//! ```
//!
//! A delete is a record of its own until a flush and compactions have met what it deletes. Where there
//! is room they come by themselves, driven by what is written. On a full disk hardly anything is
//! written, so without this thread a disk would stay full whatever its users delete.
//!
//! On a large disk no compaction is forced: its steps may need more than the reserve. Flushes alone
//! bring RocksDB's own.

use super::store::Store;
use crate::{Op, Space, WriteBatch};
use bytes::Bytes;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The pause after each round is at least this ...
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// ... and so many times what the round took: users' work goes first.
const PAUSE_FACTOR: u32 = 5;

/// Handle to the thread. Dropping it joins the thread.
pub(super) struct Reclaim {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    /// What was deleted since the last round, by space: the lowest key and the end.
    spans: [Option<(Bytes, Bytes)>; Space::ALL.len()],
    closing: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reclaim {
    pub(super) fn start(store: Arc<Store>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("engine-reclaim".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, &store)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The batch has been written, and the disk is nearly full.
    pub(super) fn deleted(&self, batch: &WriteBatch) {
        if batch.ops().all(|op| matches!(op, Op::Put { .. })) {
            return;
        }
        let mut queue = self.shared.lock();
        for op in batch.ops() {
            match op {
                Op::Put { .. } => {}
                Op::Delete { space, key } => queue.widen(*space, key, key),
                Op::DeleteRange { space, start, end } => queue.widen(*space, start, end),
            }
        }
        drop(queue);
        self.shared.wake.notify_one();
    }
}

impl Queue {
    fn widen(&mut self, space: Space, start: &Bytes, end: &Bytes) {
        let span = &mut self.spans[space as usize];
        match span {
            Some((first, last)) => {
                if start < first {
                    *first = start.clone();
                }
                if end > last {
                    *last = end.clone();
                }
            }
            None => *span = Some((start.clone(), end.clone())),
        }
    }

    fn is_empty(&self) -> bool {
        self.spans.iter().all(Option::is_none)
    }
}

impl Drop for Reclaim {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        let thread = self.thread.take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the reclaiming thread of the storage engine panicked");
        }
    }
}

fn run(shared: &Shared, store: &Store) {
    while let Some(spans) = next(shared) {
        // Real time on purpose: it measures work on a real device.
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        for (space, span) in Space::ALL.into_iter().zip(spans) {
            let Some((first, last)) = span else {
                continue;
            };
            if let Err(error) = store.reclaim(space, &first, &last) {
                tracing::warn!(%error, "deleted space cannot be reclaimed");
            }
        }
        store.refresh_space();
        if rest(shared, PAUSE_MIN.max(PAUSE_FACTOR * start.elapsed())) {
            return;
        }
    }
}

/// What to reclaim, or `None` when the engine closes.
fn next(shared: &Shared) -> Option<[Option<(Bytes, Bytes)>; Space::ALL.len()]> {
    let mut queue = shared.lock();
    while queue.is_empty() && !queue.closing {
        queue = shared
            .wake
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner);
    }
    (!queue.closing).then(|| std::mem::take(&mut queue.spans))
}

/// Waits; whether the engine closes.
fn rest(shared: &Shared, pause: Duration) -> bool {
    let waited = shared
        .wake
        .wait_timeout_while(shared.lock(), pause, |queue| !queue.closing);
    waited.unwrap_or_else(PoisonError::into_inner).0.closing
}
