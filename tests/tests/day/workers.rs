//! What is done all the time, and what must have come of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caucus_tests::Cluster;
use caucus_tests::http::{Answer, Client, Stream};
use caucus_tests::kv;
use caucus_tests::wait::{Stopwatch, pause, wait_for, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
/// The time of what is to stay alive: longer than an election and a restart together.
const TTL_S: u64 = 8;
/// The most that a policy may keep; more may be published in the time.
const VERSIONS_KEPT: usize = 10_000;

/// Any node that answers.
pub(super) struct Any {
    addresses: Vec<String>,
    clients: Vec<Client>,
    at: usize,
}

impl Any {
    pub(super) fn of(cluster: &Cluster) -> Any {
        Any {
            addresses: cluster.nodes().map(|node| cluster.address(node)).collect(),
            clients: cluster.nodes().map(|node| cluster.client(node)).collect(),
            at: 0,
        }
    }

    pub(super) fn starting_at(mut self, at: usize) -> Any {
        self.at = at;
        self
    }

    /// One attempt; none if it was no use, and then the next one asks another node.
    fn try_send(
        &mut self,
        (method, target): (&str, &str),
        name: Option<&str>,
        body: &Value,
    ) -> Option<Answer> {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(name.map(|name| ("idempotency-key", name)));
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let at = self.at % self.clients.len();
        let sent = self.clients[at].request(method, target, &headers, body.as_bytes());
        let answer = sent.ok().filter(|answer| answer.status < 500);
        if answer.is_none() {
            self.at += 1;
            pause();
        }
        answer
    }

    /// Until there is an answer. Sent again only as what it is: reads, or with a name.
    #[track_caller]
    fn send(&mut self, what: (&str, &str), name: Option<&str>, body: &Value) -> Answer {
        wait_for(what.1, LIMIT, || {
            let answer = self.try_send(what, name, body)?;
            (!answer.is_retryable()).then_some(answer)
        })
    }

    #[track_caller]
    fn get(&mut self, target: &str) -> Value {
        let answer = self.send(("GET", target), None, &Value::Null);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()
    }
}

pub(super) fn prepare(any: &mut Any) {
    let policy = json!({"versions_max": VERSIONS_KEPT});
    for (target, body) in [
        ("/v1/config/day?policy", &policy),
        (&kv::path("/day/count"), &json!(0)),
    ] {
        let set = any.send(("PUT", target), None, body);
        assert!(set.status < 300, "{target}: {}", set.text());
    }
    assert_eq!(any.get("/v1/config/day?policy"), policy);
}

/// Publishes again and again; which version each value became.
pub(super) fn publish_configuration(mut any: Any, over: &AtomicBool) -> Vec<(u64, u64)> {
    let mut published = Vec::new();
    let mut value = 0;
    while !over.load(Ordering::Acquire) {
        value += 1;
        let name = format!("config-{value}");
        let answer = any.send(
            ("PUT", "/v1/config/day/a?author=day"),
            Some(&name),
            &json!(value),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        let version = answer.json()["version"].as_u64().expect("a version");
        published.push((version, value));
    }
    published
}

/// Each publication has become one version, in order, and is there as such.
pub(super) fn check_configuration(any: &mut Any, published: &[(u64, u64)]) {
    assert!(
        published.len() > 20,
        "only {} publications",
        published.len()
    );
    for (at, (version, value)) in published.iter().enumerate() {
        assert_eq!((*version, *value), (at as u64 + 1, at as u64 + 1));
    }
    let (gone, kept) = published.split_at(published.len().saturating_sub(VERSIONS_KEPT));
    let at = |version: u64| format!("/v1/config/day/a?version={version}");
    for (version, value) in kept.iter().step_by(7) {
        assert_eq!(any.get(&at(*version))["value"], json!(value));
    }
    for (version, _) in [gone.first(), gone.last()].into_iter().flatten() {
        let found = any.send(("GET", &at(*version)), None, &Value::Null);
        assert_eq!(found.json()["code"], "version_gone", "{}", found.text());
    }
    let now = any.get("/v1/config/day/a");
    assert_eq!(now["version"], json!(published.len()));
}

/// Counts while it holds the lock; the tokens under which that was certainly done.
pub(super) fn count_under_lock(mut any: Any, over: &AtomicBool) -> Vec<u64> {
    let mut tokens = Vec::new();
    let path = kv::path("/day/count");
    while !over.load(Ordering::Acquire) {
        let ask = json!({"ttl": 3, "wait": 5});
        let held = any.try_send(("POST", "/v1/locks/day/acquire"), None, &ask);
        let Some(held) = held.filter(|held| held.status == 200) else {
            continue;
        };
        let held = held.json();
        let read = any.try_send(("GET", &path), None, &Value::Null);
        if let Some(read) = read.filter(|read| read.status == 200) {
            let read = read.json();
            let count = read["value"].as_u64().expect("a number");
            let txn = json!({
                "if": [{"key": held["key"], "create_revision": held["token"]}],
                "then": [
                    {"get": {"key": "/day/count"}},
                    {"put": {"key": "/day/count", "value": count + 1}},
                ],
            });
            let done = any.try_send(("POST", "/v1/txn"), None, &txn);
            if let Some(done) = done.filter(|done| done.status == 200) {
                let done = done.json();
                if done["succeeded"] == json!(true) {
                    let found = &done["results"][0]["get"]["items"][0];
                    assert_eq!(found["revision"], read["revision"], "two holders: {done}");
                    tokens.push(held["token"].as_u64().expect("a token"));
                }
            }
        }
        _ = any.try_send(("POST", "/v1/locks/day/release"), None, &held);
    }
    tokens
}

/// Nothing that was counted is lost.
pub(super) fn check_lock(any: &mut Any, mut tokens: Vec<u64>) {
    let taken = tokens.len();
    assert!(taken > 50, "the lock was held only {taken} times");
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), taken, "a token was given twice");
    let counted = any.get(&kv::path("/day/count"))["value"].as_u64();
    assert!(
        counted.is_some_and(|counted| counted >= taken as u64),
        "{counted:?} of {taken}"
    );
}

