//! The bugs. The order of the list is that of the way of a write: log, state, oracle, sequencer, reads,
//! transactions, watches, leases, router.

use crate::Bug;

/// Defines each as a constant, and [`ALL`].
macro_rules! bugs {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, breaks $breaks:tt, seen by $seen:tt;)*) => {
        #[expect(non_camel_case_types, reason = "named as the constants")]
        enum Number { $($constant),* }

        $(
            $(#[$doc])*
            pub const $constant: Bug = Bug {
                number: Number::$constant as u8,
                name: $name,
                breaks: &$breaks,
                seen_by: &$seen,
            };
        )*

        /// All of them.
        pub const ALL: [Bug; [$(Number::$constant as u8),*].len()] = [$($constant),*];
    };
}

bugs! {
    // ---- The log and the state (shard/raft, shard/engine) ----

    /// A vote is answered when it is written, not when it is synced: after a loss of power a replica votes
    /// twice in a term, and two lead.
    VOTE_NOT_SYNCED = "vote-not-synced", breaks [3, 11], seen by ["last", "replay", "hash"];
    /// Entries count as durable when they are written: what was acknowledged is gone after a loss of power.
    APPEND_NOT_SYNCED = "append-not-synced", breaks [3], seen by ["last", "replay"];
    /// Followers are taken to have what was only sent to them.
    ACKED_BEFORE_QUORUM = "acked-before-quorum", breaks [3], seen by ["last", "replay"];
    /// The applied index is written in a batch of its own before the state: a crash between the two skips
    /// what the entries did (etcd #13766).
    APPLIED_BEFORE_STATE = "applied-before-state", breaks [11], seen by ["hash", "replay"];
    /// A first member of the placement group that lost its disk votes as if it were new.
    LOST_DISK_VOTES = "lost-disk-votes", breaks [1, 3], seen by ["replay", "last"];
    /// A log that lost its end is taken for whole: the replica votes and counts again as if nothing were
    /// missing.
    LOST_TAIL_ACCEPTED = "lost-tail-accepted", breaks [3], seen by ["last", "replay"];
    /// A damaged record of the log is taken as it is.
    RECORD_NOT_CHECKED = "record-not-checked", breaks [11], seen by ["hash", "replay"];
    /// A state that doesn't add up to what was sent is installed, and each part of one loses something on its way.
    SNAPSHOT_NOT_CHECKED = "snapshot-not-checked", breaks [11], seen by ["hash"];
    /// A state is sent without the table of executed requests: who got it executes retries again.
    DEDUP_NOT_IN_SNAPSHOT = "dedup-not-in-snapshot", breaks [5, 11], seen by ["once", "hash"];

    // ---- Leadership (shard/raft) ----

    /// Whoever asks for a confirmation while a round runs is answered by that round, which says nothing about
    /// the time since it began (etcd #20418).
    CONFIRMED_BY_EARLIER_ROUND = "confirmed-by-earlier-round", breaks [4], seen by ["replay", "windows"];
    /// A new leader reads before it has applied an entry of its own term.
    CONFIRMED_BEFORE_OWN_ENTRY = "confirmed-before-own-entry", breaks [4], seen by ["replay", "windows"];
    /// A replica that is about to vote for another still upholds the leader, until the vote is saved.
    UPHELD_BY_SAVED_VOTE = "upheld-by-saved-vote", breaks [4], seen by ["replay", "windows"];

    // ---- The oracle (placement) ----

    /// A deposed oracle goes on granting what its term had left.
    GRANTED_WITHOUT_QUORUM = "granted-without-quorum", breaks [1, 4], seen by ["replay"];
    /// A leader that was deposed and elected again goes on where it was: another has granted higher ones since.
    GRANTS_KEPT_OVER_TERMS = "grants-kept-over-terms", breaks [1, 4], seen by ["replay"];
    /// The ceiling counts from when it is proposed: after a crash the next leader grants the same again.
    GRANTED_ABOVE_CEILING = "granted-above-ceiling", breaks [1], seen by ["replay"];

    // ---- The sequencer, and what apply asks (shard) ----

    /// Writes that come while revisions are under way get some of them: one is put before another that had
    /// ended when it began.
    JOINS_AFTER_ASK = "joins-after-ask", breaks [4], seen by ["replay"];
    /// A write is applied though a higher revision is applied in its group.
    OVERTAKEN_IS_APPLIED = "overtaken-is-applied", breaks [2, 8], seen by ["replay", "watched"];
    /// The table of executed requests keeps a few only, and doesn't say what it has forgotten.
    DEDUP_FORGOTTEN_EARLY = "dedup-forgotten-early", breaks [5], seen by ["once", "replay"];
    /// Requests that clients named are forgotten when a replica starts.
    NAMES_FORGOTTEN_ON_RESTART = "names-forgotten-on-restart", breaks [5, 11], seen by ["once", "hash"];

    // ---- Reads (shard, router) ----

    /// A replica that believes to lead reads without asking anybody.
    READ_NOT_CONFIRMED = "read-not-confirmed", breaks [4], seen by ["replay", "windows"];
    /// When leadership can't be confirmed, the state is read all the same (keystone #1302).
    READ_FALLS_BACK = "read-falls-back", breaks [4], seen by ["replay", "windows"];
    /// A read of the present doesn't wait for the writes of its keys that are under way.
    READ_PASSES_WRITES = "read-passes-writes", breaks [4], seen by ["replay"];
    /// A read as of a revision doesn't wait for grants below it.
    SNAPSHOT_READ_PASSES_GRANTS = "snapshot-read-passes-grants", breaks [7, 4], seen by ["replay", "elle"];
    /// A read doesn't wait for prepared transactions on its keys.
    READ_PASSES_PREPARED = "read-passes-prepared", breaks [4, 7], seen by ["replay", "elle"];

    // ---- Transactions over groups (shard) ----

    /// A write of one key doesn't see what prepared transactions lock.
    LOCKS_IGNORED = "locks-ignored", breaks [4], seen by ["replay", "elle"];
    /// Prepared transactions stand after a restart, and their locks don't.
    LOCKS_FORGOTTEN_ON_RESTART = "locks-forgotten-on-restart", breaks [4, 11], seen by ["hash", "replay"];
    /// Prepared transactions are forgotten by a replica that starts: it lacks what they commit later.
    PREPARED_FORGOTTEN_ON_RESTART = "prepared-forgotten-on-restart", breaks [4, 11], seen by ["hash", "replay"];
    /// The client is told "committed" when the fate of the decision isn't known.
    TOLD_BEFORE_DECIDED = "told-before-decided", breaks [3, 4], seen by ["last", "replay"];
    /// The decision is forgotten though not all participants have confirmed: the others learn that it was
    /// aborted.
    DECISION_FORGOTTEN_EARLY = "decision-forgotten-early", breaks [4], seen by ["replay", "elle"];
    /// A leader that finds a decision of an earlier one forgets it: participants learn that it was aborted.
    DECISION_DROPPED_IN_RECOVERY = "decision-dropped-in-recovery", breaks [4], seen by ["replay", "elle"];
    /// A compare of the revision at which a key was created always holds, so an old token passes.
    FENCING_NOT_COMPARED = "fencing-not-compared", breaks [10, 4], seen by ["replay", "locks"];

    // ---- Watches (shard, router) ----

    /// What a prepared transaction will change below isn't waited for.
    EVENTS_BEFORE_FRONTIER = "events-before-frontier", breaks [8], seen by ["watched"];
    /// "Nothing below follows" is said without asking for grants that are under way (etcd #15220).
    MARK_PASSES_GRANTS = "mark-passes-grants", breaks [8], seen by ["watched"];
    /// The same by a leader that may be deposed.
    MARK_NOT_CONFIRMED = "mark-not-confirmed", breaks [8], seen by ["watched"];
    /// A watch that goes on at another leader begins one revision too far.
    RESUMED_TOO_FAR = "resumed-too-far", breaks [8], seen by ["watched"];
    /// Deletes are missing in what is read from the index of changes (etcd #18089).
    DELETES_NOT_REPLAYED = "deletes-not-replayed", breaks [8], seen by ["watched"];
    /// Of the changes of one revision in a group only the first is told.
    REVISION_CUT = "revision-cut", breaks [8], seen by ["watched"];
    /// A watch that meets compaction goes on behind it and says nothing (etcd #17529).
    COMPACTION_NOT_TOLD = "compaction-not-told", breaks [8], seen by ["watched"];
    /// A watch of several groups doesn't wait for those that are behind.
    GROUPS_NOT_MERGED = "groups-not-merged", breaks [8], seen by ["watched"];

    // ---- Leases and locks (shard) ----

    /// A new leader gives leases half of the time that was promised.
    LEASE_SHORTENED_BY_NEW_LEADER = "lease-shortened-by-new-leader", breaks [9], seen by ["lease", "locks"];
    /// A renewal after a checkpoint isn't in the log: a new leader goes by the checkpoint.
    RENEWAL_NOT_LOGGED = "renewal-not-logged", breaks [9], seen by ["lease", "locks"];
    /// A deposed leader answers keepalives (etcd #15247).
    KEEPALIVE_NOT_CONFIRMED = "keepalive-not-confirmed", breaks [9], seen by ["lease", "locks"];
    /// A keepalive of a lease that is ending is answered as if it lived (etcd, fixed in 3.4.38).
    KEEPALIVE_OF_ENDING = "keepalive-of-ending", breaks [9], seen by ["lease", "locks"];
    /// What an earlier leader began to do to a lease is done in a later term too (etcd #12528).
    LEASE_STEP_OF_OLD_TERM = "lease-step-of-old-term", breaks [9], seen by ["lease"];
    /// The keys of a revoked lease in other groups stay.
    LEASE_LEAVES_KEYS = "lease-leaves-keys", breaks [9], seen by ["lease", "replay"];
    /// Tokens begin anew after a while.
    TOKEN_BEGINS_ANEW = "token-begins-anew", breaks [10], seen by ["locks", "replay"];

    // ---- The router ----

    /// A write that got no answer is sent again under another id.
    RETRIED_UNDER_NEW_ID = "retried-under-new-id", breaks [5], seen by ["once", "replay"];
    /// A write with an unknown outcome is reported as not applied.
    UNKNOWN_TOLD_AS_FAILED = "unknown-told-as-failed", breaks [3, 5], seen by ["last", "replay"];
    /// A listing over groups as of one revision reads each group as it is.
    LISTING_NOT_AT_REVISION = "listing-not-at-revision", breaks [7, 4], seen by ["replay", "elle"];
}
