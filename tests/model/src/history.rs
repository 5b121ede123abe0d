//! Model J: a read at revision R beside compaction at C. A reader looks at data that a compaction may be
//! deleting; it is told `compacted`, or sees the state at R.
//!
//! Two keys with history, read one page after the other, puts, deletes of one of them, compactions, and a move of both keys
//! to a group that has compacted less or more.

use crate::case::Expected::*;
use crate::case::{Case, cases};
use crate::checker::Model;

const REVISIONS: usize = 4;

/// The choices of the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    compactions: u8,
    moves: bool,
    checks: Checks,
    publishes: Publishes,
    /// The target's compaction floor becomes the greater of both.
    floor_moves: bool,
    /// The newest version at or below C stays.
    keeps_newest: bool,
}

/// When a reader looks at the group's compacted revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    /// After the data of each page.
    After,
    /// Before the data of each page.
    Before,
    /// After the data of the first page only.
    FirstPage,
    Never,
}

/// When a compaction's revision is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Publishes {
    /// Before anything is deleted.
    First,
    /// After all is deleted.
    Last,
}

const RIGHT: History = History {
    compactions: 2,
    moves: true,
    checks: Checks::After,
    publishes: Publishes::First,
    floor_moves: true,
    keeps_newest: true,
};

/// A version: of which key, and whether it is a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Version {
    key: u8,
    put: bool,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Group {
    /// Versions stored, by bits of their revisions.
    stored: u8,
    /// The compacted revision that readers see.
    compacted: u8,
    /// A compaction under way: its revision, and the keys still to be deleted from.
    compacting: u8,
    keys: u8,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct State {
    bad: u8,
    /// All that was ever written, by revision - 1.
    written: [Option<Version>; REVISIONS],
    granted: u8,
    group: [Group; 2],
    owner: u8,
    /// The catalog's compaction revision.
    catalog: u8,
    compactions: u8,
    /// The reader: 0 to come, then twice the page + 1, + 1 when its data is read, 9 over.
    phase: u8,
    read_at: u8,
    /// The revision that was loaded before the page.
    loaded: u8,
    /// What the page saw: the revision of the version, 0 if none is there.
    saw: u8,
    /// The group that the page is read from.
    from: u8,
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Action {
    Write { key: u8, put: bool, revision: u8 },
    Compact { group: usize, at: u8 },
    Delete { group: usize, key: u8 },
    Move,
    ReaderTakes(u8),
    ReaderLoads { compacted: u8 },
    ReaderReads { key: u8, saw: u8 },
    ReaderAnswers { key: u8 },
    ReaderRefuses,
}

impl History {
    /// The newest put of the key at or below the revision among the versions; 0 if there is none, or a delete
    /// is newer.
    fn version(s: &State, stored: u8, key: u8, at: u8) -> u8 {
        let newest = (1..=at).rev().find(|revision| {
            let version = s.written[usize::from(*revision) - 1];
            stored >> revision & 1 == 1 && version.is_some_and(|version| version.key == key)
        });
        let put = |revision: &u8| {
            let version = s.written[usize::from(*revision) - 1];
            version.is_some_and(|version| version.put)
        };
        newest.filter(put).unwrap_or(0)
    }

    fn writing(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if usize::from(s.granted) == REVISIONS {
            return;
        }
        for (key, put) in [(0, true), (0, false), (1, true)] {
            let mut n = *s;
            n.granted += 1;
            let revision = n.granted;
            n.written[usize::from(revision) - 1] = Some(Version { key, put });
            n.group[usize::from(s.owner)].stored |= 1 << revision;
            out.push((Action::Write { key, put, revision }, n));
        }
    }

    fn compacting(&self, s: &State, g: usize, out: &mut Vec<(Action, State)>) {
        let group = s.group[g];
        if group.compacting == 0 {
            // The catalog's revision rises, or a group follows it.
            let first = if s.compactions < self.compactions {
                s.catalog + 1
            } else {
                s.catalog
            };
            let last = if first > s.catalog {
                s.granted
            } else {
                s.catalog
            };
            for at in first.max(group.compacted + 1)..=last {
                let mut n = *s;
                n.compactions += u8::from(at > s.catalog);
                n.catalog = n.catalog.max(at);
                let group = &mut n.group[g];
                (group.compacting, group.keys) = (at, 0b11);
                if self.publishes == Publishes::First {
                    group.compacted = at;
                }
                out.push((Action::Compact { group: g, at }, n));
            }
            return;
        }
        for key in (0..2).filter(|key| group.keys >> key & 1 == 1) {
            let mut n = *s;
            let at = group.compacting;
            let newest = Self::version(s, group.stored, key, at);
            for revision in 1..=at {
                let version = s.written[usize::from(revision) - 1];
                let of_key = version.is_some_and(|version| version.key == key);
                let stays = revision == newest && self.keeps_newest;
                if of_key && !stays {
                    n.group[g].stored &= !(1 << revision);
                }
            }
            n.group[g].keys &= !(1 << key);
            if n.group[g].keys == 0 {
                n.group[g].compacting = 0;
                n.group[g].compacted = n.group[g].compacted.max(at);
            }
            out.push((Action::Delete { group: g, key }, n));
        }
    }

    fn moving(&self, s: &State, out: &mut Vec<(Action, State)>) {
        // Compaction waits while the vnode is frozen.
        if self.moves && s.owner == 0 && s.group.iter().all(|group| group.compacting == 0) {
            let mut n = *s;
            let source = n.group[0];
            n.owner = 1;
            n.group[1].stored = source.stored;
            if self.floor_moves {
                n.group[1].compacted = n.group[1].compacted.max(source.compacted);
            }
            out.push((Action::Move, n));
        }
    }

    fn reading(&self, s: &State, out: &mut Vec<(Action, State)>) {
        let mut n = *s;
        if s.phase == 0 {
            for at in 1..=s.granted {
                (n.phase, n.read_at) = (1, at);
                out.push((Action::ReaderTakes(at), n));
            }
            return;
        }
        if s.phase == 9 {
            return;
        }
        let (page, step) = ((s.phase - 1) / 3, (s.phase - 1) % 3);
        let key = page;
        match step {
            0 => {
                n.from = s.owner;
                n.loaded = s.group[usize::from(s.owner)].compacted;
                n.phase += 1;
                let compacted = n.loaded;
                out.push((Action::ReaderLoads { compacted }, n));
            }
            1 => {
                let group = s.group[usize::from(s.from)];
                n.saw = Self::version(s, group.stored, key, s.read_at);
                n.phase += 1;
                out.push((Action::ReaderReads { key, saw: n.saw }, n));
            }
            _ => {
                let compacted = match self.checks {
                    Checks::After => s.group[usize::from(s.from)].compacted,
                    Checks::FirstPage if page == 0 => s.group[usize::from(s.from)].compacted,
                    Checks::Before => s.loaded,
                    Checks::FirstPage | Checks::Never => 0,
                };
                (n.saw, n.loaded, n.from) = (0, 0, 0);
                if s.read_at < compacted {
                    n.phase = 9;
                    out.push((Action::ReaderRefuses, n));
                    return;
                }
                if s.saw != Self::version(s, u8::MAX, key, s.read_at) {
                    n.bad = 1;
                }
                n.phase = if page == 1 { 9 } else { s.phase + 1 };
                out.push((Action::ReaderAnswers { key }, n));
            }
        }
    }
}

impl Model for History {
    type State = State;
    type Action = Action;

    fn init(&self) -> State {
        let group = Group {
            stored: 0,
            compacted: 0,
            compacting: 0,
            keys: 0,
        };
        State {
            bad: 0,
            written: [None; REVISIONS],
            granted: 0,
            group: [group; 2],
            owner: 0,
            catalog: 0,
            compactions: 0,
            phase: 0,
            read_at: 0,
            loaded: 0,
            saw: 0,
            from: 0,
        }
    }

    fn next(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.bad != 0 {
            return;
        }
        self.writing(s, out);
        for g in 0..2 {
            self.compacting(s, g, out);
        }
        self.moving(s, out);
        self.reading(s, out);
    }

    fn violation(&self, s: &State) -> Option<&'static str> {
        (s.bad != 0).then_some("a read at R isn't the state at R")
    }

    fn terminal(&self, s: &State) -> Option<&'static str> {
        (s.phase != 9).then_some("a read never ends")
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    cases! {
        "J repaired: read at R beside compaction": Holds, RIGHT;
        "J wrong: the reader isn't told": Fails("isn't the state at R"), RIGHT, checks = Checks::Never;
        "J wrong: compacted revision loaded before the data": Fails("isn't the state at R"), RIGHT, checks = Checks::Before;
        "J wrong: compacted revision loaded for the first page": Fails("isn't the state at R"), RIGHT, checks = Checks::FirstPage;
        "J wrong: compacted revision seen after the deletion": Fails("isn't the state at R"), RIGHT, publishes = Publishes::Last;
        "J wrong: the compaction floor doesn't move": Fails("isn't the state at R"), RIGHT, floor_moves = false;
        "J wrong: the newest version at C is deleted": Fails("isn't the state at R"), RIGHT, keeps_newest = false;
    }
}
