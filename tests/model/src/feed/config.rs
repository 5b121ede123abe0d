//! A case: what may happen, and the choices of the protocol.

use super::*;

/// What holds the frontier back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The floor of the oldest undecided Prepare.
    Oldest,
    /// The floor of the newest.
    Newest,
    Nothing,
}

/// What becomes of an answer made with interests that lack a watch's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Older {
    /// It isn't taken at all: the newer call asks for the same again.
    Dropped,
    /// It is taken; the watch goes back to catching up, from where it was.
    Demotes,
    /// It is taken like any other.
    Taken,
}

/// When a watch that catches up goes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promoted {
    /// It has all up to the highest frontier that the hub knows: above are only marks.
    Frontier,
    /// It has all up to the position, marks included.
    Position,
    /// A page said that nothing is left.
    LastPage,
}

/// Where a slow reader's watch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demoted {
    /// Behind what is in its queue.
    Queued,
    /// Behind what the client has read.
    Read,
    /// At the hub's new position.
    Position,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Feed {
    /// Entries of the log.
    pub(super) entries: u8,
    /// Keys of writes: bits 1 (a), 2 (b), 4 (both).
    pub(super) writes: u8,
    pub(super) txns: u8,
    /// Keys that a transaction writes.
    pub(super) txn_keys: u8,
    pub(super) left: Left,
    /// Keys of the watch that is live from the beginning.
    pub(super) first: u8,
    /// Keys of the watch that comes.
    pub(super) second: u8,
    /// The second client may be slow.
    pub(super) slow: bool,
    // The replica.
    pub(super) held: Held,
    /// Nothing above the frontier is given out.
    pub(super) cut: bool,
    /// After a restart or an installed snapshot the ring begins at the highest applied revision (else at the frontier).
    pub(super) ring_at_applied: bool,
    /// An installed snapshot empties the ring.
    pub(super) install_empties: bool,
    /// The position is loaded before the index is read.
    pub(super) position_first: bool,
    /// Older than the compaction floor is `compacted`.
    pub(super) says_compacted: bool,
    // The session.
    /// Changes of interests build on the version that they name.
    pub(super) versions: bool,
    /// An answer names the version of the interests that it was made with (else the version of its call), and ...
    pub(super) names_used: bool,
    /// ... all interests of an older version are refused.
    pub(super) full_rises: bool,
    // The hub.
    pub(super) older: Older,
    /// Its position never goes back.
    pub(super) rises: bool,
    /// Events at or below its position are dropped.
    pub(super) filters: bool,
    pub(super) promoted: Promoted,
    /// Pages end at the hub's position.
    pub(super) page_capped: bool,
    /// Pages end with a whole revision.
    pub(super) page_whole: bool,
    pub(super) demoted: Demoted,
}

const NEVER: Left = Left {
    others: 0,
    changes: 0,
    restarts: 0,
    installs: 0,
    trims: 0,
    compactions: 0,
    timeouts: 0,
    watches: 1,
    marks: 0,
};

/// The rules as they are: one change of leader, one call lost, a second watch.
pub(super) const RIGHT: Feed = Feed {
    entries: 2,
    writes: 0b011,
    txns: 0,
    txn_keys: 3,
    left: Left {
        changes: 1,
        timeouts: 1,
        ..NEVER
    },
    first: 1,
    second: 2,
    slow: false,
    held: Held::Oldest,
    cut: true,
    ring_at_applied: true,
    install_empties: true,
    position_first: true,
    says_compacted: true,
    versions: true,
    names_used: true,
    full_rises: true,
    older: Older::Demotes,
    rises: true,
    filters: true,
    promoted: Promoted::Frontier,
    page_capped: true,
    page_whole: true,
    demoted: Demoted::Queued,
};

/// What a replica gives out: transactions, memory and index; calls aren't lost.
pub(super) const REPLICA: Feed = Feed {
    entries: 3,
    writes: 0b001,
    txns: 1,
    first: 0,
    left: Left {
        changes: 1,
        restarts: 1,
        trims: 1,
        watches: 1,
        ..NEVER
    },
    second: 3,
    ..RIGHT
};

/// Marks beside catching up.
pub(super) const MARKED: Feed = Feed {
    entries: 2,
    writes: 0b011,
    txns: 0,
    left: Left {
        others: 1,
        marks: 2,
        changes: 1,
        ..NEVER
    },
    ..RIGHT
};
