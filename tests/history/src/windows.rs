//! Single keys are linearizable, whatever the revisions say: the search of Wing and Gong with the memory of Lowe (what
//! was done and what came of it is looked at once), on stretches between moments at which nothing was under way.
//!
//! It takes time that grows fast with what is under way at once; a key that takes too long is checked up to there, and
//! [`check`] says so only if nothing of any key could be: `replay` checks them too.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::Violation;
use crate::history::{History, Operation, Outcome, Step};

const NAME: &str = "windows";
/// Operations of a stretch; a key with a longer one isn't checked.
const STRETCH_MAX: usize = 300;
/// What is looked at of a stretch.
const STATES_MAX: usize = 1_000_000;

/// What an operation does to one register.
#[derive(Debug, Clone)]
struct Call {
    index: u64,
    begun: u64,
    ended: u64,
    does: Does,
}

#[derive(Debug, Clone)]
enum Does {
    Read(Value),
    /// If the register is what is given, or whatever it is.
    Write {
        if_is: Option<Value>,
        value: Value,
    },
    /// The register isn't what is given.
    Differs(Value),
}

impl Call {
    /// The register afterwards; `None`: it can't be.
    fn applied(&self, register: &Value) -> Option<Value> {
        match &self.does {
            Does::Read(value) => (value == register).then(|| register.clone()),
            Does::Write { if_is, value } => match if_is {
                Some(wanted) if wanted != register => None,
                _ => Some(value.clone()),
            },
            Does::Differs(value) => (value != register).then(|| register.clone()),
        }
    }
}

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Wrong,
    /// So many calls were looked at before it took too long.
    TooLarge(usize),
}

/// Checks each key by itself.
pub fn check(history: &History) -> Vec<Violation> {
    let mut keys: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    for operation in history.operations() {
        for (key, call) in calls(&operation) {
            keys.entry(key).or_default().push(call);
        }
    }
    let mut found = Vec::new();
    let mut unchecked = 0;
    for (key, calls) in &keys {
        let last = calls.last().map_or(0, |call| call.index);
        match linearizable(calls) {
            Verdict::Fine => {}
            Verdict::Wrong => {
                found.push(Violation::new(
                    NAME,
                    last,
                    format!("{key} isn't linearizable"),
                ));
            }
            // What came before it was checked.
            Verdict::TooLarge(checked) => unchecked += usize::from(checked == 0),
        }
    }
    if unchecked > 0 && unchecked == keys.len() {
        found.push(Violation::new(
            NAME,
            0,
            "no key could be checked: too much at once",
        ));
    }
    found
}

/// What an operation is to each register that it touches; what it does to others doesn't matter to this one.
fn calls(operation: &Operation) -> Vec<(String, Call)> {
    let known = operation.outcome == Outcome::Ok;
    if operation.outcome == Outcome::Fail || operation.stale {
        return Vec::new();
    }
    let call = |key: &str, does| {
        let call = Call {
            index: operation.index,
            begun: operation.begun,
            ended: operation.ended,
            does,
        };
        (key.to_owned(), call)
    };
    if known && !operation.held {
        return match &operation.compares[..] {
            [(key, value)] => vec![call(key, Does::Differs(value.clone()))],
            // Any of them may be what didn't hold.
            _ => Vec::new(),
        };
    }
    let mut keys: BTreeMap<&str, (Option<Value>, Option<Value>)> = BTreeMap::new();
    for (key, value) in &operation.compares {
        keys.insert(key, (Some(value.clone()), None));
    }
    for step in &operation.steps {
        let (if_is, written) = keys.entry(step.key()).or_default();
        match step {
            Step::Read(_, value) if known && written.is_none() && !value.is_array() => {
                *if_is = Some(value.clone());
            }
            Step::Read(..) => {}
            Step::Write(_, value) => *written = Some(value.clone()),
            Step::Delete(_) => *written = Some(Value::Null),
            // A list is no register.
            Step::Append(..) => {}
        }
    }
    let calls = keys.into_iter().filter_map(|(key, does)| match does {
        (if_is, Some(value)) => Some(call(key, Does::Write { if_is, value })),
        (Some(value), None) if known => Some(call(key, Does::Read(value))),
        (_, None) => None,
    });
    calls.collect()
}

