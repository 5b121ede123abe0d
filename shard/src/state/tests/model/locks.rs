//! What is locked: intervals of keys, each compared with each.

use caucus_api::shard::lease_step::Kind;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::{Attempt, Span, Txn};
use caucus_ring::lease_key;

use super::super::super::Refusal;
use super::super::super::txn::Holder;
use super::{Fault, Model};

/// From a key to before another, or without end; and whether it is written.
#[derive(Clone, Debug)]
pub(in super::super) struct Touch {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    pub(in super::super) writes: bool,
}

fn touch(key: &[u8], writes: bool) -> Touch {
    Touch {
        start: key.to_vec(),
        end: Some([key, &[0]].concat()),
        writes,
    }
}

fn stretch(start: &[u8], end: &[u8], writes: bool) -> Touch {
    Touch {
        start: start.to_vec(),
        end: (!end.is_empty()).then(|| end.to_vec()),
        writes,
    }
}

impl Touch {
    fn meets(&self, other: &Touch) -> bool {
        let before =
            |one: &Touch, other: &Touch| one.end.as_ref().is_some_and(|end| *end <= other.start);
        !before(self, other) && !before(other, self)
    }
}

/// The write of one key.
pub(super) fn of_key(key: &[u8]) -> Vec<Touch> {
    vec![touch(key, true)]
}

fn of_span(span: Option<&Span>, writes: bool) -> Option<Touch> {
    let span = span?;
    Some(match span.range {
        true => stretch(&span.start, &span.end, writes),
        false => touch(&span.start, writes),
    })
}

/// All that a tree touches, whichever way it goes.
pub(in super::super) fn all_touched(tree: &Txn) -> Vec<Touch> {
    let mut all: Vec<Touch> = tree
        .compares
        .iter()
        .filter_map(|compare| of_span(compare.span.as_ref(), false))
        .collect();
    for operation in tree.then.iter().chain(&tree.otherwise) {
        match &operation.operation {
            Some(Asked::Range(range)) => all.extend(of_span(range.span.as_ref(), false)),
            Some(Asked::Remove(remove)) => all.extend(of_span(remove.span.as_ref(), true)),
            Some(Asked::Place(place)) => {
                all.push(touch(&place.key, true));
                let lease = place.put.as_ref().map_or(0, |put| put.lease);
                if lease != 0 && !place.keep_lease {
                    all.push(touch(&lease_key(lease), false));
                }
            }
            Some(Asked::Change(change)) => all.push(touch(&change.key, true)),
            Some(Asked::Sequence(sequence)) => {
                all.push(touch(&sequence.counter, true));
                let end = match sequence.prefix.iter().rposition(|byte| *byte < 0xff) {
                    Some(last) => {
                        let mut end = sequence.prefix[..=last].to_vec();
                        end[last] += 1;
                        end
                    }
                    None => Vec::new(),
                };
                all.push(stretch(&sequence.prefix, &end, true));
            }
            Some(Asked::Lease(step)) => {
                let ends = match step.kind() {
                    Kind::Grant | Kind::Begin | Kind::Close | Kind::Drop | Kind::End => true,
                    Kind::Open | Kind::Register | Kind::Checkpoint | Kind::Renew | Kind::None => {
                        false
                    }
                };
                all.push(touch(&lease_key(step.id), ends));
            }
            Some(Asked::Txn(inner)) => all.extend(all_touched(inner)),
            None => {}
        }
    }
    all
}

fn held(attempt: &Attempt) -> Vec<Touch> {
    let prepare = attempt.prepare.as_ref();
    let tree = prepare.and_then(|prepare| prepare.txn.as_ref());
    tree.map_or_else(Vec::new, all_touched)
}

/// The attempt that a read of a key as of a revision, or of now, waits for.
pub(in super::super) fn reads_wait(model: &Model, key: &[u8], at: Option<u64>) -> Option<u64> {
    let read = touch(key, false);
    let mut standing = model
        .attempts
        .values()
        .filter(|attempt| attempt.revision == 0);
    let waits = |attempt: &&Attempt| {
        at.is_none_or(|at| at > attempt.floor)
            && held(attempt)
                .iter()
                .any(|touch| touch.writes && touch.meets(&read))
    };
    standing.find(waits).map(|attempt| attempt.attempt)
}

impl Model {
    /// Whether nothing that is prepared is in the way.
    pub(super) fn unlocked(&self, wanted: &[Touch]) -> Result<(), Refusal> {
        if self.has(Fault::IgnoresLocks) {
            return Ok(());
        }
        let shared = !self.has(Fault::NoSharedLocks);
        let clash = |one: &Touch, other: &Touch| {
            (other.writes || (one.writes && shared)) && one.meets(other)
        };
        for attempt in self.attempts.values().filter(|a| a.revision == 0) {
            let held = held(attempt);
            if wanted
                .iter()
                .any(|one| held.iter().any(|other| clash(one, other)))
            {
                return Err(Refusal::Locked(Holder {
                    attempt: attempt.attempt,
                    age: attempt.age,
                }));
            }
        }
        Ok(())
    }
}
