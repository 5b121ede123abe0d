//! Locks through the front door, by real processes that are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use caucus_tests::http::{Answer, Client};
use caucus_tests::kv;
use caucus_tests::wait::{wait_for, wait_until};
use caucus_tests::{Cluster, Options};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn post(client: &mut Client, target: &str, body: &Value) -> Answer {
    let body = body.to_string();
    client
        .request("POST", target, &[], body.as_bytes())
        .expect("an answer")
}

fn acquire(client: &mut Client, lock: &str, body: &Value) -> Answer {
    post(client, &format!("/v1/locks/{lock}/acquire"), body)
}

#[track_caller]
fn held(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn release(client: &mut Client, lock: &str, held: &Value) -> Answer {
    post(client, &format!("/v1/locks/{lock}/release"), held)
}

fn show(client: &mut Client, lock: &str) -> Value {
    let answer = client.request("GET", &format!("/v1/locks/{lock}"), &[], b"");
    held(&answer.expect("an answer"))
}

fn count(shown: &Value, field: &str) -> usize {
    shown[field].as_array().expect("attempts").len()
}

/// Waits in another thread; the answer comes through the channel.
fn acquire_beside(cluster: &Cluster, node: u32, lock: &str, body: Value) -> mpsc::Receiver<Answer> {
    let (sender, answers) = mpsc::channel();
    let mut client = cluster.client(node);
    let lock = lock.to_owned();
    std::thread::spawn(move || _ = sender.send(acquire(&mut client, &lock, &body)));
    answers
}

#[test]
fn locks_of_all_kinds() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    a_mutex(&cluster, &mut client);
    first_come_first_served(&cluster, &mut client);
    readers_and_writers(&cluster, &mut client);
    a_semaphore(&mut client);
    whose_lease_ends_holds_no_more(&cluster, &mut client);
    a_token_is_checked(&mut client);
    an_operator_takes_it(&mut client);
    the_callers_lease(&mut client);
    the_same_request_again(&mut client);
    bad_input(&mut client);
}

fn a_mutex(cluster: &Cluster, client: &mut Client) {
    let first = held(&acquire(client, "m", &json!({"ttl": 30, "owner": "me"})));
    assert_eq!(first["kind"], json!("mutex"));
    let refused = acquire(&mut cluster.client(2), "m", &json!({"ttl": 30}));
    assert_eq!(refused.status, 409);
    assert_eq!(refused.problem_code(), "not_acquired");
    let refused = acquire(client, "m", &json!({"ttl": 30, "wait": 0.2}));
    assert_eq!(refused.problem_code(), "not_acquired");
    let shown = show(client, "m");
    assert_eq!(shown["holders"][0]["owner"], json!("me"), "{shown}");
    assert_eq!(shown["holders"][0]["token"], first["token"]);
    wait_until("those that gave up leave the queue", LIMIT, || {
        count(&show(client, "m"), "waiters") == 0
    });
    let listed = client
        .request("GET", "/v1/locks", &[], b"")
        .expect("an answer");
    assert_eq!(listed.json()["locks"], json!(["m"]));
    assert_eq!(held(&release(client, "m", &first))["released"], json!(true));
    assert_eq!(release(client, "m", &first).problem_code(), "not_held");
    let second = held(&acquire(client, "m", &json!({})));
    assert!(second["token"].as_u64() > first["token"].as_u64());
    // Who held before doesn't release what another one holds.
    assert_eq!(release(client, "m", &first).problem_code(), "not_held");
    held(&release(client, "m", &second));
    let lease = first["lease"].as_str().expect("a lease");
    let gone = client.request("GET", &format!("/v1/leases/{lease}"), &[], b"");
    assert_eq!(
        gone.expect("an answer").status,
        404,
        "it ends with the lock"
    );
}