fn linearizable(calls: &[Call]) -> Verdict {
    let mut calls: Vec<&Call> = calls.iter().collect();
    calls.sort_by_key(|call| call.begun);
    // What a register may be at the end of the stretches so far, with the calls of unknown outcome that are open.
    let mut possible: HashSet<(String, Vec<usize>)> =
        HashSet::from([("null".to_owned(), Vec::new())]);
    let mut at = 0;
    while at < calls.len() {
        let stretch = stretch(&calls[at..]);
        if stretch > STRETCH_MAX {
            return Verdict::TooLarge(at);
        }
        let mut after = HashSet::new();
        let mut budget = STATES_MAX;
        for (register, open) in &possible {
            let register: Value = serde_json::from_str(register).unwrap_or(Value::Null);
            let open = open.iter().map(|&at| (at, calls[at]));
            let these = (at..at + stretch).map(|at| (at, calls[at]));
            let all: Vec<(usize, &Call)> = open.chain(these).collect();
            match search(&all, register, &mut budget) {
                Some(ends) => after.extend(ends),
                None => return Verdict::TooLarge(at),
            }
        }
        if after.is_empty() {
            return Verdict::Wrong;
        }
        possible = after;
        at += stretch;
    }
    Verdict::Fine
}

/// How many calls from the first on belong together, as somebody is always under way; those without an end aside.
fn stretch(calls: &[&Call]) -> usize {
    let mut until = 0;
    for (at, call) in calls.iter().enumerate() {
        if at > 0 && call.begun > until {
            return at;
        }
        if call.ended != u64::MAX {
            until = until.max(call.ended);
        } else {
            until = until.max(call.begun);
        }
    }
    calls.len()
}

/// All that the register may be once each call that has an end has been done, with the others that haven't; `None`: that
/// takes too long.
fn search(
    calls: &[(usize, &Call)],
    register: Value,
    budget: &mut usize,
) -> Option<HashSet<(String, Vec<usize>)>> {
    let mut ends = HashSet::new();
    // What was done of the calls that end and the register, with what was done of the others: who got as far with fewer
    // of these can do all that is left to who needed more.
    let mut seen: HashMap<(Vec<bool>, String), Vec<Vec<bool>>> = HashMap::new();
    let never_ends = |at: usize| calls[at].1.ended == u64::MAX;
    let (open, ending): (Vec<usize>, Vec<usize>) = (0..calls.len()).partition(|at| never_ends(*at));
    // By how many of the others were done: who needed fewer comes first.
    let mut next = BTreeMap::from([(0, vec![(vec![false; calls.len()], register)])]);
    while let Some(mut level) = next.first_entry() {
        let Some((done, register)) = level.get_mut().pop() else {
            level.remove();
            continue;
        };
        let part = |of: &[usize]| of.iter().map(|at| done[*at]).collect::<Vec<bool>>();
        let used = part(&open);
        let before = seen
            .entry((part(&ending), register.to_string()))
            .or_default();
        if before.iter().any(|fewer| is_part(fewer, &used)) {
            continue;
        }
        before.push(used);
        *budget = budget.checked_sub(1)?;
        let left = |of: &[usize]| of.iter().copied().filter(|at| !done[*at]).collect();
        let (left_open, left_ending): (Vec<usize>, Vec<usize>) = (left(&open), left(&ending));
        if left_ending.is_empty() {
            // Those that never end can as well be done later.
            let open = left_open.into_iter().map(|at| calls[at].0).collect();
            ends.insert((register.to_string(), open));
            continue;
        }
        // Who began after one of those that are left had ended comes after it.
        let first_end = left_ending.iter().map(|at| calls[*at].1.ended).min();
        let needed = open.len() - left_open.len();
        for at in left_open.into_iter().chain(left_ending) {
            let call = calls[at].1;
            if Some(call.begun) > first_end {
                continue;
            }
            if let Some(register) = call.applied(&register) {
                let mut done = done.clone();
                done[at] = true;
                let needed = needed + usize::from(never_ends(at));
                next.entry(needed).or_default().push((done, register));
            }
        }
    }
    Some(ends)
}

