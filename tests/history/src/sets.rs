//! Listings have all that is there and nothing else, whatever the revisions say: what was added before the listing
//! began, what an earlier one had, and nothing that was never added, or added only later.
//!
//! Lines `list`: `{"prefix": "/s/"}`, from `invoke` to `ok`, which has the `items` too: `[[key, value, revision], …]`, and
//! `rev`, the revision as of which they are. Only keys that nobody ever removes are looked at here; what a listing has to
//! be at its revision is `last`'s matter.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::Violation;
use crate::history::{History, Line, Outcome, Process, Step, Type};

const NAME: &str = "sets";

/// A listing that was answered.
#[derive(Debug)]
pub(crate) struct Listing<'h> {
    pub(crate) line: &'h Line,
    pub(crate) begun: u64,
    pub(crate) prefix: &'h str,
}

impl Listing<'_> {
    fn keys(&self) -> BTreeSet<&str> {
        let items = self.line.value["items"].as_array().into_iter().flatten();
        items.filter_map(|item| item[0].as_str()).collect()
    }
}

/// The listings of a history, in the order in which they were answered.
pub(crate) fn listings(history: &History) -> Vec<Listing<'_>> {
    let mut open: HashMap<&Process, u64> = HashMap::new();
    let mut listings = Vec::new();
    for line in history.of("list") {
        match line.kind {
            Type::Invoke => _ = open.insert(&line.process, line.time),
            Type::Ok => listings.push(Listing {
                line,
                begun: open.remove(&line.process).unwrap_or(line.time),
                prefix: line.value["prefix"].as_str().unwrap_or_default(),
            }),
            Type::Fail | Type::Info => _ = open.remove(&line.process),
        }
    }
    listings
}

/// What is known of a key.
struct Added {
    /// The first attempt to write it.
    begun: u64,
    /// When it was certainly there.
    there: u64,
    /// In which line.
    line: u64,
}

/// Checks the listings of a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let listings = listings(history);
    if listings.is_empty() {
        return found;
    }
    let mut added = added(history);
    for listing in &listings {
        let mut violation = |why: String| found.push(Violation::new(NAME, listing.line.index, why));
        let keys = listing.keys();
        let under = added
            .range(listing.prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(listing.prefix));
        for (key, added) in under.clone() {
            let is_listed = keys.contains(&key[..]);
            if added.there < listing.begun && !is_listed {
                violation(format!("{key} is missing, which line {} had", added.line));
            }
            if added.begun > listing.line.time && is_listed {
                violation(format!("{key} is listed before anybody adds it"));
            }
        }
        let known: BTreeSet<&str> = under.map(|(key, _)| &key[..]).collect();
        for key in keys.iter().filter(|key| !known.contains(*key)) {
            if !was_removed(history, key) {
                violation(format!("{key} is listed, and nobody added it"));
            }
        }
        for key in keys {
            if let Some(added) = added.get_mut(key).filter(|a| a.there > listing.line.time) {
                (added.there, added.line) = (listing.line.time, listing.line.index);
            }
        }
    }
    found
}

/// Keys that somebody writes and nobody removes.
fn added(history: &History) -> BTreeMap<String, Added> {
    let mut added: BTreeMap<String, Added> = BTreeMap::new();
    let mut removed = BTreeSet::new();
    for operation in history.operations() {
        if operation.outcome == Outcome::Fail || !operation.held {
            continue;
        }
        for step in &operation.steps {
            match step {
                Step::Delete(key) => _ = removed.insert(key.clone()),
                Step::Write(key, _) | Step::Append(key, _) => {
                    let added = added.entry(key.clone()).or_insert(Added {
                        begun: operation.begun,
                        there: u64::MAX,
                        line: operation.index,
                    });
                    added.begun = added.begun.min(operation.begun);
                    if operation.outcome == Outcome::Ok && operation.ended < added.there {
                        (added.there, added.line) = (operation.ended, operation.index);
                    }
                }
                Step::Read(..) => {}
            }
        }
    }
    added.retain(|key, _| !removed.contains(key));
    added
}

fn was_removed(history: &History, key: &str) -> bool {
    let operations = history.operations();
    let mut steps = operations.iter().flat_map(|operation| &operation.steps);
    steps.any(|step| matches!(step, Step::Delete(removed) if removed == key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, failed, ok, unknown};

    fn listed(made: Made, by: &str, keys: &str) -> Made {
        let keys: Vec<String> = keys
            .split_whitespace()
            .map(|key| format!(r#"["/s/{key}",1,5]"#))
            .collect();
        let value = format!(r#"{{"prefix":"/s/","items":[{}]}}"#, keys.join(","));
        made.say(Type::Invoke, by, "list", r#"{"prefix":"/s/"}"#)
            .say(Type::Ok, by, "list", &value)
    }

    fn begin() -> Made {
        Made::new()
            .then(ok(5, r#"[["w","/s/a",1]]"#))
            .then(ok(6, r#"[["w","/t/b",1]]"#))
            .then(unknown(r#"[["w","/s/u",1]]"#))
            .then(failed(r#"[["w","/s/f",1]]"#))
            .then(ok(7, r#"[["w","/s/n",1]]"#).when(r#"[["x",1]]"#, false))
            .then(ok(8, r#"[["w","/s/d",1]]"#))
            .then(ok(9, r#"[["d","/s/d"]]"#))
    }

    fn violations(made: Made) -> usize {
        check(&made.history()).len()
    }

    #[test]
    fn what_was_added_is_there_and_nothing_else() {
        let good = listed(begin(), "x", "a");
        let good = listed(listed(good, "x", "a u"), "y", "a u");
        assert_eq!(violations(good), 0);
        for bad in ["", "u", "a f", "a n", "a x", "u f"] {
            assert_ne!(violations(listed(begin(), "x", bad)), 0, "{bad}");
        }
    }

    #[test]
    fn what_was_seen_stays_and_nothing_is_seen_before_its_time() {
        let gone = listed(listed(begin(), "x", "a u"), "x", "a");
        assert_eq!(violations(gone), 1);
        let early = listed(begin(), "x", "a z").then(ok(9, r#"[["w","/s/z",1]]"#));
        assert_eq!(violations(early), 1);
        // At the same time either is right.
        let beside = |items: &str| {
            let value = format!(r#"{{"prefix":"/s/","items":[{items}]}}"#);
            Made::new()
                .say(Type::Invoke, "x", "list", r#"{"prefix":"/s/"}"#)
                .then(ok(5, r#"[["w","/s/a",1]]"#))
                .say(Type::Ok, "x", "list", &value)
        };
        assert_eq!(violations(beside("")), 0);
        assert_eq!(violations(beside(r#"["/s/a",1,5]"#)), 0);
    }
}
