//! Model M: the end of a lease whose keys are in two groups, without a step of its own over groups: *begin* at home,
//! *close* in each registered group, then ordinary guarded deletes of what is attached, then *end* at home.
//!
//! Time, keepalives and checkpoints are in family E: here a lease begins to end whenever it likes. A group is its
//! state and the messages that were ever sent to it: each may arrive at any time, repeatedly, also from a driver that
//! leads no more; so what is in flight over a change of leader needs nothing of its own. One key a group; other
//! clients overwrite it. The id is granted again after its end: a new incarnation.

use crate::case::Expected::*;
use crate::case::{Case, cases};
use crate::checker::Model;

/// Open records that a group writes at most.
const RECORDS: u8 = 3;

/// What an attach needs to find in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// The very record that its registration named.
    Record,
    /// Any open record of its incarnation.
    Incarnation,
    /// Nothing.
    Registration,
}

/// What guards the delete of an attached key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// The key is attached to this incarnation.
    Incarnation,
    /// The key is attached to a lease of this id.
    Id,
    None,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Revoke {
    /// Per group.
    attaches: u8,
    /// Overwrites by other clients, per group.
    overwrites: u8,
    /// Changes of the home's leader.
    changes: u8,
    /// The id is granted again.
    again: bool,
    needs: Needs,
    guard: Guard,
    /// A close waits for a prepared transaction that attaches.
    close_waits: bool,
    /// The driver reads a group's keys after it is closed (else whenever it likes).
    reads_closed: bool,
    /// That read is linearizable (else of a replica that may be behind).
    reads_now: bool,
    /// It waits for prepared transactions that attach: what they write isn't attached yet.
    reads_wait: bool,
    /// Registrations name the incarnation.
    registers_incarnation: bool,
    /// Home refuses registrations after *begin*.
    begin_refuses: bool,
    /// *end* waits until the driver found all groups empty.
    end_waits: bool,
    /// An open record of an earlier incarnation doesn't replace one of a later.
    open_rises: bool,
}

const RIGHT: Revoke = Revoke {
    attaches: 2,
    overwrites: 1,
    changes: 1,
    again: true,
    needs: Needs::Record,
    guard: Guard::Incarnation,
    close_waits: true,
    reads_closed: true,
    reads_now: true,
    reads_wait: true,
    registers_incarnation: true,
    begin_refuses: true,
    end_waits: true,
    open_rises: true,
};

/// What a key is attached to: an incarnation, or one of these, or nothing.
const ABSENT: u8 = 0;
const FREE: u8 = 3;
const OTHER: u8 = 4;

