//! What was acknowledged is there in the end, unless something later has taken its place; and nothing else is. And so
//! it is at the revision of each listing on the way.
//!
//! A line `final` is all that the store holds after it has healed: `[[key, value, revision of its last change], …]`,
//! with the revision as of which it was read in `rev`. Lines `list` are the same of a prefix (`sets`).

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::Violation;
use crate::history::{History, Line, Outcome};
use crate::replay::Order;
use crate::sets::{Listing, listings};

const NAME: &str = "last";

/// What each key is, and since when.
type State<'o> = BTreeMap<&'o str, (&'o Value, u64)>;

/// Checks the last states of a history, and its listings.
pub fn check(history: &History, order: &Order) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut listed: Vec<(u64, &Line, &str, &Value)> = Vec::new();
    let listings = listings(history);
    let all = history.of("final").map(|line| (line, "", &line.value));
    let some = listings
        .iter()
        .map(|l| (l.line, l.prefix, &l.line.value["items"]));
    for (line, prefix, entries) in all.chain(some) {
        match line.rev {
            Some(revision) => listed.push((revision, line, prefix, entries)),
            None => found.push(Violation::new(NAME, line.index, "it has no revision")),
        }
    }
    listed.sort_by_key(|(revision, line, ..)| (*revision, line.index));
    let mut state = State::new();
    let mut writes = order.writes.iter().peekable();
    for (revision, line, prefix, entries) in listed {
        while let Some((at, written)) = writes.next_if(|(at, _)| **at <= revision) {
            for (key, value) in written {
                match value {
                    Some(value) => _ = state.insert(key, (value, *at)),
                    None => _ = state.remove(&key[..]),
                }
            }
        }
        let mut violation = |why: String| found.push(Violation::new(NAME, line.index, why));
        registers(&state, (order, revision), prefix, entries, &mut violation);
        lists(order, revision, prefix, entries, &mut violation);
    }
    real_time(history, &listings, &mut found);
    found
}

fn entries_of(entries: &Value) -> impl Iterator<Item = (&str, &Value, &Value)> {
    let entries = entries.as_array().into_iter().flatten();
    entries.map(|entry| (entry[0].as_str().unwrap_or_default(), &entry[1], &entry[2]))
}

fn registers(
    state: &State<'_>,
    (order, revision): (&Order, u64),
    prefix: &str,
    entries: &Value,
    violation: &mut impl FnMut(String),
) {
    let under = state
        .range(prefix..)
        .take_while(|(key, _)| key.starts_with(prefix));
    let mut expected: State<'_> = under.map(|(key, value)| (*key, *value)).collect();
    for (key, seen_at) in order.gone.iter().filter(|(_, at)| *at <= revision) {
        if expected.get(&key[..]).is_some_and(|(_, at)| at < seen_at) {
            expected.remove(&key[..]);
        }
    }
    for (key, value, at) in entries_of(entries).filter(|(_, value, _)| !value.is_array()) {
        match expected.remove(key) {
            None => violation(format!(
                "{key} is there, and nobody wrote it, or it was removed"
            )),
            Some((written, written_at)) if value != written || *at != written_at => {
                violation(format!(
                    "{key} is {value} of {at}, and {written} was written at {written_at}"
                ));
            }
            Some(_) => {}
        }
    }
    let seen_gone: HashSet<&str> = order.gone.iter().map(|(key, _)| &key[..]).collect();
    for (key, (value, at)) in expected {
        // Since when isn't known of those that were seen gone later.
        if !order.may_be_gone.contains(key) && !seen_gone.contains(key) {
            violation(format!("{key} is lost: {value} was written at {at}"));
        }
    }
}

