//! The way through the tree of a transaction.

use caucus_api::limits::{
    KEY_BYTES_MAX, LEASE_TTL_S_MAX, TXN_DEPTH_MAX, TXN_OPERATIONS_MAX, VALUE_BYTES_MAX,
};
use caucus_api::range::prefix_end;
use caucus_api::shard::operation::Operation as Kind;
use caucus_api::shard::{Compare, Operation, Place, Put, Span, Txn};
use caucus_ring::{InvalidVnodeSet, VnodeSet};

use super::locks::Footprint;
use super::sequence;
use crate::state::leases;
use crate::state::published::Routing;

/// An operation that is no transaction, with its number in the whole tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) number: u32,
    pub(crate) operation: &'a Operation,
}

/// Anything in a tree.
enum Node<'a> {
    Compare(&'a Compare),
    Step(Step<'a>),
}

/// Visits a whole tree, both branches, in the order of numbering.
fn visit<'a>(txn: &'a Txn, number: &mut u32, seen: &mut dyn FnMut(Node<'a>)) {
    for compare in &txn.compares {
        seen(Node::Compare(compare));
    }
    for operation in txn.then.iter().chain(&txn.otherwise) {
        match &operation.operation {
            Some(Kind::Txn(inner)) => visit(inner, number, seen),
            Some(
                Kind::Range(_)
                | Kind::Place(_)
                | Kind::Remove(_)
                | Kind::Change(_)
                | Kind::Lease(_)
                | Kind::Sequence(_),
            )
            | None => {
                let step = Step {
                    number: *number,
                    operation,
                };
                *number += 1;
                seen(Node::Step(step));
            }
        }
    }
}

/// All compares of a tree.
pub(crate) fn compares(txn: &Txn) -> Vec<&Compare> {
    let mut compares = Vec::new();
    visit(txn, &mut 0, &mut |node| {
        if let Node::Compare(compare) = node {
            compares.push(compare);
        }
    });
    compares
}

/// All operations of a tree that are no transactions.
pub(crate) fn steps(txn: &Txn) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    visit(txn, &mut 0, &mut |node| {
        if let Node::Step(step) = node {
            steps.push(step);
        }
    });
    steps
}

/// For each transaction of the tree that is reached, in order, whether its compares hold. `held` has one
/// value for each compare of the tree.
pub(crate) fn path(txn: &Txn, held: &[bool]) -> Vec<bool> {
    let mut path = Vec::new();
    walk(txn, held, true, &mut path);
    path
}

/// Goes through a tree, reached or not; what is left of `held` after it.
fn walk<'h>(txn: &Txn, held: &'h [bool], reached: bool, path: &mut Vec<bool>) -> &'h [bool] {
    let (own, mut rest) = held.split_at(txn.compares.len().min(held.len()));
    let holds = own.iter().all(|held| *held);
    if reached {
        path.push(holds);
    }
    for (operations, wanted) in [(&txn.then, true), (&txn.otherwise, false)] {
        for operation in operations {
            if let Some(Kind::Txn(inner)) = &operation.operation {
                rest = walk(inner, rest, reached && holds == wanted, path);
            }
        }
    }
    rest
}

/// The operations on a path, in the order in which they are executed.
pub(crate) fn chosen<'a>(txn: &'a Txn, path: &[bool]) -> Vec<Step<'a>> {
    let mut chosen = Vec::new();
    choose(txn, &mut path.iter(), true, &mut 0, &mut chosen);
    chosen
}

/// Where the tree isn't reached only the numbers go on.
fn choose<'a>(
    txn: &'a Txn,
    path: &mut std::slice::Iter<'_, bool>,
    reached: bool,
    number: &mut u32,
    chosen: &mut Vec<Step<'a>>,
) {
    let holds = reached && path.next().copied().unwrap_or(false);
    for (operations, wanted) in [(&txn.then, true), (&txn.otherwise, false)] {
        let reached = reached && holds == wanted;
        for operation in operations {
            if let Some(Kind::Txn(inner)) = &operation.operation {
                choose(inner, path, reached, number, chosen);
                continue;
            }
            if reached {
                chosen.push(Step {
                    number: *number,
                    operation,
                });
            }
            *number += 1;
        }
    }
}

/// Whether its path depends on what is found.
pub(crate) fn has_compares(txn: &Txn) -> bool {
    !compares(txn).is_empty()
}

/// What a transaction reads and writes, both branches.
pub(crate) fn footprint(txn: &Txn) -> Footprint {
    let mut footprint = Footprint::default();
    visit(txn, &mut 0, &mut |node| {
        let (span, writes) = match node {
            Node::Compare(compare) => (compare.span.as_ref(), false),
            Node::Step(step) => match &step.operation.operation {
                // Also of the past: what is prepared may still commit at a revision that lies there.
                Some(Kind::Range(range)) => (range.span.as_ref(), false),
                Some(Kind::Remove(remove)) => (remove.span.as_ref(), true),
                Some(Kind::Place(place)) => {
                    if let Some(lease) = attaches(place) {
                        footprint.key(&leases::lock_key(lease), false);
                    }
                    return footprint.key(&place.key, true);
                }
                Some(Kind::Change(change)) => return footprint.key(&change.key, true),
                // Which key it will be is known when it is executed.
                Some(Kind::Sequence(sequence)) => {
                    footprint.key(&sequence.counter, true);
                    let end = prefix_end(&sequence.prefix).unwrap_or_default();
                    return footprint.range(&sequence.prefix, &end, true);
                }
                Some(Kind::Lease(step)) => {
                    return footprint.key(&leases::lock_key(step.id), leases::ends_attaching(step));
                }
                Some(Kind::Txn(_)) | None => return,
            },
        };
        match span {
            Some(span) if span.range => footprint.range(&span.start, &span.end, writes),
            Some(span) => footprint.key(&span.start, writes),
            None => {}
        }
    });
    footprint
}

