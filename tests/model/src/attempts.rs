//! Model G: what names an attempt of a transaction over groups. The coordinator's own Prepare comes first; its
//! revision (or its place in the log) is the name that the participant's Prepare, its yes, Decide, Commit and
//! Abort carry. Decide is the coordinator's commit, applied only while exactly that Prepare stands; the record
//! goes when the participant has confirmed; a participant whose attempt has no record aborts.
//!
//! One coordinator with a log and changes of its leader, one participant, two attempts of one request. Every
//! message stays deliverable for ever.

use crate::case::Expected::*;
use crate::case::{Case, cases};
use crate::checker::Model;

const ATTEMPTS: usize = 2;
const QUEUE: usize = 3;
/// Names are small numbers; sets of them are bits.
type Names = u16;

/// The choices of the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    changes: u8,
    name: Name,
    /// A granted Prepare may be proposed again by a later leader.
    again: bool,
    /// `apply` refuses a Prepare whose revision isn't above the highest applied.
    guard: bool,
    /// Decide needs the very Prepare that it names, else any of the request.
    decide_names: bool,
    /// "No record" is said of what is applied by a leader with its own first entry applied.
    confirmed: bool,
    /// The record of a commit is kept until the participant has confirmed.
    kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// The revision of the coordinator's Prepare.
    Revision,
    /// The place of the coordinator's Prepare in its log.
    Index,
    /// The request: all attempts have one name.
    Request,
}

