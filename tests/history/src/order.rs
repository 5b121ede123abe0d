//! The one order that a history has.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

/// What happened, in order.
#[derive(Debug, Default)]
pub struct Order {
    /// What each revision wrote: each key with its value, `None` for one that was removed.
    pub writes: BTreeMap<u64, BTreeMap<String, Option<Value>>>,
    /// Keys that somebody saw gone as of a revision, and nobody knows since when.
    pub gone: Vec<(String, u64)>,
    /// Keys that may be gone in the end, and nobody knows.
    pub may_be_gone: HashSet<String>,
    /// The elements of each list, with the revisions at which they were appended.
    pub lists: BTreeMap<String, Vec<(String, u64)>>,
    /// Elements that may be in a list: nobody knows whether they were appended.
    pub perhaps: HashSet<(String, String)>,
}
