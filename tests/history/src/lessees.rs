//! What a lessee sees: a lease lives at least its time after the last keepalive that was acknowledged, its keys go together, and what is
//! gone is gone.
//!
//! Lines `lessee`, from `invoke` to `ok`, `fail` (the lease isn't there) or `info`, with what is done in `do`: `grant`
//! with the `ttl` in seconds, `attach` with the `keys` and the `value` that each is given at once, `keepalive`, `revoke`, and
//! `look` with all the `keys` read at one moment and what was `seen` of each. No revision is looked at.
//!
//! Time is the client's here and the server's there: where the header's faults have clocks that go wrong by a tenth
//! (`clock-rate`), a lease may end so much earlier.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::Violation;
use crate::history::{History, Line, Process, Type};

const NAME: &str = "lessees";
const SECOND_NS: u64 = 1_000_000_000;

/// A call about a lease.
#[derive(Debug)]
struct Call<'h> {
    line: &'h Line,
    begun: u64,
    /// Never, if nobody knows.
    ended: u64,
}

impl Call<'_> {
    fn does(&self, what: &str) -> bool {
        self.line.value["do"] == what
    }

    fn is_ok(&self) -> bool {
        self.line.kind == Type::Ok
    }

    /// Whether it shows that the lease lived when it was answered.
    fn renews(&self) -> bool {
        self.is_ok() && (self.does("grant") || self.does("keepalive"))
    }
}

/// Checks the leases of a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let header = history.of("header").next();
    let faults = header.map_or(&Value::Null, |header| &header.value["nemesis"]);
    let is_off = faults
        .as_array()
        .is_some_and(|f| f.contains(&"clock-rate".into()));
    for (lease, calls) in calls(history) {
        let ttl = calls
            .iter()
            .filter_map(|call| call.line.value["ttl"].as_u64());
        let ttl = ttl.max().unwrap_or(0) * SECOND_NS;
        let ttl = if is_off { ttl / 10 * 9 } else { ttl };
        Lease { lease, ttl, calls }.check(&mut found);
    }
    found
}

fn calls(history: &History) -> BTreeMap<&str, Vec<Call<'_>>> {
    let mut open: HashMap<&Process, &Line> = HashMap::new();
    let mut calls: BTreeMap<&str, Vec<Call<'_>>> = BTreeMap::new();
    for line in history.of("lessee") {
        if line.kind == Type::Invoke {
            open.insert(&line.process, line);
            continue;
        }
        let begun = open
            .remove(&line.process)
            .map_or(line.time, |line| line.time);
        let ended = if line.kind == Type::Info {
            u64::MAX
        } else {
            line.time
        };
        let lease = line.value["lease"].as_str().unwrap_or_default();
        calls
            .entry(lease)
            .or_default()
            .push(Call { line, begun, ended });
    }
    calls
}

struct Lease<'h> {
    lease: &'h str,
    ttl: u64,
    calls: Vec<Call<'h>>,
}

