//! The cases of feeds.

use super::*;
use crate::case::Expected::*;
use crate::case::{Case, cases};

const MISSES: &str = "a watch misses an event";
const TWICE: &str = "twice or out of order";
const BELOW: &str = "at or below what a watch was told";

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let families = [replicas(), sessions(), watches()];
    families.into_iter().flatten().collect()
}

/// What a replica releases.
fn replicas() -> Vec<Case> {
    let compacting = Feed {
        left: Left {
            compactions: 1,
            restarts: 0,
            changes: 0,
            ..REPLICA.left
        },
        ..REPLICA
    };
    let one = Feed {
        left: Left {
            changes: 0,
            ..REPLICA.left
        },
        ..REPLICA
    };
    let installing = Feed {
        left: Left {
            installs: 1,
            restarts: 0,
            trims: 0,
            ..REPLICA.left
        },
        ..REPLICA
    };
    let two = Feed {
        entries: 5,
        txns: 2,
        first: 1,
        left: Left {
            restarts: 0,
            trims: 0,
            watches: 0,
            ..REPLICA.left
        },
        ..REPLICA
    };
    cases! {
        "K1 right: transaction, restart, trimmed ring": Holds, one;
        "K1 right: transaction, restart, trimmed ring, change of leader": HoldsSlow, REPLICA;
        "K1 right: transaction, compaction": Holds, compacting;
        "K1 right: transaction, compaction, change of leader": HoldsSlow, compacting, left = Left { changes: 1, ..compacting.left };
        "K1 right: transaction, installed snapshot": Holds, installing;
        "K1 right: two transactions": Holds, two;
        "K1 wrong: undecided transactions don't hold the frontier": Fails(BELOW), REPLICA, held = Held::Nothing;
        "K1 wrong: the newest undecided transaction holds the frontier": Fails(BELOW), two, held = Held::Newest;
        "K1 wrong: what isn't released is given out": Fails(TWICE), REPLICA, cut = false;
        "K1 wrong: after a restart the ring begins at the frontier": Fails(MISSES), REPLICA, ring_at_applied = false;
        "K1 wrong: an installed snapshot leaves the ring": Fails(MISSES), installing, install_empties = false;
        "K1 wrong: the index is read before the position": Fails(MISSES), REPLICA, position_first = false;
        "K1 wrong: compacted isn't said": Fails(MISSES), compacting, says_compacted = false;
    }
}

/// Calls and sessions.
fn sessions() -> Vec<Case> {
    let again = Feed {
        entries: 2,
        writes: 0b010,
        left: Left {
            watches: 2,
            ..RIGHT.left
        },
        ..RIGHT
    };
    cases! {
        "K2 right: an answer of older interests demotes": Holds, RIGHT;
        "K2 right: an answer of older interests is dropped": Holds, RIGHT, older = Older::Dropped;
        "K2 right: an answer of older interests demotes, 3 entries": HoldsSlow, RIGHT, entries = 3;
        "K2 right: an answer of older interests is dropped, 3 entries": HoldsSlow, RIGHT, older = Older::Dropped, entries = 3;
        "K2 right: a watch goes and comes again": Holds, again;
        "K2 wrong: an answer of older interests is taken": Fails(MISSES), RIGHT, older = Older::Taken;
        "K2 wrong: changes build on any version": Fails(MISSES), again, versions = false;
        "K2 late interests taken, the answer names them": Holds, again, full_rises = false;
        "K2 wrong: late interests taken, the answer names its call": Fails(MISSES), again, full_rises = false, names_used = false;
        "K2 wrong: the position goes back": Fails(TWICE), RIGHT, rises = false;
        "K2 wrong: what came before isn't dropped": Fails(TWICE), RIGHT, filters = false;
    }
}

/// Catching up and slow readers.
fn watches() -> Vec<Case> {
    let slow = Feed {
        entries: 3,
        writes: 0b010,
        slow: true,
        left: Left {
            timeouts: 0,
            ..RIGHT.left
        },
        ..RIGHT
    };
    let pages = Feed {
        entries: 3,
        writes: 0b110,
        left: Left {
            timeouts: 0,
            ..RIGHT.left
        },
        second: 3,
        ..RIGHT
    };
    cases! {
        "K3 right: pages": Holds, pages;
        "K3 right: slow reader": Holds, slow;
        "K3 right: marks beside catching up": Holds, MARKED;
        "K3 wrong: live only at a position that a mark made": Fails("never goes live"), MARKED, promoted = Promoted::Position;
        "K3 wrong: live when a replica has no more": Fails(MISSES), pages, promoted = Promoted::LastPage;
        "K3 wrong: pages pass the hub's position": Fails(TWICE), pages, page_capped = false;
        "K3 wrong: a page ends within a revision": Fails(MISSES), pages, page_whole = false;
        "K3 wrong: a slow reader goes on at the position": Fails(MISSES), slow, demoted = Demoted::Position;
        "K3 wrong: a slow reader goes on at what it has read": Fails(TWICE), slow, demoted = Demoted::Read;
    }
}