/// A list has what was appended, in that order; what perhaps was, once at most.
fn lists(
    order: &Order,
    revision: u64,
    prefix: &str,
    entries: &Value,
    violation: &mut impl FnMut(String),
) {
    let is: BTreeMap<&str, &Value> = entries_of(entries)
        .filter(|(_, value, _)| value.is_array())
        .map(|(key, value, _)| (key, value))
        .collect();
    let under = order
        .lists
        .iter()
        .filter(|(key, _)| key.starts_with(prefix));
    let appended: BTreeMap<&str, &Vec<(String, u64)>> =
        under.map(|(key, list)| (&key[..], list)).collect();
    let keys: std::collections::BTreeSet<&str> =
        is.keys().chain(appended.keys()).copied().collect();
    for key in keys {
        let expected = appended.get(key).into_iter().flat_map(|list| list.iter());
        let expected = expected.filter(|(_, at)| *at <= revision);
        let mut expected = expected.map(|(element, _)| &element[..]).peekable();
        let mut seen = HashSet::new();
        for element in is
            .get(key)
            .and_then(|list| list.as_array())
            .into_iter()
            .flatten()
        {
            let element = element.to_string();
            if expected.next_if(|expected| *expected == element).is_some() {
                seen.insert(element);
            } else if !seen.insert(element.clone()) {
                violation(format!("{element} is twice in {key}"));
            } else if !order.perhaps.contains(&(key.to_owned(), element.clone())) {
                violation(format!(
                    "{element} is in {key} out of its order, or nobody appended it"
                ));
            }
        }
        for element in expected {
            violation(format!("{element} of {key} is lost"));
        }
    }
}

