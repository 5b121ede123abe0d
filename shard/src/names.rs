//! The time by which a group forgets the names of requests (`Idempotency-Key`).
//!
//! It must never run ahead of what has really passed, or a name is forgotten early and its request executed twice.
//! Clocks on the wall jump and differ, so none is asked: a leader goes on from the newest name that is kept, as fast as
//! its own monotonic clock. Between two leaders the time stands still, which keeps names for longer.
//!
//! Why that is enough: of a name with time `t`, stamped at the real moment `r`, every later leader's time at `r2` is at
//! most `t + (r2 - r)`. It is anchored at a name that was stamped before the anchor was cast (who was elected has in its
//! log all that may ever be committed of earlier terms), so by induction the distance of any two names is at most what
//! passed between them. A leader that hasn't applied all of that log yet is anchored too low: it forgets later, and
//! the state machine lifts the time of its names to the newest that is kept.

use std::sync::Arc;
use std::time::Duration;

/// Time since some origin, monotonic.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The names that a replica keeps. Times are the group's, in ms; 0 without names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) count: usize,
    pub(crate) oldest: u64,
    pub(crate) newest: u64,
}

/// The time of a group, on its leader.
pub(crate) struct NamesTime {
    clock: Clock,
    window: Duration,
    term: u64,
    /// The group's time...
    base: u64,
    /// ... when the clock showed this.
    origin: Duration,
}

impl NamesTime {
    /// Names are kept for `window`.
    pub(crate) fn new(clock: Clock, window: Duration) -> NamesTime {
        NamesTime {
            clock,
            window,
            term: 0,
            base: 0,
            origin: Duration::ZERO,
        }
    }

    /// For an entry of a term: the time of its names, and the one before which names are forgotten.
    pub(crate) fn now(&mut self, term: u64, names: Names) -> (u64, u64) {
        let clock = (self.clock)();
        let passed = clock.saturating_sub(self.origin).as_millis() as u64;
        let mut time = self.base.saturating_add(passed);
        if term != self.term || names.newest > time {
            (self.term, self.base, self.origin) = (term, names.newest, clock);
            time = names.newest;
        }
        (time, time.saturating_sub(self.window.as_millis() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const WINDOW: Duration = Duration::from_secs(60);

    fn names(newest: u64) -> Names {
        Names {
            count: usize::from(newest > 0),
            oldest: newest,
            newest,
        }
    }

    /// A leader's time, and its clock in microseconds.
    fn time() -> (NamesTime, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(7_000_000));
        let shown = clock.clone();
        let shown = Arc::new(move || Duration::from_micros(shown.load(Ordering::Relaxed)));
        (NamesTime::new(shown, WINDOW), clock)
    }

    #[test]
    fn it_goes_as_fast_as_the_clock_however_often_it_is_asked() {
        let (mut time, clock) = time();
        assert_eq!(time.now(1, names(0)), (0, 0));
        for _ in 0..10_000 {
            clock.fetch_add(100, Ordering::Relaxed);
            time.now(1, names(0));
        }
        assert_eq!(time.now(1, names(0)), (1000, 0));
        clock.fetch_add(60_000_000, Ordering::Relaxed);
        assert_eq!(time.now(1, names(900)), (61_000, 1000));
    }

    #[test]
    fn each_leader_goes_on_from_the_newest_name() {
        let (mut time, clock) = time();
        assert_eq!(time.now(3, names(500_000)), (500_000, 440_000));
        clock.fetch_add(1_000_000, Ordering::Relaxed);
        assert_eq!(time.now(3, names(500_000)).0, 501_000);
        // It led before, and again: what its clock did meanwhile is not the group's time.
        clock.fetch_add(9_000_000_000, Ordering::Relaxed);
        assert_eq!(time.now(5, names(500_500)), (500_500, 440_500));
    }

    #[test]
    fn a_leader_that_lags_behind_is_lifted_and_not_the_other_way() {
        let (mut time, clock) = time();
        assert_eq!(time.now(1, names(0)).0, 0);
        clock.fetch_add(2_000, Ordering::Relaxed);
        assert_eq!(time.now(1, names(300)).0, 300);
        clock.fetch_add(2_000, Ordering::Relaxed);
        assert_eq!(time.now(1, names(300)).0, 302);
        assert_eq!(time.now(1, names(0)).0, 302);
    }
}
