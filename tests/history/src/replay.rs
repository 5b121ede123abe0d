//! One order by revision explains every answer, and agrees with real time: strict serializability, in O(n log n),
//! because every answer names its revision.
//!
//! A write happens at its revision. What only reads sees all that has happened up to its own. A write whose outcome
//! nobody knows is placed where somebody saw what it wrote; of one that nobody saw see `unseen`.
//! Values of a key are never written twice, so a value tells who wrote it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::Violation;
use crate::history::{History, Operation, Outcome, Step};
pub use crate::order::Order;
use crate::unseen::{self, Unseen};

const NAME: &str = "replay";

/// What was found.
#[derive(Debug, Default)]
pub struct Replayed {
    /// What can't be.
    pub violations: Vec<Violation>,
    /// What happened.
    pub order: Order,
    /// Writes of unknown outcome that did happen, as somebody saw.
    pub placed: usize,
    /// Answers that were held against the order.
    pub checked: usize,
}

/// Checks the transactions of a history.
pub fn check(history: &History) -> Replayed {
    let operations = history.operations();
    let mut replay = Replay {
        writers: writers(&operations),
        operations: &operations,
        at: HashMap::new(),
        unseen: Unseen::default(),
        found: Replayed::default(),
    };
    replay.place(history);
    replay.place_removals(history);
    replay.unseen = Unseen::new(history, &operations, &replay.at);
    replay.run();
    replay.found.order.may_be_gone = replay.unseen.left();
    replay.found
}

/// Who wrote a value of a key: values are unique, so one operation.
type Writers<'h> = HashMap<(&'h str, String), usize>;

fn writers(operations: &[Operation]) -> Writers<'_> {
    let mut writers = HashMap::new();
    for (at, operation) in operations.iter().enumerate() {
        for step in &operation.steps {
            if let Step::Write(key, value) | Step::Append(key, value) = step {
                writers.insert((&key[..], value.to_string()), at);
            }
        }
    }
    writers
}

struct Replay<'h> {
    operations: &'h [Operation],
    writers: Writers<'h>,
    /// At which revision each write happened.
    at: HashMap<usize, u64>,
    unseen: Unseen<'h>,
    found: Replayed,
}

