//! Model H: de-duplication with a request floor, and a home vnode that moves between two groups. Requests carry
//! a stamp, the revision that was current when they were first sent; a group forgets only entries stamped below
//! its floor, and refuses requests stamped below it.
//!
//! Two requests of one vnode, each sent up to twice; the copies arrive at any time, at either group. A group
//! has applied state and proposals in flight.

use crate::case::Expected::*;
use crate::case::{Case, cases};
use crate::checker::Model;

const REQUESTS: usize = 2;
const QUEUE: usize = 2;

/// The choices of the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests {
    /// Whether the vnode moves from group 0 to group 1, and back.
    moves: u8,
    /// How often a floor rises.
    rises: u8,
    floor: Floor,
    stamp: Stamp,
    /// The home is the vnode of the smallest key; else the map decides, and a router with another map sends
    /// the request to group 1, which owns another of its keys.
    home_by_bytes: bool,
    /// The floor is looked at in `apply`, else when the request arrives.
    in_apply: bool,
    /// Entries move with the vnode before it is owned.
    entries_move: bool,
    /// The target's floor becomes the greater of both.
    floor_moves: bool,
    unknown: Unknown,
}

/// When a refusal means `unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    Never,
    /// If this copy wasn't the first.
    SentBefore,
    /// If another copy was sent, before this one or after it: only the sender knows.
    SentTwice,
}

/// What a floor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Floor {
    /// Below it entries are forgotten and requests refused.
    Refuses,
    /// Below it entries are forgotten.
    Forgets,
    /// At it entries are forgotten too; requests are refused below it.
    OffByOne,
}

/// What a request is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    /// A revision that was current when it was first sent.
    First,
    /// One that was current when this copy was sent.
    Copy,
}

const RIGHT: Requests = Requests {
    moves: 1,
    rises: 2,
    floor: Floor::Refuses,
    stamp: Stamp::First,
    home_by_bytes: true,
    in_apply: true,
    entries_move: true,
    floor_moves: true,
    unknown: Unknown::SentTwice,
};

