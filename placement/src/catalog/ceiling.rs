//! The oracle's ceiling: above every revision that was ever granted.

use caucus_ring::Revision;

use super::Answer;
use super::apply::{Change, Verdict};

/// Also before the cluster is initialized: a ceiling needs no cluster.
pub(super) fn raise(ceiling: &mut Revision, to: Revision) -> Verdict {
    let change = if to > *ceiling {
        *ceiling = to;
        Change::Ceiling
    } else {
        // A late proposal of a deposed leader; to lower it would grant twice.
        Change::Nothing
    };
    Ok((Answer::Ceiling { ceiling: *ceiling }, change))
}
