//! Places at which a test can make a node die, to see what the others make of it.
//!
//! Nothing happens at them unless a node was started with one armed; only the steps of transactions over
//! groups have any, so what everybody does pays nothing for them.

/// The steps of a transaction over groups, in their order.
pub const ALL: [&str; 8] = [
    COORDINATOR_PREPARED,
    PARTICIPANT_PREPARED,
    ALL_PREPARED,
    DECIDED,
    PARTICIPANT_COMMITTING,
    PARTICIPANT_COMMITTED,
    ONE_COMMITTED,
    ALL_COMMITTED,
];

/// The coordinator's own Prepare is applied; nobody else was asked.
pub(crate) const COORDINATOR_PREPARED: &str = "txn-coordinator-prepared";
/// A participant's Prepare is applied, and not answered.
pub(crate) const PARTICIPANT_PREPARED: &str = "txn-participant-prepared";
/// All have prepared; nothing is decided.
pub(crate) const ALL_PREPARED: &str = "txn-all-prepared";
/// The decision is applied; nobody else has heard of it.
pub(crate) const DECIDED: &str = "txn-decided";
/// A participant has heard of the decision, and done nothing yet.
pub(crate) const PARTICIPANT_COMMITTING: &str = "txn-participant-committing";
/// A participant's Commit is applied, and not answered.
pub(crate) const PARTICIPANT_COMMITTED: &str = "txn-participant-committed";
/// One participant has confirmed its Commit to the coordinator.
pub(crate) const ONE_COMMITTED: &str = "txn-one-committed";
/// All have; the decision is about to be forgotten.
pub(crate) const ALL_COMMITTED: &str = "txn-all-committed";

/// Makes the process die, as with `kill -9`, when it gets to a place.
///
/// # Errors
///
/// There is no such place.
pub fn arm(place: &str) -> Result<(), String> {
    if !ALL.contains(&place) {
        return Err(format!(
            "there is no `{place}`; there are {}",
            ALL.join(", ")
        ));
    }
    fail::cfg(place, "return")
}

/// The process is at a place.
pub(crate) fn at(place: &str) {
    fail::fail_point!(place, |_| std::process::abort());
}
