//! Places at which a test can make a node die, stall for a second, or fail with an error. The list is in the
//! order of the way of a write; a name says what is happening, or has just happened.

use crate::Point;

/// Defines each as a constant, and [`POINTS`]. `or fails`: there is an error that the step can end with.
macro_rules! points {
    ($($(#[$doc:meta])* $constant:ident = $name:literal $(or $fails:ident)?;)*) => {
        $(
            $(#[$doc])*
            pub const $constant: Point = Point {
                name: $name,
                can_fail: points!(@ $($fails)?),
            };
        )*

        /// All of them.
        pub const POINTS: &[Point] = &[$($constant),*];
    };
    (@) => { false };
    (@ fails) => { true };
}

points! {
    // ---- The log (shard/raft) ----

    /// Entries and votes are about to be written.
    LOG_WRITING = "log-writing" or fails;
    /// They are written and not synced.
    LOG_WRITTEN = "log-written";
    /// They are synced; nobody has been told.
    LOG_SYNCED = "log-synced";
    /// A vote was given and is about to be written.
    VOTE_SAVING = "vote-saving";
    /// The beginning of a log is about to be removed.
    LOG_PURGING = "log-purging";
    /// It is removed, and that isn't synced.
    LOG_PURGED = "log-purged";

    // ---- The state (shard/raft) ----

    /// What entries change is about to be written.
    STATE_APPLYING = "state-applying" or fails;
    /// It is written; nobody has been answered.
    STATE_APPLIED = "state-applied";
    /// A snapshot is about to be named.
    SNAPSHOT_BUILDING = "snapshot-building";
    /// The next part of a state is about to be sent.
    SNAPSHOT_SENDING = "snapshot-sending" or fails;
    /// A part has arrived and is written.
    SNAPSHOT_RECEIVING = "snapshot-receiving" or fails;
    /// All has arrived; the replica still has its old state.
    SNAPSHOT_INSTALLING = "snapshot-installing";
    /// It has the new one; the sender hasn't been answered.
    SNAPSHOT_INSTALLED = "snapshot-installed";

    // ---- Transactions over groups (shard) ----

    /// The coordinator's own Prepare is applied; nobody else was asked.
    TXN_COORDINATOR_PREPARED = "txn-coordinator-prepared";
    /// A participant's Prepare is applied, and not answered.
    TXN_PARTICIPANT_PREPARED = "txn-participant-prepared";
    /// All have prepared; nothing is decided.
    TXN_ALL_PREPARED = "txn-all-prepared";
    /// The decision is applied; nobody else has heard of it.
    TXN_DECIDED = "txn-decided";
    /// A participant has heard of the decision, and done nothing yet.
    TXN_PARTICIPANT_COMMITTING = "txn-participant-committing";
    /// A participant's Commit is applied, and not answered.
    TXN_PARTICIPANT_COMMITTED = "txn-participant-committed";
    /// One participant has confirmed its Commit to the coordinator.
    TXN_ONE_COMMITTED = "txn-one-committed";
    /// All have; the decision is about to be forgotten.
    TXN_ALL_COMMITTED = "txn-all-committed";
    /// A leader has found a transaction that nobody drives, and is about to end it.
    TXN_RECOVERING = "txn-recovering";

    // ---- Leases and watches (shard) ----

    /// A lease whose time is over is about to be ended.
    LEASE_ENDING = "lease-ending" or fails;
    /// The first entry of its end is applied.
    LEASE_ENDED = "lease-ended";
    /// A lease has its time again; whoever asked hasn't been answered.
    LEASE_ANSWERING = "lease-answering";
    /// Events are about to be told.
    WATCH_TELLING = "watch-telling" or fails;
    /// It is about to be said that nothing at or below a revision follows.
    WATCH_MARKING = "watch-marking" or fails;
    /// A router is about to be told that what it wants is compacted.
    WATCH_COMPACTED = "watch-compacted";
    /// A router begins anew, or goes on where it was with another leader.
    WATCH_RESUMING = "watch-resuming";

    // ---- The router ----

    /// A node has answered; the client hasn't heard of it. To fail is to lose the answer.
    ROUTER_ANSWERED = "router-answered" or fails;
    /// A newer map is there and not in use yet.
    ROUTER_MAP = "router-map";
    /// An attempt has failed, and the request is about to be sent again or given up.
    ROUTER_RETRYING = "router-retrying";
}