/// Leads and resigns; the tokens of its leaderships.
pub(super) fn lead_and_resign(mut any: Any, over: &AtomicBool) -> Vec<u64> {
    let mut tokens: Vec<u64> = Vec::new();
    while !over.load(Ordering::Acquire) {
        let ask = json!({"ttl": 3, "wait": 5, "value": "me"});
        let led = any.try_send(("POST", "/v1/elections/day/campaign"), None, &ask);
        let Some(led) = led.filter(|led| led.status == 200) else {
            continue;
        };
        let led = led.json();
        let token = led["token"].as_u64().expect("a token");
        assert!(
            tokens.last().is_none_or(|last| *last < token),
            "tokens rise"
        );
        tokens.push(token);
        _ = any.try_send(("POST", "/v1/elections/day/resign"), None, &led);
    }
    tokens
}

pub(super) fn check_election(mut tokens: Vec<u64>) {
    let led = tokens.len();
    assert!(led > 20, "only {led} leaderships");
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), led, "two had the same token");
}

/// Stays registered by heartbeats, and is found all the time; how many were answered.
pub(super) fn stay_registered(mut any: Any, over: &AtomicBool) -> usize {
    let target = "/v1/services/day/one";
    let body = json!({"address": "h", "port": 1, "ttl": TTL_S});
    let registered = any.send(("PUT", target), None, &body);
    assert_eq!(registered.status, 204, "{}", registered.text());
    let beat = format!("{target}/heartbeat");
    let (mut beats, mut last) = (0, Stopwatch::start());
    while !over.load(Ordering::Acquire) {
        let sent = Stopwatch::start();
        let beaten = any.try_send(("POST", &beat), None, &json!({}));
        if let Some(beaten) = beaten.filter(|beaten| !beaten.is_retryable()) {
            // Only if nobody could be reached for its whole time may it have gone.
            let in_time = last.elapsed() < Duration::from_secs(TTL_S);
            assert!(beaten.status == 204 || !in_time, "{}", beaten.text());
            assert_eq!(
                beaten.status,
                204,
                "nobody answered for {:?}",
                last.elapsed()
            );
            (beats, last) = (beats + 1, sent);
        }
        if let Some(found) = any.try_send(("GET", target), None, &Value::Null)
            && last.elapsed() < Duration::from_secs(TTL_S)
            && !found.is_retryable()
        {
            assert_eq!(found.status, 200, "{}", found.text());
            assert_eq!(found.json()["status"], "passing");
        }
    }
    beats
}

