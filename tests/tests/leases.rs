//! Leases through the front door, by real processes that are killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caucus_tests::http::{Answer, Client};
use caucus_tests::kv::{self, encoded};
use caucus_tests::wait::{Stopwatch, pause, wait_for, wait_until};
use caucus_tests::watch::{Watching, watch};
use caucus_tests::{Cluster, Options};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn post(client: &mut Client, target: &str, body: &Value) -> Answer {
    let body = body.to_string();
    client
        .request("POST", target, &[], body.as_bytes())
        .expect("an answer")
}

fn grant(client: &mut Client, ttl: u64) -> String {
    let answer = post(client, "/v1/leases", &json!({ "ttl": ttl }));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let granted = answer.json();
    assert_eq!(granted["ttl"], json!(ttl));
    granted["lease"].as_str().expect("a lease").to_owned()
}

fn put_under(client: &mut Client, key: &str, lease: &str) -> Answer {
    let target = format!("{}?lease={lease}", kv::path(key));
    let headers = [("content-type", "application/json")];
    client
        .request("PUT", &target, &headers, b"1")
        .expect("an answer")
}

fn get(client: &mut Client, target: &str) -> Answer {
    client.request("GET", target, &[], b"").expect("an answer")
}

/// Keys of any groups.
fn keys(name: &str, count: u32) -> Vec<String> {
    (0..count).map(|n| format!("/{name}/{n}/k")).collect()
}

fn open(address: &str, query: &str) -> Watching {
    match watch(address, query, None).expect("an answer") {
        Ok(watching) => watching,
        Err(answer) => panic!("{}", answer.text()),
    }
}

#[test]
fn leases_from_grant_to_end() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    keys_of_any_groups_end_together(&cluster, &mut client);
    a_key_has_one_lease(&mut client);
    transactions_attach_too(&mut client);
    time_goes_by(&cluster, &mut client);
    bad_input(&mut client);
}