#[derive(Clone, Copy, Debug, Default, Hash)]
struct Group {
    key: u8,
    /// The record that stands, 0 for none, and the number of records ever written.
    open: u8,
    records: u8,
    /// By record: its incarnation - 1, whether home accepted its registration.
    second: u8,
    accepted: u8,
    /// A prepared transaction that attaches: the incarnation.
    prepared: u8,
    /// Messages, by bits of incarnations: to open, to delete.
    opens: u8,
    deletes: u8,
    attaches: u8,
    overwrites: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Live,
    Begun,
    Ended,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct State {
    bad: u8,
    incarnation: u8,
    life: Life,
    /// Groups registered for the incarnation.
    registered: u8,
    changes: u8,
    /// The driver's memory: groups it knows to be closed, to be empty.
    closed: u8,
    empty: u8,
    groups: [Group; 2],
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Action {
    LooksUp {
        group: usize,
        incarnation: u8,
    },
    Open {
        group: usize,
        incarnation: u8,
        record: u8,
    },
    Register {
        group: usize,
        record: u8,
    },
    Attach {
        group: usize,
        incarnation: u8,
    },
    PrepareAttach {
        group: usize,
        incarnation: u8,
    },
    Decide {
        group: usize,
        commit: bool,
    },
    Overwrite {
        group: usize,
        other_lease: bool,
    },
    Begin,
    NewDriver,
    Close {
        group: usize,
        incarnation: u8,
    },
    ReadKeys {
        group: usize,
        found: bool,
    },
    Delete {
        group: usize,
        incarnation: u8,
    },
    End,
    GrantAgain,
}

const VISIBLE: u8 = 1;
const LATER: u8 = 2;
const OTHERS: u8 = 3;
const BAD: [&str; 4] = [
    "",
    "a key of an ended lease is visible",
    "a key is attached to a lease that ended",
    "a key that isn't attached to the lease is deleted",
];

impl Revoke {
    fn incarnation(group: &Group, record: u8) -> u8 {
        1 + (group.second >> record & 1)
    }

    fn is_over(s: &State, incarnation: u8) -> bool {
        incarnation < s.incarnation || s.life == Life::Ended
    }

    /// Open records and their registrations.
    fn opening(&self, s: &State, g: usize, out: &mut Vec<(Action, State)>) {
        let group = s.groups[g];
        let incarnation = s.incarnation;
        if s.life == Life::Live && group.attaches > 0 && group.opens >> incarnation & 1 == 0 {
            let mut n = *s;
            n.groups[g].opens |= 1 << incarnation;
            out.push((
                Action::LooksUp {
                    group: g,
                    incarnation,
                },
                n,
            ));
        }
        let stands = Self::incarnation(&group, group.open);
        for incarnation in (1..=2).filter(|one| group.opens >> one & 1 == 1) {
            let replaces =
                group.open == 0 || stands < incarnation || stands > incarnation && !self.open_rises;
            if group.records < RECORDS && replaces {
                let mut n = *s;
                let after = &mut n.groups[g];
                after.records += 1;
                after.open = after.records;
                after.second |= (incarnation - 1) << after.open;
                let record = after.open;
                out.push((
                    Action::Open {
                        group: g,
                        incarnation,
                        record,
                    },
                    n,
                ));
            }
        }
        for record in (1..=group.records).filter(|one| group.accepted >> one & 1 == 0) {
            let named = Self::incarnation(&group, record);
            let same = named == s.incarnation || !self.registers_incarnation;
            let takes = match s.life {
                Life::Live => true,
                Life::Begun => !self.begin_refuses,
                Life::Ended => false,
            };
            if same && takes {
                let mut n = *s;
                n.groups[g].accepted |= 1 << record;
                n.registered |= 1 << g;
                out.push((Action::Register { group: g, record }, n));
            }
        }
    }

    /// Puts that attach, alone or in a transaction over groups; and those of others.
    fn writing(&self, s: &State, g: usize, out: &mut Vec<(Action, State)>) {
        let group = s.groups[g];
        if group.prepared > 0 {
            for commit in [false, true] {
                let mut n = *s;
                n.groups[g].prepared = 0;
                if commit {
                    self.attach(&mut n, g, group.prepared);
                }
                out.push((Action::Decide { group: g, commit }, n));
            }
            return;
        }
        if group.attaches > 0 {
            for incarnation in (1..=2).filter(|one| self.may_attach(&group, *one)) {
                let mut n = *s;
                n.groups[g].attaches -= 1;
                self.attach(&mut n, g, incarnation);
                out.push((
                    Action::Attach {
                        group: g,
                        incarnation,
                    },
                    n,
                ));
                let mut n = *s;
                n.groups[g].attaches -= 1;
                n.groups[g].prepared = incarnation;
                out.push((
                    Action::PrepareAttach {
                        group: g,
                        incarnation,
                    },
                    n,
                ));
            }
        }
        if group.overwrites > 0 && matches!(group.key, 1 | 2) {
            for (key, other_lease) in [(FREE, false), (OTHER, true)] {
                let mut n = *s;
                n.groups[g].overwrites -= 1;
                n.groups[g].key = key;
                out.push((
                    Action::Overwrite {
                        group: g,
                        other_lease,
                    },
                    n,
                ));
            }
        }
    }

    /// Whether an attach that was sent after its registration was accepted applies now.
    fn may_attach(&self, group: &Group, incarnation: u8) -> bool {
        let mut records = (1..=group.records).filter(|record| {
            group.accepted >> record & 1 == 1 && Self::incarnation(group, *record) == incarnation
        });
        match self.needs {
            Needs::Record => records.any(|record| record == group.open),
            Needs::Incarnation => {
                let stands = group.open > 0 && Self::incarnation(group, group.open) == incarnation;
                stands && records.next().is_some()
            }
            Needs::Registration => records.next().is_some(),
        }
    }

    fn attach(&self, n: &mut State, g: usize, incarnation: u8) {
        n.groups[g].key = incarnation;
        if Self::is_over(n, incarnation) {
            n.bad = LATER;
        }
    }

    /// Home and its leader, who drives the end.
    fn home(&self, s: &State, out: &mut Vec<(Action, State)>) {
        let mut n = *s;
        match s.life {
            Life::Live => {
                n.life = Life::Begun;
                out.push((Action::Begin, n));
            }
            Life::Begun => {
                let done = s.empty & s.registered == s.registered || !self.end_waits;
                if done && s.closed & s.registered == s.registered {
                    n.life = Life::Ended;
                    (n.closed, n.empty) = (0, 0);
                    if s.groups.iter().any(|group| group.key == s.incarnation) {
                        n.bad = VISIBLE;
                    }
                    out.push((Action::End, n));
                }
            }
            Life::Ended if self.again && s.incarnation == 1 => {
                n.incarnation = 2;
                n.life = Life::Live;
                n.registered = 0;
                out.push((Action::GrantAgain, n));
            }
            Life::Ended => {}
        }
        if s.life == Life::Begun && s.changes > 0 {
            let mut n = *s;
            n.changes -= 1;
            (n.closed, n.empty) = (0, 0);
            out.push((Action::NewDriver, n));
        }
    }

    /// What the driver does in a registered group; its deletes may arrive late.
    fn driving(&self, s: &State, g: usize, out: &mut Vec<(Action, State)>) {
        let (group, incarnation) = (s.groups[g], s.incarnation);
        let registered = s.life == Life::Begun && s.registered >> g & 1 == 1;
        if registered && s.closed >> g & 1 == 0 && (group.prepared == 0 || !self.close_waits) {
            let mut n = *s;
            n.closed |= 1 << g;
            if group.open > 0 && Self::incarnation(&group, group.open) == incarnation {
                n.groups[g].open = 0;
            }
            out.push((
                Action::Close {
                    group: g,
                    incarnation,
                },
                n,
            ));
        }
        let may_read = s.closed >> g & 1 == 1 || !self.reads_closed;
        if registered && may_read && s.empty >> g & 1 == 0 {
            let waits = group.prepared > 0 && self.reads_wait;
            let attached = group.key == incarnation;
            if !waits && attached && group.deletes >> incarnation & 1 == 0 {
                let mut n = *s;
                n.groups[g].deletes |= 1 << incarnation;
                let found = true;
                out.push((Action::ReadKeys { group: g, found }, n));
            }
            if !waits && !attached || !self.reads_now {
                let mut n = *s;
                n.empty |= 1 << g;
                let found = false;
                out.push((Action::ReadKeys { group: g, found }, n));
            }
        }
        for incarnation in (1..=2).filter(|one| group.deletes >> one & 1 == 1) {
            let matches = match self.guard {
                Guard::Incarnation => group.key == incarnation,
                Guard::Id => matches!(group.key, 1 | 2),
                Guard::None => group.key != ABSENT,
            };
            if matches && group.prepared == 0 {
                let mut n = *s;
                n.groups[g].key = ABSENT;
                if group.key != incarnation {
                    n.bad = OTHERS;
                }
                out.push((
                    Action::Delete {
                        group: g,
                        incarnation,
                    },
                    n,
                ));
            }
        }
    }
}

impl Model for Revoke {
    type State = State;
    type Action = Action;

    fn init(&self) -> State {
        let group = Group {
            attaches: self.attaches,
            overwrites: self.overwrites,
            ..Group::default()
        };
        State {
            bad: 0,
            incarnation: 1,
            life: Life::Live,
            registered: 0,
            changes: self.changes,
            closed: 0,
            empty: 0,
            groups: [group; 2],
        }
    }

    fn next(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.bad != 0 {
            return;
        }
        self.home(s, out);
        for g in 0..2 {
            self.opening(s, g, out);
            self.writing(s, g, out);
            self.driving(s, g, out);
        }
    }

    fn violation(&self, s: &State) -> Option<&'static str> {
        (s.bad != 0).then(|| BAD[usize::from(s.bad)])
    }

    fn terminal(&self, s: &State) -> Option<&'static str> {
        (s.life != Life::Ended).then_some("the lease never ends")
    }
}

