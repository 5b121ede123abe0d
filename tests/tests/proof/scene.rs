//! What everybody in a run shares.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use caucus_history::Recorder;
use caucus_history::history::{Process, Type};
use caucus_history::record::line;
use caucus_tests::http;
use serde_json::Value;

/// A client that waits longer has lost its node; longer than the deadline that it gives.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client of any kind needs.
pub(super) struct Scene {
    pub(super) recorder: Recorder,
    pub(super) addresses: Vec<String>,
    pub(super) seed: u64,
    over: AtomicBool,
    /// Numbers for clients: after an unknown outcome one goes on under another.
    processes: AtomicU64,
    /// Values that were never used.
    values: AtomicU64,
    /// Transactions that were answered.
    pub(super) answered: AtomicUsize,
}

impl Scene {
    pub(super) fn new(seed: u64, addresses: Vec<String>) -> Scene {
        Scene {
            recorder: Recorder::new(),
            addresses,
            seed,
            over: AtomicBool::new(false),
            processes: AtomicU64::new(0),
            values: AtomicU64::new(1),
            answered: AtomicUsize::new(0),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(super) fn process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn say(&self, kind: Type, by: &str, f: &str, value: Value) {
        self.say_at(kind, by, f, value, None);
    }

    /// The same, of an answer that has a revision.
    pub(super) fn say_at(&self, kind: Type, by: &str, f: &str, value: Value, rev: Option<u64>) {
        let mut line = line(kind, Process::Other(by.to_owned()), f, value);
        line.rev = rev;
        self.recorder.write(line);
    }

    /// A client of each node.
    pub(super) fn nodes(&self) -> Vec<http::Client> {
        let nodes = self.addresses.iter().map(|address| {
            let mut client = http::Client::new(address);
            client.set_patience(PATIENCE);
            client
        });
        nodes.collect()
    }
}
