//! Model F: several operations in one entry of a group's log, with consecutive revisions of one block. An
//! operation that `apply` refuses (its key is locked, or its revision isn't above the highest applied) leaves
//! no trace while others of the entry apply, and asks anew.
//!
//! One group with keys x and y; a transaction over groups locks y for a while; writes of other groups and one
//! snapshot read make the order visible.

use crate::case::Expected::*;
use crate::case::{Case, cases};
use crate::checker::Model;

const OPS: usize = 3;
const QUEUE: usize = 2;

/// The operations' keys, and the choices of the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    keys: [u8; OPS],
    /// Changes of the leader.
    changes: u8,
    /// Requests that are sent again while they are under way.
    again: u8,
    refused: Refused,
    /// `apply` refuses what isn't above the highest revision applied.
    guard: bool,
    /// The guard looks once at an entry, at its first revision.
    guard_once: bool,
}

/// What becomes of an operation that meets a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// It waits in the leader, without a revision.
    AsksAnew,
    /// It waits in the leader, with its revision.
    KeepsRevision,
    /// It waits in the state, with its revision.
    Parked,
    /// It asks anew, but the table of requests knows it.
    Remembered,
}

const RIGHT: Entries = Entries {
    keys: [0, 1, 1],
    changes: 1,
    again: 1,
    refused: Refused::AsksAnew,
    guard: true,
    guard_once: false,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    None,
    /// Operations by bits, and the first of their revisions.
    Batch(u8, u8),
    Prepare,
    Commit(u8),
    Abort,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct State {
    bad: u8,
    /// The last revision granted.
    granted: u8,
    /// The highest of what is complete.
    complete: u8,
    /// By operation: what was complete when it began.
    floor: [u8; OPS],
    begun: u8,
    done: u8,
    applied: u8,
    again: u8,
    changes: u8,
    others: u8,
    // The leader.
    waiting: u8,
    /// Refused with a revision that is kept, and the revisions.
    kept: [u8; OPS],
    /// The batch that is asked for; its first revision when it is granted.
    batch: u8,
    block: u8,
    queue: [Item; QUEUE],
    // The state machine.
    highest: u8,
    seen: u8,
    parked: [u8; OPS],
    last: [u8; 2],
    locked: bool,
    /// The transaction: 0 to come, 1 prepared, 2 decided with `commit`, 3 over.
    txn: u8,
    commit: u8,
    /// The snapshot read: 0 to come, 1 has its revision, 2 answered.
    reading: u8,
    read_at: u8,
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Action {
    Arrives(usize),
    SentAgain(usize),
    Ask { batch: u8 },
    Grant { first: u8 },
    Propose(Item),
    ProposeKept { op: usize, revision: u8 },
    Apply(Item),
    LeaderChange,
    Decide { commit: u8 },
    OtherGroupWrites(u8),
    SnapshotTakes(u8),
    SnapshotAnswers,
}

const BAD: [&str; 6] = [
    "",
    "a write of a key is applied below an earlier one",
    "a write is applied below a snapshot already answered",
    "a write's revision is not above what was complete before it began",
    "applied twice",
    "acknowledged, but not applied",
];

fn ops(bits: u8) -> impl Iterator<Item = usize> {
    (0..OPS).filter(move |op| bits >> op & 1 == 1)
}

impl Entries {
    fn write(&self, s: &mut State, key: usize, revision: u8) {
        if revision <= s.last[key] {
            s.bad = 1;
        } else if s.reading == 2 && revision <= s.read_at {
            s.bad = 2;
        }
        s.last[key] = revision;
        s.highest = s.highest.max(revision);
    }

    fn execute(&self, s: &mut State, op: usize, revision: u8) {
        if s.applied >> op & 1 == 1 {
            s.bad = 4;
        }
        self.write(s, self.keys[op] as usize, revision);
        if revision <= s.floor[op] {
            s.bad = 3;
        }
        s.applied |= 1 << op;
        s.seen |= 1 << op;
        self.acknowledge(s, op, revision);
    }

    fn acknowledge(&self, s: &mut State, op: usize, revision: u8) {
        if s.applied >> op & 1 == 0 {
            s.bad = 5;
        }
        s.done |= 1 << op;
        s.waiting &= !(1 << op);
        s.complete = s.complete.max(revision);
    }

    fn apply_batch(&self, s: &mut State, batch: u8, first: u8) {
        let before = s.highest;
        for (place, op) in ops(batch).enumerate() {
            let revision = first + place as u8;
            let below = if self.guard_once {
                first <= before
            } else {
                revision <= s.highest
            };
            if s.seen >> op & 1 == 1 {
                self.acknowledge(s, op, 0);
            } else if self.guard && below {
                s.waiting |= 1 << op;
            } else if s.locked && self.keys[op] == 1 {
                match self.refused {
                    Refused::AsksAnew => s.waiting |= 1 << op,
                    Refused::KeepsRevision => s.kept[op] = revision,
                    Refused::Parked => s.parked[op] = revision,
                    Refused::Remembered => {
                        s.waiting |= 1 << op;
                        s.seen |= 1 << op;
                    }
                }
            } else {
                self.execute(s, op, revision);
            }
        }
    }

    fn unlock(&self, s: &mut State) {
        s.locked = false;
        s.txn = 3;
        for op in 0..OPS {
            let revision = std::mem::take(&mut s.parked[op]);
            if revision > 0 && s.seen >> op & 1 == 0 {
                self.execute(s, op, revision);
            }
        }
    }

    fn apply(&self, s: &mut State, item: Item) {
        match item {
            Item::None => {}
            Item::Batch(batch, first) => self.apply_batch(s, batch, first),
            Item::Prepare => {
                s.txn = 1;
                s.locked = true;
            }
            Item::Commit(revision) => {
                self.write(s, 1, revision);
                s.complete = s.complete.max(revision);
                self.unlock(s);
            }
            Item::Abort => self.unlock(s),
        }
    }

    /// What is asked for, granted or proposed and may become applied at or below the revision.
    fn outstanding(s: &State, revision: u8) -> bool {
        let below = |first: u8| first > 0 && first <= revision;
        below(s.block)
            || s.queue
                .iter()
                .any(|item| matches!(item, Item::Batch(_, first) if below(*first)))
    }

    fn propose(s: &State, item: Item) -> Option<State> {
        let place = s.queue.iter().position(|item| *item == Item::None)?;
        let mut n = *s;
        n.queue[place] = item;
        (!s.queue.contains(&item)).then_some(n)
    }

    fn clients(&self, s: &State, out: &mut Vec<(Action, State)>) {
        let batch = |item: &Item| match item {
            Item::Batch(batch, _) => *batch,
            _ => 0,
        };
        let queued = s.queue.iter().fold(0, |all, item| all | batch(item));
        for op in ops(!s.done & !s.waiting) {
            let bit = 1 << op;
            let under_way = (s.batch | queued) & bit != 0 || s.kept[op] + s.parked[op] > 0;
            let mut n = *s;
            n.waiting |= bit;
            if s.begun & bit == 0 {
                n.begun |= bit;
                n.floor[op] = s.complete;
                out.push((Action::Arrives(op), n));
            } else if !under_way {
                out.push((Action::SentAgain(op), n));
            } else if s.again < self.again {
                n.again += 1;
                out.push((Action::SentAgain(op), n));
            }
        }
        if s.others < 1 {
            let mut n = *s;
            n.others += 1;
            n.granted += 1;
            n.complete = n.granted;
            out.push((Action::OtherGroupWrites(n.granted), n));
        }
        if s.reading == 0 {
            let mut n = *s;
            (n.reading, n.read_at) = (1, s.granted);
            out.push((Action::SnapshotTakes(s.granted), n));
        }
        if s.reading == 1 && !s.locked && !Self::outstanding(s, s.read_at) {
            let mut n = *s;
            n.reading = 2;
            n.complete = n.complete.max(s.read_at);
            out.push((Action::SnapshotAnswers, n));
        }
    }

    fn leader(&self, s: &State, out: &mut Vec<(Action, State)>) {
        // What waits for a lock isn't asked for.
        let ready = ops(s.waiting).filter(|op| !(s.locked && self.keys[*op] == 1));
        let ready = ready.fold(0, |all, op| all | 1 << op);
        let mut n = *s;
        if s.batch == 0 && ready != 0 {
            n.batch = ready;
            n.waiting &= !ready;
            out.push((Action::Ask { batch: ready }, n));
        } else if s.batch != 0 && s.block == 0 {
            n.block = s.granted + 1;
            n.granted += s.batch.count_ones() as u8;
            out.push((Action::Grant { first: n.block }, n));
        } else if s.block != 0 {
            let item = Item::Batch(s.batch, s.block);
            if let Some(mut n) = Self::propose(s, item) {
                (n.batch, n.block) = (0, 0);
                out.push((Action::Propose(item), n));
            }
        }
        for op in (0..OPS).filter(|op| s.kept[*op] > 0 && !s.locked) {
            let revision = s.kept[op];
            if let Some(mut n) = Self::propose(s, Item::Batch(1 << op, revision)) {
                n.kept[op] = 0;
                out.push((Action::ProposeKept { op, revision }, n));
            }
        }
    }

    /// Erases what can't matter any more.
    fn forget(s: &mut State) {
        for op in ops(s.done) {
            s.floor[op] = 0;
        }
        if s.begun == (1 << OPS) - 1 {
            s.complete = 0;
        }
        if s.txn == 3 {
            s.commit = 0;
        }
    }

    fn log(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.queue[0] != Item::None {
            let mut n = *s;
            n.queue.rotate_left(1);
            n.queue[QUEUE - 1] = Item::None;
            self.apply(&mut n, s.queue[0]);
            out.push((Action::Apply(s.queue[0]), n));
        }
        if s.changes < self.changes {
            let mut n = *s;
            n.changes += 1;
            n.queue = [Item::None; QUEUE];
            (n.waiting, n.batch, n.block) = (0, 0, 0);
            n.kept = [0; OPS];
            out.push((Action::LeaderChange, n));
        }
        let next = match s.txn {
            0 => [Item::Prepare, Item::None],
            1 => [Item::Abort, Item::None],
            2 => [Item::Commit(s.commit), Item::None],
            _ => [Item::None; 2],
        };
        for item in next.into_iter().filter(|item| *item != Item::None) {
            let abort_flies = s.queue.contains(&Item::Abort);
            out.extend(Self::propose(s, item).map(|n| (Action::Propose(item), n)));
            if s.txn == 1 && !abort_flies {
                let mut n = *s;
                n.granted += 1;
                (n.txn, n.commit) = (2, n.granted);
                out.push((Action::Decide { commit: n.commit }, n));
            }
        }
    }
}

impl Model for Entries {
    type State = State;
    type Action = Action;

    fn init(&self) -> State {
        State {
            bad: 0,
            granted: 0,
            complete: 0,
            floor: [0; OPS],
            begun: 0,
            done: 0,
            applied: 0,
            again: 0,
            changes: 0,
            others: 0,
            waiting: 0,
            kept: [0; OPS],
            batch: 0,
            block: 0,
            queue: [Item::None; QUEUE],
            highest: 0,
            seen: 0,
            parked: [0; OPS],
            last: [0; 2],
            locked: false,
            txn: 0,
            commit: 0,
            reading: 0,
            read_at: 0,
        }
    }

    fn next(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.bad == 0 {
            self.clients(s, out);
            self.leader(s, out);
            self.log(s, out);
        }
        for (_, n) in out {
            Self::forget(n);
        }
    }

    fn violation(&self, s: &State) -> Option<&'static str> {
        (s.bad != 0).then(|| BAD[s.bad as usize])
    }

    fn terminal(&self, s: &State) -> Option<&'static str> {
        (s.done != (1 << OPS) - 1).then_some("an operation is never executed")
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    cases! {
        "F repaired: entries of several operations": HoldsSlow, RIGHT;
        "F repaired: no change of leader": Holds, RIGHT, changes = 0;
        "F repaired: nothing sent again": Holds, RIGHT, again = 0;
        "F guard looks at an entry's first revision": Holds, RIGHT, guard_once = true, again = 0;
        "F no guard": Fails("below an earlier one"), RIGHT, guard = false;
        "F wrong: refused at a lock, keeps its revision": Fails("below a snapshot"), RIGHT, refused = Refused::KeepsRevision;
        "F wrong: refused at a lock, keeps its revision, no guard": Fails("below an earlier one"), RIGHT, refused = Refused::KeepsRevision, guard = false;
        "F wrong: waits in the state with its revision": Fails("below"), RIGHT, refused = Refused::Parked;
        "F wrong: refused, but remembered": Fails("acknowledged, but not applied"), RIGHT, refused = Refused::Remembered;
    }
}
