//! The oracle's memory: by example, and under random leader changes over a shared log.

use caucus_raft::Position;
use caucus_ring::Revision;
use proptest::prelude::*;

use crate::grants::{Block, EMPTY, Grants, Raise};
use crate::view::Applied;

const STEP: u64 = 100_000;

fn applied(term: u64, ceiling: u64) -> Applied {
    Applied {
        at: Position { term, index: 1 },
        ceiling: Revision(ceiling),
    }
}

/// A memory of `term` that began at `ceiling` and has one step.
fn ready(term: u64, ceiling: u64) -> Grants {
    let mut grants = Grants::default();
    assert!(grants.confirmed(term, || applied(term, ceiling)));
    let raise = grants.raise(0).unwrap();
    let to = ceiling.max(EMPTY) + STEP;
    assert_eq!(raise, Raise { term, to });
    grants.raised(raise);
    grants
}

#[test]
fn the_first_revision_is_two() {
    let mut grants = Grants::default();
    assert_eq!(grants.grant(1), None, "nothing is confirmed");
    assert_eq!(grants.last_granted(), None);
    let mut grants = ready(1, 0);
    assert_eq!(grants.last_granted(), Some(EMPTY));
    assert_eq!(grants.grant(3), Some(Block { first: 2, count: 3 }));
    assert_eq!(grants.grant(1), Some(Block { first: 5, count: 1 }));
    assert_eq!(grants.last_granted(), Some(5));
}

#[test]
fn a_new_term_grants_nothing_below_the_ceiling_it_found() {
    let mut grants = Grants::default();
    assert!(grants.confirmed(2, || applied(2, 500)));
    assert_eq!(grants.grant(1), None, "its own raise isn't applied");
    assert_eq!(grants.last_granted(), Some(500));
    let raise = grants.raise(1).unwrap();
    assert_eq!(grants.raise(1), None, "one at a time");
    grants.raised(raise);
    let first = 501;
    assert_eq!(grants.grant(1), Some(Block { first, count: 1 }));
}

#[test]
fn re_election_keeps_nothing() {
    let mut grants = ready(1, 0);
    grants.grant(10);
    // Deposed and elected again: another term granted under its own ceiling in between.
    assert!(grants.confirmed(3, || applied(3, 900_000)));
    assert_eq!(grants.grant(1), None);
    assert_eq!(grants.last_granted(), Some(900_000));
}

#[test]
fn the_ceiling_is_read_once_a_term() {
    let mut grants = ready(1, 0);
    assert!(grants.confirmed(1, || panic!("read again")));
    assert!(grants.grant(1).is_some());
}

#[test]
fn a_ceiling_of_a_later_term_makes_no_memory() {
    let mut grants = ready(1, 0);
    assert!(!grants.confirmed(2, || applied(3, 900_000)));
    assert_eq!(grants.last_granted(), None);
    assert_eq!(grants.grant(1), None);
    assert_eq!(grants.raise(1), None);
}

#[test]
fn the_limit_rises_only_by_a_raise_of_its_own_term() {
    let mut grants = Grants::default();
    assert!(grants.confirmed(2, || applied(2, 0)));
    let old = Raise {
        term: 1,
        to: EMPTY + STEP,
    };
    grants.raised(old);
    grants.raise_failed(old);
    assert_eq!(grants.grant(1), None);
    let raise = grants.raise(1).unwrap();
    grants.raise_failed(raise);
    assert_eq!(grants.grant(1), None);
    assert_eq!(grants.raise(1), Some(raise), "it is tried again");
}

#[test]
fn the_ceiling_rises_before_it_is_reached() {
    let mut grants = ready(1, 0);
    assert_eq!(grants.raise(0), None);
    grants.grant(STEP as u32 / 2);
    assert_eq!(grants.raise(0), None, "half is left");
    grants.grant(1);
    let raise = grants.raise(0).unwrap();
    assert_eq!(raise.to, EMPTY + STEP / 2 + 1 + STEP);
    // Much was used meanwhile, so the next step is larger.
    grants.grant(40_000);
    grants.raised(raise);
    let raise = grants.raise(STEP).unwrap();
    assert_eq!(raise.to, EMPTY + STEP / 2 + 1 + 40_000 + 400_000);
}

#[test]
fn a_block_larger_than_a_step_is_granted_whole() {
    let mut grants = ready(1, 0);
    let count = 3 * STEP as u32;
    assert_eq!(grants.grant(count), None);
    let raise = grants.raise(count.into()).unwrap();
    grants.raised(raise);
    assert_eq!(grants.grant(count), Some(Block { first: 2, count }));
}

#[test]
fn the_end_of_all_numbers_is_not_passed() {
    let mut grants = Grants::default();
    assert!(grants.confirmed(1, || applied(1, u64::MAX - 1)));
    let raise = grants.raise(2).unwrap();
    assert_eq!(raise.to, u64::MAX);
    grants.raised(raise);
    assert_eq!(grants.grant(2), None);
    let first = u64::MAX;
    assert_eq!(grants.grant(1), Some(Block { first, count: 1 }));
    assert_eq!(grants.raise(1), None);
}

const REPLICAS: usize = 3;