fn first_come_first_served(cluster: &Cluster, client: &mut Client) {
    let mut holder = held(&acquire(client, "q", &json!({"ttl": 30})));
    let mut waiting = Vec::new();
    for n in 0..5 {
        let body = json!({"ttl": 30, "wait": 60, "owner": n.to_string()});
        waiting.push(acquire_beside(cluster, n % 3 + 1, "q", body));
        wait_until("it stands in the queue", LIMIT, || {
            count(&show(client, "q"), "waiters") == n as usize + 1
        });
    }
    for answers in waiting {
        assert!(answers.try_recv().is_err(), "nobody overtakes");
        held(&release(client, "q", &holder));
        let next = answers.recv_timeout(LIMIT).expect("the next one");
        let next = held(&next);
        assert!(next["token"].as_u64() > holder["token"].as_u64());
        holder = next;
    }
    held(&release(client, "q", &holder));
}

fn readers_and_writers(cluster: &Cluster, client: &mut Client) {
    let read = json!({"ttl": 30, "kind": "read"});
    let one = held(&acquire(client, "rw", &read));
    let two = held(&acquire(client, "rw", &read));
    let writer = acquire_beside(
        cluster,
        2,
        "rw",
        json!({"ttl": 30, "kind": "write", "wait": 60}),
    );
    wait_until("the writer waits", LIMIT, || {
        count(&show(client, "rw"), "waiters") == 1
    });
    // A reader that comes after a writer doesn't starve it.
    assert_eq!(acquire(client, "rw", &read).problem_code(), "not_acquired");
    held(&release(client, "rw", &one));
    assert!(writer.try_recv().is_err(), "a reader holds it still");
    held(&release(client, "rw", &two));
    let writing = held(&writer.recv_timeout(LIMIT).expect("the writer"));
    assert_eq!(writing["kind"], json!("write"));
    assert_eq!(acquire(client, "rw", &read).problem_code(), "not_acquired");
    let other = acquire(client, "rw", &json!({"ttl": 30}));
    assert_eq!(other.problem_code(), "other_kind");
    held(&release(client, "rw", &writing));
}

fn a_semaphore(client: &mut Client) {
    let ask = json!({"ttl": 30, "kind": "semaphore", "permits": 3});
    let three: Vec<Value> = (0..3).map(|_| held(&acquire(client, "s", &ask))).collect();
    assert_eq!(acquire(client, "s", &ask).problem_code(), "not_acquired");
    let other = json!({"ttl": 30, "kind": "semaphore", "permits": 4});
    assert_eq!(acquire(client, "s", &other).problem_code(), "other_kind");
    held(&release(client, "s", &three[1]));
    let fourth = held(&acquire(client, "s", &ask));
    assert_eq!(count(&show(client, "s"), "holders"), 3);
    for holder in [&three[0], &three[2], &fourth] {
        held(&release(client, "s", holder));
    }
}

fn whose_lease_ends_holds_no_more(cluster: &Cluster, client: &mut Client) {
    let lost = held(&acquire(client, "e", &json!({"ttl": 1})));
    let delayed = held(&acquire(client, "d", &json!({"ttl": 1, "delay": 2})));
    let next = acquire_beside(cluster, 3, "e", json!({"ttl": 30, "wait": 60}));
    let next = held(&next.recv_timeout(LIMIT).expect("the next one"));
    assert_eq!(release(client, "e", &lost).problem_code(), "not_held");
    held(&release(client, "e", &next));
    // The delay keeps it a while longer from others.
    assert_eq!(
        acquire(client, "d", &json!({})).problem_code(),
        "not_acquired"
    );
    let after = acquire(client, "d", &json!({"ttl": 30, "wait": 60}));
    assert!(held(&after)["token"].as_u64() > delayed["token"].as_u64());
}