const RIGHT: Attempts = Attempts {
    changes: 2,
    name: Name::Revision,
    again: true,
    guard: true,
    decide_names: true,
    confirmed: true,
    kept: true,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    None,
    /// With its revision.
    Prepare(u8),
    /// Name and commit revision.
    Decide(u8, u8),
    /// Name.
    Abort(u8),
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct State {
    bad: u8,
    granted: u8,
    /// Revisions of the Prepares, by attempt.
    prepares: [u8; ATTEMPTS],
    queue: [Item; QUEUE],
    changes: u8,
    /// What the new leader hasn't applied yet of what was committed: one entry.
    unread: Item,
    // The coordinator's state.
    highest: u8,
    index: u8,
    prepared: u8,
    committed: u8,
    recorded: u8,
    /// The driver's name and commit revision.
    driver: u8,
    commit: u8,
    // The participant's state.
    locked: u8,
    done: bool,
    // Messages.
    sent: Names,
    yes: Names,
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Action {
    Grant { attempt: usize, revision: u8 },
    Propose(Item),
    Apply(Item),
    LeaderChange { behind: bool },
    LeaderCatchesUp,
    SendPrepare { name: u8 },
    ParticipantPrepares { name: u8 },
    GrantCommit { name: u8, revision: u8 },
    ParticipantCommits { name: u8 },
    ParticipantAborts { name: u8 },
    Forget { name: u8 },
}

const BAD: [&str; 4] = [
    "",
    "half applied: committed without a prepared participant",
    "half applied: a participant aborts what is committed",
    "applied twice",
];

impl Attempts {
    fn name(&self, s: &State, revision: u8) -> u8 {
        match self.name {
            Name::Revision => revision,
            Name::Index => s.index,
            Name::Request => 1,
        }
    }

    fn apply(&self, s: &mut State, item: Item) {
        s.index += 1;
        match item {
            Item::None => {}
            Item::Prepare(revision) => {
                let below = self.guard && revision <= s.highest;
                if s.prepared == 0 && s.committed == 0 && !below {
                    s.prepared = self.name(s, revision);
                    s.highest = s.highest.max(revision);
                }
            }
            Item::Decide(name, revision) => {
                let stands = if self.decide_names {
                    s.prepared == name
                } else {
                    s.prepared != 0
                };
                if stands && s.committed == 0 {
                    if s.locked != name {
                        s.bad = 1;
                    }
                    (s.prepared, s.committed, s.recorded) = (0, name, name);
                    s.highest = s.highest.max(revision);
                }
                (s.driver, s.commit) = (0, 0);
            }
            Item::Abort(name) => {
                if s.prepared == name {
                    s.prepared = 0;
                }
                (s.driver, s.commit) = (0, 0);
            }
        }
    }

    fn propose(s: &State, item: Item) -> Option<State> {
        let place = s.queue.iter().position(|item| *item == Item::None)?;
        let mut n = *s;
        n.queue[place] = item;
        (!s.queue.contains(&item)).then_some(n)
    }

    fn starting(&self, s: &State, out: &mut Vec<(Action, State)>) {
        for attempt in 0..ATTEMPTS {
            let revision = s.prepares[attempt];
            if revision == 0 {
                if attempt == 0 || s.prepares[0] > 0 {
                    let mut n = *s;
                    n.granted += 1;
                    n.prepares[attempt] = n.granted;
                    let item = Item::Prepare(n.granted);
                    let action = Action::Grant {
                        attempt,
                        revision: n.granted,
                    };
                    out.extend(Self::propose(&n, item).map(|n| (action, n)));
                }
            } else if self.again {
                let item = Item::Prepare(revision);
                out.extend(Self::propose(s, item).map(|n| (Action::Propose(item), n)));
            }
        }
    }

    fn log(&self, s: &State, out: &mut Vec<(Action, State)>) {
        let item = s.queue[0];
        if item != Item::None && s.unread == Item::None {
            let mut n = *s;
            n.queue.rotate_left(1);
            n.queue[QUEUE - 1] = Item::None;
            self.apply(&mut n, item);
            out.push((Action::Apply(item), n));
        }
        if s.changes < self.changes && s.unread == Item::None {
            // The first proposal may be committed without being applied by the next leader yet.
            for behind in [false, true] {
                let mut n = *s;
                n.changes += 1;
                n.queue = [Item::None; QUEUE];
                (n.driver, n.commit) = (0, 0);
                if behind {
                    n.unread = item;
                }
                out.push((Action::LeaderChange { behind }, n));
            }
        }
        if s.unread != Item::None {
            let mut n = *s;
            n.unread = Item::None;
            self.apply(&mut n, s.unread);
            out.push((Action::LeaderCatchesUp, n));
        }
    }

    fn driving(&self, s: &State, out: &mut Vec<(Action, State)>) {
        let name = s.prepared;
        if name == 0 {
            return;
        }
        let bit = 1 << name;
        if s.sent & bit == 0 {
            let mut n = *s;
            n.sent |= bit;
            out.push((Action::SendPrepare { name }, n));
        }
        if s.yes & bit != 0 && s.driver != name {
            let mut n = *s;
            n.granted += 1;
            (n.driver, n.commit) = (name, n.granted);
            let revision = n.granted;
            out.push((Action::GrantCommit { name, revision }, n));
        }
        if s.driver == name {
            let item = Item::Decide(name, s.commit);
            out.extend(Self::propose(s, item).map(|n| (Action::Propose(item), n)));
        }
        let item = Item::Abort(name);
        out.extend(Self::propose(s, item).map(|n| (Action::Propose(item), n)));
    }

    fn participant(&self, s: &State, out: &mut Vec<(Action, State)>) {
        // A request that is done is refused: its id is known.
        for name in (1..16).filter(|name| s.sent >> name & 1 == 1) {
            if s.locked == 0 && !s.done {
                let mut n = *s;
                n.locked = name;
                n.yes |= 1 << name;
                out.push((Action::ParticipantPrepares { name }, n));
            }
        }
        let name = s.locked;
        if name == 0 {
            return;
        }
        if s.recorded == name {
            let mut n = *s;
            n.locked = 0;
            if n.done {
                n.bad = 3;
            }
            n.done = true;
            out.push((Action::ParticipantCommits { name }, n));
        } else if s.prepared != name && (s.unread == Item::None || !self.confirmed) {
            let mut n = *s;
            n.locked = 0;
            let decided = matches!(s.unread, Item::Decide(decided, _) if decided == name);
            if s.committed == name || decided {
                n.bad = 2;
            }
            out.push((Action::ParticipantAborts { name }, n));
        }
    }
}

impl Model for Attempts {
    type State = State;
    type Action = Action;

    fn init(&self) -> State {
        State {
            bad: 0,
            granted: 0,
            prepares: [0; ATTEMPTS],
            queue: [Item::None; QUEUE],
            changes: 0,
            unread: Item::None,
            highest: 0,
            index: 0,
            prepared: 0,
            committed: 0,
            recorded: 0,
            driver: 0,
            commit: 0,
            locked: 0,
            done: false,
            sent: 0,
            yes: 0,
        }
    }

    fn next(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.bad != 0 || s.index > 11 || s.granted > 9 {
            return;
        }
        self.starting(s, out);
        self.log(s, out);
        if s.unread == Item::None {
            self.driving(s, out);
        }
        self.participant(s, out);
        if s.recorded != 0 && (s.done || !self.kept) {
            let mut n = *s;
            n.recorded = 0;
            out.push((Action::Forget { name: s.recorded }, n));
        }
        for (_, n) in out {
            if self.name != Name::Index {
                n.index = 0;
            }
        }
    }

    fn violation(&self, s: &State) -> Option<&'static str> {
        (s.bad != 0).then(|| BAD[s.bad as usize])
    }

    fn terminal(&self, s: &State) -> Option<&'static str> {
        let over = s.prepared == 0 && s.locked == 0 && (s.committed == 0 || s.done);
        let bounded = s.index > 11 || s.granted > 9;
        (!over && !bounded).then_some("a transaction stays prepared for ever")
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    cases! {
        "G named by the revision of the coordinator's Prepare": Holds, RIGHT;
        "G named by the place in the coordinator's log": Holds, RIGHT, name = Name::Index, changes = 1;
        "G named by the place in the log, no guard": HoldsSlow, RIGHT, name = Name::Index, guard = false, changes = 1;
        "G named by the revision, no guard, proposed once": Holds, RIGHT, guard = false, again = false;
        "G wrong: named by the revision, no guard, proposed again": Fails("without a prepared participant"), RIGHT, guard = false;
        "G wrong: named by the request": Fails("half applied"), RIGHT, name = Name::Request;
        "G wrong: Decide doesn't name its Prepare": Fails("half applied"), RIGHT, decide_names = false;
        "G wrong: no record, said by a leader that is behind": Fails("aborts what is committed"), RIGHT, confirmed = false;
        "G wrong: record forgotten before it is confirmed": Fails("aborts what is committed"), RIGHT, kept = false;
    }
}