impl Replay<'_> {
    fn violation(&mut self, index: u64, why: impl Into<String>) {
        self.found.violations.push(Violation::new(NAME, index, why));
    }

    /// Finds out at which revision each write happened.
    fn place(&mut self, history: &History) {
        for (at, operation) in self.operations.iter().enumerate() {
            if operation.outcome == Outcome::Ok && operation.writes() {
                self.at.insert(at, operation.rev);
            }
        }
        for operation in self.operations.iter().filter(|o| o.outcome == Outcome::Ok) {
            for (step, seen_at) in operation.steps.iter().zip(&operation.mods) {
                if let Step::Read(key, value) = step
                    && !value.is_array()
                    && !value.is_null()
                {
                    self.saw(operation.index, key, value, *seen_at);
                }
            }
        }
        for line in history.of("watch") {
            for event in line.value["events"].as_array().into_iter().flatten() {
                if let (Some(revision), Some(key)) = (event[0].as_u64(), event[1].as_str())
                    && !event[2].is_null()
                {
                    self.saw(line.index, key, &event[2], revision);
                }
            }
        }
        let lists = history.of("list").map(|line| (line, &line.value["items"]));
        let all = history.of("final").map(|line| (line, &line.value));
        for (line, entries) in all.chain(lists) {
            for entry in entries.as_array().into_iter().flatten() {
                if let (Some(key), Some(revision)) = (entry[0].as_str(), entry[2].as_u64())
                    && !entry[1].is_array()
                {
                    self.saw(line.index, key, &entry[1], revision);
                }
            }
        }
    }

    /// A removal that a watch told and nobody was answered is one of those whose outcome isn't known: the first that
    /// there is, as time says least about it.
    fn place_removals(&mut self, history: &History) {
        let mut taken: HashSet<u64> = self.at.values().copied().collect();
        for (_, revision, key) in unseen::told(history) {
            if taken.contains(&revision) {
                continue;
            }
            let fits = |(at, operation): &(usize, &Operation)| {
                unseen::may_remove(operation, key) && !self.at.contains_key(at)
            };
            if let Some((at, _)) = self.operations.iter().enumerate().find(fits) {
                self.at.insert(at, revision);
                self.found.placed += 1;
                taken.insert(revision);
            }
        }
    }

    /// Somebody saw a value that was written at a revision.
    fn saw(&mut self, index: u64, key: &str, value: &Value, revision: u64) {
        let Some(&writer) = self.writers.get(&(key, value.to_string())) else {
            return self.violation(index, format!("nobody wrote {value} to {key}"));
        };
        let operation = &self.operations[writer];
        match (operation.outcome, self.at.get(&writer)) {
            (Outcome::Fail, _) => {
                let why = format!(
                    "{value} of {key} is of line {}, which failed",
                    operation.index
                );
                self.violation(index, why);
            }
            // What is null was written by the transaction that reads it.
            (_, Some(_)) if revision == 0 => {}
            (_, Some(&at)) if at != revision => {
                let why = format!("{value} of {key} was written at {at} and seen as of {revision}");
                self.violation(index, why);
            }
            (Outcome::Unknown, None) if revision > 0 => {
                self.at.insert(writer, revision);
                self.found.placed += 1;
            }
            // It was answered that its compares didn't hold, or that it read only.
            (Outcome::Ok, None) => {
                let why = format!(
                    "{value} of {key} was never written: line {}",
                    operation.index
                );
                self.violation(index, why);
            }
            (_, _) => {}
        }
    }

    fn run(&mut self) {
        let mut turns: Vec<(u64, bool, u64, usize)> = Vec::new();
        for (at, operation) in self.operations.iter().enumerate() {
            match (self.at.get(&at), operation.outcome) {
                (Some(revision), _) => turns.push((*revision, false, operation.begun, at)),
                (None, Outcome::Ok) if operation.rev > 0 => {
                    turns.push((operation.rev, true, operation.begun, at));
                }
                (None, _) => {}
            }
        }
        turns.sort_unstable();
        self.real_time(&turns);
        let mut state = State::default();
        let mut before = None;
        for (revision, reads, _, at) in turns {
            let operation = &self.operations[at];
            if !reads && before == Some(revision) {
                self.violation(
                    operation.index,
                    format!("two writes at revision {revision}"),
                );
            }
            if !reads {
                before = Some(revision);
            }
            self.answer(&mut state, operation, revision, reads);
        }
        self.found.order.lists = state.lists.into_iter().collect();
        self.perhaps();
    }

    /// What was perhaps appended.
    fn perhaps(&mut self) {
        for (at, operation) in self.operations.iter().enumerate() {
            if operation.outcome != Outcome::Unknown || self.at.contains_key(&at) {
                continue;
            }
            for step in &operation.steps {
                if let Step::Append(key, element) = step {
                    let perhaps = (key.clone(), element.to_string());
                    self.found.order.perhaps.insert(perhaps);
                }
            }
        }
    }

    /// Nobody stands before an operation that had ended before he began.
    fn real_time(&mut self, turns: &[(u64, bool, u64, usize)]) {
        // The latest beginning of those before, and whose it is.
        let mut latest: Option<(u64, u64)> = None;
        for (revision, _, _, at) in turns {
            let operation = &self.operations[*at];
            if operation.stale {
                continue;
            }
            if let Some((begun, other)) = latest
                && operation.ended < begun
            {
                let why = format!(
                    "it has ended before line {other} began, and stands behind it, at {revision}"
                );
                self.violation(operation.index, why);
            }
            if latest.is_none_or(|(begun, _)| operation.begun > begun) {
                latest = Some((operation.begun, operation.index));
            }
        }
    }

    /// Holds an answer against the state, and does what was done.
    fn answer(&mut self, state: &mut State, operation: &Operation, revision: u64, reads: bool) {
        let known = operation.outcome == Outcome::Ok;
        self.found.checked += usize::from(known);
        let as_of = revision.saturating_sub(u64::from(!reads));
        if known && !operation.compares.is_empty() {
            for (key, value) in operation.compares.iter().filter(|_| operation.held) {
                self.settle(state, operation, key, value, as_of);
            }
            let all = || operation.compares.iter();
            let held = all().all(|(key, value)| state.value(key) == *value);
            let may_differ = |key: &str| self.unseen.may_differ(key, operation.ended);
            let explained = held && all().any(|(key, _)| may_differ(key));
            if held != operation.held && !explained {
                let why = format!(
                    "its compares {} at {revision}",
                    if held { "hold" } else { "don't hold" }
                );
                self.violation(operation.index, why);
            }
        }
        if !operation.held {
            return;
        }
        let mut written = BTreeMap::new();
        for step in &operation.steps {
            match step {
                Step::Read(key, value) if known => {
                    if !written.contains_key(key) {
                        self.settle(state, operation, key, value, as_of);
                    }
                    if let Err(why) = self.agrees(state, key, value, revision, reads) {
                        self.violation(operation.index, why);
                    }
                }
                Step::Read(..) => {}
                Step::Write(key, value) => {
                    state.values.insert(key.clone(), value.clone());
                    state.known.insert(key.clone(), revision);
                    written.insert(key.clone(), Some(value.clone()));
                }
                Step::Delete(key) => {
                    let was_there = state.values.remove(key).is_some();
                    if self.unseen.was_removed(operation, key, revision, was_there) {
                        written.insert(key.clone(), None);
                    } else if was_there {
                        let gone = (key.clone(), revision);
                        self.found.order.gone.push(gone);
                    }
                }
                Step::Append(key, element) => {
                    let list = state.lists.entry(key.clone()).or_default();
                    list.push((element.to_string(), revision));
                }
            }
        }
        if !written.is_empty() {
            self.found.order.writes.insert(revision, written);
        }
    }

    /// A key that isn't there and should be was removed by somebody who was never answered, if there is one.
    fn settle(
        &mut self,
        state: &mut State,
        operation: &Operation,
        key: &str,
        value: &Value,
        as_of: u64,
    ) {
        if !state.values.contains_key(key) {
            return;
        }
        if !value.is_null() {
            state.known.insert(key.to_owned(), as_of);
        } else if state.known.get(key) < Some(&as_of) && self.unseen.remove(key, operation.ended) {
            state.values.remove(key);
            self.found.placed += 1;
            self.found.order.gone.push((key.to_owned(), as_of));
        }
    }

    fn agrees(
        &self,
        state: &State,
        key: &str,
        value: &Value,
        revision: u64,
        reads: bool,
    ) -> Result<(), String> {
        if let Some(list) = state.lists.get(key)
            && (value.is_array() || value.is_null())
        {
            return self.agrees_list(list, key, value, revision);
        }
        if value.is_array() {
            return self.agrees_list(&[], key, value, revision);
        }
        let expected = state.value(key);
        match expected == *value {
            true => Ok(()),
            false => {
                let when = if reads { "as of" } else { "just before" };
                Err(format!(
                    "{key} is {expected} {when} {revision}, and was read as {value}"
                ))
            }
        }
    }

    /// A list has all elements that were appended up to a revision, in their order; those of unknown outcome may be
    /// among them.
    fn agrees_list(
        &self,
        list: &[(String, u64)],
        key: &str,
        value: &Value,
        revision: u64,
    ) -> Result<(), String> {
        let mut expected = list.iter().map(|(element, _)| element).peekable();
        let read = value.as_array().into_iter().flatten();
        let mut seen = std::collections::HashSet::new();
        for element in read.map(Value::to_string) {
            if !seen.insert(element.clone()) {
                return Err(format!("{element} is twice in {key}"));
            }
            if expected.peek() == Some(&&element) {
                expected.next();
                continue;
            }
            let writer = self.writers.get(&(key, element.clone()));
            let writer = writer.map(|writer| (&self.operations[*writer], self.at.get(writer)));
            match writer {
                Some((operation, None)) if operation.outcome == Outcome::Unknown => {}
                Some(_) => {
                    return Err(format!(
                        "{element} stands in {key} out of its order, or too early, at {revision}"
                    ));
                }
                None => return Err(format!("nobody appended {element} to {key}")),
            }
        }
        match expected.next() {
            None => Ok(()),
            Some(missing) => Err(format!("{missing} is missing in {key} at {revision}")),
        }
    }
}

