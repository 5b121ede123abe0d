//! Who sees an effect sees its cause: of each pair, the cause is written and acknowledged before the effect is written
//! with the same number, in another place; numbers of a pair rise.
//!
//! A pair is two keys, `…/cause…` and the same with `effect` in its place. Reads of one operation are of the same moment;
//! those of different ones have an order if one had ended before the other began. No revision is looked at.

use std::collections::BTreeMap;

use crate::Violation;
use crate::history::{History, Outcome, Step};

const NAME: &str = "causal";

/// A number that somebody read.
#[derive(Debug, Clone, Copy)]
struct Seen {
    number: u64,
    begun: u64,
    ended: u64,
    index: u64,
}

#[derive(Debug, Default)]
struct Pair {
    causes: Vec<Seen>,
    effects: Vec<Seen>,
}

/// Checks the pairs of a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (effect, pair) in pairs(history) {
        pair.check(&effect, &mut found);
    }
    found
}

fn pairs(history: &History) -> BTreeMap<String, Pair> {
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    for operation in history.operations() {
        let writes = operation.steps.iter().any(Step::writes);
        if operation.outcome != Outcome::Ok || !operation.held || writes || operation.stale {
            continue;
        }
        for step in &operation.steps {
            let Step::Read(key, value) = step else {
                continue;
            };
            let seen = Seen {
                number: value.as_u64().unwrap_or(0),
                begun: operation.begun,
                ended: operation.ended,
                index: operation.index,
            };
            if key.contains("/cause") {
                let effect = key.replacen("/cause", "/effect", 1);
                pairs.entry(effect).or_default().causes.push(seen);
            } else if key.contains("/effect") {
                pairs.entry(key.clone()).or_default().effects.push(seen);
            }
        }
    }
    pairs
}

impl Pair {
    fn check(mut self, effect: &str, found: &mut Vec<Violation>) {
        self.effects.sort_by_key(|seen| seen.ended);
        self.causes.sort_by_key(|seen| seen.begun);
        let mut before = self.effects.iter().peekable();
        let mut highest: Option<Seen> = None;
        for cause in &self.causes {
            while let Some(seen) = before.next_if(|seen| seen.ended < cause.begun) {
                if highest.is_none_or(|highest| seen.number > highest.number) {
                    highest = Some(*seen);
                }
            }
            let together = self.effects.iter().find(|seen| seen.index == cause.index);
            for seen in [highest.as_ref(), together].into_iter().flatten() {
                if seen.number > cause.number {
                    let why = format!(
                        "{effect} is {} in line {}, and its cause is still {}",
                        seen.number, seen.index, cause.number
                    );
                    found.push(Violation::new(NAME, cause.index, why));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::{Made, ok};

    fn begin() -> Made {
        Made::new()
            .then(ok(5, r#"[["w","/p/cause1/r",1]]"#))
            .then(ok(6, r#"[["w","/p/effect1/r",1]]"#))
            .then(ok(7, r#"[["w","/p/cause1/r",2]]"#))
            .then(ok(8, r#"[["w","/p/effect1/r",2]]"#))
    }

    fn reads(steps: &[&str]) -> usize {
        let made = steps
            .iter()
            .fold(begin(), |made, steps| made.then(ok(8, steps)));
        check(&made.history()).len()
    }

    #[test]
    fn causes_come_first() {
        for good in [
            &[r#"[["r","/p/cause1/r",2],["r","/p/effect1/r",2]]"#][..],
            &[r#"[["r","/p/effect1/r",1],["r","/p/cause1/r",2]]"#],
            &[r#"[["r","/p/effect1/r",null],["r","/p/cause1/r",null]]"#],
            &[r#"[["r","/p/effect1/r",1]]"#, r#"[["r","/p/cause1/r",1]]"#],
            &[r#"[["r","/p/cause1/r",1]]"#, r#"[["r","/p/effect1/r",2]]"#],
            &[r#"[["r","/p/effect1/r",2]]"#, r#"[["r","/p/cause2/r",1]]"#],
        ] {
            assert_eq!(reads(good), 0, "{good:?}");
        }
        for bad in [
            &[r#"[["r","/p/effect1/r",2],["r","/p/cause1/r",1]]"#][..],
            &[r#"[["r","/p/cause1/r",null],["r","/p/effect1/r",1]]"#],
            &[r#"[["r","/p/effect1/r",2]]"#, r#"[["r","/p/cause1/r",1]]"#],
            &[
                r#"[["r","/p/effect1/r",1]]"#,
                r#"[["r","/p/cause1/r",null]]"#,
            ],
            &[
                r#"[["r","/p/effect1/r",2]]"#,
                r#"[["r","/p/effect1/r",2]]"#,
                r#"[["r","/p/x",2]]"#,
                r#"[["r","/p/cause1/r",1]]"#,
            ],
        ] {
            assert_eq!(reads(bad), 1, "{bad:?}");
        }
    }
}
