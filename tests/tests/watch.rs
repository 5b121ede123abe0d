//! Watches through the front door, by real processes that are killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use caucus_tests::http::Client;
use caucus_tests::kv::{self, encoded};
use caucus_tests::wait::{pause, wait_until};
use caucus_tests::watch::{Watching, watch};
use caucus_tests::{Cluster, Options};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);

#[track_caller]
fn open(address: &str, query: &str) -> Watching {
    match watch(address, query, None).expect("an answer") {
        Ok(watching) => watching,
        Err(answer) => panic!("{}", answer.text()),
    }
}

/// The next message must be this one; its changes without what isn't asked for.
#[track_caller]
fn expect_changes(watching: &mut Watching, expected: &[(&str, Value)]) -> u64 {
    let message = watching.expect();
    assert_eq!(message["event"], "changes", "{message}");
    let changes = message["changes"].as_array().expect("changes");
    let mut seen: Vec<(String, Value)> = changes
        .iter()
        .map(|change| {
            assert_eq!(change["revision"], message["revision"], "{message}");
            let key = change["key"].as_str().expect("a key").to_owned();
            (key, change["value"].clone())
        })
        .collect();
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    assert_eq!(seen, expected);
    message["revision"].as_u64().expect("a number")
}

#[test]
fn changes_are_told_as_they_are_asked_for() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    state_and_then_changes(&cluster, &mut client);
    filters(&cluster, &mut client);
    the_past(&cluster, &mut client);
    bad_requests(&cluster);
    server_sent_events(&cluster, &mut client);
}