/// Whether all that is in the first is in the second.
fn is_part(one: &[bool], other: &[bool]) -> bool {
    one.iter().zip(other).all(|(one, other)| *other || !*one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, failed, ok, unknown};

    fn is_fine(made: Made) -> bool {
        check(&made.history()).is_empty()
    }

    #[test]
    fn what_takes_too_long_is_checked_up_to_there() {
        let read = |begun, ended| Call {
            index: begun,
            begun,
            ended,
            does: Does::Read(Value::Null),
        };
        let many = (0..=STRETCH_MAX as u64).map(|n| read(100 + n, 10_000));
        let many: Vec<Call> = many.collect();
        assert_eq!(linearizable(&many), Verdict::TooLarge(0));
        let more: Vec<Call> = [read(1, 2)].into_iter().chain(many).collect();
        assert_eq!(linearizable(&more), Verdict::TooLarge(1));
    }

    #[test]
    fn registers() {
        let w = |value: u32| format!(r#"[["w","a",{value}]]"#);
        let r = |value: &str| format!(r#"[["r","a",{value}]]"#);
        let begin = || Made::new().then(ok(1, &r("null"))).then(ok(2, &w(1)));
        assert!(is_fine(begin().then(ok(2, &r("1")))));
        assert!(!is_fine(begin().then(ok(2, &r("null")))), "a lost write");
        assert!(
            !is_fine(begin().then(failed(&w(2))).then(ok(2, &r("2")))),
            "it failed"
        );
        assert!(
            !is_fine(begin().then(ok(3, &w(2))).then(ok(3, &r("1")))),
            "a stale read"
        );
        // At the same time either may be first, but all see the same.
        let both = || begin().beside(vec![ok(3, &w(2)), ok(3, &w(3))]);
        assert!(is_fine(both().then(ok(3, &r("2")))));
        assert!(is_fine(both().then(ok(3, &r("3")))));
        assert!(!is_fine(both().then(ok(3, &r("2"))).then(ok(3, &r("3")))));
        assert!(!is_fine(both().then(ok(3, &r("1")))));
        // What nobody knows may happen at any time, and once.
        let open = || begin().then(unknown(&w(2)));
        assert!(is_fine(
            open()
                .then(ok(3, &r("1")))
                .then(ok(3, &r("2")))
                .then(ok(3, &r("2")))
        ));
        assert!(!is_fine(open().then(ok(3, &r("2"))).then(ok(3, &r("1")))));
        let again = open()
            .then(ok(3, &r("2")))
            .then(ok(4, &w(4)))
            .then(ok(3, &r("2")));
        assert!(!is_fine(again), "it happened twice");
    }

    #[test]
    fn compares() {
        let cas = |from: u32, to: u32, held: bool| {
            let steps = format!(r#"[["w","a",{to}]]"#);
            ok(3, &steps).when(&format!(r#"[["a",{from}]]"#), held)
        };
        let begin = || Made::new().then(ok(2, r#"[["w","a",1]]"#));
        assert!(is_fine(
            begin().then(cas(1, 2, true)).then(cas(1, 3, false))
        ));
        assert!(!is_fine(begin().then(cas(2, 3, true))));
        assert!(!is_fine(begin().then(cas(1, 3, false))));
        assert!(
            !is_fine(begin().beside(vec![cas(1, 2, true), cas(1, 3, true)])),
            "only one can"
        );
        assert!(is_fine(
            begin().beside(vec![cas(1, 2, true), cas(2, 3, true)])
        ));
        let deleted = begin().then(ok(4, r#"[["d","a"]]"#));
        assert!(is_fine(deleted.clone().then(ok(4, r#"[["r","a",null]]"#))));
        assert!(!is_fine(deleted.then(ok(4, r#"[["r","a",1]]"#))));
    }

    #[test]
    fn several_registers_at_once() {
        let begin = || {
            Made::new()
                .then(ok(2, r#"[["w","a",1],["w","b",1]]"#))
                .then(ok(3, r#"[["r","a",1],["w","b",2]]"#))
        };
        assert!(is_fine(begin().then(ok(3, r#"[["r","a",1],["r","b",2]]"#))));
        assert!(!is_fine(begin().then(ok(3, r#"[["r","b",1]]"#))));
        let reads_it = begin().then(ok(4, r#"[["r","b",1],["w","b",3]]"#));
        assert!(!is_fine(reads_it), "what is read is what is written over");
        let own = begin().then(ok(4, r#"[["w","b",3],["r","b",3]]"#));
        assert!(is_fine(own));
    }

    /// Writes that nobody knows of, in each stretch anew, don't double the work each time.
    #[test]
    fn many_unknown_writes() {
        let round = |made: Made, n: u64| {
            let known = format!(r#"[["w","a",{}]]"#, 2 * n);
            let read = format!(r#"[["r","a",{}]]"#, 2 * n);
            made.then(unknown(&format!(r#"[["w","a",{}]]"#, 2 * n + 1)))
                .then(ok(n, &known))
                .then(ok(n, &read))
        };
        let good = (1..60).fold(Made::new(), round);
        assert!(is_fine(good.clone()));
        assert!(is_fine(good.clone().then(ok(60, r#"[["r","a",31]]"#))));
        let twice = good
            .then(ok(60, r#"[["r","a",31]]"#))
            .then(ok(61, r#"[["w","a",500]]"#))
            .then(ok(61, r#"[["r","a",31]]"#));
        assert!(!is_fine(twice));
    }

    /// Agrees with trying all orders, on many small histories.
    #[test]
    fn agrees_with_brute_force() {
        let mut seed = 7_u64;
        let mut roll = |sides: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % sides
        };
        let (mut fine, mut wrong) = (0, 0);
        for _ in 0..3000 {
            let mut calls: Vec<Call> = (0..5)
                .map(|index| {
                    let begun = roll(20);
                    let value = Value::from(roll(3));
                    let does = match roll(4) {
                        0 | 1 => Does::Read(value),
                        2 => Does::Write { if_is: None, value },
                        _ => Does::Write {
                            if_is: Some(Value::from(roll(3))),
                            value,
                        },
                    };
                    let ends = !matches!(does, Does::Write { .. }) || roll(4) > 0;
                    let ended = if ends { begun + 1 + roll(10) } else { u64::MAX };
                    Call {
                        index,
                        begun,
                        ended,
                        does,
                    }
                })
                .collect();
            calls.sort_by_key(|call| call.begun);
            let expected = brute_force(&calls, &mut vec![], &Value::Null);
            let found = linearizable(&calls);
            assert_eq!(found == Verdict::Fine, expected, "{calls:?}");
            if expected { fine += 1 } else { wrong += 1 }
        }
        assert!(fine > 100 && wrong > 100, "{fine} {wrong}");
    }

    fn brute_force(calls: &[Call], done: &mut Vec<usize>, register: &Value) -> bool {
        let left: Vec<usize> = (0..calls.len()).filter(|at| !done.contains(at)).collect();
        if left.iter().all(|at| calls[*at].ended == u64::MAX) {
            return true;
        }
        let first_end = left
            .iter()
            .map(|at| calls[*at].ended)
            .min()
            .unwrap_or(u64::MAX);
        left.iter().any(|&at| {
            if calls[at].begun > first_end {
                return false;
            }
            calls[at].applied(register).is_some_and(|register| {
                done.push(at);
                let fine = brute_force(calls, done, &register);
                done.pop();
                fine
            })
        })
    }
}
