//! A fault that didn't happen, or that nothing was done during, proves nothing: such a run has failed.
//!
//! The header says what was meant to happen: `{"nemesis": ["kill"], "least": {"all": 1000, "during": 50, "after": 20}}`.
//! A fault begins and ends with lines of the process `nemesis`, whose `f` is its name and whose value has the `step`
//! `begin` or `end`. With `"effects": true` in the header the line of the end says how much of the fault was felt, in
//! `effect`: something, or it wasn't there.

use crate::Violation;
use crate::history::{History, Outcome, Process};

const NAME: &str = "coverage";

/// Checks that a history is worth checking; one without a header asks for nothing.
pub fn check(history: &History) -> Vec<Violation> {
    let Some(header) = history.of("header").next() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut violation = |why: String| found.push(Violation::new(NAME, header.index, why));
    let faults = faults(history);
    for wanted in header.value["nemesis"].as_array().into_iter().flatten() {
        let wanted = wanted.as_str().unwrap_or_default();
        if !faults.iter().any(|(name, ..)| name == wanted) {
            violation(format!("{wanted} never happened"));
        }
    }
    if header.value["effects"] == true {
        for (name, begun, ..) in faults.iter().filter(|fault| fault.3 == 0) {
            violation(format!(
                "nothing was felt of {name}, which began at {begun}"
            ));
        }
    }
    let times: Vec<(u64, u64)> = history
        .operations()
        .iter()
        .filter(|operation| operation.outcome == Outcome::Ok)
        .map(|operation| (operation.begun, operation.ended))
        .collect();
    let least = |name: &str| header.value["least"][name].as_u64().unwrap_or(0);
    let mut at_least = |what: &str, count: usize, least: u64| {
        if (count as u64) < least {
            violation(format!(
                "{count} answers {what}, and at least {least} are wanted"
            ));
        }
    };
    at_least("in all", times.len(), least("all"));
    for (name, begun, ended, _) in &faults {
        let during = times
            .iter()
            .filter(|(begin, end)| begin >= begun && end <= ended);
        at_least(&format!("during {name}"), during.count(), least("during"));
    }
    let last = faults
        .iter()
        .map(|(_, _, ended, _)| *ended)
        .max()
        .unwrap_or(0);
    let after = times.iter().filter(|(begin, _)| *begin > last);
    at_least("after the last fault", after.count(), least("after"));
    found
}

/// A fault: name, begin, end, how much of it was felt.
type Fault = (String, u64, u64, u64);

fn faults(history: &History) -> Vec<Fault> {
    let nemesis = Process::Other("nemesis".to_owned());
    let mut faults: Vec<Fault> = Vec::new();
    for line in history.lines.iter().filter(|line| line.process == nemesis) {
        match line.value["step"].as_str() {
            Some("begin") => faults.push((line.f.clone(), line.time, u64::MAX, 0)),
            Some("end") => {
                let open = |fault: &&mut Fault| fault.0 == line.f && fault.2 == u64::MAX;
                if let Some(fault) = faults.iter_mut().rev().find(open) {
                    fault.2 = line.time;
                    fault.3 = line.value["effect"].as_u64().unwrap_or(0);
                }
            }
            _ => {}
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, ok};
    use crate::history::Type;

    fn run(header: &str, during: usize, after: usize) -> usize {
        let mut made = Made::new()
            .say(Type::Info, "harness", "header", header)
            .then(ok(1, r#"[["r","a",null]]"#))
            .say(Type::Info, "nemesis", "kill", r#"{"step":"begin"}"#);
        for _ in 0..during {
            made = made.then(ok(1, r#"[["r","a",null]]"#));
        }
        made = made.say(Type::Info, "nemesis", "kill", r#"{"step":"end"}"#);
        for _ in 0..after {
            made = made.then(ok(1, r#"[["r","a",null]]"#));
        }
        check(&made.history()).len()
    }

    #[test]
    fn what_was_meant_to_happen_did() {
        let header = r#"{"nemesis":["kill"],"least":{"all":5,"during":2,"after":2}}"#;
        assert_eq!(run(header, 2, 2), 0);
        assert_eq!(run(header, 1, 3), 1, "too little during the fault");
        assert_eq!(run(header, 3, 1), 1, "too little after it");
        assert_eq!(run(header, 2, 1), 2, "and too little in all");
        let other = r#"{"nemesis":["kill","pause"]}"#;
        assert_eq!(run(other, 2, 2), 1, "a fault that never happened");
    }

    #[test]
    fn what_happened_was_felt() {
        let felt = |header: &str, end: &str| {
            let made = Made::new()
                .say(Type::Info, "harness", "header", header)
                .say(Type::Info, "nemesis", "cut", r#"{"step":"begin"}"#)
                .say(Type::Info, "nemesis", "cut", end);
            check(&made.history()).len()
        };
        let header = r#"{"nemesis":["cut"],"effects":true}"#;
        assert_eq!(felt(header, r#"{"step":"end","effect":3}"#), 0);
        assert_eq!(felt(header, r#"{"step":"end","effect":0}"#), 1);
        assert_eq!(felt(header, r#"{"step":"end"}"#), 1);
        assert_eq!(felt(header, r#"{"step":"middle"}"#), 1, "it has no end");
        assert_eq!(felt(r#"{"nemesis":["cut"]}"#, r#"{"step":"end"}"#), 0);
    }
}
