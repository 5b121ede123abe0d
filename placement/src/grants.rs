//! The oracle's memory, and the only place where revisions are made.
//!
//! ```text
//!   confirmed(term) ─▶ memory (term, last, limit)        last = limit = applied ceiling, once a term
//!                        │ grant(count) ─▶ last+1 ..= last+count, while that is within limit
//!                        └ raise() ─▶ proposed in this term ─▶ applied here ─▶ raised(): limit rises
//! ```
//!
//! Why no revision is granted twice: a grant is within a limit that was in the log before, proposed by
//! the term that grants; a later term begins at the ceiling with all that in it; and one term's grants
//! rise. Nothing but `confirmed` reads the ceiling, and only for a term that has no memory yet: a
//! leader that was deposed and elected again in between has the ceiling of another in its state.

use caucus_planted as planted;

use crate::view::Applied;

/// The revision of a store to which nothing was written yet, as in etcd: the first write makes the next.
pub(crate) const EMPTY: u64 = 1;
/// The ceiling rises by this at least.
const STEP_MIN: u64 = 100_000;
/// And by this at most, unless one block alone is larger.
const STEP_MAX: u64 = 1 << 32;
/// A step lasts for so many times of what was used while the last raise was under way.
const STEP_OVER_USE: u64 = 10;

/// Revisions `first` to `first + count - 1`, granted once and for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) first: u64,
    pub(crate) count: u32,
}

/// A ceiling to be proposed, in this term and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raise {
    pub(crate) term: u64,
    pub(crate) to: u64,
}

/// What a term remembers. `last <= limit`.
#[derive(Debug, Clone, Copy)]
struct Memory {
    term: u64,
    /// The last revision granted; none above it is.
    last: u64,
    /// None above it may be granted.
    limit: u64,
    /// How far above `last` the next raise goes.
    step: u64,
    /// A raise is under way since `last` was here.
    raising: Option<u64>,
}

/// The memory of the term that was confirmed last, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    memory: Option<Memory>,
}

impl Grants {
    /// This replica led in `term` when what is to be granted next had been asked for already.
    /// `applied` is read only if the term is new here, and after its confirmation. False: nothing may
    /// be granted on this confirmation.
    #[must_use]
    pub(crate) fn confirmed(&mut self, term: u64, applied: impl FnOnce() -> Applied) -> bool {
        if self.memory.is_some_and(|memory| memory.term == term) {
            return true;
        }
        if planted::is(planted::GRANTS_KEPT_OVER_TERMS)
            && let Some(memory) = &mut self.memory
        {
            memory.term = term;
            return true;
        }
        self.memory = None;
        let applied = applied();
        if applied.at.term != term {
            // A later leader's entries are applied already. Its ceiling is above revisions that it
            // has yet to grant, so it can't be told as "last granted".
            return false;
        }
        let ceiling = applied.ceiling.0.max(EMPTY);
        self.memory = Some(Memory {
            term,
            last: ceiling,
            limit: ceiling,
            step: STEP_MIN,
            raising: None,
        });
        true
    }

    /// The next `count` revisions; `None` if the limit doesn't allow so many yet.
    pub(crate) fn grant(&mut self, count: u32) -> Option<Block> {
        let memory = self.memory.as_mut()?;
        if memory.left() < u64::from(count) {
            return None;
        }
        let first = memory.last + 1;
        memory.last += u64::from(count);
        Some(Block { first, count })
    }

    /// The term that it remembers.
    pub(crate) fn term(&self) -> Option<u64> {
        self.memory.map(|memory| memory.term)
    }

    /// The last revision granted, or one above it that never will be.
    pub(crate) fn last_granted(&self) -> Option<u64> {
        self.memory.map(|memory| memory.last)
    }

    /// The raise to begin now, if one is due: `wanted` revisions are missing, or less than half a step
    /// is left. Its end is to be told: [`Grants::raised`] or [`Grants::raise_failed`].
    #[must_use]
    pub(crate) fn raise(&mut self, wanted: u64) -> Option<Raise> {
        let memory = self.memory.as_mut()?;
        let left = memory.left();
        if memory.raising.is_some() || (left >= wanted && left >= memory.step / 2) {
            return None;
        }
        let to = memory.last.saturating_add(memory.step.max(wanted));
        if to <= memory.limit {
            // The numbers have run out.
            return None;
        }
        memory.raising = Some(memory.last);
        if planted::is(planted::GRANTED_ABOVE_CEILING) {
            memory.limit = to;
        }
        Some(Raise {
            term: memory.term,
            to,
        })
    }

    /// A raise that was proposed in its term is applied here.
    pub(crate) fn raised(&mut self, raise: Raise) {
        let Some(memory) = self.of(raise) else { return };
        memory.limit = memory.limit.max(raise.to);
        if let Some(since) = memory.raising.take() {
            let used = memory.last - since;
            memory.step = used.saturating_mul(STEP_OVER_USE).clamp(STEP_MIN, STEP_MAX);
        }
    }

    /// A raise came to nothing, or nobody knows.
    pub(crate) fn raise_failed(&mut self, raise: Raise) {
        if let Some(memory) = self.of(raise) {
            memory.raising = None;
        }
    }

    fn of(&mut self, raise: Raise) -> Option<&mut Memory> {
        self.memory
            .as_mut()
            .filter(|memory| memory.term == raise.term)
    }
}

impl Memory {
    fn left(&self) -> u64 {
        self.limit - self.last
    }
}
