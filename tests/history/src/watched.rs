//! Watches are told exactly what happened in what they watch: all of it, once, in order, what belongs together
//! together; and what they are told to have seen all of, they have.
//!
//! A line `watch` is one message: `{"watch": "w1", "prefix": "/a/", "from": 17, "events": [[rev, key, value], …],
//! "through": 20}`. Who resumes goes on under the same name: nothing may be missing and nothing may come twice.
//! `through` is how far the watch has got; without it that is the last revision in the message.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::Violation;
use crate::history::{History, Line};
use crate::replay::Order;

const NAME: &str = "watched";

/// What a watch has been told.
struct Told {
    prefix: String,
    from: u64,
    /// Nothing at or below it may follow.
    through: u64,
    last: u64,
    events: BTreeMap<u64, BTreeMap<String, Value>>,
}

/// Checks the watches of a history.
pub fn check(history: &History, order: &Order) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut watches: HashMap<String, Told> = HashMap::new();
    for line in history.of("watch") {
        let text = |name: &str| line.value[name].as_str().unwrap_or_default().to_owned();
        let from = line.value["from"].as_u64().unwrap_or(1);
        let told = watches.entry(text("watch")).or_insert_with(|| Told {
            prefix: text("prefix"),
            from,
            through: from.saturating_sub(1),
            last: 0,
            events: BTreeMap::new(),
        });
        told.take(line, &mut found);
    }
    for told in watches.values() {
        told.compare(order, &mut found);
    }
    found
}

impl Told {
    fn take(&mut self, line: &Line, found: &mut Vec<Violation>) {
        let mut violation = |why: String| found.push(Violation::new(NAME, line.index, why));
        self.last = line.index;
        let events = line.value["events"]
            .as_array()
            .map_or(&[][..], |events| events);
        let mut highest = self.through;
        for event in events {
            let (Some(revision), Some(key)) = (event[0].as_u64(), event[1].as_str()) else {
                violation(format!("an event that is none: {event}"));
                continue;
            };
            if !key.starts_with(&self.prefix) {
                violation(format!("{key} isn't watched"));
            }
            if revision <= self.through {
                violation(format!(
                    "{revision} of {key} comes after all up to {}",
                    self.through
                ));
            } else if revision < highest {
                violation(format!("{revision} of {key} comes after {highest}"));
            }
            highest = highest.max(revision);
            let before = self
                .events
                .entry(revision)
                .or_default()
                .insert(key.to_owned(), event[2].clone());
            if before.is_some() {
                violation(format!("{key} at {revision} comes twice"));
            }
        }
        let through = line.value["through"].as_u64().unwrap_or(0);
        // Of one revision all comes in one message.
        self.through = highest.max(through);
    }

    fn compare(&self, order: &Order, found: &mut Vec<Violation>) {
        let mut violation = |why: String| found.push(Violation::new(NAME, self.last, why));
        if self.from > self.through {
            return;
        }
        for (revision, writes) in order.writes.range(self.from..=self.through) {
            let nothing = BTreeMap::new();
            let told = self.events.get(revision).unwrap_or(&nothing);
            for (key, value) in writes
                .iter()
                .filter(|(key, _)| key.starts_with(&self.prefix))
            {
                let value = value.clone().unwrap_or(Value::Null);
                match told.get(key) {
                    None => violation(format!("{key} at {revision} is missing")),
                    Some(told) if *told != value => {
                        violation(format!(
                            "{key} at {revision} is {value}, and was told as {told}"
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        for (revision, told) in &self.events {
            let writes = order.writes.get(revision);
            for key in told.keys() {
                if writes.is_none_or(|writes| !writes.contains_key(key)) {
                    violation(format!("nothing happened to {key} at {revision}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, ok, unknown};
    use crate::history::Type;
    use crate::replay;

    fn begin() -> Made {
        Made::new()
            .then(ok(5, r#"[["w","/a/1",1]]"#))
            .then(ok(6, r#"[["w","/a/1",2],["w","/a/2",1],["w","/b/1",1]]"#))
            .then(ok(7, r#"[["w","/b/1",2]]"#))
            .then(ok(8, r#"[["d","/a/1"]]"#))
    }

    fn told(made: Made, messages: &[&str]) -> Vec<String> {
        let made = messages.iter().fold(made, |made, message| {
            let message = format!(r#"{{"watch":"w","prefix":"/a/","from":5,{message}}}"#);
            made.say(Type::Ok, "watcher", "watch", &message)
        });
        let history = made.history();
        let replayed = replay::check(&history);
        let found = check(&history, &replayed.order);
        found.into_iter().map(|v| v.why).collect()
    }

    #[test]
    fn all_that_happened_in_order() {
        let good = told(
            begin(),
            &[
                r#""events":[[5,"/a/1",1]]"#,
                r#""events":[[6,"/a/1",2],[6,"/a/2",1]],"through":7"#,
                r#""events":[[8,"/a/1",null]],"through":8"#,
            ],
        );
        assert_eq!(good, Vec::<String>::new());
        let short = told(begin(), &[r#""events":[[5,"/a/1",1]],"through":5"#]);
        assert_eq!(short, Vec::<String>::new(), "the rest is still to come");
        let unknown = begin().then(unknown(r#"[["w","/a/3",1]]"#));
        let placed = told(
            unknown,
            &[r#""events":[[5,"/a/1",1],[6,"/a/1",2],[6,"/a/2",1],[8,"/a/1",null],[9,"/a/3",1]]"#],
        );
        assert_eq!(placed, Vec::<String>::new());
    }

    #[test]
    fn anything_else() {
        let first = r#""events":[[5,"/a/1",1]]"#;
        let bad: &[(&str, &[&str])] = &[
            (
                "a change that is missing",
                &[first, r#""events":[[8,"/a/1",null]]"#],
            ),
            (
                "a deletion that is missing",
                &[first, r#""events":[[6,"/a/1",2],[6,"/a/2",1]],"through":8"#],
            ),
            (
                "a part of a revision",
                &[first, r#""events":[[6,"/a/1",2]],"through":7"#],
            ),
            (
                "a revision in two messages",
                &[
                    first,
                    r#""events":[[6,"/a/1",2]]"#,
                    r#""events":[[6,"/a/2",1]]"#,
                ],
            ),
            ("a change that comes twice", &[first, first]),
            (
                "a change twice in a message",
                &[r#""events":[[5,"/a/1",1],[5,"/a/1",1]]"#],
            ),
            (
                "changes out of order",
                &[r#""events":[[6,"/a/1",2],[6,"/a/2",1],[5,"/a/1",1]]"#],
            ),
            (
                "a mark ahead of its changes",
                &[r#""events":[],"through":6"#, first],
            ),
            ("another value", &[r#""events":[[5,"/a/1",7]]"#]),
            (
                "another's key",
                &[
                    first,
                    r#""events":[[6,"/a/1",2],[6,"/a/2",1],[6,"/b/1",1]]"#,
                ],
            ),
            (
                "what never happened",
                &[
                    first,
                    r#""events":[[6,"/a/1",2],[6,"/a/2",1],[7,"/a/2",null]]"#,
                ],
            ),
            ("the past", &[r#""events":[[4,"/a/1",0]]"#]),
        ];
        for (what, messages) in bad {
            assert_ne!(told(begin(), messages), Vec::<String>::new(), "{what}");
        }
    }
}