/// All vnodes that a transaction touches: those of its ranges as the sender named them, those of its
/// keys and leases by where they are.
pub(crate) fn vnodes(txn: &Txn, routing: &Routing) -> Result<VnodeSet, InvalidVnodeSet> {
    let mut all = VnodeSet::new();
    let mut invalid = None;
    let mut span = |all: &mut VnodeSet, span: Option<&Span>| match span {
        Some(span) if span.range => match VnodeSet::from_packed(&span.vnodes) {
            Ok(named) => all.union_with(&named),
            Err(error) => invalid = Some(error),
        },
        Some(span) => _ = all.insert(routing.vnode(&span.start)),
        None => {}
    };
    visit(txn, &mut 0, &mut |node| match node {
        Node::Compare(compare) => span(&mut all, compare.span.as_ref()),
        Node::Step(step) => match &step.operation.operation {
            Some(Kind::Range(range)) => span(&mut all, range.span.as_ref()),
            Some(Kind::Remove(remove)) => span(&mut all, remove.span.as_ref()),
            Some(Kind::Place(place)) => _ = all.insert(routing.vnode(&place.key)),
            Some(Kind::Change(change)) => _ = all.insert(routing.vnode(&change.key)),
            Some(Kind::Sequence(sequence)) => _ = all.insert(routing.vnode(&sequence.counter)),
            Some(Kind::Lease(step)) if leases::is_at_home(step) => {
                all.insert(routing.ring.lease_vnode(step.id));
            }
            // Of the group that it is sent to.
            Some(Kind::Lease(_)) => {}
            Some(Kind::Txn(_)) | None => {}
        },
    });
    invalid.map_or(Ok(all), Err)
}

/// Checks a transaction before it may enter a log; whether it may need space.
pub(crate) fn check(
    txn: &Txn,
    is_key: impl Fn(&[u8]) -> bool,
    is_put: impl Fn(&Put) -> bool,
) -> Result<bool, String> {
    if depth(txn) > TXN_DEPTH_MAX {
        return Err(format!(
            "transactions lie at most {TXN_DEPTH_MAX} deep in one another"
        ));
    }
    let (mut nodes, mut bad, mut has_puts) = (0, None, false);
    let mut key = |key: &[u8]| {
        if !is_key(key) {
            bad = Some(format!("a key has 1 to {KEY_BYTES_MAX} bytes"));
        }
    };
    let (mut values, mut bad_lease, mut bad_sequence) = (true, false, false);
    visit(txn, &mut 0, &mut |node| {
        nodes += 1;
        match node {
            Node::Compare(compare) => span_key(compare.span.as_ref(), &mut key),
            Node::Step(step) => match &step.operation.operation {
                Some(Kind::Range(range)) => span_key(range.span.as_ref(), &mut key),
                Some(Kind::Remove(remove)) => span_key(remove.span.as_ref(), &mut key),
                Some(Kind::Place(place)) => {
                    key(&place.key);
                    has_puts = true;
                    values &= place.put.as_ref().is_none_or(&is_put);
                }
                Some(Kind::Change(change)) => {
                    key(&change.key);
                    has_puts = true;
                }
                Some(Kind::Sequence(sequence)) => {
                    key(&sequence.counter);
                    key(&sequence::widest(sequence));
                    has_puts = true;
                    bad_sequence |= !sequence::is_valid(sequence);
                    values &= sequence.put.as_ref().is_none_or(&is_put);
                }
                Some(Kind::Lease(step)) => bad_lease |= !leases::is_valid(step),
                Some(Kind::Txn(_)) | None => key(b""),
            },
        }
    });
    if bad_sequence {
        return Err("a sequence takes at least one number, and its keys are in one directory with its counter".to_owned());
    }
    if bad_lease {
        return Err(format!(
            "a lease has an id other than 0 and lives for 1 to {LEASE_TTL_S_MAX} seconds"
        ));
    }
    if nodes > 2 * TXN_OPERATIONS_MAX {
        return Err(format!(
            "a transaction has at most {TXN_OPERATIONS_MAX} operations and as many compares"
        ));
    }
    if !values {
        return Err(format!("a value has at most {VALUE_BYTES_MAX} bytes"));
    }
    bad.map_or(Ok(has_puts), Err)
}

/// The lease that a key is to be attached to.
fn attaches(place: &Place) -> Option<u64> {
    let lease = place.put.as_ref().map_or(0, |put| put.lease);
    (lease != 0 && !place.keep_lease).then_some(lease)
}

fn span_key(span: Option<&Span>, key: &mut dyn FnMut(&[u8])) {
    match span {
        // A range may begin before all keys.
        Some(span) if span.range => {}
        Some(span) => key(&span.start),
        None => key(b""),
    }
}

fn depth(txn: &Txn) -> usize {
    let operations = txn.then.iter().chain(&txn.otherwise);
    let inner = operations.filter_map(|operation| match &operation.operation {
        Some(Kind::Txn(inner)) => Some(depth(inner)),
        Some(_) | None => None,
    });
    1 + inner.max().unwrap_or(0)
}
