//! A node dies at each step of a transaction over groups: the transaction is wholly there or wholly not,
//! its keys are unlocked soon, and what the client was told is true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use caucus_tests::http::Client;
use caucus_tests::wait::wait_until;
use caucus_tests::{Cluster, Options, kv};
use serde_json::{Value, json};

const ACCOUNTS: u64 = 12;
/// So long may keys stay locked after the death of a node.
const UNLOCK_LIMIT: Duration = Duration::from_secs(5);
/// More transfers than a node's groups need to get to any step.
const TRANSFERS_MAX: u64 = 500;
const STEPS: [&str; 8] = [
    "txn-coordinator-prepared",
    "txn-participant-prepared",
    "txn-all-prepared",
    "txn-decided",
    "txn-participant-committing",
    "txn-participant-committed",
    "txn-one-committed",
    "txn-all-committed",
];

fn account(number: u64) -> String {
    format!("/fail/{}/balance", number % ACCOUNTS)
}

fn log(number: u64) -> String {
    format!("/log/{number}/entry")
}

/// Moves one from an account to another, and says so in a third place.
fn transfer(number: u64) -> Value {
    let (from, to) = (account(number), account(number * 5 + 1));
    json!({"then": [
        {"increment": {"key": from, "by": -1}},
        {"increment": {"key": to, "by": 1}},
        {"put": {"key": log(number), "value": [from, to]}},
    ]})
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    done: BTreeSet<u64>,
    refused: BTreeSet<u64>,
}

impl Told {
    fn note(&mut self, number: u64, answer: Option<(u16, Value)>) {
        match answer {
            Some((200, _)) => _ = self.done.insert(number),
            Some((_, problem)) if problem["outcome"] == "not_applied" => {
                self.refused.insert(number);
            }
            // Unknown, or no answer at all.
            Some(_) | None => {}
        }
    }

    /// Balances follow from the log; who was told that it is done finds it there, and who was told that
    /// it is not doesn't.
    fn check(&self, client: &mut Client, step: &str) {
        let entries = kv::list(client, "/log/");
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        let mut logged = BTreeSet::new();
        for entry in &entries {
            let number = entry["key"].as_str().and_then(|key| key.split('/').nth(2));
            logged.insert(number.and_then(|n| n.parse().ok()).expect("a number"));
            let name = |at: usize| entry["value"][at].as_str().expect("a name").to_owned();
            *expected.entry(name(0)).or_default() -= 1;
            *expected.entry(name(1)).or_default() += 1;
        }
        for item in kv::list(client, "/fail/") {
            let name = item["key"].as_str().expect("a name");
            let balance = item["value"].as_i64().expect("a number");
            let expected = expected.remove(name).unwrap_or(0);
            assert_eq!(balance, expected, "{step}: {name}");
        }
        assert!(
            expected.values().all(|balance| *balance == 0),
            "{step}: {expected:?}"
        );
        let lost: Vec<_> = self.done.difference(&logged).collect();
        assert!(
            lost.is_empty(),
            "{step}: acknowledged and not there: {lost:?}"
        );
        let ghosts: Vec<_> = self.refused.intersection(&logged).collect();
        assert!(ghosts.is_empty(), "{step}: refused and there: {ghosts:?}");
    }
}

fn dies_at(step: &str) {
    let victim = 2;
    let armed = format!("{victim}/{step}");
    let options = Options::nodes(3).env("CAUCUS_FAIL_POINTS", &armed);
    let mut cluster = Cluster::start(options);
    let mut client = cluster.client(1);
    let mut told = Told::default();
    let mut sent = 0;
    while cluster.is_up(victim) {
        assert!(sent < TRANSFERS_MAX, "{step}: no transfer gets there");
        let answer = kv::txn(&mut client, &transfer(sent));
        told.note(sent, answer);
        sent += 1;
    }
    // All keys, and so all that the dead node left locked.
    let all = json!({"then": [{"get": {"prefix": "/fail/"}}, {"get": {"prefix": "/log/"}}]});
    let mut client = cluster.client(3);
    wait_until("keys to be unlocked", UNLOCK_LIMIT, || {
        let read = kv::txn(&mut client, &all).is_some_and(|(status, _)| status == 200);
        read && (0..ACCOUNTS).all(|_| {
            let answer = kv::txn(&mut client, &transfer(sent));
            let is_done = answer.as_ref().is_some_and(|(status, _)| *status == 200);
            told.note(sent, answer);
            sent += 1;
            is_done
        })
    });
    told.check(&mut client, step);
    cluster.revive(victim);
    told.check(&mut cluster.client(victim), step);
}

#[test]
fn a_coordinator_dies_before_the_decision() {
    for step in &STEPS[..3] {
        dies_at(step);
    }
}

#[test]
fn a_node_dies_after_the_decision() {
    for step in &STEPS[3..] {
        dies_at(step);
    }
}
