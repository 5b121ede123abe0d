//! The parts that groups give to one answer.

use bytes::Bytes;
use caucus_api::arrange::arrange;
use caucus_api::shard::answer::Answer as Kind;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::{Answer, Compared, Part, Placed, Removed, Txn};

use super::tree;

/// What all groups together found of each compare.
pub(crate) fn merge_parts<'p>(parts: impl IntoIterator<Item = &'p Part>) -> Vec<Compared> {
    let mut all: Vec<Compared> = Vec::new();
    for part in parts {
        all.resize(all.len().max(part.compared.len()), Compared::default());
        for (sum, found) in all.iter_mut().zip(&part.compared) {
            sum.keys += found.keys;
            sum.failed |= found.failed;
        }
    }
    all
}

/// One answer for each operation on a path, from the answers of all groups.
pub(crate) fn merge_answers(txn: &Txn, path: &[bool], parts: Vec<Vec<Answer>>) -> Vec<Answer> {
    let steps = tree::chosen(txn, path);
    let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
    let answers = steps.into_iter().map(|step| {
        let answers = parts.iter_mut().filter_map(Iterator::next);
        let kinds: Vec<Kind> = answers.filter_map(|answer| answer.answer).collect();
        Answer {
            answer: merge(step.operation.operation.as_ref(), kinds),
        }
    });
    answers.collect()
}

/// All answers, if those of one group say them: where only others have a part in an operation, it must
/// be one that is always answered the same.
pub(crate) fn known(txn: &Txn, path: &[bool], own: &[Answer]) -> Option<Vec<Answer>> {
    let steps = tree::chosen(txn, path);
    let answers = steps.iter().zip(own).map(|(step, own)| {
        let is_whole = match &step.operation.operation {
            Some(Asked::Place(place)) if own.answer.is_none() => {
                let answer = Some(Kind::Placed(Placed::default()));
                return (!place.previous).then_some(Answer { answer });
            }
            Some(Asked::Place(_) | Asked::Change(_) | Asked::Lease(_) | Asked::Sequence(_)) => true,
            Some(Asked::Remove(remove)) => remove.span.as_ref().is_some_and(|span| !span.range),
            Some(Asked::Range(range)) => range.span.as_ref().is_some_and(|span| !span.range),
            Some(Asked::Txn(_)) | None => false,
        };
        let parts = own.answer.iter().cloned().collect();
        let answer = merge(step.operation.operation.as_ref(), parts);
        (is_whole && own.answer.is_some()).then_some(Answer { answer })
    });
    let answers: Option<Vec<Answer>> = answers.collect();
    answers.filter(|answers| answers.len() == steps.len())
}

fn merge(asked: Option<&Asked>, kinds: Vec<Kind>) -> Option<Kind> {
    match asked {
        Some(Asked::Range(range)) => {
            let (mut items, mut count, mut more) = (Vec::new(), 0, false);
            for kind in kinds {
                if let Kind::Ranged(ranged) = kind {
                    items.extend(ranged.items);
                    count += ranged.count;
                    more |= ranged.more;
                }
            }
            let mut ranged = arrange(range, items, count);
            ranged.more |= more;
            if range.keys_only {
                // Only now: the order may have been that of the values.
                let records = ranged
                    .items
                    .iter_mut()
                    .filter_map(|item| item.record.as_mut());
                records.for_each(|record| record.value = Bytes::new());
            }
            Some(Kind::Ranged(ranged))
        }
        Some(Asked::Remove(_)) => {
            let mut all = Removed::default();
            for kind in kinds {
                if let Kind::Removed(removed) = kind {
                    all.count += removed.count;
                    all.previous.extend(removed.previous);
                }
            }
            all.previous.sort_by(|a, b| a.key.cmp(&b.key));
            Some(Kind::Removed(all))
        }
        // Of one key, so of one group.
        Some(
            Asked::Place(_)
            | Asked::Change(_)
            | Asked::Lease(_)
            | Asked::Sequence(_)
            | Asked::Txn(_),
        )
        | None => kinds.into_iter().next(),
    }
}
