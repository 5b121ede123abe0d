//! The operations of a transaction.

use bytes::Bytes;
use caucus_api::arrange::{enough, part};
use caucus_api::limits::{NUMBER_TYPE, VALUE_BYTES_MAX};
use caucus_api::shard::answer::Answer as Kind;
use caucus_api::shard::change::By;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::{
    Answer, Change, Changed, Item, Place, Placed, Problem, Put, RangeRead, Ranged, Record, Remove,
    Removed, Span, Txn,
};

use super::sequence;
use super::tree::{self, Step};
use super::view::{Trouble, View};
use crate::state::{number, record};

/// What keeps operations of a tree from being executed, wherever its path leads.
pub(crate) fn problems(txn: &Txn, view: &View<'_>) -> Result<Vec<Problem>, caucus_engine::Error> {
    let mut problems = Vec::new();
    for step in tree::steps(txn) {
        match check(&step, view).map_err(|trouble| trouble.of(step.number)) {
            Ok(()) => {}
            Err(Trouble::Engine(error)) => return Err(error),
            Err(Trouble::Problem(problem)) => problems.push(problem),
        }
    }
    Ok(problems)
}

/// The problem to be told of: as in etcd, writes on the path are checked before reads.
pub(crate) fn first_problem<'p>(
    txn: &Txn,
    path: &[bool],
    problems: impl IntoIterator<Item = &'p Problem>,
) -> Option<Problem> {
    let chosen = tree::chosen(txn, path);
    let place = |problem: &Problem| {
        let at = chosen
            .iter()
            .position(|step| step.number == problem.operation)?;
        let asked = &chosen[at].operation.operation;
        Some((
            matches!(asked, Some(Asked::Range(_) | Asked::Remove(_))),
            at,
        ))
    };
    let placed = problems.into_iter();
    let placed = placed.filter_map(|problem| Some((place(problem)?, *problem)));
    placed
        .min_by_key(|(place, _)| *place)
        .map(|(_, problem)| problem)
}

fn check(step: &Step<'_>, view: &View<'_>) -> Result<(), Trouble> {
    match &step.operation.operation {
        Some(Asked::Range(range)) => {
            let at = Some(range.revision).filter(|revision| *revision != 0);
            if let Some(span) = &range.span {
                view.collect(span, at, enough(range))?;
            }
        }
        Some(Asked::Remove(remove)) => {
            if let Some(span) = &remove.span {
                view.collect(span, None, None)?;
            }
        }
        Some(Asked::Place(place)) => {
            if let Some(vnode) = view.mine(&place.key) {
                let old = view.get(vnode, &place.key)?;
                may_put(place, old.as_ref(), view)?;
            }
        }
        Some(Asked::Change(change)) => {
            if let Some(vnode) = view.mine(&change.key) {
                let old = view.get(vnode, &change.key)?;
                changed_value(change, old.as_ref()).map_err(Trouble::problem)?;
            }
        }
        Some(Asked::Sequence(sequence)) => sequence::check(sequence, view)?,
        // Those are made for one group, which finds out when it executes them.
        Some(Asked::Lease(_) | Asked::Txn(_)) | None => {}
    }
    Ok(())
}

/// When the lease was granted that the key will be attached to.
fn may_put(place: &Place, old: Option<&Record>, view: &View<'_>) -> Result<u64, Trouble> {
    if old.is_none() && (place.keep_value || place.keep_lease) {
        return Err(Trouble::problem(ProblemKind::KeyNotFound));
    }
    match (&place.put, old) {
        (_, Some(old)) if place.keep_lease => Ok(old.lease_grant),
        (Some(put), _) => view.may_attach(put),
        (None, _) => Ok(0),
    }
}

/// Executes this group's part of the operations on a path: one answer each, empty for those that are
/// others'. What is written stands in the view.
pub(crate) fn answer(
    txn: &Txn,
    path: &[bool],
    view: &mut View<'_>,
) -> Result<Vec<Answer>, Trouble> {
    let steps = tree::chosen(txn, path).into_iter();
    steps
        .map(|step| execute(&step, view).map_err(|trouble| trouble.of(step.number)))
        .collect()
}

/// The same of a transaction that is decided. Prepare has found no problem, and the locks keep it so, but
/// that a past that was to be read may be compacted since. What is decided is executed in any case, each
/// operation for itself; the answers are then `None`: nobody has them any more.
pub(crate) fn answer_decided(
    txn: &Txn,
    path: &[bool],
    view: &mut View<'_>,
) -> Result<Option<Vec<Answer>>, caucus_engine::Error> {
    let mut answers = Some(Vec::new());
    for step in tree::chosen(txn, path) {
        match execute(&step, view) {
            Ok(answer) => {
                if let Some(answers) = &mut answers {
                    answers.push(answer);
                }
            }
            Err(Trouble::Engine(error)) => return Err(error),
            Err(Trouble::Problem(_)) => answers = None,
        }
    }
    Ok(answers)
}