/// The state and all that follows, of several groups, without a gap; a transaction comes together.
fn state_and_then_changes(cluster: &Cluster, client: &mut Client) {
    let key = |n: u32| format!("/w/{n}/k");
    for n in 0..20 {
        kv::put(client, &key(n), &json!(n));
    }
    let mut watching = open(&cluster.address(2), "prefix=/w/&initial&previous");
    let mut state = BTreeMap::new();
    let synced = loop {
        let message = watching.expect();
        match message["event"].as_str() {
            Some("state") => {
                let key = message["key"].as_str().expect("a key").to_owned();
                state.insert(key, message["value"].clone());
            }
            _ => break message,
        }
    };
    assert_eq!(synced["event"], "synced", "{synced}");
    assert_eq!(synced["items"], json!(20));
    let expected: BTreeMap<_, _> = (0..20).map(|n| (key(n), json!(n))).collect();
    assert_eq!(state, expected);
    let txn = json!({"then": [
        {"put": {"key": key(1), "value": "one"}},
        {"put": {"key": key(2), "value": "two"}},
        {"delete": {"key": key(3)}},
    ]});
    let (status, done) = kv::txn(client, &txn).expect("an answer");
    assert_eq!(status, 200, "{done}");
    let message = watching.expect();
    assert_eq!(message["revision"], done["revision"], "{message} {done}");
    let changes = message["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), 3, "all of one revision together: {message}");
    for change in changes {
        let key = change["key"].as_str().expect("a key");
        let n: u32 = key["/w/".len()..key.len() - 2].parse().expect("a number");
        assert_eq!(change["previous"]["value"], json!(n), "{message}");
        let kind = if n == 3 { "delete" } else { "put" };
        assert_eq!(change["type"], kind);
    }
}

fn filters(cluster: &Cluster, client: &mut Client) {
    let address = cluster.address(3);
    let mut puts = open(&address, "prefix=/f/&only=put&keys_only");
    let mut deletes = open(&address, "prefix=/f/&only=delete&previous");
    let mut changed = open(&address, "prefix=/f/&changed");
    let mut direct = open(&address, "prefix=/f/&depth=1");
    let glob = encoded("/f/*/x.{yaml,json}");
    let mut globbed = open(&address, &format!("prefix=/f/&glob={glob}"));
    let mut one = open(&address, &format!("key={}", encoded("/f/a")));
    kv::put(client, "/f/a", &json!(1));
    kv::put(client, "/f/a", &json!(1));
    kv::put(client, "/f/b/x.yaml", &json!(2));
    kv::put(client, "/f/b/c/x.yaml", &json!(3));
    let target = kv::path("/f/a");
    let deleted = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(deleted.status, 200);
    for key in ["/f/a", "/f/a", "/f/b/x.yaml", "/f/b/c/x.yaml"] {
        expect_changes(&mut puts, &[(key, Value::Null)]);
    }
    let message = deletes.expect();
    assert_eq!(message["changes"][0]["previous"]["value"], json!(1));
    expect_changes(&mut changed, &[("/f/a", json!(1))]);
    expect_changes(&mut changed, &[("/f/b/x.yaml", json!(2))]);
    for _ in 0..2 {
        expect_changes(&mut direct, &[("/f/a", json!(1))]);
    }
    expect_changes(&mut direct, &[("/f/a", Value::Null)]);
    expect_changes(&mut globbed, &[("/f/b/x.yaml", json!(2))]);
    for value in [json!(1), json!(1), Value::Null] {
        expect_changes(&mut one, &[("/f/a", value)]);
    }
}

/// From a revision in the past; what is compacted isn't passed over in silence.
fn the_past(cluster: &Cluster, client: &mut Client) {
    let mut revisions = Vec::new();
    for n in 0..5 {
        let put = kv::put(client, &format!("/p/{n}/k"), &json!(n));
        revisions.push(put["revision"].as_u64().expect("a number"));
    }
    let from = |revision: u64| format!("prefix=/p/&from={revision}");
    let mut watching = open(&cluster.address(1), &from(revisions[1]));
    for (n, revision) in revisions.iter().enumerate().skip(1) {
        let key = format!("/p/{n}/k");
        let told = expect_changes(&mut watching, &[(&key, json!(n))]);
        assert_eq!(told, *revision);
    }
    let resumed = watch(
        &cluster.address(2),
        "prefix=/p/&initial",
        Some(revisions[3]),
    );
    let mut resumed = resumed.expect("an answer").expect("a stream");
    expect_changes(&mut resumed, &[("/p/4/k", json!(4))]);
    let body = json!({ "revision": revisions[2] }).to_string();
    let compacted = client.request("POST", "/v1/compact", &[], body.as_bytes());
    let compacted = compacted.expect("an answer");
    assert_eq!(compacted.status, 200, "{}", compacted.text());
    let mut cut = open(&cluster.address(3), &from(revisions[1]));
    let end = cut.expect();
    assert_eq!(end["event"], "end");
    assert_eq!(end["code"], "compacted");
    assert_eq!(end["compact_revision"], json!(revisions[2]));
    assert_eq!(cut.message().expect("a stream that can be read"), None);
    let mut kept = open(&cluster.address(3), &from(revisions[3]));
    expect_changes(&mut kept, &[("/p/3/k", json!(3))]);
    kv::put(client, "/p/9/k", &json!(9));
    expect_changes(&mut watching, &[("/p/9/k", json!(9))]);
}

fn bad_requests(cluster: &Cluster) {
    let address = cluster.address(1);
    let cases = [
        ("key=a&prefix=b", "bad_query_value"),
        ("key=", "key_empty"),
        ("start=b&end=a", "bad_query_value"),
        ("from=0", "bad_query_value"),
        ("from=9000000000", "future_revision"),
        ("from=5&initial", "bad_query_value"),
        ("only=all", "bad_query_value"),
        ("glob=%5B", "bad_query_value"),
        ("depth=0", "bad_query_value"),
        ("order=time", "bad_query_value"),
        ("progress=0", "bad_query_value"),
        ("since=1", "unknown_query_parameter"),
    ];
    for (query, code) in cases {
        let answer = watch(&address, query, None).expect("an answer");
        let answer = answer.expect_err(query);
        assert_eq!(answer.problem_code(), code, "{query}: {}", answer.text());
    }
    let mut client = cluster.client(1);
    for id in ["x", "-1", "18446744073709551615"] {
        let headers = [("last-event-id", id)];
        let answer = client.request("GET", "/v1/watch", &headers, b"");
        let answer = answer.expect("an answer");
        assert_eq!(answer.problem_code(), "bad_query_value", "{id}");
    }
    let posted = client.request("POST", "/v1/watch", &[], b"");
    let posted = posted.expect("an answer");
    assert_eq!(posted.problem_code(), "method_not_allowed");
}

fn server_sent_events(cluster: &Cluster, client: &mut Client) {
    let opened = caucus_tests::http::Stream::open(
        &cluster.address(1),
        ("GET", "/v1/watch?prefix=/s/&progress=1"),
        &[],
        b"",
    );
    let mut stream = opened.expect("an answer").expect("a stream");
    let put = kv::put(client, "/s/1/k", &json!({"a": "b"}));
    let mut line = || {
        let line = stream.line().expect("a line").expect("the stream goes on");
        String::from_utf8(line).expect("text")
    };
    // A mark of progress may come first.
    let id = loop {
        let id = line();
        if line() == "event: changes" {
            break id;
        }
        assert!(line().starts_with("data: "), "a mark");
        assert_eq!(line(), "");
    };
    assert_eq!(id, format!("id: {}", put["revision"]));
    let data = line();
    let data: Value = serde_json::from_str(&data["data: ".len()..]).expect("JSON");
    assert_eq!(data["changes"][0]["value"], json!({"a": "b"}));
    assert_eq!(line(), "");
    let id = line();
    let mark = id.strip_prefix("id: ").and_then(|mark| mark.parse().ok());
    let mark: u64 = mark.unwrap_or_else(|| panic!("no id in {id:?}"));
    assert_eq!(line(), "event: progress");
    assert!(mark >= put["revision"].as_u64().expect("a number"));
}

/// Somebody who watches, comes back whenever the stream ends, and keeps what was told.
struct Watcher {
    seen: BTreeMap<u64, Value>,
    last: Option<u64>,
}

impl Watcher {
    fn start(addresses: &[String], turn: usize, query: String) -> JoinHandle<BTreeMap<u64, Value>> {
        let addresses = addresses.to_vec();
        let watcher = Watcher {
            seen: BTreeMap::new(),
            last: None,
        };
        std::thread::spawn(move || watcher.run(&addresses, turn, &query))
    }

    /// Until a key says so. `turn`: the node to begin with.
    fn run(mut self, addresses: &[String], mut turn: usize, query: &str) -> BTreeMap<u64, Value> {
        loop {
            let address = &addresses[turn % addresses.len()];
            turn += 1;
            let Ok(Ok(mut watching)) = watch(address, query, self.last) else {
                pause();
                continue;
            };
            // Longer than a leader takes to be replaced: who hears nothing asks elsewhere.
            watching.set_patience(Duration::from_secs(6));
            while let Ok(Some(message)) = watching.message() {
                if self.take(&message) {
                    return self.seen;
                }
            }
        }
    }

    fn take(&mut self, message: &Value) -> bool {
        match message["event"].as_str() {
            Some("changes" | "progress") => {}
            Some("end") => {
                assert_ne!(message["code"], "compacted", "{message}");
                return false;
            }
            _ => panic!("{message}"),
        }
        let revision = message["revision"].as_u64().expect("a number");
        if message["event"] == "progress" {
            assert!(self.last.is_none_or(|last| revision >= last), "{message}");
            self.last = Some(revision);
            return false;
        }
        if let Some(last) = self.last {
            assert!(revision > last, "after {last}: {message}");
        }
        self.last = Some(revision);
        self.seen.insert(revision, message["changes"].clone());
        let changes = message["changes"].as_array().expect("changes");
        changes.iter().any(|change| change["value"] == json!("end"))
    }
}

fn key(number: u64) -> String {
    format!("/w/{}/k{}", number % 9, number % 2)
}

/// Puts, deletes, and transactions over two directories, until told to stop.
fn writer(
    cluster: &Cluster,
    number: u64,
    stop: &Arc<AtomicBool>,
) -> (Arc<AtomicU64>, JoinHandle<()>) {
    let clients = cluster.nodes().map(|node| cluster.client(node));
    let mut clients: Vec<Client> = clients.collect();
    let done = Arc::new(AtomicU64::new(0));
    let (stop, count) = (stop.clone(), done.clone());
    let thread = std::thread::spawn(move || {
        let mut turn = number;
        while !stop.load(Ordering::Relaxed) {
            turn += 1;
            let at = turn as usize % clients.len();
            let client = &mut clients[at];
            let answer = match turn % 5 {
                0 => client.request("DELETE", &kv::path(&key(turn)), &[], b""),
                1 => {
                    let txn = json!({"then": [
                        {"put": {"key": key(turn), "value": turn}},
                        {"put": {"key": key(turn + 4), "value": turn}},
                    ]});
                    client.request("POST", "/v1/txn", &[], txn.to_string().as_bytes())
                }
                _ => kv::put_once(client, &key(turn), &json!(turn), &[]),
            };
            match answer {
                Ok(answer) if answer.status < 300 || answer.status == 404 => {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) | Err(_) => pause(),
            }
        }
    });
    (done, thread)
}

/// What happened to all keys that a watcher of `wanted` had to be told, by revision.
fn owed(
    client: &mut Client,
    wanted: impl Fn(&str) -> bool,
    from: u64,
) -> BTreeMap<u64, Vec<String>> {
    let mut all: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut keys: Vec<String> = (0..18).map(key).collect();
    keys.push("/w/end/k0".to_owned());
    keys.sort();
    keys.dedup();
    for key in keys.iter().filter(|key| wanted(key)) {
        let mut below = String::new();
        loop {
            let target = format!("{}/history?limit=1000{below}", kv::path(key));
            let answer = client.request("GET", &target, &[], b"").expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            let page = answer.json();
            let changes = page["changes"].as_array().expect("changes");
            for change in changes {
                let revision = change["revision"].as_u64().expect("a number");
                if revision >= from {
                    let value = &change["value"];
                    all.entry(revision)
                        .or_default()
                        .push(format!("{key}={value}"));
                }
            }
            match changes.last() {
                Some(last) if page["more"] == json!(true) => {
                    below = format!("&below={}", last["revision"]);
                }
                _ => break,
            }
        }
    }
    all
}

#[test]
fn nothing_is_lost_or_told_twice_while_nodes_are_killed() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    let first = kv::put(&mut client, &key(0), &json!("first"));
    let from = first["revision"].as_u64().expect("a number") + 1;
    let one_key = encoded(&key(3));
    let queries = [
        format!("prefix=/w/&from={from}&progress=1"),
        format!("prefix=/w/&from={from}"),
        format!("prefix=/w/3/&from={from}"),
        format!("key={one_key}&from={from}"),
    ];
    let addresses: Vec<String> = cluster.nodes().map(|node| cluster.address(node)).collect();
    let queries = queries.into_iter().enumerate();
    let watchers: Vec<_> = queries
        .map(|(turn, query)| Watcher::start(&addresses, turn, query))
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3).map(|n| writer(&cluster, n * 7, &stop)).collect();
    let progress = |more: u64| {
        let counts = || writers.iter().map(|(done, _)| done.load(Ordering::Relaxed));
        let goals: Vec<u64> = counts().map(|done| done + more).collect();
        wait_until("more writes of each", LIMIT, || {
            counts().zip(&goals).all(|(done, goal)| done >= *goal)
        });
    };
    progress(50);
    for node in [1, 2, 3, 1] {
        cluster.kill(node);
        progress(30);
        cluster.revive(node);
        cluster.await_ready(node);
        progress(30);
    }
    stop.store(true, Ordering::Relaxed);
    for (_, thread) in writers {
        thread.join().expect("a writer that ended well");
    }
    let mut client = cluster.client(1);
    for last in ["/w/end/k0".to_owned(), "/w/3/k1".to_owned(), key(3)] {
        kv::put(&mut client, &last, &json!("end"));
    }
    let wanted: [&dyn Fn(&str) -> bool; 4] = [
        &|_| true,
        &|_| true,
        &|key| key.starts_with("/w/3/"),
        &|found| found == key(3),
    ];
    for (watcher, wanted) in watchers.into_iter().zip(wanted) {
        let seen = watcher.join().expect("a watcher that ended well");
        let last = *seen.last_key_value().expect("something was told").0;
        let mut owed = owed(&mut client, wanted, from);
        owed.retain(|revision, _| *revision <= last);
        for changes in owed.values_mut() {
            changes.sort();
        }
        assert!(seen.len() > 30);
        let told = told(&seen);
        for revision in owed.keys().chain(told.keys()) {
            let (told, owed) = (told.get(revision), owed.get(revision));
            assert_eq!(told, owed, "at revision {revision}");
        }
    }
}

