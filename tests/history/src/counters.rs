//! Counters count: nothing that was acknowledged is missing, and nothing is counted twice.
//!
//! Lines `counter`, from `invoke` to `ok`: `{"counter": "c", "add": 1, "is": 17}` adds and is told what it is then;
//! `{"counter": "c", "is": 17}` looks. `rev` is the revision of the answer: an addition happens at it, a look sees all up
//! to it. What a counter is beyond the additions that were acknowledged by then are additions of unknown outcome: they can't
//! be more than were tried, and never get less.

use std::collections::{BTreeMap, HashMap};

use crate::Violation;
use crate::history::{History, Line, Process, Type};

const NAME: &str = "counters";

/// A call.
#[derive(Debug, Clone)]
struct Call {
    /// The revision, and whether it looks: looks see what happened at it.
    at: (u64, bool),
    begun: u64,
    ended: u64,
    add: u64,
    is: u64,
    index: u64,
    kind: Type,
}

/// Checks the counters of a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (counter, calls) in calls(history) {
        one(&counter, calls, &mut found);
    }
    found
}

fn calls(history: &History) -> BTreeMap<String, Vec<Call>> {
    let mut open: HashMap<&Process, Call> = HashMap::new();
    let mut calls: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    let name = |line: &Line| {
        line.value["counter"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for line in history.of("counter") {
        let number = |name: &str| line.value[name].as_u64().unwrap_or(0);
        if line.kind == Type::Invoke {
            let call = Call {
                at: (u64::MAX, false),
                begun: line.time,
                ended: u64::MAX,
                add: number("add"),
                is: 0,
                index: line.index,
                kind: Type::Info,
            };
            open.insert(&line.process, call);
        } else if let Some(mut call) = open.remove(&line.process) {
            (call.kind, call.index) = (line.kind, line.index);
            if line.kind == Type::Ok {
                call.at = (line.rev.unwrap_or(0), call.add == 0);
                (call.ended, call.is) = (line.time, number("is"));
            }
            calls.entry(name(line)).or_default().push(call);
        }
    }
    // Nobody has ever told how these ended.
    for line in history
        .of("counter")
        .filter(|line| line.kind == Type::Invoke)
    {
        if let Some(call) = open
            .get(&line.process)
            .filter(|call| call.index == line.index)
        {
            calls.entry(name(line)).or_default().push(call.clone());
        }
    }
    calls
}

fn one(counter: &str, calls: Vec<Call>, found: &mut Vec<Violation>) {
    let (mut known, others): (Vec<Call>, Vec<Call>) =
        calls.into_iter().partition(|call| call.kind == Type::Ok);
    let unknown: Vec<Call> = others
        .into_iter()
        .filter(|call| call.kind == Type::Info)
        .collect();
    known.sort_by_key(|call| call.at);
    let mut acknowledged = 0;
    let mut beyond = 0;
    let mut before: Option<u64> = None;
    for call in &known {
        let mut violation = |why: String| found.push(Violation::new(NAME, call.index, why));
        if call.add > 0 && before.replace(call.at.0) == Some(call.at.0) {
            violation(format!("two additions to {counter} at {}", call.at.0));
        }
        acknowledged += call.add;
        let tried = unknown.iter().filter(|other| other.begun < call.ended);
        let tried: u64 = tried.map(|other| other.add).sum();
        let Some(more) = call.is.checked_sub(acknowledged) else {
            let missing = acknowledged - call.is;
            violation(format!(
                "{missing} are missing in {counter} at {}",
                call.at.0
            ));
            continue;
        };
        if more < beyond {
            violation(format!(
                "{} got lost in {counter} by {}",
                beyond - more,
                call.at.0
            ));
        }
        if more > tried {
            violation(format!(
                "{counter} is {} at {}: {} too many, somebody is counted twice",
                call.is,
                call.at.0,
                more - tried
            ));
        }
        beyond = beyond.max(more);
    }
    real_time(counter, &known, found);
}

/// What began later stands later.
fn real_time(counter: &str, calls: &[Call], found: &mut Vec<Violation>) {
    let mut latest: Option<&Call> = None;
    for call in calls {
        if let Some(other) = latest.filter(|other| call.ended < other.begun) {
            let why = format!(
                "{counter} at {} had ended before line {} began, which stands before it",
                call.at.0, other.index
            );
            found.push(Violation::new(NAME, call.index, why));
        }
        if latest.is_none_or(|other| call.begun > other.begun) {
            latest = Some(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::Made;

    /// `+3@5`: an addition, told 3 at revision 5; `=3@5`: a look; `+?`: an addition of unknown outcome; `+!`: one that failed.
    fn violations(calls: &[&str]) -> usize {
        let mut made = Made::new();
        let mut revisions = Vec::new();
        for (at, call) in calls.iter().enumerate() {
            let by = format!("client {at}");
            let add = if call.starts_with('+') {
                r#","add":1"#
            } else {
                ""
            };
            let begin = format!(r#"{{"counter":"c"{add}}}"#);
            made = made.say(Type::Invoke, &by, "counter", &begin);
            revisions.push(None);
            let (kind, is) = match &call[1..] {
                "?" => (Type::Info, "0@0"),
                "!" => (Type::Fail, "0@0"),
                is => (Type::Ok, is),
            };
            let (is, revision) = is.split_once('@').expect("a revision");
            let end = format!(r#"{{"counter":"c"{add},"is":{is}}}"#);
            made = made.say(kind, &by, "counter", &end);
            revisions.push(revision.parse().ok());
        }
        let mut history = made.history();
        for (line, revision) in history.lines.iter_mut().zip(revisions) {
            line.rev = revision;
        }
        check(&history).len()
    }

    #[test]
    fn counters_count() {
        for good in [
            &["+1@5", "=1@5", "+2@6", "=2@9"][..],
            &["=0@4", "+1@5"],
            &["+1@5", "+?", "+2@7", "=3@8"],
            &["+?", "+2@7", "=2@8", "+!", "+3@9"],
        ] {
            assert_eq!(violations(good), 0, "{good:?}");
        }
        for bad in [
            &["+1@5", "+1@6"][..],
            &["+1@5", "=0@5"],
            &["+1@5", "=2@6"],
            &["+1@5", "+3@6"],
            &["+1@5", "+!", "=2@8"],
            &["+?", "+2@7", "=1@8"],
            &["+?", "+1@5", "=3@6"],
            &["+1@5", "+2@5"],
            &["=1@5", "+?"],
            &["+1@7", "=0@5"],
            &["+1@7", "=1@8", "=1@7"],
        ] {
            assert_ne!(violations(bad), 0, "{bad:?}");
        }
    }
}
