//! Model L: marks ("nothing at or below r follows") of two groups, and a watch over both that delivers a revision
//! when both positions reached it.
//!
//! A group is a log of which a part is committed, the leader's applied prefix, its sequencer (one grant asked for
//! or held) and the question it was asked. A change of leader keeps some of the uncommitted entries; the new leader
//! may be behind in applying, and the deposed one may still be asked and answer from what it had. A transaction
//! writes in both groups at one revision, granted after both leaders applied their Prepare.

use crate::case::Expected::*;
use crate::case::{Case, cases};
use crate::checker::Model;

const LOG: usize = 4;

/// The choices of the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    writes: [u8; 2],
    txn: bool,
    changes: [u8; 2],
    /// Questions, per group.
    questions: u8,
    /// What was asked for when the question came must be settled; what was granted; what was in flight.
    asked: bool,
    granted: bool,
    flight: bool,
    /// What a deposed leader had in flight is settled by its fall.
    fallen_settle: bool,
    /// Leadership is confirmed by a round begun after the question.
    confirms: bool,
    /// A new leader's own first entry is applied before.
    first_entry: bool,
    /// Undecided transactions with a floor below the mark make it wait.
    undecided: bool,
    /// All undecided ones do.
    all_undecided: bool,
    /// The watch delivers up to the least position of its groups (else up to the greatest).
    least: bool,
}

const RIGHT: Marks = Marks {
    writes: [1, 0],
    txn: true,
    changes: [1, 0],
    questions: 1,
    asked: true,
    granted: true,
    flight: true,
    fallen_settle: false,
    confirms: true,
    first_entry: true,
    undecided: true,
    all_undecided: false,
    least: true,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Item {
    #[default]
    None,
    Write(u8),
    Prepare,
    Commit(u8),
}

/// The one grant under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Grant {
    #[default]
    None,
    Asked,
    /// The oracle granted it; the leader doesn't know yet.
    Sent(u8),
    Held(u8),
}

#[derive(Clone, Copy, Debug, Default, Hash)]
struct Question {
    /// 0 for none.
    mark: u8,
    confirmed: bool,
    /// The grant that was under way isn't proposed yet.
    pending: bool,
    /// Entries that must be applied.
    until: u8,
}