/// What a watcher was told, in the form of what it is owed.
fn told(seen: &BTreeMap<u64, Value>) -> BTreeMap<u64, Vec<String>> {
    let told = seen.iter().map(|(revision, changes)| {
        let changes = changes.as_array().expect("changes").iter();
        let told = changes.map(|change| {
            let key = change["key"].as_str().expect("a key");
            format!("{key}={}", change["value"])
        });
        let mut told: Vec<String> = told.collect();
        told.sort();
        (*revision, told)
    });
    told.collect()
}

#[test]
fn who_reads_slowly_loses_nothing_and_takes_no_memory() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    let mut slow = open(&cluster.address(1), "prefix=/slow/");
    let mut quick = open(&cluster.address(1), "prefix=/slow/");
    let value = "x".repeat(100_000);
    const WRITES: u64 = 400;
    for n in 0..WRITES {
        let put = kv::put(
            &mut client,
            &format!("/slow/{}/k", n % 5),
            &json!([n, value]),
        );
        let told = quick.expect();
        assert_eq!(told["revision"], put["revision"]);
    }
    let scrape = caucus_tests::metrics::Scrape::of(&mut client);
    let demoted = scrape.sum("caucus_router_watches_demoted_total", &[]);
    assert!(demoted > 0.0, "nobody buffers 40 MB for it");
    let mut n = 0;
    while n < WRITES {
        let message = slow.expect();
        if message["event"] == "end" {
            // Who is cut off for being slow is told where to go on.
            assert_eq!(message["code"], "lagging", "{message}");
            let resume = message["resume"].as_u64().expect("a revision");
            let query = format!("prefix=/slow/&from={resume}");
            slow = open(&cluster.address(1), &query);
            continue;
        }
        assert_eq!(message["changes"][0]["value"][0], json!(n), "{message}");
        n += 1;
    }
}
