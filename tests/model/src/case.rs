//! A case: a model in one configuration, and what its search must find.

use std::time::Duration;

use crate::checker::{Bounds, Model, Outcome, check};

/// A system in one configuration, of whatever model.
trait Checked {
    fn check(&self, bounds: Bounds) -> Outcome;
}

impl<M: Model> Checked for M {
    fn check(&self, bounds: Bounds) -> Outcome {
        check(self, bounds)
    }
}

/// What a search must find.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// Nothing.
    Holds,
    /// Nothing, in a space too large for every run of the tests.
    HoldsSlow,
    /// A violation whose text contains this.
    Fails(&'static str),
}

/// See the module.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    expected: Expected,
    model: Box<dyn Checked>,
}

impl Case {
    pub(crate) fn new(name: &'static str, expected: Expected, model: impl Model + 'static) -> Case {
        let model = Box::new(model);
        Case {
            name,
            expected,
            model,
        }
    }

    #[cfg(test)]
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.expected, Expected::HoldsSlow)
    }

    /// Searches, prints a line, and the interleaving if it is a surprise or asked for. Whether the
    /// outcome is the expected one.
    pub(crate) fn run(&self, bounds: Bounds, trace: bool) -> bool {
        let outcome = self.model.check(bounds);
        let wanted = match self.expected {
            Expected::Fails(part) => Some(part),
            Expected::Holds | Expected::HoldsSlow => None,
        };
        let mut violations = outcome.violations.iter();
        let is_wanted = |what: &str| wanted.is_some_and(|part| what.contains(part));
        let shown = violations.clone().find(|(what, _)| is_wanted(what));
        let shown = shown.or_else(|| violations.next());
        let (verdict, right) = match shown {
            Some((what, _)) => (format!("fails: {what}"), is_wanted(what)),
            None if outcome.complete => ("holds".to_owned(), wanted.is_none()),
            None => {
                let may_stop = matches!(self.expected, Expected::HoldsSlow);
                ("none found, bound hit".to_owned(), may_stop)
            }
        };
        println!(
            "{} | {} | {verdict} | {} states | {} transitions | depth {} | {} ends | {:.1} s",
            if right { "ok" } else { "!!" },
            self.name,
            outcome.states,
            outcome.transitions,
            outcome.depth,
            outcome.terminals,
            outcome.time.as_secs_f64()
        );
        if let Some((_, steps)) = shown.filter(|_| trace || !right) {
            for (number, step) in steps.iter().enumerate() {
                println!("      {:>2}. {step}", number + 1);
            }
        }
        right
    }
}

/// Bounds of a run: `MAX_STATES` and `MAX_SECS` of the environment, or what a small machine can bear.
pub(crate) fn bounds() -> Bounds {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    Bounds {
        states: number("MAX_STATES").unwrap_or(60_000_000),
        time: Duration::from_secs(number("MAX_SECS").unwrap_or(280)),
        threads: std::thread::available_parallelism().map_or(2, |n| n.get().min(8)),
    }
}

/// Cases, one a line: `name: expected, model, field = value...`.
macro_rules! cases {
    ($($name:literal: $expected:expr, $model:expr $(, $field:ident = $value:expr)*;)*) => {
        vec![$({
            #[allow(unused_mut, reason = "not every case changes a field")]
            let mut model = $model;
            $(model.$field = $value;)*
            $crate::case::Case::new($name, $expected, model)
        }),*]
    };
}
pub(crate) use cases;
