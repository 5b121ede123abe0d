//! Changes of unknown outcome that no watch told and no answer showed: some of them happened all the same, and an answer
//! that only such a change explains is no error.
//!
//! A value that nobody saw matters to who compares with the one before it. A removal has no value that could be seen: it
//! shows in that a key isn't there.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::history::{History, Operation, Outcome, Step};

/// What may have happened, key by key.
#[derive(Debug, Default)]
pub(crate) struct Unseen<'h> {
    /// When each removal of a key began that isn't used up: it happens once.
    removals: HashMap<&'h str, Vec<u64>>,
    /// When the first write of a key began.
    writes: HashMap<&'h str, u64>,
    /// Removals that a watch told.
    told: HashSet<(u64, &'h str)>,
}

/// The removals that watches told, with the line of each: revision, key.
pub(crate) fn told(history: &History) -> impl Iterator<Item = (u64, u64, &str)> {
    history.of("watch").flat_map(|line| {
        let events = line.value["events"].as_array().into_iter().flatten();
        events.filter_map(|event| match (&event[0], &event[1], &event[2]) {
            (revision, Value::String(key), Value::Null) => {
                Some((line.index, revision.as_u64()?, &key[..]))
            }
            _ => None,
        })
    })
}

/// Whether an operation removes a key, as far as anybody knows.
pub(crate) fn may_remove(operation: &Operation, key: &str) -> bool {
    let removes = |step: &Step| matches!(step, Step::Delete(removed) if removed == key);
    operation.outcome == Outcome::Unknown && operation.steps.iter().any(removes)
}

