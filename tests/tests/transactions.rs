//! Transactions over groups through the front door, by real processes that are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use caucus_tests::http::Client;
use caucus_tests::wait::{pause, wait_until};
use caucus_tests::{Cluster, Options, kv};
use serde_json::{Value, json};

const ACCOUNTS: u64 = 12;
const OPENING: i64 = 100;
const PROGRESS_LIMIT: Duration = Duration::from_secs(90);

/// Each account is in a directory of its own, so that they spread over all groups.
fn account(number: u64) -> String {
    format!("/bank/{}/balance", number % ACCOUNTS)
}

fn transfer(from: u64, to: u64, amount: i64) -> Value {
    json!({"then": [
        {"increment": {"key": account(from), "by": -amount}},
        {"increment": {"key": account(to), "by": amount}},
    ]})
}

/// All balances at one revision.
fn balances(answer: &Value) -> Vec<i64> {
    let items = answer["results"][0]["get"]["items"].as_array();
    let items = items.unwrap_or_else(|| panic!("no items in {answer}"));
    let balance = |item: &Value| item["value"].as_i64().expect("a number");
    items.iter().map(balance).collect()
}

struct Teller {
    clients: Vec<Client>,
    turn: usize,
}

impl Teller {
    fn new(cluster: &Cluster, turn: usize) -> Teller {
        Teller {
            clients: cluster.nodes().map(|node| cluster.client(node)).collect(),
            turn,
        }
    }

    /// The answer with status 200, if this attempt brought one.
    fn ask(&mut self, body: &Value) -> Option<Value> {
        let count = self.clients.len();
        let client = &mut self.clients[self.turn % count];
        match kv::txn(client, body) {
            Some((200, answer)) => return Some(answer),
            // Whatever became of it: both accounts or none.
            Some((503 | 504 | 409, _)) | None => {}
            Some((status, answer)) => panic!("{status}: {answer}"),
        }
        self.turn += 1;
        pause();
        None
    }
}

/// Somebody at work until told to stop.
fn spawn(
    stop: &Arc<AtomicBool>,
    mut turn: impl FnMut(u64) -> bool + Send + 'static,
) -> (Arc<AtomicU64>, std::thread::JoinHandle<()>) {
    let done = Arc::new(AtomicU64::new(0));
    let (stop, count) = (stop.clone(), done.clone());
    let thread = std::thread::spawn(move || {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            if turn(number) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    (done, thread)
}

#[test]
fn the_bank_keeps_its_money_while_nodes_are_killed() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    for number in 0..ACCOUNTS {
        kv::put(&mut client, &account(number), &json!(OPENING));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut all = Vec::new();
    for teller in 0..3_u64 {
        let mut at = Teller::new(&cluster, teller as usize);
        all.push(spawn(&stop, move |number| {
            let (from, step) = (number * 5 + teller, 1 + number % (ACCOUNTS - 1));
            at.ask(&transfer(from, from + step, 1 + (number % 7) as i64))
                .is_some()
        }));
    }
    let whole = json!({"then": [{"get": {"prefix": "/bank/"}}]});
    for reader in 0..2 {
        let (mut at, whole) = (Teller::new(&cluster, reader), whole.clone());
        all.push(spawn(&stop, move |_| {
            let Some(answer) = at.ask(&whole) else {
                return false;
            };
            let found = balances(&answer);
            assert_eq!(found.len() as u64, ACCOUNTS);
            assert_eq!(
                found.iter().sum::<i64>(),
                OPENING * ACCOUNTS as i64,
                "{answer}"
            );
            true
        }));
    }
    let progress = |more: u64| {
        let goals: Vec<u64> = all
            .iter()
            .map(|(done, _)| done.load(Ordering::Relaxed) + more)
            .collect();
        wait_until("more transfers and reads of each", PROGRESS_LIMIT, || {
            assert!(
                all.iter().all(|(_, thread)| !thread.is_finished()),
                "one has failed"
            );
            all.iter()
                .zip(&goals)
                .all(|((done, _), goal)| done.load(Ordering::Relaxed) >= *goal)
        });
    };
    for node in cluster.nodes() {
        progress(10);
        cluster.kill(node);
        progress(20);
        cluster.revive(node);
    }
    progress(10);
    stop.store(true, Ordering::Relaxed);
    for (_, thread) in all {
        thread.join().expect("every read showed all the money");
    }
    for node in cluster.nodes() {
        let (_, answer) = kv::txn(&mut cluster.client(node), &whole).expect("it answers");
        assert_eq!(
            balances(&answer).iter().sum::<i64>(),
            OPENING * ACCOUNTS as i64
        );
    }
}

#[test]
fn the_past_and_the_branches_of_a_transaction() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    let body = json!({
        "if": [{"key": "/a/b/c", "version": 0}, {"prefix": "/x/", "count": 0}],
        "then": [
            {"put": {"key": "/a/b/c", "value": "one"}},
            {"put": {"key": "/x/y/z", "value": {"n": 1}}},
            {"txn": {"if": [{"key": "/a/b/c", "version": 1}],
                     "then": [{"get": {"key": "/a/b/c"}}],
                     "else": [{"get": {"prefix": "/"}}]}},
        ],
        "else": [{"append": {"key": "/a/b/c", "text": "+"}}, {"delete": {"prefix": "/x/"}}],
    });
    let (status, first) = kv::txn(&mut client, &body).expect("an answer");
    assert_eq!(
        (status, &first["succeeded"]),
        (200, &json!(true)),
        "{first}"
    );
    // All compares are evaluated before the first write.
    let nested = &first["results"][2]["txn"];
    assert_eq!(nested["succeeded"], json!(false));
    assert_eq!(nested["results"][0]["get"]["count"], json!(2), "{first}");
    let (_, second) = kv::txn(&mut client, &body).expect("an answer");
    assert_eq!(second["succeeded"], json!(false), "{second}");
    assert_eq!(second["results"][0]["changed"]["value"], json!("one+"));
    assert_eq!(second["results"][1]["delete"]["deleted"], json!(1));
    let revision = first["revision"].as_u64().expect("a number");
    for (key, value) in [("/a/b/c", json!("one")), ("/x/y/z", json!({"n": 1}))] {
        let target = format!("{}?revision={revision}", kv::path(key));
        let answer = client.request("GET", &target, &[], b"").expect("an answer");
        assert_eq!(answer.json()["value"], value, "{key} at its revision");
        let target = format!("{}?revision={}", kv::path(key), revision - 1);
        let answer = client.request("GET", &target, &[], b"").expect("an answer");
        assert_eq!(answer.problem_code(), "key_not_found", "{key} before it");
    }
    let target = format!("{}?revision={}", kv::path("/a/b/c"), 1_u64 << 50);
    let answer = client.request("GET", &target, &[], b"").expect("an answer");
    assert_eq!(answer.problem_code(), "future_revision");
}

#[test]
fn a_transaction_that_makes_no_sense_changes_nothing() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    kv::put(&mut client, "/text/a", &json!("no number"));
    let many: Vec<Value> = (0..1025)
        .map(|n| json!({"get": {"key": format!("/k/{n}")}}))
        .collect();
    for (body, code) in [
        (json!({}), "invalid_request"),
        (
            json!({"then": [{"put": {"key": "", "value": 1}}]}),
            "key_empty",
        ),
        (
            json!({"then": [{"put": {"key": "/a", "value": 1}}], "also": 1}),
            "malformed_json",
        ),
        (json!({"then": many}), "too_many_operations"),
        (
            json!({"if": [{"key": "/a"}], "then": [{"get": {"key": "/a"}}]}),
            "invalid_request",
        ),
        (
            json!({"then": [{"put": {"key": "/b/c", "value": 1}},
                            {"increment": {"key": "/text/a", "by": 1}}]}),
            "impossible",
        ),
    ] {
        let text = body.to_string();
        let answer = client
            .request("POST", "/v1/txn", &[], text.as_bytes())
            .expect("an answer");
        assert_eq!(answer.problem_code(), code, "{text:.200}");
        assert_eq!(answer.json()["outcome"], json!("not_applied"), "{code}");
    }
    let all = kv::list(&mut client, "/");
    assert_eq!(all.len(), 1, "{all:?}");
}

