//! Transactions: compares, then one of two lists of operations (a minitransaction: Aguilera et al.,
//! Sinfonia, SOSP 2007), as a tree.
//!
//! `tree` numbers what is in a tree and finds the way through it; `compare` and `execute` do a group's
//! part of it on a [`View`]; `merge` makes one answer of the parts of several groups; `locks` says which
//! operations have to wait for a prepared transaction.
//!
//! ```text
//!  tree ─▶ compare in each group ─▶ Compared ┐
//!                                            ├─▶ path ─▶ execute in each group ─▶ answers ─▶ merge
//!  tree ─▶ compare in each group ─▶ Compared ┘
//! ```
//!
//! The same code runs in one group (all parts are its own), over groups, and when an answer is wanted
//! again: then on the history below the transaction's revision.

mod compare;
mod execute;
mod locks;
mod merge;
mod sequence;
mod tree;
mod view;

pub(crate) use compare::{holds, survey};
pub(crate) use execute::{answer, answer_decided, first_problem, problems};
pub use locks::Holder;
pub(crate) use locks::{Footprint, Locks};
pub(crate) use merge::{known, merge_answers, merge_parts};
pub(crate) use tree::{check, footprint, has_compares, path, vnodes};
pub(crate) use view::{Part, Trouble, View};
