//! Keys that are numbered one after the other, by a counter beside them.
//!
//! Who puts such a key needn't know the last one: many can at the same time, and none of them is refused.

use bytes::Bytes;
use caucus_api::limits::NUMBER_TYPE;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::{Put, Record, Sequence, Sequenced};

use super::execute::successor;
use super::view::{Trouble, View};
use crate::state::number;

/// Decimal digits of a number in a key: as many as the highest has.
const DIGITS: usize = 20;

/// The key of a number.
fn key(prefix: &[u8], number: u64) -> Bytes {
    let digits = format!("{number:0DIGITS$}");
    Bytes::from([prefix, digits.as_bytes()].concat())
}

/// The longest key that it can put.
pub(super) fn widest(sequence: &Sequence) -> Bytes {
    key(&sequence.prefix, u64::MAX)
}

/// Whether it may enter a log: its keys must be in the counter's directory, or below it.
pub(super) fn is_valid(sequence: &Sequence) -> bool {
    let last = sequence.counter.iter().rposition(|byte| *byte == b'/');
    let directory = last.map(|last| &sequence.counter[..=last]);
    directory.is_some_and(|directory| sequence.prefix.starts_with(directory)) && sequence.count > 0
}

/// Puts the next key; `None`: it is another group's.
pub(super) fn place(
    sequence: &Sequence,
    view: &mut View<'_>,
) -> Result<Option<Sequenced>, Trouble> {
    let Some(vnode) = view.mine(&sequence.counter) else {
        return Ok(None);
    };
    let counter = view.get(vnode, &sequence.counter)?;
    let (first, next) = numbers(sequence, counter.as_ref()).map_err(Trouble::problem)?;
    let key = key(&sequence.prefix, first);
    // A rule may cut the two apart; then nothing can be numbered there.
    let vnode = view.mine(&key);
    let vnode = vnode.ok_or_else(|| Trouble::problem(ProblemKind::KeyNotFound))?;
    let old = view.get(vnode, &key)?;
    let put = sequence.put.clone().unwrap_or_default();
    let new = successor(put, old.as_ref(), view.revision);
    view.written.insert(key.clone(), Some(new));
    let number = Put {
        value: number::format(next),
        content_type: NUMBER_TYPE.to_owned(),
        ..Put::default()
    };
    let new = successor(number, counter.as_ref(), view.revision);
    view.written.insert(sequence.counter.clone(), Some(new));
    Ok(Some(Sequenced { key, first }))
}

/// Whether it can be executed on what stands there.
pub(super) fn check(sequence: &Sequence, view: &View<'_>) -> Result<(), Trouble> {
    if let Some(vnode) = view.mine(&sequence.counter) {
        let counter = view.get(vnode, &sequence.counter)?;
        numbers(sequence, counter.as_ref()).map_err(Trouble::problem)?;
    }
    Ok(())
}

/// The first number that it takes, and the counter after it.
fn numbers(sequence: &Sequence, counter: Option<&Record>) -> Result<(u64, i64), ProblemKind> {
    let first = match counter {
        Some(counter) => number::parse(&counter.value).ok_or(ProblemKind::NotAnInteger)?,
        None => 0,
    };
    let count = i64::try_from(sequence.count).map_err(|_| ProblemKind::Overflow)?;
    let next = first.checked_add(count).ok_or(ProblemKind::Overflow)?;
    let first = u64::try_from(first).map_err(|_| ProblemKind::NotAnInteger)?;
    Ok((first, next))
}
