//! The compares of a transaction.

use std::cmp::Ordering;

use caucus_api::shard::compare::{Relation, Target};
use caucus_api::shard::{Compare, Compared, Record, Txn};

use caucus_planted as planted;

use super::tree;
use super::view::{Trouble, View};
use crate::state::number;

/// What each compare of a tree finds in this group.
pub(crate) fn survey(txn: &Txn, view: &View<'_>) -> Result<Vec<Compared>, Trouble> {
    let compares = tree::compares(txn).into_iter();
    compares.map(|compare| look(compare, view)).collect()
}

fn look(compare: &Compare, view: &View<'_>) -> Result<Compared, Trouble> {
    let Some(span) = &compare.span else {
        return Ok(Compared::default());
    };
    let found = view.collect(span, None, None)?;
    Ok(Compared {
        keys: found.len() as u64,
        failed: !found.values().all(|record| holds_of(compare, record)),
    })
}

/// Whether each compare of a tree holds, after all groups have looked.
pub(crate) fn holds(txn: &Txn, found: &[Compared]) -> Vec<bool> {
    let compares = tree::compares(txn).into_iter().zip(found);
    compares
        .map(|(compare, found)| hold(compare, found))
        .collect()
}

fn hold(compare: &Compare, found: &Compared) -> bool {
    match &compare.target {
        Some(Target::Count(count)) => related(compare.relation(), found.keys.cmp(count)),
        // Nothing has no value to compare with.
        Some(Target::Value(_) | Target::Number(_)) if found.keys == 0 => false,
        Some(_) if found.keys == 0 => holds_of(compare, &Record::default()),
        Some(_) => !found.failed,
        None => false,
    }
}

/// Whether it holds of one record.
fn holds_of(compare: &Compare, record: &Record) -> bool {
    let of = |mine: u64, theirs: i64| {
        let mine = i64::try_from(mine).unwrap_or(i64::MAX);
        related(compare.relation(), mine.cmp(&theirs))
    };
    match &compare.target {
        Some(Target::Version(version)) => of(record.version, *version),
        // Whether there is a key at all is still asked.
        Some(Target::CreateRevision(1..))
            if record.create_revision > 0 && planted::is(planted::FENCING_NOT_COMPARED) =>
        {
            true
        }
        Some(Target::CreateRevision(revision)) => of(record.create_revision, *revision),
        Some(Target::ModRevision(revision)) => of(record.mod_revision, *revision),
        Some(Target::Lease(lease)) => of(record.lease, *lease),
        Some(Target::Value(value)) => related(compare.relation(), record.value.cmp(value)),
        Some(Target::Number(number)) => number::parse(&record.value)
            .is_some_and(|mine| related(compare.relation(), mine.cmp(number))),
        // Asked of the whole span.
        Some(Target::Count(_)) => true,
        None => false,
    }
}

fn related(relation: Relation, ordering: Ordering) -> bool {
    match relation {
        Relation::Equal => ordering.is_eq(),
        Relation::Greater => ordering.is_gt(),
        Relation::Less => ordering.is_lt(),
        Relation::NotEqual => ordering.is_ne(),
    }
}
