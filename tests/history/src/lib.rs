//! Histories of what clients did and were told, and checkers that can say no.
//!
//! ```text
//!  clients ─▶ Recorder ─▶ history.jsonl ─▶ History ─┬─▶ replay   one order by revision explains every answer
//!                                                   ├─▶ watched  watches told exactly what happened
//!                                                   ├─▶ last     what was acknowledged is there in the end, and
//!                                                   │            each listing is what there was at its revision
//!                                                   ├─▶ once     a request happened once
//!                                                   ├─▶ locks    tokens rise, and are checked
//!                                                   ├─▶ leases   they last, and who is gone stays gone
//!                                                   ├─▶ lessees  so do their keys, all together
//!                                                   ├─▶ bank     there is always as much money
//!                                                   ├─▶ sets     listings have what was added
//!                                                   ├─▶ counters nothing is missing or counted twice
//!                                                   ├─▶ causal   no effect without its cause
//!                                                   ├─▶ windows  linearizable without looking at revisions (WGL)
//!                                                   ├─▶ elle     transactions, by another's checker (adya)
//!                                                   └─▶ coverage the faults happened, and work went on
//! ```
//!
//! A history is written by the clients alone, as Jepsen's are, one line of JSON an event, so that others' tools can
//! read it too. Nothing of the product is used here: a checker that shared its code would share its errors.
//!
//! Each checker is shown to fail on histories that are wrong in its own way (the tests of each module).

pub mod bank;
pub mod causal;
pub mod counters;
pub mod coverage;
pub mod elle;
pub mod history;
pub mod last;
pub mod leases;
pub mod lessees;
pub mod locks;
pub mod once;
mod order;
pub mod record;
pub mod replay;
pub mod sets;
mod unseen;
pub mod watched;
pub mod windows;

#[cfg(test)]
mod hand_made;

pub use history::{History, Operation, Outcome};
pub use record::Recorder;

/// What a history shows that can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The checker that found it.
    pub checker: &'static str,
    /// The index of the line that can't be explained.
    pub index: u64,
    /// Why.
    pub why: String,
}

impl Violation {
    pub(crate) fn new(checker: &'static str, index: u64, why: impl Into<String>) -> Violation {
        Violation {
            checker,
            index,
            why: why.into(),
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: line {}: {}", self.checker, self.index, self.why)
    }
}

/// All checkers; an empty list: nothing is wrong.
pub fn check(history: &History) -> Vec<Violation> {
    let replayed = replay::check(history);
    let mut found = replayed.violations;
    found.extend(watched::check(history, &replayed.order));
    found.extend(last::check(history, &replayed.order));
    found.extend(once::check(history));
    found.extend(leases::check(history));
    found.extend(lessees::check(history));
    found.extend(locks::check(history));
    found.extend(bank::check(history));
    found.extend(sets::check(history));
    found.extend(counters::check(history));
    found.extend(causal::check(history));
    found.extend(windows::check(history));
    found.extend(elle::check(history));
    found.extend(coverage::check(history));
    found
}