impl Lease<'_> {
    fn check(&self, found: &mut Vec<Violation>) {
        self.looks(found);
        self.is_over(found);
    }

    fn of<'l>(&'l self, what: &'l str) -> impl Iterator<Item = &'l Call<'l>> {
        self.calls.iter().filter(move |call| call.does(what))
    }

    /// All keys or none; and all while it certainly lives.
    fn looks(&self, found: &mut Vec<Violation>) {
        for look in self.of("look").filter(|look| look.is_ok()) {
            let mut violation = |why: String| {
                let why = format!("lease {}: {why}", self.lease);
                found.push(Violation::new(NAME, look.line.index, why));
            };
            let seen = look.line.value["seen"]
                .as_array()
                .map_or(&[][..], |seen| seen);
            let there = seen.iter().filter(|value| !value.is_null()).count();
            if there != 0 && there != seen.len() {
                violation(format!("only {there} of {} keys are there", seen.len()));
            }
            let attached = self.of("attach").find(|attach| attach.ended < look.begun);
            let revoked = self.of("revoke").any(|revoke| revoke.begun < look.ended);
            let Some(attached) = attached.filter(|attached| attached.is_ok() && !revoked) else {
                continue;
            };
            let value = &attached.line.value["value"];
            if let Some(other) = seen.iter().find(|seen| !seen.is_null() && *seen != value) {
                violation(format!("a key is {other}, and was set to {value}"));
            }
            let renewed = self.calls.iter().filter(|call| call.renews());
            let lives = renewed.max_by_key(|call| call.begun);
            if let Some(renewed) = lives.filter(|call| look.ended < call.begun + self.ttl)
                && there == 0
            {
                violation(format!(
                    "its keys are gone, and line {} has renewed it until later",
                    renewed.line.index
                ));
            }
        }
    }

    /// What shows that it is over, and what shows later that it isn't.
    fn is_over(&self, found: &mut Vec<Violation>) {
        let mut over: Option<&Call<'_>> = None;
        let attached = self.of("attach").find(|attach| attach.is_ok());
        for call in &self.calls {
            let sees_nothing = call.is_ok()
                && call.line.value["seen"]
                    .as_array()
                    .is_some_and(|seen| seen.iter().all(Value::is_null))
                && attached.is_some_and(|attached| attached.ended < call.begun);
            let revoked = call.is_ok() && call.does("revoke");
            // Its keys go a moment before it does, and a moment after it can't be renewed any more.
            if (sees_nothing || revoked) && over.is_none_or(|over| call.ended < over.ended) {
                over = Some(call);
            }
        }
        let refused = self
            .of("keepalive")
            .filter(|call| call.line.kind == Type::Fail);
        let refused = refused.min_by_key(|call| call.ended);
        for call in &self.calls {
            let mut violation = |what: &str, over: &Call<'_>| {
                let why = format!(
                    "lease {}: {what}, and it was over in line {}",
                    self.lease, over.line.index
                );
                found.push(Violation::new(NAME, call.line.index, why));
            };
            if let Some(over) = over.filter(|over| over.ended < call.begun && call.is_ok()) {
                let seen = call.line.value["seen"].as_array().into_iter().flatten();
                if seen.into_iter().any(|value| !value.is_null()) {
                    violation("its keys are there", over);
                }
                if call.does("keepalive") || call.does("attach") || call.does("revoke") {
                    violation("it is used", over);
                }
            }
            if let Some(refused) = refused.filter(|refused| refused.ended < call.begun)
                && call.does("keepalive")
                && call.is_ok()
            {
                violation("it is renewed", refused);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::Made;

    const KEYS: &str = r#""keys":["a","b"]"#;

    /// `g`, `a`, `k`, `r`: grant, attach, keepalive, revoke; `l11`, `l00`, `l10`: a look, with what is there. In capitals:
    /// refused; with `?`: of unknown outcome. `-`: so many seconds pass.
    fn history(calls: &str) -> History {
        let mut made = Made::new();
        let mut times = Vec::new();
        let mut now = 0;
        for (at, call) in calls.split_whitespace().enumerate() {
            if let Some(seconds) = call.strip_prefix('-') {
                now += SECOND_NS * seconds.parse::<u64>().expect("seconds");
                continue;
            }
            let seen = |digit| if digit == '1' { "7" } else { "null" };
            let what = match call.to_lowercase().chars().next() {
                Some('g') => r#""do":"grant","ttl":3"#.to_owned(),
                Some('a') => format!(r#""do":"attach",{KEYS},"value":7"#),
                Some('k') => r#""do":"keepalive""#.to_owned(),
                Some('r') => r#""do":"revoke""#.to_owned(),
                _ => {
                    let seen: Vec<&str> = call[1..].chars().map(seen).collect();
                    format!(r#""do":"look",{KEYS},"seen":[{}]"#, seen.join(","))
                }
            };
            let value = format!(r#"{{"lease":"x",{what}}}"#);
            let kind = match call {
                _ if call.ends_with('?') => Type::Info,
                _ if call.to_lowercase() != call => Type::Fail,
                _ => Type::Ok,
            };
            let by = format!("client {at}");
            made = made
                .say(Type::Invoke, &by, "lessee", &value)
                .say(kind, &by, "lessee", &value);
            times.extend([now, now + 10]);
            now += 20;
        }
        let mut history = made.history();
        for (line, time) in history.lines.iter_mut().zip(times) {
            line.time = time;
        }
        history
    }

    #[test]
    fn leases_live_and_end() {
        for good in [
            "g a l11 -2 l11 -2 l00 K",
            "g a -2 k -2 l11 k -2 l11 r l00 K",
            "g l00 a l11 -9 l11 k l11 -4 l00",
            "g a r? l00 l00",
            "g a? l00 -9 l00",
            "g a -2 k? -2 l00 K",
            "g a -4 K l11 l00",
        ] {
            assert_eq!(check(&history(good)), [], "{good}");
        }
        for bad in [
            "g a l00",
            "g a -2 l00",
            "g a -2 k -2 l00",
            "g a l10",
            "g a -9 l01",
            "g a r l11",
            "g a -4 l00 l11",
            "g a -4 l00 k",
            "g a r k",
            "g a r? l00 l11",
            "g a r a",
            "g a -4 K k",
        ] {
            assert_ne!(check(&history(bad)), [], "{bad}");
        }
    }

    #[test]
    fn clocks_that_go_wrong_are_allowed_for() {
        let mut history = history("g a -2 l11 -1 l00");
        for line in &mut history.lines[6..] {
            line.time -= SECOND_NS / 5;
        }
        assert_eq!(check(&history).len(), 1, "a fifth of a second too early");
        let mut header = Made::new()
            .say(
                Type::Info,
                "harness",
                "header",
                r#"{"nemesis":["clock-rate"]}"#,
            )
            .history();
        header.lines.append(&mut history.lines);
        assert_eq!(check(&header), []);
    }
}
