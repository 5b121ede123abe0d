//! Writing a history down while it happens.
#![allow(
    clippy::disallowed_methods,
    reason = "a history's time is the real one: it is held against what was answered"
)]

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use serde_json::Value;

use crate::history::{History, Line, Process, Type};

/// Nanoseconds since some beginning; never less than before.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Takes lines from all clients; one clock and one count for all of them.
pub struct Recorder {
    clock: Clock,
    lines: Mutex<Vec<Line>>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}

impl Recorder {
    /// Nothing has happened yet.
    pub fn new() -> Recorder {
        let begun = Instant::now();
        Recorder::with_clock(Box::new(move || {
            u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
        }))
    }

    /// As [`new`](Self::new), by another clock.
    pub fn with_clock(clock: Clock) -> Recorder {
        Recorder {
            clock,
            lines: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().expect("no panic under this lock")
    }

    /// Writes a line; its index and time are filled in here, where the order is known.
    pub fn write(&self, mut line: Line) {
        let mut lines = self.lock();
        line.index = lines.len() as u64;
        line.time = (self.clock)();
        lines.push(line);
    }

    /// How many lines there are of a kind about something.
    pub fn count(&self, f: &str, kind: Type) -> usize {
        let lines = self.lock();
        let counted = lines.iter().filter(|line| line.kind == kind && line.f == f);
        counted.count()
    }

    /// What has been written so far.
    pub fn history(&self) -> History {
        History {
            lines: self.lock().clone(),
        }
    }
}

/// A line to fill in.
pub fn line(kind: Type, process: Process, f: &str, value: Value) -> Line {
    Line {
        index: 0,
        time: 0,
        kind,
        process,
        f: f.to_owned(),
        value,
        compares: Vec::new(),
        held: None,
        rev: None,
        mods: Vec::new(),
        idem: None,
        stale: false,
        error: None,
    }
}
