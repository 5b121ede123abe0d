//! One thread that makes writes durable for everybody who waits.
//!
//! Requests gather in a queue while a sync runs; the next sync serves all of them. So a thousand
//! groups that append at once cost one fsync, and a lone one waits for nobody.

use super::store::Store;
use crate::error::{Error, Result};
use crate::{Stats, SyncDone};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Handle to the sync thread. Dropping it serves what waits and joins the thread.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    /// In order of request; bounded by the callers, who each wait for their own.
    waiting: Vec<SyncDone>,
    closing: bool,
    requests: u64,
    syncs: u64,
    last: Duration,
    total: Duration,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Syncer {
    pub(super) fn start(store: Arc<Store>) -> Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name("engine-sync".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, &store)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub(super) fn request(&self, done: SyncDone) {
        let mut queue = self.shared.lock();
        queue.requests += 1;
        queue.waiting.push(done);
        drop(queue);
        self.shared.wake.notify_one();
    }

    pub(super) fn stats(&self, stats: &mut Stats) {
        let queue = self.shared.lock();
        stats.sync_requests = queue.requests;
        stats.syncs = queue.syncs;
        stats.sync_last = queue.last;
        stats.sync_total = queue.total;
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A callback may own the last handle of the engine: the thread can't wait for itself, it
        // ends on its own right after the callback.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the sync thread of the storage engine panicked");
        }
    }
}

fn run(shared: &Shared, store: &Store) {
    while let Some(batch) = next(shared) {
        let (outcome, took) = sync(store);
        {
            let mut queue = shared.lock();
            queue.syncs += 1;
            queue.last = took;
            queue.total += took;
        }
        for done in batch {
            let outcome = outcome.clone();
            // The thread serves all groups; one caller's bug must not stop the others.
            if catch_unwind(AssertUnwindSafe(move || done(outcome))).is_err() {
                tracing::error!("a sync callback panicked");
            }
        }
        store.refresh_space();
        store.note_manifest();
    }
    // RocksDB drops its buffer of un-synced writes on close; nobody was promised them, but an
    // orderly stop should lose nothing.
    if !store.is_poisoned() {
        let _ = sync(store);
        store.note_manifest();
    }
}

/// Everything that waits, or `None` when the engine closes and nothing does.
fn next(shared: &Shared) -> Option<Vec<SyncDone>> {
    let mut queue = shared.lock();
    loop {
        if !queue.waiting.is_empty() {
            return Some(std::mem::take(&mut queue.waiting));
        }
        if queue.closing {
            return None;
        }
        queue = shared
            .wake
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

fn sync(store: &Store) -> (Result<()>, Duration) {
    // Real time on purpose: it measures a real device, and no decision depends on it.
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    let outcome = store.sync();
    if let Err(error) = &outcome
        && !matches!(error, Error::Closed)
    {
        tracing::error!(%error, "storage sync failed");
    }
    (outcome, start.elapsed())
}