fn a_token_is_checked(client: &mut Client) {
    let holder = held(&acquire(client, "t", &json!({"ttl": 30})));
    let target = "/v1/locks/t/check";
    assert_eq!(held(&post(client, target, &holder))["held"], json!(true));
    // Where data are written: only as long as it is held.
    let key = holder["key"].as_str().expect("a key");
    let guarded = |value: u32| {
        json!({
            "if": [{"key": key, "create_revision": holder["token"]}],
            "then": [{"put": {"key": "/guarded/a", "value": value}}],
        })
    };
    let (_, done) = kv::txn(client, &guarded(1)).expect("an answer");
    assert_eq!(done["succeeded"], json!(true), "{done}");
    held(&release(client, "t", &holder));
    assert_eq!(post(client, target, &holder).problem_code(), "not_held");
    let (_, done) = kv::txn(client, &guarded(2)).expect("an answer");
    assert_eq!(done["succeeded"], json!(false), "{done}");
    let left = kv::get(client, "/guarded/a").expect("the key");
    assert_eq!(left["value"], json!(1));
}

fn an_operator_takes_it(client: &mut Client) {
    let holder = held(&acquire(client, "f", &json!({"ttl": 30})));
    let lease = holder["lease"].as_str().expect("a lease");
    let target = format!("/v1/locks/f/holders/{lease}");
    let forced = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(forced.status, 204, "{}", forced.text());
    assert_eq!(release(client, "f", &holder).problem_code(), "not_held");
    let again = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(again.problem_code(), "not_held");
    let next = held(&acquire(client, "f", &json!({"ttl": 30})));
    held(&release(client, "f", &next));
}

/// A session: many locks under one lease, which goes on after them.
fn the_callers_lease(client: &mut Client) {
    let granted = post(client, "/v1/leases", &json!({"ttl": 60})).json();
    let lease = granted["lease"].as_str().expect("a lease");
    let ask = json!({"lease": lease});
    let both = ["l1", "l2"].map(|lock| held(&acquire(client, lock, &ask)));
    assert_eq!(both[0]["lease"], json!(lease));
    // Once more: it is the same attempt.
    assert_eq!(
        held(&acquire(client, "l1", &ask))["token"],
        both[0]["token"]
    );
    held(&release(client, "l1", &both[0]));
    let shown = client.request("GET", &format!("/v1/leases/{lease}?keys"), &[], b"");
    let shown = shown.expect("an answer").json();
    assert_eq!(shown["keys"].as_array().expect("keys").len(), 1, "{shown}");
    let target = format!("/v1/leases/{lease}");
    let revoked = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(revoked.status, 204);
    assert_eq!(release(client, "l2", &both[1]).problem_code(), "not_held");
    let refused = acquire(client, "l1", &ask);
    assert_eq!(refused.problem_code(), "lease_not_found");
}

