//! Model I: transactions over two groups with range reads and deletes, compares and branches. Prepare evaluates
//! the compares of its group and takes locks: shared for ranges compared or read, exclusive for what *any*
//! branch writes or deletes; both also for keys of a range that don't exist. Decide carries the path, found
//! from all compares before any write.
//!
//! Two keys in each of two groups, two transactions, plain writes and deletes between, a snapshot read.

use crate::case::Expected::*;
use crate::case::{Case, cases};
use crate::checker::Model;

const TXNS: usize = 2;
const KEYS: usize = 4;
const WRITES: usize = 2;
/// Keys by bits: 0 and 1 in group 0, 2 and 3 in group 1.
type Keys = u8;
const GROUP: [Keys; 2] = [0b0011, 0b1100];

/// One way through a transaction: ranges read, ranges deleted, keys put.
#[derive(Clone, Copy, Debug, Default)]
struct Branch {
    read: Keys,
    delete: Keys,
    put: Keys,
}

/// If no key of the range exists, `then`, else `otherwise`.
#[derive(Clone, Copy, Debug, Default)]
struct Txn {
    compare: Keys,
    then: Branch,
    otherwise: Branch,
}

/// The transactions, the keys that exist at first, the plain writes, and the choices of the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranges {
    txns: [Txn; TXNS],
    exist: Keys,
    /// Puts by bits, deletes by bits; each once.
    plain: [Keys; WRITES],
    snapshot: bool,
    /// Locks hold for the keys of a range that don't exist, too.
    range_locks: bool,
    branches: Branches,
    /// Reads and compares take locks.
    shared: bool,
    /// Exclusive locks stop snapshot reads.
    stops_reads: bool,
    /// The path is found before any write; else each group finds its own at its commit.
    path_first: bool,
}

/// Which branches a Prepare locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Branches {
    Both,
    /// The one that is taken as long as nothing changes.
    Expected,
    Then,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Progress {
    /// 0 to come, 1 prepared in group 0, 2 in both, 3 has its revision, 4 decided: group 0 has committed, 5
    /// over, 6 aborting.
    phase: u8,
    /// The revision of the commit.
    at: u8,
    /// Whether the compare held at Prepare, and the path that group 0 took.
    holds: bool,
    took: bool,
    /// Locks: shared, exclusive.
    locks: [Keys; 2],
    /// What the ranges held when they were read.
    saw: [Seen; 2],
    aborted: bool,
}

