//! Money is moved from account to account, and there is always as much of it: whoever looks at all accounts at once
//! finds the same sum.
//!
//! A line `bank` says which the accounts are: `{"accounts": ["a", "b"], "total": 200}`. Values of a key are never
//! written twice, so an account's value is a number that is new, with the balance in its last digits: [`value`] and
//! [`balance`].

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Violation;
use crate::history::{History, Outcome, Step};

const NAME: &str = "bank";
/// Balances are below.
const BALANCES: u64 = 1000;

/// What is written for a balance; `unique` is used once.
pub fn value(unique: u64, balance: u64) -> u64 {
    assert!(balance < BALANCES, "a balance has three digits");
    unique * BALANCES + balance
}

/// The balance in an account's value.
pub fn balance(value: &Value) -> Option<u64> {
    value.as_u64().map(|value| value % BALANCES)
}

/// Checks everything that looked at all accounts.
pub fn check(history: &History) -> Vec<Violation> {
    let Some(bank) = history.of("bank").next() else {
        return Vec::new();
    };
    let accounts = bank.value["accounts"].as_array().into_iter().flatten();
    let accounts: BTreeSet<&str> = accounts.filter_map(Value::as_str).collect();
    let total = bank.value["total"].as_u64().unwrap_or(0);
    let mut found = Vec::new();
    let mut looks = 0;
    let mut look = |index: u64, seen: &[(&str, &Value)]| {
        let keys: BTreeSet<&str> = seen.iter().map(|(key, _)| *key).collect();
        if !accounts.is_subset(&keys) {
            return;
        }
        looks += 1;
        let of_the_bank = seen.iter().filter(|(key, _)| accounts.contains(key));
        let balances: Vec<Option<u64>> = of_the_bank.map(|(_, value)| balance(value)).collect();
        let sum: Option<u64> = balances.iter().copied().sum();
        if sum != Some(total) {
            let why = format!("{balances:?} are {sum:?} in all, and not {total}");
            found.push(Violation::new(NAME, index, why));
        }
    };
    for operation in history.operations() {
        let reads = operation.steps.iter().filter_map(|step| match step {
            Step::Read(key, value) => Some((&key[..], value)),
            _ => None,
        });
        let reads: Vec<(&str, &Value)> = reads.collect();
        let reads_only = reads.len() == operation.steps.len();
        if operation.outcome == Outcome::Ok && operation.held && reads_only {
            look(operation.index, &reads);
        }
    }
    for line in history.of("final") {
        let entries = line.value.as_array().into_iter().flatten();
        let entries = entries.filter_map(|entry| Some((entry[0].as_str()?, &entry[1])));
        look(line.index, &entries.collect::<Vec<_>>());
    }
    if looks == 0 {
        found.push(Violation::new(
            NAME,
            bank.index,
            "nobody looked at all accounts",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, ok, unknown};
    use crate::history::Type;

    fn begin() -> Made {
        Made::new()
            .say(
                Type::Info,
                "harness",
                "bank",
                r#"{"accounts":["a","b"],"total":200}"#,
            )
            .then(ok(5, r#"[["w","a",1100],["w","b",2100]]"#))
            .then(ok(6, r#"[["w","a",3050],["w","b",4150]]"#))
    }

    fn violations(made: Made) -> usize {
        check(&made.history()).len()
    }

    #[test]
    fn there_is_always_as_much() {
        let good = begin()
            .then(ok(6, r#"[["r","a",3050],["r","b",4150]]"#))
            .then(ok(6, r#"[["r","b",4150],["r","x",null],["r","a",3050]]"#))
            .then(ok(6, r#"[["r","a",1100]]"#))
            .then(ok(6, r#"[["r","a",1],["r","b",2],["w","c",1]]"#))
            .then(unknown(r#"[["r","a",null],["r","b",null]]"#));
        assert_eq!(violations(good), 0);
        for bad in [
            r#"[["r","a",3050],["r","b",2100]]"#,
            r#"[["r","a",1100],["r","b",4150]]"#,
            r#"[["r","a",3050],["r","b",null]]"#,
            r#"[["r","a",null],["r","b",null]]"#,
            r#"[["r","a",3050],["r","x",7],["r","b",4151]]"#,
        ] {
            assert_eq!(violations(begin().then(ok(6, bad))), 1, "{bad}");
        }
        assert_eq!(violations(begin()), 1, "nobody looked");
    }

    #[test]
    fn in_the_end_too() {
        let end = |state: &str| violations(begin().say(Type::Ok, "harness", "final", state));
        assert_eq!(end(r#"[["a",3050,6],["b",4150,6],["c",7,1]]"#), 0);
        assert_eq!(end(r#"[["a",3050,6],["b",4149,6]]"#), 1);
    }

    #[test]
    fn a_value_says_its_balance() {
        assert_eq!(value(7, 42), 7042);
        assert_eq!(balance(&Value::from(7042)), Some(42));
        assert_eq!(balance(&Value::Null), None);
    }
}
