//! What was acknowledged is there in the end, unless something later has taken its place; and nothing else is.
//!
//! A line `final` is all that the store holds after it has healed: `[[key, value, revision of its last change], …]`,
//! with the revision as of which it was read in `rev`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Violation;
use crate::history::History;
use crate::replay::Order;

const NAME: &str = "last";

/// Checks the last states of a history.
pub fn check(history: &History, order: &Order) -> Vec<Violation> {
    let mut found = Vec::new();
    for line in history.of("final") {
        let mut violation = |why: String| found.push(Violation::new(NAME, line.index, why));
        let Some(revision) = line.rev else {
            violation("it has no revision".to_owned());
            continue;
        };
        let mut expected: BTreeMap<&str, (&Value, u64)> = BTreeMap::new();
        for (at, writes) in order.writes.range(..=revision) {
            for (key, value) in writes {
                match value {
                    Some(value) => _ = expected.insert(key, (value, *at)),
                    None => _ = expected.remove(&key[..]),
                }
            }
        }
        for (key, seen_at) in &order.gone {
            if expected.get(&key[..]).is_some_and(|(_, at)| at < seen_at) {
                expected.remove(&key[..]);
            }
        }
        for entry in line.value.as_array().into_iter().flatten() {
            // Lists are checked as reads are.
            if entry[1].is_array() {
                continue;
            }
            let key = entry[0].as_str().unwrap_or_default();
            match expected.remove(key) {
                None => violation(format!(
                    "{key} is there, and nobody wrote it, or it was removed"
                )),
                Some((value, at)) if entry[1] != *value || entry[2] != at => violation(format!(
                    "{key} is {} of {}, and {value} was written at {at}",
                    entry[1], entry[2]
                )),
                Some(_) => {}
            }
        }
        for (key, (value, at)) in expected {
            if order.may_be_gone.contains(key) {
                continue;
            }
            violation(format!("{key} is lost: {value} was written at {at}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, ok, unknown};
    use crate::history::Type;
    use crate::replay;

    fn in_the_end(state: &str) -> usize {
        let made = Made::new()
            .then(ok(5, r#"[["w","a",1]]"#))
            .then(ok(6, r#"[["w","b",1],["w","c",1]]"#))
            .then(ok(7, r#"[["w","a",2]]"#))
            .then(ok(8, r#"[["d","b"]]"#))
            .then(unknown(r#"[["w","d",1]]"#))
            .say(Type::Ok, "harness", "final", state);
        let mut history = made.history();
        history.lines.last_mut().expect("a line").rev = Some(9);
        let order = replay::check(&history).order;
        check(&history, &order).len()
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
}
