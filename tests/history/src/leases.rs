//! Leases last: one that was granted or renewed is there until its time is over, unless somebody revokes it; and one that
//! is gone stays gone.
//!
//! Lines `lease`: `{"lease": "7", "do": "grant", "ttl": 5}`, from `invoke` to `ok`. `do` is `grant`, `renew`, `revoke`
//! or `look`; an answer has the `ttl` in seconds that begins with it, or `gone`. How long a lease may outlive its time isn't
//! said: a new leader gives more to all.

use std::collections::{BTreeMap, HashMap};

use crate::Violation;
use crate::history::{History, Line, Process, Type};

const NAME: &str = "leases";
const SECOND: f64 = 1e9;

/// What is known of a lease.
#[derive(Default)]
struct Lease {
    /// It was there: when the question began, its line, and until when it lasts at least.
    there: Vec<(u64, u64, u64)>,
    /// It was gone: when the answer came, its line.
    gone: Vec<(u64, u64)>,
    /// When the first who revokes it began.
    revoked: Option<u64>,
}

/// Checks the leases of a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut open: HashMap<&Process, u64> = HashMap::new();
    let mut leases: BTreeMap<String, Lease> = BTreeMap::new();
    for line in history.of("lease") {
        let text = |name: &str| line.value[name].as_str().unwrap_or_default();
        let lease = leases.entry(text("lease").to_owned()).or_default();
        if line.kind == Type::Invoke {
            open.insert(&line.process, line.time);
            if text("do") == "revoke" {
                lease.revoked.get_or_insert(line.time);
            }
            continue;
        }
        let begun = open.remove(&line.process).unwrap_or(line.time);
        if line.kind == Type::Ok {
            lease.take(line, text("do"), begun);
        }
    }
    let mut found = Vec::new();
    for (name, lease) in &leases {
        lease.judge(name, &mut found);
    }
    found
}

impl Lease {
    fn take(&mut self, line: &Line, did: &str, begun: u64) {
        if did == "revoke" || line.value["gone"] == true {
            self.gone.push((line.time, line.index));
            return;
        }
        let ttl = line.value["ttl"].as_f64().unwrap_or(0.0);
        // Who only looks keeps nothing alive.
        let lasts = if did == "look" { 0.0 } else { ttl * SECOND };
        self.there.push((begun, line.index, begun + lasts as u64));
    }

    fn judge(&self, name: &str, found: &mut Vec<Violation>) {
        let Some((gone, by)) = self.gone.iter().min() else {
            return;
        };
        if let Some((_, index, _)) = self.there.iter().find(|(begun, ..)| begun > gone) {
            let why = format!("{name} is there, and was gone in line {by}");
            found.push(Violation::new(NAME, *index, why));
        }
        if self.revoked.is_some_and(|revoked| revoked < *gone) {
            return;
        }
        let before = self.there.iter().filter(|(begun, ..)| begun < gone);
        let lasting = before.max_by_key(|(_, _, until)| until);
        if let Some((_, index, until)) = lasting.filter(|(_, _, until)| until > gone) {
            let left = (until - gone) as f64 / SECOND;
            let why = format!("{name} is gone {left:.1} s before its time, as of line {index}");
            found.push(Violation::new(NAME, *by, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_made::Made;

    /// Each: when it began, when it ended (in s), what it did, what was answered.
    fn found(calls: &[(u64, u64, &str, &str)]) -> Vec<String> {
        let mut made = Made::new();
        for (at, (_, _, did, answer)) in calls.iter().enumerate() {
            let by = format!("client {at}");
            let ask = format!(r#"{{"lease":"7","do":"{did}"}}"#);
            let answer = format!(r#"{{"lease":"7","do":"{did}",{answer}}}"#);
            made = made
                .say(Type::Invoke, &by, "lease", &ask)
                .say(Type::Ok, &by, "lease", &answer);
        }
        let mut history = made.history();
        for (at, (begun, ended, ..)) in calls.iter().enumerate() {
            history.lines[2 * at].time = begun * 1_000_000_000;
            history.lines[2 * at + 1].time = ended * 1_000_000_000;
        }
        let found = check(&history).into_iter();
        found.map(|violation| violation.why).collect()
    }

    #[test]
    fn a_lease_lasts_and_ends() {
        let grant = (0, 1, "grant", r#""ttl":5"#);
        let renew = (3, 4, "renew", r#""ttl":5"#);
        let gone = |at: u64| (at - 1, at, "look", r#""gone":true"#);
        let revoke = (5, 6, "revoke", r#""gone":true"#);
        let there = |at: u64| (at, at + 1, "look", r#""ttl":1"#);
        for good in [
            &[grant, gone(6)][..],
            &[grant, renew, gone(9)],
            &[grant, renew, there(12), gone(14)],
            &[grant, renew, revoke, gone(7)],
            &[grant, revoke, there(4)],
        ] {
            assert_eq!(found(good), [""; 0], "{good:?}");
        }
        for bad in [
            &[grant, gone(4)][..],
            &[grant, renew, gone(6)],
            &[grant, gone(6), renew, gone(7)],
            &[grant, gone(6), there(8)],
            &[grant, revoke, there(7)],
            &[grant, revoke, (7, 8, "renew", r#""ttl":5"#)],
        ] {
            assert_eq!(found(bad).len(), 1, "{bad:?}");
        }
    }
}