#[derive(Default)]
struct State {
    values: HashMap<String, Value>,
    /// As of when somebody has seen that a value was there.
    known: HashMap<String, u64>,
    /// Elements, with the revisions at which they were appended.
    lists: HashMap<String, Vec<(String, u64)>>,
}

impl State {
    fn value(&self, key: &str) -> Value {
        self.values.get(key).cloned().unwrap_or(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, ok, unknown};

    fn violations(made: Made) -> Vec<String> {
        let found = check(&made.history());
        found.violations.into_iter().map(|v| v.why).collect()
    }

    #[test]
    fn good_histories_pass() {
        let made = Made::new()
            .then(ok(5, r#"[["w","a",1]]"#))
            .then(ok(6, r#"[["r","a",1],["w","b",1]]"#).mods(&[5, 0]))
            .then(ok(6, r#"[["r","a",1],["r","b",1]]"#).mods(&[5, 6]))
            .then(ok(7, r#"[["w","a",2]]"#).when(r#"[["a",1]]"#, true))
            .then(ok(7, r#"[["w","a",3]]"#).when(r#"[["a",1]]"#, false))
            .then(unknown(r#"[["w","c",1]]"#))
            .then(unknown(r#"[["w","c",2]]"#))
            .then(ok(9, r#"[["r","c",2],["r","a",2]]"#).mods(&[8, 7]))
            .then(ok(10, r#"[["d","a"]]"#))
            .then(ok(10, r#"[["r","a",null]]"#))
            .then(ok(11, r#"[["append","l",1]]"#))
            .then(unknown(r#"[["append","l",2]]"#))
            .then(ok(13, r#"[["append","l",3]]"#))
            .then(ok(13, r#"[["r","l",[1,2,3]]]"#));
        let found = check(&made.history());
        assert_eq!(found.violations, []);
        assert_eq!((found.placed, found.checked), (1, 11));
        assert_eq!(
            found.order.writes.keys().copied().collect::<Vec<_>>(),
            [5, 6, 7, 8, 10]
        );
    }

    type Bad = Vec<(&'static str, Made)>;

    fn begin() -> Made {
        Made::new()
            .then(ok(5, r#"[["w","a",1]]"#))
            .then(ok(6, r#"[["w","a",2]]"#))
    }

    fn bad_values() -> Bad {
        vec![
            (
                "a stale value",
                begin().then(ok(6, r#"[["r","a",1]]"#).mods(&[5])),
            ),
            (
                "a value from the future",
                begin().then(ok(5, r#"[["r","a",2]]"#).mods(&[6]).stale()),
            ),
            (
                "a value that was lost",
                begin().then(ok(7, r#"[["r","a",null]]"#)),
            ),
            (
                "a value that nobody wrote",
                begin().then(ok(7, r#"[["r","a",9]]"#).mods(&[6])),
            ),
            (
                "a value of one that failed",
                begin()
                    .then(crate::hand_made::failed(r#"[["w","a",3]]"#))
                    .then(ok(8, r#"[["r","a",3]]"#).mods(&[8])),
            ),
            (
                "another revision of it",
                begin().then(ok(7, r#"[["r","a",2]]"#).mods(&[5])),
            ),
            (
                "two writes at a revision",
                begin().then(ok(6, r#"[["w","b",1]]"#)),
            ),
        ]
    }

    fn bad_compares_and_parts() -> Bad {
        vec![
            (
                "a compare that held and couldn't",
                begin().then(ok(7, r#"[["w","a",3]]"#).when(r#"[["a",1]]"#, true)),
            ),
            (
                "a compare that didn't hold and could",
                begin().then(ok(7, r#"[["w","a",3]]"#).when(r#"[["a",2]]"#, false)),
            ),
            (
                "a write of one whose compare didn't hold",
                begin()
                    .then(ok(7, r#"[["w","a",3]]"#).when(r#"[["a",1]]"#, false))
                    .then(ok(8, r#"[["r","a",3]]"#).mods(&[7])),
            ),
            (
                "half of a transaction",
                begin()
                    .then(ok(7, r#"[["w","b",1],["w","c",1]]"#))
                    .then(ok(7, r#"[["r","b",1],["r","c",null]]"#).mods(&[7, 0])),
            ),
            (
                "half of an unknown one",
                begin()
                    .then(unknown(r#"[["w","b",1],["w","c",1]]"#))
                    .then(ok(8, r#"[["r","b",1],["r","c",null]]"#).mods(&[7, 0])),
            ),
            (
                "a removed value that is back",
                begin()
                    .then(ok(7, r#"[["d","a"]]"#))
                    .then(ok(8, r#"[["r","a",2]]"#).mods(&[6])),
            ),
            (
                "a write that reads what it shouldn't",
                begin().then(ok(7, r#"[["r","a",1],["w","b",1]]"#).mods(&[5, 0])),
            ),
        ]
    }

    fn bad_lists() -> Bad {
        vec![
            (
                "an element that is missing",
                begin()
                    .then(ok(7, r#"[["append","l",1]]"#))
                    .then(ok(8, r#"[["append","l",2]]"#))
                    .then(ok(8, r#"[["r","l",[2]]]"#)),
            ),
            (
                "elements in another order",
                begin()
                    .then(ok(7, r#"[["append","l",1]]"#))
                    .then(ok(8, r#"[["append","l",2]]"#))
                    .then(ok(8, r#"[["r","l",[2,1]]]"#)),
            ),
            (
                "an element twice",
                begin()
                    .then(ok(7, r#"[["append","l",1]]"#))
                    .then(ok(8, r#"[["r","l",[1,1]]]"#)),
            ),
            (
                "an element that nobody appended",
                begin().then(ok(8, r#"[["r","l",[4]]]"#)),
            ),
            (
                "an element before its time",
                begin()
                    .then(ok(9, r#"[["append","l",1]]"#))
                    .then(ok(8, r#"[["r","l",[1]]]"#).stale()),
            ),
        ]
    }

    #[test]
    fn answers_that_no_order_explains() {
        for (what, made) in [bad_values(), bad_compares_and_parts(), bad_lists()].concat() {
            assert_ne!(violations(made), Vec::<String>::new(), "{what}");
        }
    }

    #[test]
    fn orders_that_time_contradicts() {
        let late = Made::new()
            .then(ok(6, r#"[["w","a",1]]"#))
            .then(ok(5, r#"[["w","b",1]]"#));
        assert_eq!(
            violations(late).len(),
            1,
            "the second began after the first had ended"
        );
        let old = Made::new()
            .then(ok(5, r#"[["w","a",1]]"#))
            .then(ok(6, r#"[["w","a",2]]"#))
            .then(ok(5, r#"[["r","a",1]]"#).mods(&[5]));
        assert_eq!(violations(old.clone()).len(), 1, "a read of the past");
        let causal = Made::new()
            .then(ok(8, r#"[["w","a",1]]"#))
            .then(ok(7, r#"[["r","b",null]]"#));
        assert_eq!(violations(causal).len(), 1);
        // At the same time any order is right, and so is the past for who asks for it.
        let beside = Made::new().beside(vec![ok(6, r#"[["w","a",1]]"#), ok(5, r#"[["w","b",1]]"#)]);
        assert_eq!(violations(beside), Vec::<String>::new());
        let stale = Made::new()
            .then(ok(5, r#"[["w","a",1]]"#))
            .then(ok(6, r#"[["w","a",2]]"#))
            .then(ok(5, r#"[["r","a",1]]"#).mods(&[5]).stale());
        assert_eq!(violations(stale), Vec::<String>::new());
    }
}