impl<'h> Unseen<'h> {
    /// Of those whose revision isn't known.
    pub(crate) fn new(
        history: &'h History,
        operations: &'h [Operation],
        at: &HashMap<usize, u64>,
    ) -> Unseen<'h> {
        let mut unseen = Unseen {
            told: told(history)
                .map(|(_, revision, key)| (revision, key))
                .collect(),
            ..Unseen::default()
        };
        let open = operations
            .iter()
            .enumerate()
            .filter(|(n, operation)| operation.outcome == Outcome::Unknown && !at.contains_key(n));
        // In the order of their beginnings.
        for (_, operation) in open {
            for step in &operation.steps {
                match step {
                    Step::Delete(key) => {
                        unseen
                            .removals
                            .entry(key)
                            .or_default()
                            .push(operation.begun);
                    }
                    Step::Write(key, _) => {
                        unseen.writes.entry(key).or_insert(operation.begun);
                    }
                    Step::Read(..) | Step::Append(..) => {}
                }
            }
        }
        unseen
    }

    /// Takes a removal that may have happened before a moment, if there is one.
    pub(crate) fn remove(&mut self, key: &str, before: u64) -> bool {
        let removals = self
            .removals
            .get_mut(key)
            .filter(|left| left.first() < Some(&before));
        let Some(removals) = removals.filter(|left| !left.is_empty()) else {
            return false;
        };
        removals.remove(0);
        true
    }

    /// Whether anything may have happened to a key before a moment.
    pub(crate) fn may_differ(&self, key: &str, before: u64) -> bool {
        let removed = self.removals.get(key).and_then(|left| left.first());
        let written = self.writes.get(key);
        removed
            .into_iter()
            .chain(written)
            .any(|begun| *begun < before)
    }

    /// Whether a removal found the key: it did if `was_there`, unless somebody unseen was faster.
    pub(crate) fn was_removed(
        &self,
        operation: &Operation,
        key: &str,
        revision: u64,
        was_there: bool,
    ) -> bool {
        match self.may_differ(key, operation.ended) {
            true => self.told.contains(&(revision, key)),
            false => was_there,
        }
    }

    /// The keys that may be gone, and nobody knows.
    pub(crate) fn left(&self) -> HashSet<String> {
        let left = self.removals.iter().filter(|(_, left)| !left.is_empty());
        left.map(|(key, _)| (*key).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::hand_made::{Made, ok, unknown};
    use crate::history::Type;
    use crate::{check, last, replay};

    fn begin() -> Made {
        Made::new()
            .then(ok(5, r#"[["w","a",1]]"#))
            .then(ok(6, r#"[["w","b",1]]"#))
    }

    fn violations(made: &Made) -> Vec<String> {
        let found = check(&made.history()).into_iter();
        found.map(|violation| violation.to_string()).collect()
    }

    /// A member of etcd was killed with an answer under way, and its key was gone.
    #[test]
    fn a_removal_that_shows_only_in_what_it_left() {
        let gone = ok(8, r#"[["r","a",null]]"#);
        let removed = || begin().then(unknown(r#"[["d","a"]]"#));
        assert_eq!(violations(&removed().then(gone.clone())), [""; 0]);
        let compared = ok(8, r#"[["w","a",2]]"#).when(r#"[["a",null]]"#, true);
        assert_eq!(violations(&removed().then(compared)), [""; 0]);
        let differed = ok(8, r#"[["w","a",2]]"#).when(r#"[["a",1]]"#, false);
        assert_eq!(violations(&removed().then(differed)), [""; 0]);
        let other = removed().then(ok(8, r#"[["r","b",null]]"#));
        assert_ne!(violations(&other), [""; 0], "another key");
        let early = begin().then(gone.clone()).then(unknown(r#"[["d","a"]]"#));
        assert_ne!(violations(&early), [""; 0], "it hadn't begun");
        let back = removed()
            .then(gone.clone())
            .then(ok(8, r#"[["r","a",1]]"#).mods(&[5]));
        assert_ne!(violations(&back), [""; 0], "it is back");
        let twice = removed()
            .then(gone.clone())
            .then(ok(9, r#"[["w","a",2]]"#))
            .then(ok(10, r#"[["r","a",null]]"#));
        assert_ne!(violations(&twice), [""; 0], "it happens once");
        let same = removed().beside(vec![ok(8, r#"[["r","a",1]]"#).mods(&[5]), gone]);
        assert_ne!(violations(&same), [""; 0], "two states of one revision");
    }

    #[test]
    fn a_removal_that_only_a_watch_saw() {
        let told = |events: &str| {
            let message = format!(r#"{{"watch":"w","prefix":"","from":6,"events":{events}}}"#);
            begin()
                .then(unknown(r#"[["d","a"]]"#))
                .say(Type::Ok, "watcher", "watch", &message)
        };
        let made = told(r#"[[6,"b",1],[7,"a",null]]"#);
        assert_eq!(violations(&made), [""; 0]);
        let early = made.then(ok(7, r#"[["r","a",1]]"#).mods(&[5]));
        assert_ne!(violations(&early), [""; 0], "it was gone at 7");
        assert_ne!(violations(&told(r#"[[6,"b",1],[7,"b",null]]"#)), [""; 0]);
    }

    #[test]
    fn a_value_that_nobody_saw_makes_a_compare_fail() {
        let written = begin().then(unknown(r#"[["w","a",2]]"#));
        let differed = ok(8, r#"[["w","a",3]]"#).when(r#"[["a",1]]"#, false);
        assert_eq!(violations(&written.clone().then(differed.clone())), [""; 0]);
        let before = begin().then(differed).then(unknown(r#"[["w","a",2]]"#));
        assert_ne!(violations(&before), [""; 0], "it hadn't begun");
        let gone = written.then(ok(8, r#"[["r","a",null]]"#));
        assert_ne!(violations(&gone), [""; 0], "it didn't remove it");
    }

    #[test]
    fn in_the_end_it_may_be_gone() {
        let end = |made: Made, state: &str| {
            let made = made.say(Type::Ok, "harness", "final", state);
            let mut history = made.history();
            history.lines.last_mut().expect("a line").rev = Some(9);
            let order = replay::check(&history).order;
            last::check(&history, &order).len()
        };
        let removed = || begin().then(unknown(r#"[["d","a"]]"#));
        let (both, one) = (r#"[["a",1,5],["b",1,6]]"#, r#"[["b",1,6]]"#);
        assert_eq!(end(removed(), both), 0);
        assert_eq!(end(removed(), one), 0);
        let seen = || removed().then(ok(8, r#"[["r","a",null]]"#));
        assert_eq!(end(seen(), one), 0);
        assert_ne!(end(seen(), both), 0, "it is back");
        let again = || removed().then(ok(8, r#"[["d","a"]]"#));
        assert_eq!(end(again(), one), 0);
        assert_ne!(end(again(), both), 0, "it is back");
        assert_ne!(end(begin(), one), 0, "nobody removed it");
    }
}