const SEEN: &str = "a key of an ended lease is visible";
const APPEARS: &str = "a key is attached to a lease that ended";
const DELETED: &str = "a key that isn't attached to the lease is deleted";

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let once = Revoke {
        again: false,
        ..RIGHT
    };
    cases! {
        "M right: attached, overwritten, revoked": Holds, once;
        "M right: the id is granted again": Holds, RIGHT;
        "M right: two drivers' changes": HoldsSlow, RIGHT, changes = 2;
        "M an earlier open record replaces a later one": Holds, RIGHT, open_rises = false;
        "M wrong: an attach needs any open record of its incarnation": Fails(APPEARS), once, needs = Needs::Incarnation;
        "M wrong: an attach needs no open record": Fails(APPEARS), once, needs = Needs::Registration;
        "M closed beside a prepared attach, the read waits": Holds, once, close_waits = false;
        "M closed after prepared attaches, the read doesn't wait": Holds, once, reads_wait = false;
        "M wrong: neither close nor read waits for prepared attaches": Fails(SEEN), once, close_waits = false, reads_wait = false;
        "M wrong: registered after begin": Fails(SEEN), once, begin_refuses = false;
        "M wrong: the driver reads keys before the close": Fails(SEEN), once, reads_closed = false;
        "M wrong: the driver reads a replica that is behind": Fails(SEEN), once, reads_now = false;
        "M wrong: end doesn't wait for the deletes": Fails(SEEN), once, end_waits = false;
        "M wrong: deletes without a guard": Fails(DELETED), once, guard = Guard::None;
        "M wrong: the guard names the id only": Fails(DELETED), RIGHT, guard = Guard::Id;
        "M wrong: registrations don't name the incarnation": Fails(APPEARS), RIGHT, registers_incarnation = false;
    }
}
