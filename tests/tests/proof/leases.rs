//! Leases: granted, given keys in several groups, renewed, looked at, and ended or left alone.

use std::time::Duration;

use caucus_history::history::Type;
use caucus_tests::http::Client;
use caucus_tests::kv;
use caucus_tests::random::Random;
use caucus_tests::wait::{Stopwatch, pause};
use serde_json::{Value, json};

use crate::scene::Scene;

/// The longest.
pub(super) const TTL_MAX: Duration = Duration::from_secs(3);
/// Groups have their keys in any of these.
const DIRECTORIES: u64 = 6;
const KEYS: u64 = 3;
/// Who has waited so long for an end has other things to do; it is looked for once more when all is over.
const END_WAIT: Duration = Duration::from_secs(8);

pub(super) fn play(scene: &Scene, number: u64) {
    let mut lessee = Lessee {
        scene,
        nodes: scene.nodes(),
        random: Random::nth(scene.seed, 600 + number),
        at: number as usize,
        lease: String::new(),
        keys: Vec::new(),
    };
    while !scene.is_over() {
        lessee.life();
    }
}

/// Who has one lease after the other.
struct Lessee<'s> {
    scene: &'s Scene,
    nodes: Vec<Client>,
    random: Random,
    at: usize,
    lease: String,
    keys: Vec<String>,
}

impl Lessee<'_> {
    /// One lease, from its grant to its end.
    fn life(&mut self) {
        let number = self.scene.value();
        self.lease = format!("{:016x}", (self.scene.seed << 40) + number + 1);
        let ttl = TTL_MAX.as_secs() - self.random.below(2);
        let key = |at| format!("/lease/{}/{number}-{at}", (number + at) % DIRECTORIES);
        self.keys = (0..KEYS).map(key).collect();
        let granted = self.grant(ttl);
        let attached = granted && self.attach(number);
        let renewals = self.random.below(6);
        for _ in 0..renewals {
            self.look();
            if !attached || !self.keep_alive() {
                break;
            }
            let begun = Stopwatch::start();
            while begun.elapsed() < Duration::from_secs(ttl) / 3 && !self.scene.is_over() {
                pause();
            }
        }
        if self.random.below(2) == 0 {
            self.revoke();
            self.look();
        } else {
            self.await_end();
        }
    }

    /// Until its keys are gone.
    fn await_end(&mut self) {
        let begun = Stopwatch::start();
        while begun.elapsed() < END_WAIT && !self.scene.is_over() {
            if self.look().is_some_and(|there| !there) {
                self.keep_alive();
                return;
            }
            (0..10).for_each(|_| pause());
        }
    }

    /// Says what is done and what came of it: true if it was, false if the lease isn't there.
    fn say(&mut self, what: Value, request: (&str, &str, Value)) -> Option<(bool, Value)> {
        let by = format!("lessee-{}", self.scene.process());
        let mut value = what;
        value["lease"] = self.lease.clone().into();
        self.scene.say(Type::Invoke, &by, "lessee", value.clone());
        self.at += 1;
        let at = self.at % self.nodes.len();
        let (method, target, body) = request;
        let body = body.to_string();
        let sent = self.nodes[at].request(method, target, &[], body.as_bytes());
        let answer = sent.ok();
        let done = answer.as_ref().is_some_and(|answer| answer.status < 300);
        let json = answer.filter(|answer| !answer.body.is_empty());
        let json = json.map_or(Value::Null, |answer| answer.json());
        if value["do"] == "look" && done {
            let results = json["results"].as_array().expect("results").iter();
            let seen = results.map(|result| result["get"]["items"][0]["value"].clone());
            value["seen"] = seen.collect();
        }
        // A revoke that was sent once and isn't answered so may have been done all the same.
        let is_gone = json["code"] == "lease_not_found" || json["failed"] == "lease_not_found";
        let kind = match (done, is_gone) {
            (true, _) => Type::Ok,
            (false, true) => Type::Fail,
            (false, false) => Type::Info,
        };
        self.scene.say(kind, &by, "lessee", value.clone());
        match kind {
            Type::Ok => Some((true, value)),
            Type::Fail => Some((false, value)),
            Type::Invoke | Type::Info => None,
        }
    }

    fn grant(&mut self, ttl: u64) -> bool {
        let body = json!({"ttl": ttl, "lease": self.lease});
        let what = json!({"do": "grant", "ttl": ttl});
        let said = self.say(what, ("POST", "/v1/leases?timeout=3", body));
        said.is_some_and(|(done, _)| done)
    }

    fn attach(&mut self, value: u64) -> bool {
        let put = |key: &String| json!({"put": {"key": key, "value": value, "lease": self.lease}});
        let body = json!({"then": self.keys.iter().map(put).collect::<Vec<_>>()});
        let what = json!({"do": "attach", "keys": self.keys, "value": value});
        let said = self.say(what, ("POST", "/v1/txn?timeout=3", body));
        said.is_some_and(|(done, _)| done)
    }

    /// Whether it is worth going on.
    fn keep_alive(&mut self) -> bool {
        let target = format!("/v1/leases/{}/keepalive?timeout=2", self.lease);
        let said = self.say(json!({"do": "keepalive"}), ("POST", &target, json!({})));
        said.is_none_or(|(done, _)| done)
    }

    fn revoke(&mut self) {
        let target = format!("/v1/leases/{}?timeout=3", self.lease);
        self.say(json!({"do": "revoke"}), ("DELETE", &target, json!({})));
    }

    /// Whether any key is there.
    fn look(&mut self) -> Option<bool> {
        let get = |key: &String| json!({"get": {"key": key}});
        let body = json!({"then": self.keys.iter().map(get).collect::<Vec<_>>()});
        let what = json!({"do": "look", "keys": self.keys});
        let (_, value) = self.say(what, ("POST", "/v1/txn?timeout=3", body))?;
        let seen = value["seen"].as_array()?;
        Some(seen.iter().any(|value| !value.is_null()))
    }
}

/// Leases that live, and keys that they have; `None` if that can't be told now.
pub(super) fn left(client: &mut Client) -> Option<usize> {
    let leases = client.request("GET", "/v1/leases", &[], b"").ok()?;
    let keys = json!({"then": [{"get": {"prefix": "/lease/"}}]});
    let (status, keys) = kv::txn(client, &keys)?;
    if leases.status != 200 || status != 200 {
        return None;
    }
    let leases = leases.json()["leases"].as_array().map_or(0, Vec::len);
    let keys = keys["results"][0]["get"]["items"].as_array()?.len();
    Some(leases + keys)
}
