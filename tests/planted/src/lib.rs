//! What tests change in the product's code: bugs that break one rule of the protocols each, to test the tests
//! with; and places at which a node dies, stalls or fails, to test the product with.
//!
//! ```text
//!   if planted::is(planted::VOTE_NOT_SYNCED) { ... }      in the code, at the rule that it breaks
//!   planted::plant(Some(planted::VOTE_NOT_SYNCED))        in a simulation, before a run
//!   CAUCUS_PLANTED=vote-not-synced caucus-planted ...     for real nodes: see `deploy/local/planted`
//!
//!   planted::at(planted::TXN_DECIDED)                     in the code, at the place
//!   CAUCUS_FAIL_POINTS=2/txn-decided=die@3 caucus-planted ...
//! ```
//!
//! Without the feature `planted` the questions are constants, and nothing of this is in the binary: a test looks
//! (`tests/tests/planted.rs`). At most one bug is planted in a process at a time, so that what is found can be
//! put down to it.

mod bugs;
mod points;

pub use bugs::*;
pub use points::*;

/// Whether all this is compiled in.
pub const COMPILED_IN: bool = cfg!(feature = "planted");
/// The environment variable that names the bug of a process.
pub const VARIABLE: &str = "CAUCUS_PLANTED";
/// The one that arms places: `NODE/NAME`, `NODE/NAME=stall`, `NODE/NAME=fail@20`, separated by commas. The
/// number says how often the place is passed first.
pub const POINTS_VARIABLE: &str = "CAUCUS_FAIL_POINTS";

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    number: u8,
    /// Its name: that of its constant, in lower case.
    pub name: &'static str,
    /// The invariants of the design (section 9) that it breaks.
    pub breaks: &'static [u8],
    /// What should see it: modules of `caucus-history` (`replay`, `last`, `once`, `watched`, `locks`, `elle`),
    /// or an invariant of a simulation (`hash`, `lease`).
    pub seen_by: &'static [&'static str],
}

impl Bug {
    /// The bug of a name.
    pub fn named(name: &str) -> Option<Bug> {
        ALL.into_iter().find(|bug| bug.name == name)
    }
}

/// A place at which a test can interfere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub name: &'static str,
    /// Whether it can fail with an error, besides dying and stalling.
    pub can_fail: bool,
}

/// Whether this bug is planted in this process.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}

/// The process is at a place, where a test may want it to die or to stall.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn at(_point: Point) {}

/// The same for a place at which there is an error to fail with: whether to.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn fails(_point: Point) -> bool {
    false
}

#[cfg(feature = "planted")]
mod armed;

#[cfg(feature = "planted")]
pub use {armed::*, compiled_in::*};

#[cfg(feature = "planted")]
mod compiled_in {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::{ALL, Bug, VARIABLE};

    /// 0: none; else one more than the number of a bug.
    static PLANTED: LazyLock<AtomicU8> = LazyLock::new(|| {
        let bug = from_environment().unwrap_or_else(|why| panic!("{why}"));
        AtomicU8::new(slot(bug))
    });

    fn slot(bug: Option<Bug>) -> u8 {
        bug.map_or(0, |bug| bug.number + 1)
    }

    /// Whether this bug is planted in this process.
    pub fn is(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == slot(Some(bug))
    }

    /// Plants a bug in this process in the place of what was planted, or removes that.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(slot(bug), Ordering::Relaxed);
    }

    /// The bug that is planted in this process.
    pub fn planted() -> Option<Bug> {
        ALL.into_iter().find(|bug| is(*bug))
    }

    /// The bug that the environment names.
    ///
    /// # Errors
    ///
    /// There is none of that name.
    pub fn from_environment() -> Result<Option<Bug>, String> {
        let Ok(name) = std::env::var(VARIABLE) else {
            return Ok(None);
        };
        match Bug::named(&name) {
            Some(bug) => Ok(Some(bug)),
            None if name.is_empty() => Ok(None),
            None => Err(format!("{VARIABLE}: there is no bug `{name}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_bug_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = ALL.iter().map(|bug| bug.name).collect();
        assert_eq!(names.len(), ALL.len());
        for bug in ALL {
            assert_eq!(Bug::named(bug.name), Some(bug));
            assert!(bug.breaks.iter().all(|number| (1..=14).contains(number)));
            assert!(!bug.breaks.is_empty() && !bug.seen_by.is_empty());
        }
        assert_eq!(Bug::named("a good day"), None);
    }

    #[test]
    fn each_place_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = POINTS.iter().map(|point| point.name).collect();
        assert_eq!(names.len(), POINTS.len());
    }

    #[test]
    #[cfg(not(feature = "planted"))]
    fn nothing_is_planted_where_nothing_is_compiled_in() {
        const { assert!(!is(VOTE_NOT_SYNCED) && !fails(LOG_WRITING)) }
    }

    #[test]
    #[cfg(feature = "planted")]
    fn one_is_planted_at_a_time() {
        plant(Some(VOTE_NOT_SYNCED));
        assert!(is(VOTE_NOT_SYNCED) && !is(APPEND_NOT_SYNCED));
        plant(Some(APPEND_NOT_SYNCED));
        assert_eq!(planted(), Some(APPEND_NOT_SYNCED));
        plant(None);
        assert_eq!(planted(), None);
    }
}