/// The pages of a listing at a revision are of one moment, whatever is written between them; after a
/// compaction they are refused, and what stands can still be read.
#[test]
fn pages_of_one_revision_until_it_is_compacted() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    let key = |n: u64| format!("/pages/{n:02}/key");
    let mut revision = 0;
    for n in 0..20 {
        let put = kv::put(&mut client, &key(n), &json!("old"));
        revision = put["revision"].as_u64().expect("a number");
    }
    let mut get = |target: &str| client.request("GET", target, &[], b"").expect("an answer");
    let first = get("/v1/kv?prefix=/pages/&limit=7&consistency=global").json();
    assert_eq!(first["revision"], json!(revision), "{first}");
    let mut writer = cluster.client(1);
    for n in 0..25 {
        kv::put(&mut writer, &key(n), &json!("new"));
    }
    let mut values = Vec::new();
    let mut page = first.clone();
    loop {
        assert_eq!(page["revision"], json!(revision), "{page}");
        let items = page["items"].as_array().expect("items").iter();
        values.extend(items.map(|item| item["value"].clone()));
        let Some(cursor) = page["cursor"].as_str() else {
            break;
        };
        page = get(&format!("/v1/kv?prefix=/pages/&limit=7&cursor={cursor}")).json();
    }
    assert_eq!(values, vec![json!("old"); 20]);

    let compact = |body: Value| {
        let mut client = cluster.client(1);
        let body = body.to_string();
        let sent = client.request("POST", "/v1/compact", &[], body.as_bytes());
        sent.expect("an answer")
    };
    let refused = compact(json!({"revision": 1_u64 << 50}));
    assert_eq!(refused.problem_code(), "future_revision");
    assert_eq!(
        compact(json!({"revision": 0})).problem_code(),
        "invalid_request"
    );
    assert_eq!(
        compact(json!({"revision": "1"})).problem_code(),
        "malformed_json"
    );
    let kept = revision + 1;
    assert_eq!(
        compact(json!({"revision": kept})).json(),
        json!({"compacted": kept})
    );
    assert_eq!(
        compact(json!({"revision": kept})).problem_code(),
        "compacted"
    );
    let cursor = first["cursor"].as_str().expect("a cursor");
    let late = get(&format!("/v1/kv?prefix=/pages/&limit=7&cursor={cursor}"));
    assert_eq!(late.problem_code(), "compacted");
    let at = |revision: u64| format!("{}?revision={revision}", kv::path(&key(19)));
    assert_eq!(get(&at(revision)).problem_code(), "compacted");
    assert_eq!(get(&at(kept)).json()["value"], json!("old"));
    assert_eq!(get(&kv::path(&key(19))).json()["value"], json!("new"));
}