/// Publishes; which message has which offset.
pub(super) fn publish_messages(mut any: Any, over: &AtomicBool) -> BTreeMap<u64, u64> {
    let mut said = BTreeMap::new();
    let mut next = 0_u64;
    while !over.load(Ordering::Acquire) {
        let messages: Vec<Value> = (next..next + 3).map(|n| json!({ "value": n })).collect();
        let name = format!("message-{next}");
        let body = json!({ "messages": messages });
        let answer = any.send(("POST", "/v1/topics/day/messages"), Some(&name), &body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        let first = answer.json()["first"].as_u64().expect("an offset");
        said.extend((first..).zip(next..next + 3));
        next += 3;
    }
    said
}

/// Reads what is published, through streams that are cut and asked for again; offset and value.
pub(super) fn read_messages(any: Any, over: &AtomicBool) -> Vec<(u64, u64)> {
    let mut read: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while !over.load(Ordering::Acquire) {
        at += 1;
        let address = &any.addresses[at % any.addresses.len()];
        let last = read.last().map(|(offset, _)| offset.to_string());
        let mut headers = vec![("accept", "application/x-ndjson")];
        headers.extend(last.as_deref().map(|last| ("last-event-id", last)));
        let target = ("GET", "/v1/topics/day/subscribe?from=first");
        let Ok(Ok(mut stream)) = Stream::open(address, target, &headers, b"") else {
            pause();
            continue;
        };
        stream.set_patience(Duration::from_secs(2));
        while let Ok(Some(line)) = stream.line() {
            let message: Value = serde_json::from_slice(&line).expect("JSON");
            if message["event"] == "message" {
                let offset = message["offset"].as_u64().expect("an offset");
                read.push((offset, message["value"].as_u64().expect("a number")));
            }
            if message["event"] == "end" || over.load(Ordering::Acquire) {
                break;
            }
        }
    }
    read
}

/// Each message once, at its offset, none missing; and so it was read.
pub(super) fn check_messages(any: &mut Any, said: &BTreeMap<u64, u64>, read: &[(u64, u64)]) {
    assert!(said.len() > 100, "only {} messages", said.len());
    for (at, (offset, value)) in said.iter().enumerate() {
        assert_eq!((*offset, *value), (at as u64, at as u64));
    }
    assert!(read.len() > 50, "only {} were read", read.len());
    for (at, (offset, value)) in read.iter().enumerate() {
        assert_eq!(
            (*offset, *value),
            (at as u64, at as u64),
            "read in order, each once"
        );
    }
    let shown = any.get("/v1/topics/day");
    assert_eq!(shown["next"], json!(said.len()));
}

/// Keeps a lease with keys in several groups alive; how often that was answered.
pub(super) fn keep_a_lease(mut any: Any, over: &AtomicBool) -> usize {
    let granted = any.send(("POST", "/v1/leases"), None, &json!({ "ttl": TTL_S }));
    let lease = granted.json()["lease"]
        .as_str()
        .expect("a lease")
        .to_owned();
    for n in 0..6 {
        let target = format!("{}?lease={lease}", kv::path(&format!("/day-lease/{n}/k")));
        let put = any.send(("PUT", &target), None, &json!(1));
        assert!(put.status < 300, "{}", put.text());
    }
    let target = format!("/v1/leases/{lease}/keepalive");
    let (mut kept, mut last) = (0, Stopwatch::start());
    while !over.load(Ordering::Acquire) {
        let sent = Stopwatch::start();
        if let Some(answer) = any.try_send(("POST", &target), None, &Value::Null)
            && !answer.is_retryable()
        {
            assert_eq!(
                answer.status,
                200,
                "after {:?}: {}",
                last.elapsed(),
                answer.text()
            );
            (kept, last) = (kept + 1, sent);
        }
        pause();
    }
    kept
}

/// What nobody keeps alive any more goes, with all its keys.
pub(super) fn check_that_all_ends(any: &mut Any) {
    wait_until("the lease's keys have gone", LIMIT, || {
        let listed = any.get("/v1/kv?prefix=/day-lease/");
        listed["items"] == json!([])
    });
    wait_until("the instance has gone", LIMIT, || {
        any.get("/v1/services/day")["instances"] == json!([])
    });
    wait_until("nobody holds or waits", LIMIT, || {
        let lock = any.get("/v1/locks/day");
        lock["holders"] == json!([]) && lock["waiters"] == json!([])
    });
    // Each is seen as long as a step of its end is left, and so a moment longer than its keys.
    wait_until("no lease is left", LIMIT, || {
        any.get("/v1/leases")["leases"] == json!([])
    });
}
