//! What all who take part in a run share, and what the checkers make of it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use caucus_history::history::{Line, Process, Type};
use caucus_history::record::line;
use caucus_history::{History, Recorder, Violation, replay};
use serde_json::Value;

/// One run at a time: elections are timed, and the machine may be small.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until nobody else runs.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run.
pub(super) struct Scene {
    pub(super) recorder: Recorder,
    over: AtomicBool,
    numbers: AtomicU64,
    /// Transactions that were answered.
    answered: AtomicU64,
}

impl Scene {
    pub(super) fn new() -> Scene {
        Scene {
            recorder: Recorder::new(),
            over: AtomicBool::new(false),
            numbers: AtomicU64::new(1),
            answered: AtomicU64::new(0),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// A number that was never used: a value, or the name of a client.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The end of a transaction that was answered.
    pub(super) fn answer(&self, line: Line) {
        self.recorder.write(line);
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// A line of something else than a transaction.
    pub(super) fn say(&self, kind: Type, by: &str, f: &str, value: Value) {
        let by = Process::Other(by.to_owned());
        self.recorder.write(line(kind, by, f, value));
    }

    /// Ends the run when it goes, also if a test panics: nobody waits for those who are never told.
    pub(super) fn ends(&self) -> Ends<'_> {
        Ends(self)
    }
}

/// See [`Scene::ends`].
pub(super) struct Ends<'s>(&'s Scene);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What all checkers say; a history that is refused is kept.
pub(super) fn judge(what: &str, history: &History) -> Vec<Violation> {
    let found = caucus_history::check(history);
    let checked = replay::check(history).checked;
    let lines = history.lines.len();
    let violations = found.len();
    let seconds = history
        .lines
        .last()
        .map_or(0, |last| last.time / 1_000_000_000);
    eprintln!(
        "{what}: {seconds} s, {lines} lines, {checked} answers checked, {violations} violations"
    );
    if !found.is_empty() {
        let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = dir.join(format!("{}.jsonl", what.replace(' ', "-")));
        std::fs::write(&file, history.to_text()).expect("the history is kept");
        for violation in found.iter().take(5) {
            eprintln!("{}: {violation}", file.display());
        }
    }
    found
}

/// Those who said no, each once.
pub(super) fn refused_by(found: &[Violation]) -> Vec<&'static str> {
    let names: BTreeSet<&str> = found.iter().map(|violation| violation.checker).collect();
    names.into_iter().collect()
}