#[derive(Debug, Clone)]
enum Event {
    /// The leader confirms for a question that has just arrived.
    Confirm { count: u32 },
    /// A replica answers what it has confirmed, however long ago.
    Answer { replica: usize },
    /// A raise of the current term is committed.
    Commit,
    /// A replica learns that its raise was applied, or only that nobody knows.
    Learn { replica: usize, known: bool },
    /// A replica applies all that is committed.
    Apply { replica: usize },
    /// Another term; raises under way are in the new leader's log or lost.
    Elect { replica: usize, kept: bool },
    /// A process begins anew.
    Restart { replica: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let replica = 0..REPLICAS;
    let count = prop_oneof![1_u32..50, 40_000_u32..150_000];
    prop_oneof![
        4 => count.prop_map(|count| Event::Confirm { count }),
        4 => replica.clone().prop_map(|replica| Event::Answer { replica }),
        3 => Just(Event::Commit),
        3 => (replica.clone(), any::<bool>()).prop_map(|(replica, known)| Event::Learn { replica, known }),
        2 => replica.clone().prop_map(|replica| Event::Apply { replica }),
        1 => (replica.clone(), any::<bool>()).prop_map(|(replica, kept)| Event::Elect { replica, kept }),
        1 => replica.prop_map(|replica| Event::Restart { replica }),
    ]
}

#[derive(Default)]
struct Replica {
    grants: Grants,
    applied: Option<(u64, u64)>,
    /// Term, time and count of the confirmation that isn't answered yet.
    confirmed: Option<(u64, usize, u32)>,
    raise: Option<(Raise, bool)>,
}

/// What was answered: confirmed at, answered at, first and last revision.
#[derive(Debug, Clone, Copy)]
struct Answered {
    confirmed: usize,
    at: usize,
    first: u64,
    last: u64,
}

struct World {
    replicas: [Replica; REPLICAS],
    term: u64,
    leader: usize,
    ceiling: u64,
    now: usize,
    blocks: Vec<Answered>,
    lasts: Vec<Answered>,
}

impl World {
    fn new() -> World {
        World {
            replicas: Default::default(),
            term: 1,
            leader: 0,
            ceiling: 0,
            now: 0,
            blocks: Vec::new(),
            lasts: Vec::new(),
        }
    }

    fn step(&mut self, event: &Event) {
        self.now += 1;
        match *event {
            Event::Confirm { count } => {
                let (committed, leader) = (self.committed(), &mut self.replicas[self.leader]);
                leader.applied = Some(committed);
                leader.confirmed = Some((self.term, self.now, count));
            }
            Event::Answer { replica } => self.answer(replica),
            Event::Commit => self.commit(|raise, term| raise.term == term),
            Event::Learn { replica, known } => {
                let replica = &mut self.replicas[replica];
                match replica.raise.take() {
                    Some((raise, true)) if known => replica.grants.raised(raise),
                    Some((raise, _)) => replica.grants.raise_failed(raise),
                    None => {}
                }
            }
            Event::Apply { replica } => self.replicas[replica].applied = Some(self.committed()),
            Event::Elect { replica, kept } => {
                self.commit(|raise, term| kept && raise.term == term);
                (self.leader, self.term) = (replica, self.term + 1);
            }
            Event::Restart { replica } => {
                self.replicas[replica] = Replica::default();
                if self.leader == replica {
                    self.term += 1;
                }
            }
        }
    }

    /// All is applied up to an entry of the current term: its blank one at least.
    fn committed(&self) -> (u64, u64) {
        (self.term, self.ceiling)
    }

    fn commit(&mut self, which: impl Fn(&Raise, u64) -> bool) {
        for replica in &mut self.replicas {
            if let Some((raise, committed)) = &mut replica.raise
                && which(raise, self.term)
            {
                *committed = true;
                self.ceiling = self.ceiling.max(raise.to);
            }
        }
    }

    fn answer(&mut self, replica: usize) {
        let replica = &mut self.replicas[replica];
        let (Some((term, confirmed, count)), Some((at, ceiling))) =
            (replica.confirmed.take(), replica.applied)
        else {
            return;
        };
        if !replica.grants.confirmed(term, || applied(at, ceiling)) {
            return;
        }
        let answered = |first, last| Answered {
            confirmed,
            at: self.now,
            first,
            last,
        };
        if let Some(last) = replica.grants.last_granted() {
            self.lasts.push(answered(last, last));
        }
        let missing = match replica.grants.grant(count) {
            Some(block) => {
                let last = block.first + u64::from(block.count) - 1;
                self.blocks.push(answered(block.first, last));
                0
            }
            None => count,
        };
        // A raise of an older term, of which nothing was heard, is given up.
        if let Some(raise) = replica.grants.raise(missing.into()) {
            replica.raise = Some((raise, false));
        }
    }

    fn check(&self) {
        for (index, one) in self.blocks.iter().enumerate() {
            for other in &self.blocks[index + 1..] {
                let apart = one.last < other.first || other.last < one.first;
                assert!(apart, "granted twice: {one:?} {other:?}");
                if one.at < other.confirmed {
                    assert!(one.last < other.first, "went back: {one:?} {other:?}");
                }
            }
        }
        for last in &self.lasts {
            for block in &self.blocks {
                if block.at < last.confirmed {
                    assert!(block.last <= last.last, "missed: {block:?} {last:?}");
                }
                if last.at < block.confirmed {
                    assert!(block.first > last.last, "not the last: {block:?} {last:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn leader_changes_grant_nothing_twice(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in &events {
            world.step(event);
        }
        world.check();
    }
}
