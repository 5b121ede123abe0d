//! Model K: what a group's replicas keep of its changes, and how one router's hub follows them for its watches.
//!
//! A group is its committed log; a replica is a prefix of it (applied), what its memory holds of the changes in it
//! (the ring, empty after a restart or an installed snapshot) and a session of the router (version and interests, in
//! memory). All that a replica releases follows from its prefix, so any replica that leads or led may answer. A
//! router sends `Follow` calls, of which one is outstanding, two while a newer one relieves the older; each may time
//! out, and what was sent may still arrive. The hub has one position in the group. A first watch is live from the
//! beginning; a second one comes at any time, at any revision, catches up by pages and goes live; a slow reader is
//! sent back to pages. Entries: writes of keys a and b (or both), and a transaction over groups (Prepare, Commit
//! with its own revision, Abort). A claim of a watch ("all of mine up to here came") is compared with the log at each
//! step; an event that is applied at or below a claim is a violation too.
//!
//! Marks are atomic here (their own rules are in family L); what they do to catching up is not.

use crate::checker::Model;

mod cases;
mod config;
mod group;
mod hub;
mod session;

pub(crate) use cases::cases;
use config::*;

/// Entries of the log.
const LOG: usize = 5;
/// Calls under way, forgotten ones that may still arrive included.
const CALLS: usize = 2;

// Kinds of entries.
const WRITE: u8 = 1;
const PREPARE: u8 = 2;
const COMMIT: u8 = 3;
const ABORT: u8 = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Entry {
    kind: u8,
    /// Keys of a write; else which transaction.
    arg: u8,
    revision: u8,
}

#[derive(Clone, Copy, Debug, Default, Hash)]
struct Replica {
    applied: u8,
    /// Above this the ring has what is released.
    ring_from: u8,
    /// Changes in memory, by bits of their revisions.
    memory: u8,
    /// Changes up to this may be gone from the index.
    compacted: u8,
    /// The router's session: its version (0: none) and interests.
    version: u8,
    interests: u8,
}

