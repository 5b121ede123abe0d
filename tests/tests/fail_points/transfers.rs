//! Transfers between accounts of all groups: each is wholly there or wholly not, and what its client was told is true.

use std::collections::{BTreeMap, BTreeSet};

use caucus_tests::http::Client;
use caucus_tests::kv;
use caucus_tests::wait::wait_until;
use serde_json::{Value, json};
use std::time::Duration;

const ACCOUNTS: u64 = 12;

fn account(number: u64) -> String {
    format!("/fail/{}/balance", number % ACCOUNTS)
}

/// Where a transfer says that it was done.
pub(crate) fn log(number: u64) -> String {
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
pub(crate) struct Told {
    sent: u64,
    pub(crate) done: BTreeSet<u64>,
    refused: BTreeSet<u64>,
}

impl Told {
    /// Sends the next transfer; whether it is told to be done.
    pub(crate) fn transfer(&mut self, client: &mut Client) -> bool {
        let number = self.sent;
        self.sent += 1;
        match kv::txn(client, &transfer(number)) {
            Some((200, _)) => self.done.insert(number),
            Some((_, problem)) if problem["outcome"] == "not_applied" => {
                self.refused.insert(number);
                false
            }
            // Unknown, or no answer at all.
            Some(_) | None => false,
        }
    }

    /// How many were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Waits until no key is locked any more: all accounts and all entries can be read, and each account be written.
    pub(crate) fn await_unlocked(&mut self, client: &mut Client, limit: Duration) {
        let all = json!({"then": [{"get": {"prefix": "/fail/"}}, {"get": {"prefix": "/log/"}}]});
        wait_until("keys to be unlocked", limit, || {
            let read = kv::txn(client, &all).is_some_and(|(status, _)| status == 200);
            read && (0..ACCOUNTS).all(|_| self.transfer(client))
        });
    }

    /// Balances follow from the log; who was told that it is done finds it there, and who was told that
    /// it is not doesn't.
    pub(crate) fn check(&self, client: &mut Client, who: &str) {
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
            assert_eq!(balance, expected, "{who}: {name}");
        }
        assert!(
            expected.values().all(|balance| *balance == 0),
            "{who}: {expected:?}"
        );
        let lost: Vec<_> = self.done.difference(&logged).collect();
        assert!(
            lost.is_empty(),
            "{who}: acknowledged and not there: {lost:?}"
        );
        let ghosts: Vec<_> = self.refused.intersection(&logged).collect();
        assert!(ghosts.is_empty(), "{who}: refused and there: {ghosts:?}");
    }
}
