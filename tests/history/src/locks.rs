//! Locks with fencing tokens: whoever gets a lock later has the higher token, no two have the same, and where tokens
//! are checked nobody gets through with one that is older than one that did.
//!
//! Lines `lock`: `{"lock": "l", "token": 17}`, from `invoke` (without a token) to `ok`. Lines `guarded`, the same with
//! a token that was presented: `ok` if it was let through, `fail` if not. That a holder's lease is over while it doesn't
//! know can't be forbidden (it may be stopped); that it does harm can.

use std::collections::HashMap;

use crate::Violation;
use crate::history::{History, Line, Process, Type};

const NAME: &str = "locks";

/// A call that was answered well.
struct Call<'h> {
    line: &'h Line,
    begun: u64,
    lock: &'h str,
    token: u64,
}

/// Checks the locks of a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    rises("a lock", &calls(history, "lock"), true, &mut found);
    rises(
        "a guarded step",
        &calls(history, "guarded"),
        false,
        &mut found,
    );
    found
}

fn calls<'h>(history: &'h History, f: &'h str) -> Vec<Call<'h>> {
    let mut open: HashMap<&Process, u64> = HashMap::new();
    let mut calls = Vec::new();
    for line in history.of(f) {
        match line.kind {
            Type::Invoke => _ = open.insert(&line.process, line.time),
            Type::Ok => calls.push(Call {
                line,
                begun: open.remove(&line.process).unwrap_or(line.time),
                lock: line.value["lock"].as_str().unwrap_or_default(),
                token: line.value["token"].as_u64().unwrap_or(0),
            }),
            Type::Fail | Type::Info => _ = open.remove(&line.process),
        }
    }
    calls
}

/// Who began after another had ended has a token that isn't lower, or is higher.
fn rises(what: &str, calls: &[Call<'_>], strictly: bool, found: &mut Vec<Violation>) {
    let mut locks: HashMap<&str, Vec<&Call<'_>>> = HashMap::new();
    for call in calls {
        locks.entry(call.lock).or_default().push(call);
    }
    for (lock, mut calls) in locks {
        let mut ended = calls.clone();
        ended.sort_by_key(|call| call.line.time);
        calls.sort_by_key(|call| call.begun);
        let mut ended = ended.into_iter().peekable();
        // The highest token of those that had ended.
        let mut highest: Option<&Call<'_>> = None;
        let mut holders: HashMap<u64, u64> = HashMap::new();
        for call in calls {
            while let Some(other) = ended.next_if(|other| other.line.time < call.begun) {
                if highest.is_none_or(|highest| other.token > highest.token) {
                    highest = Some(other);
                }
            }
            let mut violation =
                |why: String| found.push(Violation::new(NAME, call.line.index, why));
            if let Some(highest) = highest
                && (call.token < highest.token || strictly && call.token == highest.token)
            {
                let line = highest.line.index;
                violation(format!(
                    "{what} of {lock} with token {} after {} in line {line}",
                    call.token, highest.token
                ));
            }
            if strictly && let Some(other) = holders.insert(call.token, call.line.index) {
                violation(format!(
                    "token {} of {lock} was given in line {other} too",
                    call.token
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::Made;

    /// `l7` takes the lock with token 7, `g7` does something with it, `G7` is refused.
    fn found(calls: &[&str]) -> usize {
        let made = calls
            .iter()
            .enumerate()
            .fold(Made::new(), |made, (at, call)| {
                let (what, token) = call.split_at(1);
                let f = if what == "l" { "lock" } else { "guarded" };
                let value = format!(r#"{{"lock":"x","token":{token}}}"#);
                let by = format!("client {at}");
                let end = if what == "G" { Type::Fail } else { Type::Ok };
                made.say(Type::Invoke, &by, f, &value)
                    .say(end, &by, f, &value)
            });
        check(&made.history()).len()
    }

    #[test]
    fn tokens_rise() {
        assert_eq!(found(&["l5", "g5", "g5", "l8", "g8", "G5", "l9"]), 0);
        for bad in [
            &["l5", "l4"][..],
            &["l5", "l5"],
            &["l5", "l8", "g8", "g5"],
            &["l5", "g5", "l6", "g6", "l3"],
        ] {
            assert_ne!(found(bad), 0, "{bad:?}");
        }
    }

    #[test]
    fn the_same_token_at_the_same_time() {
        let value = r#"{"lock":"x","token":3}"#;
        let made = Made::new()
            .say(Type::Invoke, "a", "lock", value)
            .say(Type::Invoke, "b", "lock", value)
            .say(Type::Ok, "a", "lock", value)
            .say(Type::Ok, "b", "lock", value);
        assert_eq!(check(&made.history()).len(), 1);
    }
}