// States of a call.
const FREE: u8 = 0;
const SENT: u8 = 1;
const WAITS: u8 = 2;
const READING: u8 = 3;
const EVENTS: u8 = 4;
const RESYNC: u8 = 5;
const COMPACTED: u8 = 6;
/// The router gave it up; it may still arrive.
const GHOST: u8 = 7;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Call {
    state: u8,
    to: u8,
    /// Version that the changes of interests build on, and the version after them.
    base: u8,
    version: u8,
    /// All interests instead of changes.
    full: bool,
    add: u8,
    remove: u8,
    after: u8,
    /// The mark that is wanted, 0 for none.
    mark: u8,
    // The answer.
    position: u8,
    /// The part of the position that is a frontier.
    frontier: u8,
    /// By bits: twice the revision, + 1 for b.
    events: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Page {
    /// `FREE`, `SENT`, `READING`, `EVENTS`, `COMPACTED`.
    state: u8,
    replica: u8,
    through: u8,
    events: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Phase {
    #[default]
    None,
    Catching,
    Live,
    /// It was told `compacted`.
    Cut,
}

#[derive(Clone, Copy, Debug, Default, Hash)]
struct Watch {
    phase: Phase,
    /// All of its events up to this are in its queue or were read.
    claimed: u8,
    /// Up to this the client has read.
    read: u8,
    /// Version of the interests that first holds its own.
    since: u8,
    full: bool,
    page: Page,
}

/// The router.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Hub {
    position: u8,
    /// The highest frontier among what made the position; the rest of it is marks.
    frontier: u8,
    version: u8,
    interests: u8,
    sent_version: u8,
    sent_interests: u8,
    /// The next call names all interests.
    full: bool,
    first: Phase,
    second: Watch,
}

/// What may still happen, so often.
#[derive(Clone, Copy, Debug, Hash)]
struct Left {
    others: u8,
    changes: u8,
    restarts: u8,
    installs: u8,
    trims: u8,
    compactions: u8,
    timeouts: u8,
    watches: u8,
    marks: u8,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct State {
    bad: u8,
    log: [Entry; LOG],
    length: u8,
    /// The last revision granted, to any group.
    granted: u8,
    /// By transaction: 0 to come, 1 prepared, 2 over; its commit revision.
    txn: [u8; 2],
    commit: [u8; 2],
    replica: [Replica; 2],
    leader: u8,
    calls: [Call; CALLS],
    hub: Hub,
    left: Left,
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Action {
    Log(u8, &'static str, u8),
    OtherGroupTakes(u8),
    CommitRevision(u8),
    Apply {
        replica: u8,
        entry: u8,
        frontier: u8,
    },
    LeaderChange {
        to: u8,
    },
    Restart(u8),
    Install(u8),
    Trim {
        replica: u8,
        ring_from: u8,
    },
    Compact {
        replica: u8,
        at: u8,
    },
    Follow {
        to: u8,
        base: u8,
        version: u8,
        full: bool,
        after: u8,
        mark: u8,
    },
    Arrives {
        at: u8,
        version: u8,
        kept: bool,
    },
    Loads(u8),
    Answer {
        by: u8,
        version: u8,
        position: u8,
        events: String,
    },
    TimeOut,
    HubTakes {
        version: u8,
        position: u8,
    },
    HubDrops,
    HubResyncs,
    WatchComes {
        start: u8,
    },
    WatchGoes,
    AskPage {
        from: u8,
        through: u8,
    },
    AnswerPage {
        by: u8,
        through: u8,
        events: String,
    },
    TakePage,
    GoesLive {
        at: u8,
    },
    ClientReads,
}

const LATE: u8 = 1;
const MISSING: u8 = 2;
const EXTRA: u8 = 3;
const BAD: [&str; 4] = [
    "",
    "an event is applied at or below what a watch was told to be all",
    "a watch misses an event",
    "a watch gets an event twice or out of order",
];

/// Events by bits, as text.
fn listed(events: u16) -> String {
    let bits = (0..16).filter(|bit| events >> bit & 1 == 1);
    let names = bits.map(|bit| format!("{}{}", if bit % 2 == 0 { 'a' } else { 'b' }, bit / 2));
    names.collect::<Vec<_>>().join(" ")
}

impl Model for Feed {
    type State = State;
    type Action = Action;

    fn init(&self) -> State {
        let mut replica = [Replica::default(); 2];
        (replica[0].version, replica[0].interests) = (1, self.first);
        let first = if self.first == 0 {
            Phase::None
        } else {
            Phase::Live
        };
        State {
            bad: 0,
            log: [Entry::default(); LOG],
            length: 0,
            granted: 0,
            txn: [
                if self.txns > 0 { 0 } else { 2 },
                if self.txns > 1 { 0 } else { 2 },
            ],
            commit: [0; 2],
            replica,
            leader: 0,
            calls: [Call::default(); CALLS],
            hub: Hub {
                version: 1,
                interests: self.first,
                sent_version: 1,
                sent_interests: self.first,
                first,
                ..Hub::default()
            },
            left: self.left,
        }
    }

    fn violation(&self, s: &State) -> Option<&'static str> {
        (s.bad != 0).then(|| BAD[usize::from(s.bad)])
    }

    fn terminal(&self, s: &State) -> Option<&'static str> {
        let last = self.frontier(s, s.length);
        if s.hub.first == Phase::Live && s.hub.position < last {
            return Some("the hub stays behind for ever");
        }
        if s.hub.second.phase == Phase::Catching {
            return Some("a watch never goes live");
        }
        if s.hub.second.phase == Phase::Live && s.hub.position < last {
            return Some("a watch stays behind for ever");
        }
        None
    }

    fn next(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.bad != 0 {
            return;
        }
        let before = out.len();
        self.logging(s, out);
        self.replicas(s, out);
        self.calling(s, out);
        self.hub(s, out);
        for (_, n) in &mut out[before..] {
            n.calls.sort_unstable();
        }
    }
}
