//! A request that has a name happens once, however often it was sent.

use std::collections::HashMap;

use crate::Violation;
use crate::history::{History, Outcome, Step};

const NAME: &str = "once";

/// Checks the names of a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut named: HashMap<&str, (u64, u64)> = HashMap::new();
    let operations = history.operations();
    for operation in operations
        .iter()
        .filter(|o| o.outcome == Outcome::Ok && o.writes())
    {
        let Some(name) = &operation.idem else {
            continue;
        };
        let (at, first) = *named
            .entry(name)
            .or_insert((operation.rev, operation.index));
        if at != operation.rev {
            let why = format!(
                "{name} happened at {at} (line {first}) and at {}",
                operation.rev
            );
            found.push(Violation::new(NAME, operation.index, why));
        }
    }
    // A value was written once, so all who saw it saw it as of the same revision.
    let mut seen: HashMap<(&str, String), (u64, u64)> = HashMap::new();
    for operation in operations.iter().filter(|o| o.outcome == Outcome::Ok) {
        for (step, at) in operation.steps.iter().zip(&operation.mods) {
            let Step::Read(key, value) = step else {
                continue;
            };
            if *at == 0 || value.is_null() || value.is_array() {
                continue;
            }
            let entry = seen.entry((key, value.to_string()));
            let (before, first) = *entry.or_insert((*at, operation.index));
            if before != *at {
                let why = format!("{value} of {key} is of {at}, and of {before} in line {first}");
                found.push(Violation::new(NAME, operation.index, why));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, ok, unknown};

    #[test]
    fn a_name_happens_once() {
        let write = r#"[["w","a",1]]"#;
        let good = Made::new()
            .then(unknown(write).idem("x"))
            .then(ok(5, write).idem("x"))
            .then(ok(5, write).idem("x"))
            .then(ok(6, r#"[["r","a",1]]"#).mods(&[5]));
        assert_eq!(check(&good.history()), []);
        let twice = Made::new()
            .then(ok(5, write).idem("x"))
            .then(ok(6, write).idem("x"));
        assert_eq!(check(&twice.history()).len(), 1);
        // Its first time was never answered, and somebody saw it.
        let again = Made::new()
            .then(unknown(write).idem("x"))
            .then(ok(4, r#"[["r","a",1]]"#).mods(&[3]))
            .then(ok(5, r#"[["w","a",2]]"#))
            .then(ok(6, r#"[["r","a",1]]"#).mods(&[6]));
        assert_eq!(check(&again.history()).len(), 1);
    }
}