/// What answers: the leader, or the one before it.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Leader {
    exists: bool,
    applied: u8,
    /// Entries before its own first one, which is applied or not.
    inherited: u8,
    first: bool,
    question: Question,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Group {
    log: [Item; LOG],
    length: u8,
    committed: u8,
    grant: Grant,
    /// The leader, the deposed one.
    leaders: [Leader; 2],
    voted: bool,
    writes: u8,
    changes: u8,
    questions: u8,
    /// The hub's.
    position: u8,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct State {
    bad: u8,
    granted: u8,
    commit: u8,
    groups: [Group; 2],
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Action {
    Ask(usize),
    Grant {
        group: usize,
        revision: u8,
    },
    GrantArrives {
        group: usize,
        revision: u8,
    },
    Propose {
        group: usize,
        entry: String,
    },
    Commit {
        group: usize,
        entry: String,
    },
    Apply {
        group: usize,
        entries: u8,
    },
    FirstEntry(usize),
    CommitRevision(u8),
    LeaderChange {
        group: usize,
        kept: u8,
        applied: u8,
    },
    Question {
        group: usize,
        deposed: bool,
        mark: u8,
    },
    Confirmed(usize),
    Position {
        group: usize,
        deposed: bool,
        position: u8,
    },
    Mark {
        group: usize,
        deposed: bool,
        mark: u8,
    },
}

const LATE: u8 = 1;
const MISSED: u8 = 2;
const BAD: [&str; 3] = [
    "",
    "an event is committed at or below what was delivered",
    "what was delivered lacks an event",
];

impl Marks {
    /// Highest revision, floor of what is undecided, of the first entries.
    fn prefix(group: &Group, first: u8) -> (u8, Option<u8>) {
        let (mut highest, mut floor) = (0, None);
        for item in &group.log[..usize::from(first)] {
            match item {
                Item::None => {}
                Item::Write(revision) => highest = highest.max(*revision),
                Item::Prepare => floor = Some(highest),
                Item::Commit(revision) => {
                    highest = highest.max(*revision);
                    floor = None;
                }
            }
        }
        (highest, floor)
    }

    /// The event of an entry, which `apply` refuses if a write isn't above all before it.
    fn event(group: &Group, index: u8) -> Option<u8> {
        match group.log[usize::from(index)] {
            Item::Write(revision) => (revision > Self::prefix(group, index).0).then_some(revision),
            Item::Commit(revision) => Some(revision),
            Item::None | Item::Prepare => None,
        }
    }

    /// What the watch has delivered of a group.
    fn delivered(&self, s: &State, g: usize) -> u8 {
        let [a, b] = [s.groups[0].position, s.groups[1].position];
        if self.least { a.min(b) } else { a.max(b) }.max(s.groups[g].position)
    }

    fn propose(s: &State, g: usize, entry: Item) -> Option<State> {
        let group = &s.groups[g];
        if usize::from(group.length) == LOG || group.log.contains(&entry) {
            return None;
        }
        let mut n = *s;
        n.groups[g].log[usize::from(group.length)] = entry;
        n.groups[g].length += 1;
        Some(n)
    }

    fn writing(&self, s: &State, g: usize, out: &mut Vec<(Action, State)>) {
        let group = &s.groups[g];
        match group.grant {
            Grant::None if group.writes > 0 => {
                let mut n = *s;
                n.groups[g].writes -= 1;
                n.groups[g].grant = Grant::Asked;
                out.push((Action::Ask(g), n));
            }
            Grant::None => {}
            Grant::Asked => {
                let mut n = *s;
                n.granted += 1;
                n.groups[g].grant = Grant::Sent(n.granted);
                let revision = n.granted;
                out.push((Action::Grant { group: g, revision }, n));
            }
            Grant::Sent(revision) => {
                let mut n = *s;
                n.groups[g].grant = Grant::Held(revision);
                out.push((Action::GrantArrives { group: g, revision }, n));
            }
            Grant::Held(revision) => {
                if let Some(mut n) = Self::propose(s, g, Item::Write(revision)) {
                    let after = &mut n.groups[g];
                    after.grant = Grant::None;
                    let question = &mut after.leaders[0].question;
                    if question.pending {
                        (question.pending, question.until) = (false, after.length);
                    }
                    let entry = format!("write at {revision}");
                    out.push((Action::Propose { group: g, entry }, n));
                }
            }
        }
        if self.txn && !group.log.contains(&Item::Prepare) {
            let entry = "prepare".to_owned();
            let n = Self::propose(s, g, Item::Prepare);
            out.extend(n.map(|n| (Action::Propose { group: g, entry }, n)));
        }
        if s.commit > 0 {
            let entry = format!("commit at {}", s.commit);
            let n = Self::propose(s, g, Item::Commit(s.commit));
            out.extend(n.map(|n| (Action::Propose { group: g, entry }, n)));
        }
    }

    fn committing(&self, s: &State, g: usize, out: &mut Vec<(Action, State)>) {
        let group = &s.groups[g];
        let leader = group.leaders[0];
        if group.committed < group.length {
            let mut n = *s;
            n.groups[g].committed += 1;
            let event = Self::event(group, group.committed);
            if event.is_some_and(|revision| revision <= self.delivered(s, g)) {
                n.bad = LATE;
            }
            let entry = format!("{:?}", group.log[usize::from(group.committed)]);
            out.push((Action::Commit { group: g, entry }, n));
        }
        if leader.applied < group.committed {
            let mut n = *s;
            let applied = leader.applied + 1;
            n.groups[g].leaders[0].applied = applied;
            n.groups[g].voted |= group.log[usize::from(leader.applied)] == Item::Prepare;
            out.push((
                Action::Apply {
                    group: g,
                    entries: applied,
                },
                n,
            ));
        }
        if !leader.first && leader.applied >= leader.inherited {
            let mut n = *s;
            n.groups[g].leaders[0].first = true;
            out.push((Action::FirstEntry(g), n));
        }
        if group.changes == 0 {
            return;
        }
        for kept in group.committed..=group.length {
            for applied in [leader.applied, leader.applied.saturating_sub(1)] {
                let mut n = *s;
                let after = &mut n.groups[g];
                after.changes -= 1;
                after.log[usize::from(kept)..].fill(Item::None);
                after.length = kept;
                after.grant = Grant::None;
                after.leaders[1] = leader;
                if self.fallen_settle {
                    let question = &mut after.leaders[1].question;
                    (question.pending, question.until) = (false, 0);
                }
                after.leaders[0] = Leader {
                    exists: true,
                    applied,
                    inherited: kept,
                    first: false,
                    question: Question::default(),
                };
                out.push((
                    Action::LeaderChange {
                        group: g,
                        kept,
                        applied,
                    },
                    n,
                ));
            }
        }
    }

    /// Questions, of the leader and of the deposed one.
    fn asking(&self, s: &State, g: usize, i: usize, out: &mut Vec<(Action, State)>) {
        let group = &s.groups[g];
        let (leader, deposed) = (&group.leaders[i], i == 1);
        let question = leader.question;
        if question.mark == 0 && group.questions > 0 && s.granted > group.position {
            let mut n = *s;
            let pending = match group.grant {
                Grant::None => false,
                Grant::Asked | Grant::Sent(_) => self.asked,
                Grant::Held(_) => self.granted,
            };
            // Its own proposals: what it inherited is behind its first entry.
            let own = group.length > leader.inherited;
            let until = if self.flight && own && !deposed {
                group.length
            } else {
                0
            };
            let mark = s.granted;
            n.groups[g].questions -= 1;
            n.groups[g].leaders[i].question = Question {
                mark,
                confirmed: false,
                pending: pending && !deposed,
                until,
            };
            out.push((
                Action::Question {
                    group: g,
                    deposed,
                    mark,
                },
                n,
            ));
        }
        if question.mark > 0 && !question.confirmed && !deposed {
            let mut n = *s;
            n.groups[g].leaders[i].question.confirmed = true;
            out.push((Action::Confirmed(g), n));
        }
    }

    /// Positions and marks, of the leader and of the deposed one.
    fn answering(&self, s: &State, g: usize, i: usize, out: &mut Vec<(Action, State)>) {
        let group = &s.groups[g];
        let (leader, deposed) = (&group.leaders[i], i == 1);
        let (highest, floor) = Self::prefix(group, leader.applied);
        let frontier = floor.unwrap_or(highest);
        if frontier > group.position {
            let position = frontier;
            let n = self.answer(s, g, leader.applied, position);
            out.push((
                Action::Position {
                    group: g,
                    deposed,
                    position,
                },
                n,
            ));
        }
        let mark = leader.question.mark;
        if mark > 0 && self.may_mark(leader, floor) {
            let position = frontier.max(mark).max(group.position);
            let mut n = self.answer(s, g, leader.applied, position);
            n.groups[g].leaders[i].question = Question::default();
            out.push((
                Action::Mark {
                    group: g,
                    deposed,
                    mark,
                },
                n,
            ));
        }
    }

    fn may_mark(&self, leader: &Leader, floor: Option<u8>) -> bool {
        let question = leader.question;
        let settled = !question.pending && leader.applied >= question.until;
        let confirmed = question.confirmed || !self.confirms;
        let first = leader.first || !self.first_entry;
        let undecided = floor
            .is_some_and(|floor| self.undecided && floor < question.mark || self.all_undecided);
        settled && confirmed && first && !undecided
    }

    /// The hub's position rises, with the events up to it of who answers.
    fn answer(&self, s: &State, g: usize, applied: u8, position: u8) -> State {
        let mut n = *s;
        n.groups[g].position = position;
        let group = &s.groups[g];
        let lacking = (applied..group.committed).filter_map(|index| Self::event(group, index));
        if lacking
            .into_iter()
            .any(|revision| revision <= position && revision > group.position)
        {
            n.bad = MISSED;
        }
        // The watch delivers what it can: is all of it there?
        for other in 0..2 {
            let group = &n.groups[other];
            let events = (0..group.committed).filter_map(|index| Self::event(group, index));
            let delivered = self.delivered(&n, other);
            let mut torn = events.filter(|revision| *revision > group.position);
            if torn.any(|revision| revision <= delivered) {
                n.bad = MISSED;
            }
        }
        n
    }
}

impl Model for Marks {
    type State = State;
    type Action = Action;

    fn init(&self) -> State {
        let leader = Leader {
            exists: true,
            first: true,
            ..Leader::default()
        };
        let group = |g: usize| Group {
            log: [Item::None; LOG],
            length: 0,
            committed: 0,
            grant: Grant::None,
            leaders: [leader, Leader::default()],
            voted: false,
            writes: self.writes[g],
            changes: self.changes[g],
            questions: self.questions,
            position: 0,
        };
        State {
            bad: 0,
            granted: 0,
            commit: 0,
            groups: [group(0), group(1)],
        }
    }

    fn next(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if s.bad != 0 {
            return;
        }
        for g in 0..2 {
            self.writing(s, g, out);
            self.committing(s, g, out);
            for i in (0..2).filter(|i| s.groups[g].leaders[*i].exists) {
                self.asking(s, g, i, out);
                self.answering(s, g, i, out);
            }
        }
        if s.commit == 0 && s.groups.iter().all(|group| group.voted) {
            let mut n = *s;
            n.granted += 1;
            n.commit = n.granted;
            out.push((Action::CommitRevision(n.commit), n));
        }
    }

    fn violation(&self, s: &State) -> Option<&'static str> {
        (s.bad != 0).then(|| BAD[usize::from(s.bad)])
    }

    fn terminal(&self, s: &State) -> Option<&'static str> {
        let behind = |group: &Group| {
            let (highest, floor) = Self::prefix(group, group.leaders[0].applied);
            floor.unwrap_or(highest) > group.position
        };
        if s.groups.iter().any(behind) {
            return Some("an event is never delivered");
        }
        let unanswered = |group: &Group| group.leaders[0].question.mark > 0;
        s.groups
            .iter()
            .any(unanswered)
            .then_some("a question is never answered")
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let late = "an event is committed at or below";
    let lacks = "what was delivered lacks an event";
    let alone = Marks {
        txn: false,
        writes: [2, 1],
        questions: 2,
        ..RIGHT
    };
    cases! {
        "L right: writes": Holds, alone;
        "L right: transaction, a write": Holds, RIGHT;
        "L right: transaction, a write in each group": HoldsSlow, RIGHT, writes = [1, 1];
        "L right: transaction, leaders change in both": HoldsSlow, RIGHT, changes = [1, 1];
        "L every undecided transaction makes a mark wait": Holds, RIGHT, changes = [0, 0], all_undecided = true;
        "L wrong: asked-for doesn't count": Fails(late), alone, asked = false;
        "L wrong: granted doesn't count": Fails(late), alone, granted = false;
        "L wrong: in flight doesn't count": Fails(late), alone, flight = false;
        "L wrong: a fall settles what is in flight": Fails(late), alone, fallen_settle = true;
        "L wrong: no round after the question": Fails(lacks), alone, confirms = false;
        "L wrong: a new leader marks before its first entry is applied": Fails(late), alone, first_entry = false;
        "L wrong: undecided transactions don't count": Fails(late), RIGHT, undecided = false;
        "L wrong: delivered up to the greatest position": Fails(late), RIGHT, least = false;
    }
}