/// What had ended before a listing began is in it, and what began after it had ended isn't.
fn real_time(history: &History, listings: &[Listing<'_>], found: &mut Vec<Violation>) {
    let operations = history.operations();
    // Plain reads of single keys name no revision, and stand nowhere.
    let answered = operations
        .iter()
        .filter(|o| o.outcome == Outcome::Ok && !o.stale && o.rev > 0);
    // Who looks at a revision stands behind what was written at it.
    let place = |revision: u64, looks: bool| 2 * revision + u64::from(looks);
    let mut spans: Vec<(u64, u64, u64, u64)> = answered
        .map(|o| (place(o.rev, !o.writes()), o.begun, o.ended, o.index))
        .collect();
    let lines: HashSet<u64> = listings.iter().map(|listing| listing.line.index).collect();
    spans.extend(listings.iter().filter_map(|listing| {
        let line = listing.line;
        Some((place(line.rev?, true), listing.begun, line.time, line.index))
    }));
    spans.sort_unstable();
    // The latest beginning before this place, and whose it is; of what only operations did `replay` speaks.
    let mut latest: Option<(u64, u64)> = None;
    let mut behind: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    for (place, begun, ended, index) in spans {
        if place > at {
            latest = behind.drain(..).chain(latest).max();
            at = place;
        }
        behind.push((begun, index));
        if let Some((later, other)) = latest.filter(|(later, _)| ended < *later)
            && (lines.contains(&index) || lines.contains(&other))
        {
            let why =
                format!("it had ended before line {other} began ({later}), which stands before it");
            found.push(Violation::new(NAME, index, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, ok, unknown};
    use crate::history::Type;
    use crate::replay;

    fn at_nine(made: Made) -> usize {
        let mut history = made.history();
        history.lines.last_mut().expect("a line").rev = Some(9);
        let order = replay::check(&history).order;
        check(&history, &order).len()
    }

    fn in_the_end(state: &str) -> usize {
        let made = Made::new()
            .then(ok(5, r#"[["w","a",1]]"#))
            .then(ok(6, r#"[["w","b",1],["w","c",1]]"#))
            .then(ok(7, r#"[["w","a",2]]"#))
            .then(ok(8, r#"[["d","b"]]"#))
            .then(unknown(r#"[["w","d",1]]"#))
            .say(Type::Ok, "harness", "final", state);
        at_nine(made)
    }

    #[test]
    fn nothing_is_lost_and_nothing_is_back() {
        assert_eq!(in_the_end(r#"[["a",2,7],["c",1,6]]"#), 0);
        assert_eq!(
            in_the_end(r#"[["a",2,7],["c",1,6],["d",1,9]]"#),
            0,
            "it did happen"
        );
        for bad in [
            r#"[["a",2,7]]"#,
            r#"[["a",1,5],["c",1,6]]"#,
            r#"[["a",2,7],["b",1,6],["c",1,6]]"#,
            r#"[["a",2,8],["c",1,6]]"#,
            r#"[["a",2,7],["c",1,6],["e",1,6]]"#,
            r#"[]"#,
        ] {
            assert_ne!(in_the_end(bad), 0, "{bad}");
        }
    }

    #[test]
    fn lists_have_all_their_elements() {
        let end = |state: &str| {
            let made = Made::new()
                .then(ok(5, r#"[["append","l",1],["append","m",1]]"#))
                .then(ok(6, r#"[["append","l",2]]"#))
                .then(unknown(r#"[["append","l",3]]"#))
                .then(ok(7, r#"[["append","l",4]]"#))
                .then(ok(10, r#"[["append","l",5]]"#));
            at_nine(made.say(Type::Ok, "harness", "final", state))
        };
        for good in [
            r#"[["l",[1,2,4],7],["m",[1],5]]"#,
            r#"[["l",[1,2,4,3],8],["m",[1],5]]"#,
            r#"[["l",[3,1,2,4],8],["m",[1],5]]"#,
        ] {
            assert_eq!(end(good), 0, "{good}");
        }
        for bad in [
            r#"[["l",[1,2,4],7]]"#,
            r#"[["l",[1,2],7],["m",[1],5]]"#,
            r#"[["l",[1,4],7],["m",[1],5]]"#,
            r#"[["l",[2,1,4],7],["m",[1],5]]"#,
            r#"[["l",[1,2,4,4],7],["m",[1],5]]"#,
            r#"[["l",[1,2,4,3,3],7],["m",[1],5]]"#,
            r#"[["l",[1,2,4,5],7],["m",[1],5]]"#,
            r#"[["l",[1,2,4],7],["m",[1],5],["n",[6],5]]"#,
            r#"[["l",[1,2,4],7],["m",[],5]]"#,
        ] {
            assert_ne!(end(bad), 0, "{bad}");
        }
    }

    /// A listing of `/s/` at a revision, between writes at 5, 6 and 8; the last begins after it.
    fn listed(at: u64, items: &str) -> usize {
        let value = format!(r#"{{"prefix":"/s/","items":{items}}}"#);
        let made = Made::new()
            .then(ok(5, r#"[["w","/s/a",1],["w","/t/a",1]]"#))
            .then(ok(6, r#"[["w","/s/b",1]]"#))
            .say(Type::Invoke, "x", "list", r#"{"prefix":"/s/"}"#)
            .say(Type::Ok, "x", "list", &value)
            .then(ok(8, r#"[["w","/s/a",2]]"#))
            // A plain read of one key.
            .then(ok(0, r#"[["r","/t/a",1]]"#));
        let mut history = made.history();
        history.lines[5].rev = Some(at);
        let order = replay::check(&history).order;
        check(&history, &order).len()
    }

    #[test]
    fn listings_are_of_their_revision() {
        assert_eq!(listed(6, r#"[["/s/a",1,5],["/s/b",1,6]]"#), 0);
        assert_eq!(listed(7, r#"[["/s/a",1,5],["/s/b",1,6]]"#), 0);
        for (at, bad) in [
            (6, r#"[["/s/a",1,5]]"#),
            (6, r#"[["/s/a",1,5],["/s/b",1,6],["/t/a",1,5]]"#),
            (6, r#"[["/s/a",1,5],["/s/b",1,5]]"#),
            (5, r#"[["/s/a",1,5]]"#),
            (8, r#"[["/s/a",2,8],["/s/b",1,6]]"#),
            (9, r#"[["/s/a",2,8],["/s/b",1,6]]"#),
        ] {
            assert_ne!(listed(at, bad), 0, "{at}: {bad}");
        }
    }
}