fn keys_of_any_groups_end_together(cluster: &Cluster, client: &mut Client) {
    let lease = grant(client, 600);
    let keys = keys("together", 24);
    let mut groups = BTreeMap::new();
    for key in &keys {
        let put = put_under(client, key, &lease);
        assert_eq!(put.status, 201, "{}", put.text());
        let placed = get(client, &format!("/v1/ring?key={}", encoded(key))).json();
        *groups.entry(placed["group"].to_string()).or_insert(0) += 1;
    }
    assert!(
        groups.len() > 1,
        "the keys are in several groups: {groups:?}"
    );
    let mut other = cluster.client(2);
    let shown = get(&mut other, &format!("/v1/leases/{lease}?keys")).json();
    let attached: Vec<&str> = shown["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| key["key"].as_str().expect("a key"))
        .collect();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(attached, sorted);
    assert_eq!(shown["ttl"], json!(600));
    assert!(shown["rest"].as_f64().expect("a number") > 500.0, "{shown}");
    let record = kv::get(client, &keys[0]).expect("the key");
    assert_eq!(record["lease"], json!(lease));
    let mut watching = open(&cluster.address(3), "prefix=/together/");
    let target = format!("/v1/leases/{lease}");
    let revoked = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(revoked.status, 204, "{}", revoked.text());
    // From any node: none of its keys is to be seen.
    for node in cluster.nodes() {
        let mut client = cluster.client(node);
        assert_eq!(kv::list(&mut client, "/together/"), Vec::<Value>::new());
    }
    let message = watching.expect();
    let changes = message["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), keys.len(), "all at one revision: {message}");
    assert_eq!(get(client, &target).problem_code(), "lease_not_found");
    let again = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(again.problem_code(), "lease_not_found");
    let put = put_under(client, &keys[0], &lease);
    assert_eq!(put.problem_code(), "lease_not_found");
    // The same id again: what the router remembers of the first one doesn't stand any more.
    let body = json!({"ttl": 600, "lease": lease});
    assert_eq!(post(client, "/v1/leases", &body).status, 201);
    assert_eq!(
        post(client, "/v1/leases", &body).problem_code(),
        "lease_exists"
    );
    for key in &keys {
        assert_eq!(put_under(client, key, &lease).status, 201);
    }
    let revoked = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(revoked.status, 204, "{}", revoked.text());
    assert_eq!(kv::list(client, "/together/"), Vec::<Value>::new());
}

/// Who writes a key anew takes it from its lease, or gives it to another one.
fn a_key_has_one_lease(client: &mut Client) {
    let (first, second) = (grant(client, 600), grant(client, 600));
    for key in ["/one/a", "/one/b", "/one/c"] {
        assert_eq!(put_under(client, key, &first).status, 201);
    }
    kv::put(client, "/one/b", &json!(2));
    assert_eq!(put_under(client, "/one/c", &second).status, 200);
    let target = format!("/v1/leases/{first}");
    let revoked = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(revoked.status, 204);
    let left: Vec<Value> = kv::list(client, "/one/");
    let left: Vec<&Value> = left.iter().map(|item| &item["key"]).collect();
    assert_eq!(left, [&json!("/one/b"), &json!("/one/c")]);
    let target = format!("/v1/leases/{second}");
    let revoked = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(revoked.status, 204);
    assert_eq!(kv::list(client, "/one/").len(), 1);
}

fn transactions_attach_too(client: &mut Client) {
    let lease = grant(client, 600);
    let put = |key: &str| json!({"put": {"key": key, "value": 1, "lease": lease}});
    let body = json!({"then": [put("/t1/a"), put("/t2/a"), put("/t3/a"), put("/t4/a")]});
    let (status, done) = kv::txn(client, &body).expect("an answer");
    assert_eq!(status, 200, "{done}");
    let shown = get(client, &format!("/v1/leases/{lease}?keys")).json();
    assert_eq!(shown["keys"].as_array().expect("keys").len(), 4, "{shown}");
    let target = format!("/v1/leases/{lease}");
    let revoked = client
        .request("DELETE", &target, &[], b"")
        .expect("an answer");
    assert_eq!(revoked.status, 204);
    for key in ["/t1/a", "/t2/a", "/t3/a", "/t4/a"] {
        assert_eq!(kv::get(client, key), None, "{key}");
    }
    let (status, refused) = kv::txn(client, &body).expect("an answer");
    assert_eq!(status, 404, "{refused}");
    assert_eq!(refused["code"], json!("lease_not_found"));
    assert_eq!(kv::get(client, "/t1/a"), None);
    // What isn't executed is nobody's error, whichever group it would be in.
    let branches = json!({
        "if": [{"key": "/t0/none", "version": 0}],
        "then": [{"put": {"key": "/t0/a", "value": 1}}],
        "else": body["then"],
    });
    let (status, done) = kv::txn(client, &branches).expect("an answer");
    assert_eq!((status, &done["succeeded"]), (200, &json!(true)), "{done}");
    let (status, refused) = kv::txn(client, &branches_taken(&branches)).expect("an answer");
    assert_eq!(status, 404, "{refused}");
}

/// The other branch is taken.
fn branches_taken(branches: &Value) -> Value {
    let mut taken = branches.clone();
    taken["if"][0]["version"] = json!(1);
    taken
}

/// A lease lives as long as it is kept alive, and not much longer.
fn time_goes_by(cluster: &Cluster, client: &mut Client) {
    let lease = grant(client, 3);
    let batch = grant(client, 3);
    let mut watching = open(&cluster.address(2), "prefix=/time/");
    assert_eq!(put_under(client, "/time/a", &lease).status, 201);
    assert_eq!(watching.expect()["changes"][0]["type"], json!("put"));
    let begun = Stopwatch::start();
    let mut last = Stopwatch::start();
    while begun.elapsed() < Duration::from_secs(5) {
        last = Stopwatch::start();
        let target = format!("/v1/leases/{lease}/keepalive");
        let kept = post(client, &target, &json!({}));
        assert_eq!(kept.status, 200, "{}", kept.text());
        assert_eq!(kept.json()["ttl"], json!(3));
        let leases = json!({"leases": [batch, "7777"]});
        let kept = post(client, "/v1/leases/keepalive", &leases).json();
        assert_eq!(kept["leases"][0]["ttl"], json!(3), "{kept}");
        assert_eq!(kept["leases"][1]["ttl"], json!(0), "{kept}");
    }
    assert!(kv::get(client, "/time/a").is_some());
    let ended = watching.expect();
    let lived = last.elapsed();
    assert_eq!(ended["changes"][0]["type"], json!("delete"), "{ended}");
    assert!(lived >= Duration::from_secs(3), "it lived for {lived:?}");
    let target = format!("/v1/leases/{lease}");
    wait_until("the lease has gone", LIMIT, || {
        get(client, &target).status == 404
    });
    let kept = post(client, &format!("{target}/keepalive"), &json!({}));
    assert_eq!(kept.problem_code(), "lease_not_found");
    let target = format!("/v1/leases/{batch}");
    wait_until("the other has gone", LIMIT, || {
        get(client, &target).status == 404
    });
    let listed = get(client, "/v1/leases").json();
    assert_eq!(listed["leases"], json!([]), "none is left");
}

fn bad_input(client: &mut Client) {
    for ttl in [
        json!(0),
        json!(-1),
        json!(9_000_000_001_u64),
        json!("1"),
        json!(0.5),
    ] {
        let answer = post(client, "/v1/leases", &json!({ "ttl": ttl }));
        assert_eq!(answer.status, 400, "{ttl}: {}", answer.text());
    }
    for lease in ["0", "", "xyz", "12345678901234567"] {
        let answer = post(client, "/v1/leases", &json!({"ttl": 1, "lease": lease}));
        assert_eq!(answer.status, 400, "{lease}: {}", answer.text());
    }
    assert_eq!(
        put_under(client, "/bad/a", "77").problem_code(),
        "lease_not_found"
    );
    assert_eq!(
        put_under(client, "/bad/a", "q").problem_code(),
        "bad_query_value"
    );
    let many = json!({"leases": vec!["1"; 10_001]});
    let answer = post(client, "/v1/leases/keepalive", &many);
    assert_eq!(answer.problem_code(), "too_many_operations");
    assert_eq!(get(client, "/v1/leases/1/2/3").status, 404);
    assert_eq!(kv::get(client, "/bad/a"), None);
}

/// Invariant 9: whoever is killed, a lease that is kept alive lives, its time isn't shortened, and when it is
/// revoked none of its keys is to be seen.
#[test]
fn leases_outlive_nodes_that_are_killed() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    let lease = grant(&mut client, 3);
    let forgotten = grant(&mut client, 8);
    let begun = Stopwatch::start();
    for key in keys("kept", 12) {
        assert_eq!(put_under(&mut client, &key, &lease).status, 201);
    }
    for key in keys("forgotten", 6) {
        assert_eq!(put_under(&mut client, &key, &forgotten).status, 201);
    }
    let over = Arc::new(AtomicBool::new(false));
    let keeper = {
        let (over, lease) = (over.clone(), lease.clone());
        let clients: Vec<Client> = cluster.nodes().map(|node| cluster.client(node)).collect();
        std::thread::spawn(move || keep_alive(&lease, clients, &over))
    };
    let mut shortened = None;
    for node in [1, 2, 3, 1] {
        cluster.kill(node);
        // The others elect, and go on.
        let mut other = cluster.client(node % 3 + 1);
        wait_for("a write to every group", LIMIT, || {
            let puts = keys("other", 12).into_iter();
            let mut put = |key: String| kv::put_once(&mut other, &key, &json!(node), &[]).ok();
            puts.map(&mut put)
                .all(|answer| answer.is_some_and(|answer| answer.status < 300))
                .then_some(())
        });
        assert_eq!(kv::list(&mut other, "/kept/").len(), 12, "it is kept alive");
        if begun.elapsed() < Duration::from_secs(8) {
            shortened = Some(kv::list(&mut other, "/forgotten/").len());
        }
        cluster.revive(node);
        cluster.await_ready(node);
    }
    assert!(
        shortened.is_none_or(|left| left == 6),
        "a new leader gives no less time"
    );
    over.store(true, Ordering::Release);
    let missed = keeper.join().expect("the keeper");
    assert_eq!(missed, 0, "keepalives were answered that the lease is gone");
    let mut client = cluster.client(2);
    wait_until("all ends that nobody keeps alive", LIMIT, || {
        kv::list(&mut client, "/kept/").is_empty()
            && kv::list(&mut client, "/forgotten/").is_empty()
    });
}

/// Keeps a lease alive through any node; how often it was told that there is none.
fn keep_alive(lease: &str, mut clients: Vec<Client>, over: &AtomicBool) -> usize {
    let target = format!("/v1/leases/{lease}/keepalive?timeout=1");
    let mut gone = 0;
    while !over.load(Ordering::Acquire) {
        for client in &mut clients {
            if let Ok(answer) = client.request("POST", &target, &[], b"{}") {
                gone += usize::from(answer.status == 404);
            }
        }
        pause();
    }
    gone
}

/// Hundreds of leases end at the same time, while a node is killed that leads a part of them: the keys of each at
/// one revision, and nothing of those that are kept alive.
#[test]
fn many_end_at_once() {
    const KEPT: usize = 20;
    let mut cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(2);
    let mut watching = open(&cluster.address(2), "prefix=/many/");
    let mut leases: Vec<String> = (0..KEPT).map(|_| grant(&mut client, 5)).collect();
    let over = Arc::new(AtomicBool::new(false));
    let keeper = {
        let (over, kept) = (over.clone(), leases.clone());
        let mut client = cluster.client(3);
        std::thread::spawn(move || {
            let mut lost = 0;
            while !over.load(Ordering::Acquire) {
                let answer = post(
                    &mut client,
                    "/v1/leases/keepalive",
                    &json!({"leases": kept}),
                );
                if answer.status == 200 {
                    let kept = answer.json();
                    let kept = kept["leases"].as_array().expect("leases").clone();
                    lost += kept.iter().filter(|lease| lease["ttl"] == json!(0)).count();
                }
                pause();
            }
            lost
        })
    };
    leases.extend((KEPT..300).map(|_| grant(&mut client, 5)));
    let owner = attach_to_all(&mut client, &leases);
    cluster.kill(1);
    let kept = owner.values().filter(|at| **at < KEPT).count();
    wait_until("only what is kept alive is left", LIMIT, || {
        kv::list(&mut client, "/many/").len() == kept
    });
    over.store(true, Ordering::Release);
    assert_eq!(keeper.join().expect("the keeper"), 0, "none was lost");
    cluster.revive(1);
    let ends = ends_of(&mut watching, &owner, owner.len() - kept);
    assert!(ends.keys().all(|at| *at >= KEPT));
}

/// Attaches keys to each lease; whose each is.
fn attach_to_all(client: &mut Client, leases: &[String]) -> BTreeMap<String, usize> {
    // Of one directory, which may be that of the lease's home; of two; and many.
    let mut owner = BTreeMap::new();
    for (at, lease) in leases.iter().enumerate() {
        let keys: &[String] = &match at % 3 {
            0 => vec![format!("/many/{at}/a")],
            1 => vec![format!("/many/{at}/a"), format!("/many/{at}b/a")],
            _ => (0..5).map(|n| format!("/many/{n}/{at}")).collect(),
        };
        let puts: Vec<Value> = keys
            .iter()
            .map(|key| json!({"put": {"key": key, "value": at, "lease": lease}}))
            .collect();
        let (status, done) = kv::txn(client, &json!({ "then": puts })).expect("an answer");
        // One that ended meanwhile, because this took so long, has no keys.
        assert!([200, 404].contains(&status), "{done}");
        if status == 200 {
            owner.extend(keys.iter().map(|key| (key.clone(), at)));
        }
    }
    owner
}

/// When the keys of each lease went, and how many: each lease's at one revision.
fn ends_of(
    watching: &mut Watching,
    owner: &BTreeMap<String, usize>,
    total: usize,
) -> BTreeMap<usize, (u64, usize)> {
    let mut ends: BTreeMap<usize, (u64, usize)> = BTreeMap::new();
    while ends.values().map(|(_, keys)| keys).sum::<usize>() < total {
        let message = watching.expect();
        let Some(changes) = message["changes"].as_array() else {
            continue;
        };
        for change in changes.iter().filter(|change| change["type"] == "delete") {
            let revision = message["revision"].as_u64().expect("a revision");
            let at = owner[change["key"].as_str().expect("a key")];
            let (first, keys) = ends.entry(at).or_insert((revision, 0));
            assert_eq!(*first, revision, "lease {at} ended at two revisions");
            *keys += 1;
        }
    }
    ends
}