fn execute(step: &Step<'_>, view: &mut View<'_>) -> Result<Answer, Trouble> {
    let others = |span: &Option<Span>| {
        let key = span.as_ref().filter(|span| !span.range);
        key.is_some_and(|span| view.mine(&span.start).is_none())
    };
    let answer = match &step.operation.operation {
        Some(Asked::Range(range)) if others(&range.span) => None,
        Some(Asked::Remove(remove)) if others(&remove.span) => None,
        Some(Asked::Range(range)) => Some(Kind::Ranged(read(range, view)?)),
        Some(Asked::Place(place)) => put(place, view)?.map(Kind::Placed),
        Some(Asked::Remove(remove)) => Some(Kind::Removed(delete(remove, view)?)),
        Some(Asked::Change(change)) => compute(change, view)?.map(Kind::Changed),
        Some(Asked::Lease(step)) => view.lease(step)?.map(Kind::Lease),
        Some(Asked::Sequence(sequence)) => sequence::place(sequence, view)?.map(Kind::Sequenced),
        Some(Asked::Txn(_)) | None => None,
    };
    Ok(Answer { answer })
}

fn read(range: &RangeRead, view: &View<'_>) -> Result<Ranged, Trouble> {
    let Some(span) = &range.span else {
        return Ok(Ranged::default());
    };
    let at = Some(range.revision).filter(|revision| *revision != 0);
    let found = view.collect(span, at, enough(range))?;
    let count = found.len() as u64;
    let items = found.into_iter().map(|(key, record)| Item {
        key,
        record: Some(record),
    });
    Ok(part(range, items.collect(), count))
}

fn put(place: &Place, view: &mut View<'_>) -> Result<Option<Placed>, Trouble> {
    let Some(vnode) = view.mine(&place.key) else {
        return Ok(None);
    };
    let old = view.get(vnode, &place.key)?;
    let grant = may_put(place, old.as_ref(), view)?;
    let mut put = place.put.clone().unwrap_or_default();
    put.lease_grant = grant;
    if let Some(old) = &old {
        if place.keep_value {
            put.value = old.value.clone();
            put.content_type = old.content_type.clone();
        }
        if place.keep_lease {
            put.lease = old.lease;
        }
    }
    let new = successor(put, old.as_ref(), view.revision);
    view.written.insert(place.key.clone(), Some(new));
    Ok(Some(Placed {
        previous: old.filter(|_| place.previous),
    }))
}

fn delete(remove: &Remove, view: &mut View<'_>) -> Result<Removed, Trouble> {
    let Some(span) = &remove.span else {
        return Ok(Removed::default());
    };
    let mut found = view.collect(span, None, None)?;
    if remove.lease != 0 {
        found.retain(|_, record| {
            record.lease == remove.lease && record.lease_grant == remove.lease_grant
        });
    }
    let count = found.len() as u64;
    for key in found.keys() {
        view.written.insert(key.clone(), None);
    }
    let items = found.into_iter().map(|(key, record)| Item {
        key,
        record: Some(record),
    });
    Ok(Removed {
        count,
        previous: match remove.previous {
            true => items.collect(),
            false => Vec::new(),
        },
    })
}

fn compute(change: &Change, view: &mut View<'_>) -> Result<Option<Changed>, Trouble> {
    let Some(vnode) = view.mine(&change.key) else {
        return Ok(None);
    };
    let old = view.get(vnode, &change.key)?;
    let value = changed_value(change, old.as_ref()).map_err(Trouble::problem)?;
    let content_type = match (&change.by, &old) {
        (Some(By::Append(_)), Some(old)) => old.content_type.clone(),
        (Some(By::Append(_)) | None, _) => String::new(),
        (Some(By::Add(_) | By::Min(_) | By::Max(_)), _) => NUMBER_TYPE.to_owned(),
    };
    let put = Put {
        value,
        content_type,
        lease: old.as_ref().map_or(0, |old| old.lease),
        lease_grant: old.as_ref().map_or(0, |old| old.lease_grant),
        lease_open: 0,
    };
    let new = successor(put, old.as_ref(), view.revision);
    view.written.insert(change.key.clone(), Some(new.clone()));
    Ok(Some(Changed {
        record: Some(new),
        previous: old.filter(|_| change.previous),
    }))
}

fn changed_value(change: &Change, old: Option<&Record>) -> Result<Bytes, ProblemKind> {
    let number = || match old {
        Some(old) => number::parse(&old.value).ok_or(ProblemKind::NotAnInteger),
        None => Ok(0),
    };
    // Unlike a sum, an extreme has no neutral number to begin with.
    let extreme = |of: fn(i64, i64) -> i64, new: i64| match old {
        Some(_) => number().map(|old| number::format(of(old, new))),
        None => Ok(number::format(new)),
    };
    match &change.by {
        Some(By::Add(add)) => {
            let sum = number()?.checked_add(*add);
            sum.map(number::format).ok_or(ProblemKind::Overflow)
        }
        Some(By::Min(new)) => extreme(i64::min, *new),
        Some(By::Max(new)) => extreme(i64::max, *new),
        Some(By::Append(tail)) => {
            let old = old.map_or(&b""[..], |old| &old.value);
            match old.len() + tail.len() > VALUE_BYTES_MAX {
                true => Err(ProblemKind::TooLarge),
                false => Ok([old, tail].concat().into()),
            }
        }
        None => Err(ProblemKind::NotAnInteger),
    }
}

/// The record that a put makes.
pub(super) fn successor(put: Put, old: Option<&Record>, revision: u64) -> Record {
    let created = record::created(revision, put.lease);
    Record {
        create_revision: old.map_or(created, |old| old.create_revision),
        mod_revision: revision,
        version: old.map_or(1, |old| old.version.saturating_add(1)),
        lease: put.lease,
        content_type: put.content_type,
        value: put.value,
        lease_grant: put.lease_grant,
    }
}
