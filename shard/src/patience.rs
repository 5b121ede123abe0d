//! How long an answer of the oracle is waited for.
//!
//! An ask that is lost must be void soon: snapshot reads wait for it. But an oracle may be far away, or slow, and an ask
//! that is always void before its answer comes gets none, ever. So who waited in vain waits twice as long the next
//! time, and who is answered takes that for what to expect.

use std::time::Duration;

/// Answers may take so many times as long as the last one.
const SLACK: u32 = 4;
/// So many times the shortest time, at most.
const GROWTH_MAX: u32 = 20;

/// The time that is given to an ask.
#[derive(Debug)]
pub(crate) struct Patience {
    least: Duration,
    now: Duration,
}

impl Patience {
    /// At least so long.
    pub(crate) fn new(least: Duration) -> Patience {
        Patience { least, now: least }
    }

    /// For the next ask.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// An ask was answered.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.now = self.bounded(took * SLACK);
    }

    /// An ask wasn't answered in time.
    pub(crate) fn passed(&mut self) {
        self.now = self.bounded(self.now * 2);
    }

    fn bounded(&self, time: Duration) -> Duration {
        time.clamp(self.least, self.least * GROWTH_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_follows_what_is_seen() {
        let mut patience = Patience::new(50 * MS);
        assert_eq!(patience.now(), 50 * MS);
        patience.passed();
        patience.passed();
        assert_eq!(patience.now(), 200 * MS);
        patience.answered(120 * MS);
        assert_eq!(patience.now(), 480 * MS);
        patience.answered(2 * MS);
        assert_eq!(patience.now(), 50 * MS, "near again");
        (0..40).for_each(|_| patience.passed());
        assert_eq!(patience.now(), 1000 * MS, "and no longer");
    }
}