/// The last revision of each key as a transaction saw it.
type Seen = [u8; KEYS];

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct State {
    bad: u8,
    granted: u8,
    exist: Keys,
    /// The last revision of each key, of a put or a delete.
    last: [u8; KEYS],
    highest: [u8; 2],
    txns: [Progress; TXNS],
    /// Plain writes that came, and the grants they hold (by key).
    came: [Keys; WRITES],
    held: [[u8; KEYS]; WRITES],
    /// Snapshot: 0 to come, 1 has its revision, then the groups that answered by bits, above.
    reading: u8,
    read_at: u8,
    answered: u8,
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Action {
    Prepare {
        txn: usize,
        group: usize,
    },
    GrantCommit {
        txn: usize,
        revision: u8,
    },
    Commit {
        txn: usize,
        group: usize,
        path: bool,
    },
    Abort {
        txn: usize,
    },
    Grant {
        delete: bool,
        key: usize,
        revision: u8,
    },
    Apply {
        delete: bool,
        key: usize,
        refused: bool,
    },
    SnapshotTakes(u8),
    SnapshotReads {
        group: usize,
    },
}

const BAD: [&str; 5] = [
    "",
    "a write of a key is applied below an earlier one",
    "what a transaction saw changed before its commit",
    "the groups took different branches",
    "a write is applied below a snapshot already answered",
];

fn keys(of: Keys) -> impl Iterator<Item = usize> {
    (0..KEYS).filter(move |key| of >> key & 1 == 1)
}

impl Ranges {
    fn write(&self, s: &mut State, key: usize, put: bool, revision: u8) {
        let group = key / 2;
        if revision <= s.last[key] {
            s.bad = 1;
        } else if s.answered >> group & 1 == 1 && revision <= s.read_at {
            s.bad = 4;
        }
        s.last[key] = revision;
        s.highest[group] = s.highest[group].max(revision);
        s.exist &= !(1 << key);
        s.exist |= u8::from(put) << key;
    }

    /// The branches that a Prepare in the group locks.
    fn locked_branches(&self, txn: Txn, holds: bool) -> [Branch; 2] {
        match self.branches {
            Branches::Both => [txn.then, txn.otherwise],
            Branches::Then => [txn.then; 2],
            Branches::Expected => [if holds { txn.then } else { txn.otherwise }; 2],
        }
    }

    fn prepare(&self, s: &State, t: usize, group: usize) -> Option<State> {
        let txn = self.txns[t];
        let mine = GROUP[group];
        let mut n = *s;
        let now = &mut n.txns[t];
        if txn.compare & mine != 0 {
            now.holds = s.exist & txn.compare & mine == 0;
        }
        let branches = self.locked_branches(txn, now.holds);
        let there = if self.range_locks {
            mine
        } else {
            mine & s.exist
        };
        let mut shared = (txn.compare | branches[0].read | branches[1].read) & there;
        if !self.shared {
            shared = 0;
        }
        let deletes = (branches[0].delete | branches[1].delete) & there;
        let exclusive = deletes | (branches[0].put | branches[1].put) & mine;
        let [theirs, writes] = self.locks(s, t);
        if exclusive & (theirs | writes) != 0 || shared & writes != 0 {
            return None;
        }
        now.locks[0] |= shared;
        now.locks[1] |= exclusive;
        now.saw[group] = s.last;
        now.phase = 1 + group as u8;
        Some(n)
    }

    /// What others than the transaction hold: shared, exclusive.
    fn locks(&self, s: &State, but: usize) -> [Keys; 2] {
        let others = (0..TXNS).filter(|t| *t != but).map(|t| s.txns[t].locks);
        others.fold([0; 2], |all, one| [all[0] | one[0], all[1] | one[1]])
    }

    fn commit(&self, s: &mut State, t: usize, group: usize) -> bool {
        let (txn, mine, now) = (self.txns[t], GROUP[group], s.txns[t]);
        let path = if self.path_first {
            now.holds
        } else {
            s.exist & txn.compare == 0
        };
        if group == 0 {
            s.txns[t].took = path;
        } else if path != now.took {
            s.bad = 3;
        }
        let branch = if path { txn.then } else { txn.otherwise };
        // All that it saw is as it was: no key of a range came, changed or went.
        for key in keys((txn.compare | branch.read | branch.delete) & mine) {
            if s.last[key] != now.saw[group][key] {
                s.bad = 2;
            }
        }
        let deleted = branch.delete & s.exist & !branch.put;
        for key in keys((deleted | branch.put) & mine) {
            self.write(s, key, branch.put >> key & 1 == 1, now.at);
        }
        s.highest[group] = s.highest[group].max(now.at);
        let now = &mut s.txns[t];
        now.locks[0] &= !mine;
        now.locks[1] &= !mine;
        now.saw[group] = [0; KEYS];
        now.phase += 1;
        path
    }

    /// Dense revisions, so that states that differ in nothing else are one.
    fn renumber(s: &mut State) {
        let mut used = 1_u64;
        Self::revisions(s, |revision| used |= 1 << *revision);
        let dense = |revision: u8| (used & ((1_u64 << revision) - 1)).count_ones() as u8;
        Self::revisions(s, |revision| *revision = dense(*revision));
        s.granted = used.count_ones() as u8 - 1;
    }

    fn revisions(s: &mut State, mut each: impl FnMut(&mut u8)) {
        each(&mut s.read_at);
        s.last.iter_mut().for_each(&mut each);
        s.highest.iter_mut().for_each(&mut each);
        s.held.iter_mut().flatten().for_each(&mut each);
        for txn in &mut s.txns {
            if txn.phase == 5 {
                *txn = Progress {
                    phase: 5,
                    aborted: true,
                    ..IDLE
                };
            }
            each(&mut txn.at);
            txn.saw.iter_mut().flatten().for_each(&mut each);
        }
    }

    fn txn(&self, s: &State, t: usize, out: &mut Vec<(Action, State)>) {
        let phase = s.txns[t].phase;
        let mut n = *s;
        match phase {
            0 | 1 => {
                let group = usize::from(phase);
                let prepared = self.prepare(s, t, group);
                out.extend(prepared.map(|n| (Action::Prepare { txn: t, group }, n)));
            }
            2 => {
                n.granted += 1;
                (n.txns[t].at, n.txns[t].phase) = (n.granted, 3);
                let revision = n.granted;
                out.push((Action::GrantCommit { txn: t, revision }, n));
            }
            3 | 4 => {
                let group = usize::from(phase - 3);
                let path = self.commit(&mut n, t, group);
                let action = Action::Commit {
                    txn: t,
                    group,
                    path,
                };
                out.push((action, n));
            }
            _ => {}
        }
        if (1..4).contains(&phase) && !s.txns[t].aborted {
            let mut n = *s;
            n.txns[t] = Progress {
                aborted: true,
                ..IDLE
            };
            out.push((Action::Abort { txn: t }, n));
        }
    }

    fn plain(&self, s: &State, delete: bool, out: &mut Vec<(Action, State)>) {
        let kind = usize::from(delete);
        let [shared, exclusive] = self.locks(s, TXNS);
        for key in keys(self.plain[kind]) {
            let bit = 1 << key;
            let revision = s.held[kind][key];
            let locked = (shared | exclusive) & bit != 0;
            let mut n = *s;
            if revision == 0 && s.came[kind] & bit == 0 && !locked {
                n.granted += 1;
                n.held[kind][key] = n.granted;
                n.came[kind] |= bit;
                let revision = n.granted;
                let action = Action::Grant {
                    delete,
                    key,
                    revision,
                };
                out.push((action, n));
            }
            if revision > 0 {
                let refused = revision <= s.highest[key / 2] || locked;
                n.held[kind][key] = 0;
                if refused {
                    // It asks anew.
                    n.came[kind] &= !bit;
                } else {
                    self.write(&mut n, key, !delete, revision);
                }
                let action = Action::Apply {
                    delete,
                    key,
                    refused,
                };
                out.push((action, n));
            }
        }
    }

    fn snapshot(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.reading == 0 {
            let mut n = *s;
            (n.reading, n.read_at) = (1, s.granted);
            out.push((Action::SnapshotTakes(s.granted), n));
            return;
        }
        let [_, exclusive] = self.locks(s, TXNS);
        let held = |group: usize| {
            let held = s.held.iter().flat_map(|held| &held[2 * group..][..2]);
            held.into_iter()
                .any(|revision| (1..=s.read_at).contains(revision))
        };
        for group in (0..2).filter(|group| s.answered >> group & 1 == 0) {
            let locked = self.stops_reads && exclusive & GROUP[group] != 0;
            if !locked && !held(group) {
                let mut n = *s;
                n.answered |= 1 << group;
                out.push((Action::SnapshotReads { group }, n));
            }
        }
    }
}

const IDLE: Progress = Progress {
    phase: 0,
    at: 0,
    holds: true,
    took: false,
    locks: [0; 2],
    saw: [[0; KEYS]; 2],
    aborted: false,
};

impl Model for Ranges {
    type State = State;
    type Action = Action;

    fn init(&self) -> State {
        State {
            bad: 0,
            granted: 0,
            exist: self.exist,
            last: [0; KEYS],
            highest: [0; 2],
            txns: [IDLE; TXNS],
            came: [0; WRITES],
            held: [[0; KEYS]; WRITES],
            reading: 0,
            read_at: 0,
            answered: 0,
        }
    }

    fn next(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.bad != 0 {
            return;
        }
        for t in 0..TXNS {
            self.txn(s, t, out);
        }
        self.plain(s, false, out);
        self.plain(s, true, out);
        if self.snapshot {
            self.snapshot(s, out);
        }
        for (_, n) in out {
            Self::renumber(n);
        }
    }

    fn violation(&self, s: &State) -> Option<&'static str> {
        (s.bad != 0).then(|| BAD[s.bad as usize])
    }

    fn terminal(&self, s: &State) -> Option<&'static str> {
        let over = s.txns.iter().all(|txn| txn.phase == 5);
        (!over).then_some("a transaction never ends")
    }
}