/// A copy of a request: 0 not sent, else its stamp + 1.
type Copies = [u8; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    None,
    /// Request, stamp, whether it had been sent before.
    Run(u8, u8, bool),
    /// The floor rises to this.
    Floor(u8),
    Freeze,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Group {
    queue: [Item; QUEUE],
    floor: u8,
    /// Requests whose entries are here, by bits, and their stamps.
    known: u8,
    stamps: [u8; REQUESTS],
    /// Whether the vnode is here: 0 no, 1 owned, 2 frozen.
    owns: u8,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct State {
    bad: u8,
    /// The last revision granted.
    granted: u8,
    group: [Group; 2],
    copies: [Copies; REQUESTS],
    sent: [u8; REQUESTS],
    first: [u8; REQUESTS],
    applied: u8,
    /// Requests whose client was told that they didn't run.
    denied: u8,
    rises: u8,
    moves: u8,
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Action {
    Send { request: usize, stamp: u8 },
    Arrives { request: usize, group: usize },
    Apply { group: usize, item: Item },
    FloorRises { group: usize, floor: u8 },
    LeaderChange { group: usize },
    Freeze { group: usize },
    Own { group: usize },
}

const BAD: [&str; 3] = [
    "",
    "applied twice",
    "the client was told that it didn't run, but it did",
];

impl Requests {
    fn run(&self, s: &mut State, g: usize, (request, stamp, before): (u8, u8, bool)) {
        let (bit, group) = (1 << request, &mut s.group[g]);
        let owned = group.owns == 1 || !self.home_by_bytes && g == 1;
        if !owned || group.known & bit != 0 {
            return; // moved, or answered with the outcome
        }
        let refuses = self.floor != Floor::Forgets && self.in_apply;
        if refuses && stamp < group.floor {
            // `expired`: this copy doesn't run; `unknown` if another may have.
            let another = match self.unknown {
                Unknown::Never => false,
                Unknown::SentBefore => before,
                Unknown::SentTwice => s.sent[request as usize] > 1,
            };
            if !another {
                s.denied |= bit;
                if s.applied & bit != 0 {
                    s.bad = 2;
                }
            }
            return;
        }
        if s.applied & bit != 0 {
            s.bad = 1;
        } else if s.denied & bit != 0 {
            s.bad = 2;
        }
        s.applied |= bit;
        s.granted += 1;
        group.known |= bit;
        group.stamps[request as usize] = stamp;
    }

    fn raise(&self, group: &mut Group, floor: u8) {
        group.floor = group.floor.max(floor);
        let last = group.floor + u8::from(self.floor == Floor::OffByOne);
        for request in 0..REQUESTS {
            if group.known >> request & 1 == 1 && group.stamps[request] < last {
                group.known &= !(1 << request);
                group.stamps[request] = 0;
            }
        }
    }

    fn own(&self, s: &mut State, source: usize) {
        let old = s.group[source];
        let target = &mut s.group[1 - source];
        target.owns = 1;
        if self.entries_move {
            target.known = old.known;
            target.stamps = old.stamps;
        }
        let floor = if self.floor_moves { old.floor } else { 0 };
        self.raise(target, floor);
        s.group[source].owns = 0;
        s.group[source].known = 0;
        s.group[source].stamps = [0; REQUESTS];
    }

    fn propose(s: &State, g: usize, item: Item) -> Option<State> {
        let place = s.group[g].queue.iter().position(|i| *i == Item::None)?;
        let mut n = *s;
        n.group[g].queue[place] = item;
        Some(n)
    }

    fn clients(&self, s: &State, out: &mut Vec<(Action, State)>) {
        for request in 0..REQUESTS {
            if s.sent[request] < 2 && s.denied >> request & 1 == 0 {
                let mut n = *s;
                let copy = usize::from(s.sent[request]);
                n.sent[request] += 1;
                if copy == 0 {
                    n.first[request] = s.granted;
                }
                let stamp = match self.stamp {
                    Stamp::First => n.first[request],
                    Stamp::Copy => s.granted,
                };
                n.copies[request][copy] = stamp + 1;
                out.push((Action::Send { request, stamp }, n));
            }
            for copy in (0..2).filter(|copy| s.copies[request][*copy] > 0) {
                let stamp = s.copies[request][copy] - 1;
                let item = Item::Run(request as u8, stamp, copy == 1);
                self.arrive(s, (request, copy), item, out);
            }
        }
    }

    fn arrive(
        &self,
        s: &State,
        (request, copy): (usize, usize),
        item: Item,
        out: &mut Vec<(Action, State)>,
    ) {
        let takes = |g: &usize| s.group[*g].owns == 1 || !self.home_by_bytes && *g == 1;
        for group in (0..2).filter(takes) {
            let mut n = *s;
            let stamp = std::mem::take(&mut n.copies[request][copy]) - 1;
            if !self.in_apply && stamp < s.group[group].floor {
                continue;
            }
            let action = Action::Arrives { request, group };
            out.extend(Self::propose(&n, group, item).map(|n| (action, n)));
        }
    }

    fn group(&self, s: &State, g: usize, out: &mut Vec<(Action, State)>) {
        let item = s.group[g].queue[0];
        if item != Item::None {
            let mut n = *s;
            n.group[g].queue.rotate_left(1);
            n.group[g].queue[QUEUE - 1] = Item::None;
            match item {
                Item::None => {}
                Item::Run(request, stamp, before) => self.run(&mut n, g, (request, stamp, before)),
                Item::Floor(floor) => self.raise(&mut n.group[g], floor),
                Item::Freeze => n.group[g].owns = 2,
            }
            out.push((Action::Apply { group: g, item }, n));
            // What is in flight may be lost with its leader.
            let mut n = *s;
            n.group[g].queue = [Item::None; QUEUE];
            out.push((Action::LeaderChange { group: g }, n));
        }
        if s.rises < self.rises {
            for floor in s.group[g].floor + 1..=s.granted {
                if let Some(mut n) = Self::propose(s, g, Item::Floor(floor)) {
                    n.rises += 1;
                    out.push((Action::FloorRises { group: g, floor }, n));
                }
            }
        }
        if s.group[g].owns == 1 && s.moves < self.moves && !s.group[g].queue.contains(&Item::Freeze)
        {
            let frozen = Self::propose(s, g, Item::Freeze);
            out.extend(frozen.map(|n| (Action::Freeze { group: g }, n)));
        }
        if s.group[g].owns == 2 {
            let mut n = *s;
            n.moves += 1;
            self.own(&mut n, g);
            out.push((Action::Own { group: 1 - g }, n));
        }
    }
}

impl Model for Requests {
    type State = State;
    type Action = Action;

    fn init(&self) -> State {
        let group = |owns| Group {
            queue: [Item::None; QUEUE],
            floor: 0,
            known: 0,
            stamps: [0; REQUESTS],
            owns,
        };
        State {
            bad: 0,
            granted: 0,
            group: [group(1), group(0)],
            copies: [[0; 2]; REQUESTS],
            sent: [0; REQUESTS],
            first: [0; REQUESTS],
            applied: 0,
            denied: 0,
            rises: 0,
            moves: 0,
        }
    }

    fn next(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.bad != 0 {
            return;
        }
        self.clients(s, out);
        for g in 0..2 {
            self.group(s, g, out);
        }
    }

    fn violation(&self, s: &State) -> Option<&'static str> {
        (s.bad != 0).then(|| BAD[s.bad as usize])
    }

    fn terminal(&self, s: &State) -> Option<&'static str> {
        let frozen = s.group.iter().any(|group| group.owns == 2);
        frozen.then_some("a move never ends")
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    cases! {
        "H repaired: a floor, a move": Holds, RIGHT;
        "H repaired: a move there and back": Holds, RIGHT, moves = 2;
        "H wrong: forgets, refuses nothing": Fails("applied twice"), RIGHT, floor = Floor::Forgets, moves = 0;
        "H wrong: forgets at the floor, refuses below it": Fails("applied twice"), RIGHT, floor = Floor::OffByOne, moves = 0;
        "H wrong: a retry has its own stamp": Fails("applied twice"), RIGHT, stamp = Stamp::Copy, moves = 0;
        "H wrong: floor looked at on arrival": Fails("applied twice"), RIGHT, in_apply = false, moves = 0;
        "H wrong: entries don't move": Fails("applied twice"), RIGHT, entries_move = false, rises = 0;
        "H wrong: the map says where the home is": Fails("applied twice"), RIGHT, home_by_bytes = false, rises = 0;
        "H wrong: the floor doesn't move": Fails("applied twice"), RIGHT, floor_moves = false;
        "H wrong: unknown only if this copy wasn't the first": Fails("told that it didn't run"), RIGHT, unknown = Unknown::SentBefore, moves = 0;
        "H wrong: expired taken for not run": Fails("told that it didn't run"), RIGHT, unknown = Unknown::Never, moves = 0;
    }
}
