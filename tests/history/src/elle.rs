//! The transactions on lists, by a checker that isn't ours and looks at no revision: `adya`, an Elle.

use adya::{Opts, Valid, Workload};

use crate::Violation;
use crate::history::{History, Line};

const NAME: &str = "elle";
/// The longest explanation that is passed on.
const LETTERS_MAX: usize = 600;

/// Checks the transactions of a history that append to lists or only read lists.
pub fn check(history: &History) -> Vec<Violation> {
    let lines: Vec<String> = history
        .of("txn")
        .filter(|line| on_lists(line))
        .map(plain)
        .collect();
    if !lines.iter().any(|line| line.contains("append")) {
        return Vec::new();
    }
    let parsed = match adya::History::from_json(&lines.join("\n")) {
        Ok(parsed) => parsed,
        Err(error) => return vec![Violation::new(NAME, 0, error.msg)],
    };
    let options = Opts {
        models: vec!["strict-serializable".into()],
        ..Opts::default()
    };
    let report = adya::check(&parsed, Workload::ListAppend, &options);
    match report.valid {
        Valid::True => Vec::new(),
        // What can't be decided wasn't checked.
        _ => {
            let why = format!("{:?}: {:?}", report.anomaly_types, report.anomalies);
            let why: String = why.chars().take(LETTERS_MAX).collect();
            vec![Violation::new(NAME, 0, why)]
        }
    }
}

/// Answers that may come from the past are no part of the order.
fn on_lists(line: &Line) -> bool {
    let steps = line.value.as_array().map_or(&[][..], |steps| steps);
    let fits = |step: &serde_json::Value| {
        step[0] == "append" || step[0] == "r" && (step[2].is_array() || step[2].is_null())
    };
    !line.stale && line.compares.is_empty() && !steps.is_empty() && steps.iter().all(fits)
}

/// A list that nobody has appended to is empty.
fn plain(line: &Line) -> String {
    let mut line = line.clone();
    if line.kind == crate::history::Type::Ok {
        for step in line.value.as_array_mut().into_iter().flatten() {
            if step[0] == "r" && step[2].is_null() {
                step[2] = serde_json::json!([]);
            }
        }
    }
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, ok, unknown};

    #[test]
    fn good_transactions_pass() {
        let made = Made::new()
            .then(ok(5, r#"[["append","a",1],["r","b",null]]"#))
            .then(unknown(r#"[["append","a",2]]"#))
            .then(ok(7, r#"[["r","a",[1,2]],["append","b",1]]"#))
            .then(ok(8, r#"[["r","a",[1,2]],["r","b",[1]]]"#))
            .then(ok(9, r#"[["w","x",1]]"#));
        assert_eq!(check(&made.history()), []);
    }

    #[test]
    fn bad_ones_do_not() {
        let bad = [
            (
                "half of a transaction",
                Made::new()
                    .then(ok(5, r#"[["append","a",1],["append","b",1]]"#))
                    .then(ok(6, r#"[["r","a",[1]],["r","b",null]]"#)),
            ),
            (
                "a stale read",
                Made::new()
                    .then(ok(5, r#"[["append","a",1]]"#))
                    .then(ok(6, r#"[["append","a",2]]"#))
                    .then(ok(7, r#"[["r","a",[1]]]"#))
                    .then(ok(8, r#"[["r","a",[1,2]]]"#)),
            ),
            (
                "an element twice",
                Made::new()
                    .then(ok(5, r#"[["append","a",1]]"#))
                    .then(ok(6, r#"[["r","a",[1,1]]]"#)),
            ),
            (
                "a lost element",
                Made::new()
                    .then(ok(5, r#"[["append","a",1]]"#))
                    .then(ok(6, r#"[["append","a",2]]"#))
                    .then(ok(7, r#"[["r","a",[2]]]"#)),
            ),
            (
                "write skew",
                Made::new()
                    .beside(vec![
                        ok(5, r#"[["r","a",[]],["r","b",[]],["append","a",1]]"#),
                        ok(6, r#"[["r","a",[]],["r","b",[]],["append","b",1]]"#),
                    ])
                    .then(ok(7, r#"[["r","a",[1]],["r","b",[1]]]"#)),
            ),
        ];
        for (what, made) in bad {
            assert_ne!(check(&made.history()), [], "{what}");
        }
    }
}