fn the_same_request_again(client: &mut Client) {
    let target = "/v1/locks/i/acquire";
    let headers = [("idempotency-key", "once")];
    let mut ask = |body: &[u8]| {
        let answer = client.request("POST", target, &headers, body);
        answer.expect("an answer")
    };
    let first = held(&ask(br#"{"ttl": 30}"#));
    let again = held(&ask(br#"{"ttl": 30}"#));
    assert_eq!(first, again);
    let other = ask(br#"{"ttl": 31}"#);
    assert_eq!(other.problem_code(), "idempotency_key_reused");
    held(&release(client, "i", &first));
    let after = client.request("POST", target, &headers, br#"{"ttl": 30}"#);
    assert_eq!(after.expect("an answer").problem_code(), "session_expired");
}

fn bad_input(client: &mut Client) {
    for body in [
        json!({"ttl": 0}),
        json!({"ttl": -1}),
        json!({"ttl": 9_000_000_001_u64}),
        json!({"wait": -1}),
        json!({"wait": 4000}),
        json!({"kind": "lock"}),
        json!({"kind": "semaphore"}),
        json!({"kind": "semaphore", "permits": 0}),
        json!({"permits": 2}),
        json!({"delay": 3601}),
        json!({"owner": "x".repeat(1025)}),
        json!({"lease": "77", "ttl": 1}),
        json!({"lease": "zz"}),
        json!({"unknown": 1}),
    ] {
        let answer = acquire(client, "bad", &body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    let unknown = acquire(client, "bad", &json!({"lease": "77"}));
    assert_eq!(unknown.problem_code(), "lease_not_found");
    let other = json!({"key": "/@lock/other/0000000000000001", "token": 1});
    assert_eq!(release(client, "bad", &other).problem_code(), "not_held");
    assert_eq!(
        acquire(client, "%00", &json!({})).problem_code(),
        "bad_name"
    );
    assert_eq!(count(&show(client, "bad"), "holders"), 0);
}

/// Invariant 10: while nodes are killed never two hold at a time, in the order of revisions, and tokens rise. Each
/// holder writes under its token what it read before, plus one: an update that is lost shows two holders.
#[test]
fn one_holder_at_a_time_while_nodes_are_killed() {
    let mut cluster = Cluster::start(Options::nodes(3));
    kv::put(&mut cluster.client(1), "/counted/n", &json!(0));
    let over = Arc::new(AtomicBool::new(false));
    let (sender, tokens) = mpsc::channel();
    let workers: Vec<_> = (0..6)
        .map(|n| {
            let (over, sender) = (over.clone(), sender.clone());
            let mut client = cluster.client(n % 3 + 1);
            std::thread::spawn(move || {
                while !over.load(Ordering::Acquire) {
                    if let Some(token) = count_once(&mut client) {
                        _ = sender.send(token);
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let mut seen = Vec::new();
    for node in [1, 2, 3, 1, 2] {
        let before = seen.len();
        wait_until("the lock goes round", LIMIT, || {
            seen.extend(tokens.try_iter());
            seen.len() >= before + 10
        });
        cluster.kill(node);
        let down = seen.len();
        wait_until("the lock goes round without a node", LIMIT, || {
            seen.extend(tokens.try_iter());
            seen.len() >= down + 10
        });
        cluster.revive(node);
        cluster.await_ready(node);
    }
    over.store(true, Ordering::Release);
    for worker in workers {
        worker.join().expect("a worker");
    }
    seen.extend(tokens.try_iter());
    let mut client = cluster.client(1);
    let counted = wait_for("the count", LIMIT, || kv::get(&mut client, "/counted/n"));
    let counted = counted["value"].as_u64().expect("a number");
    // A write whose answer was lost counts as well.
    assert!(counted >= seen.len() as u64, "{counted} of {}", seen.len());
    seen.sort_unstable();
    seen.dedup();
    assert!(counted >= seen.len() as u64 && seen.len() >= 100);
}

/// Holds the lock, and counts under it; the token if that is certainly done. Counts are written unless somebody
/// else has written since the read, and while the attempt stands: so they fail rather than break the count.
fn count_once(client: &mut Client) -> Option<u64> {
    let target = "/v1/locks/counted/acquire";
    let body = br#"{"ttl": 2, "wait": 5}"#;
    let held = client.request("POST", target, &[], body).ok()?;
    if held.status != 200 {
        return None;
    }
    let held = held.json();
    let read = client
        .request("GET", &kv::path("/counted/n"), &[], b"")
        .ok()?;
    if read.status != 200 {
        return None;
    }
    let read = read.json();
    let value = read["value"].as_u64().expect("a number");
    let txn = json!({
        "if": [{"key": held["key"], "create_revision": held["token"]}],
        "then": [
            {"get": {"key": "/counted/n"}},
            {"put": {"key": "/counted/n", "value": value + 1}},
        ],
    });
    let (status, done) = kv::txn(client, &txn)?;
    let body = held.to_string();
    _ = client.request("POST", "/v1/locks/counted/release", &[], body.as_bytes());
    if status != 200 || done["succeeded"] != json!(true) {
        return None;
    }
    // Nobody else has written between: there was no other holder.
    let found = &done["results"][0]["get"]["items"][0];
    assert_eq!(
        found["revision"], read["revision"],
        "two holders: {done} {read}"
    );
    held["token"].as_u64()
}