const NONE: Branch = Branch {
    read: 0,
    delete: 0,
    put: 0,
};

/// If nothing is in group 0: puts key 0 and reads group 1. Else: deletes group 1 and puts key 1.
const FIRST: Txn = Txn {
    compare: 0b0011,
    then: Branch {
        read: 0b1100,
        put: 0b0001,
        ..NONE
    },
    otherwise: Branch {
        delete: 0b1100,
        put: 0b0010,
        ..NONE
    },
};

/// If nothing is in group 1: puts key 2 and reads group 0. Else: deletes group 0.
const SECOND: Txn = Txn {
    compare: 0b1100,
    then: Branch {
        read: 0b0011,
        put: 0b0100,
        ..NONE
    },
    otherwise: Branch {
        delete: 0b0011,
        ..NONE
    },
};

/// If nothing is in group 1: puts key 2. Else: deletes group 0. What one branch touches, the other doesn't.
const APART: Txn = Txn {
    compare: 0b1100,
    then: Branch {
        put: 0b0100,
        ..NONE
    },
    otherwise: Branch {
        delete: 0b0011,
        ..NONE
    },
};

const RIGHT: Ranges = Ranges {
    txns: [FIRST, SECOND],
    exist: 0b1000,
    plain: [0b0010, 0b1000],
    snapshot: true,
    range_locks: true,
    branches: Branches::Both,
    shared: true,
    stops_reads: true,
    path_first: true,
};

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    cases! {
        "I repaired: ranges and branches": Holds, RIGHT;
        "I repaired: four plain writes": Holds, RIGHT, exist = 0b1001, plain = [0b0110, 0b1001];
        "I repaired: branches apart": Holds, RIGHT, txns = [APART, FIRST], plain = [0b0010, 0b1001];
        "I repaired: empty at first": Holds, RIGHT, exist = 0, plain = [0b1010, 0b0010];
        "I wrong: only keys that exist are locked": Fails("what a transaction saw changed"), RIGHT, range_locks = false;
        "I wrong: only `then` is locked": Fails("what a transaction saw changed"), RIGHT, branches = Branches::Then, txns = [APART, FIRST], snapshot = false;
        "I wrong: only `then` is locked, snapshot": Fails("below a snapshot"), RIGHT, branches = Branches::Then, exist = 0b0001, plain = [0, 0];
        "I wrong: only the expected branch is locked": Fails("what a transaction saw changed"), RIGHT, branches = Branches::Expected, txns = [APART, FIRST], snapshot = false;
        "I wrong: compares and reads don't lock": Fails("what a transaction saw changed"), RIGHT, shared = false;
        "I wrong: exclusive locks don't stop reads": Fails("below a snapshot"), RIGHT, stops_reads = false;
        "I wrong: compares after the first write": Fails("different branches"), RIGHT, path_first = false;
    }
}
