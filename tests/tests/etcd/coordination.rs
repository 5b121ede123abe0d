//! Leases, locks and elections as etcd's clients have them: `etcdctl`, unmodified, and the services `v3lock` and
//! `v3election`.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use caucus_etcd::v3electionpb::election_client::ElectionClient;
use caucus_etcd::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use caucus_etcd::v3lockpb::lock_client::LockClient;
use caucus_etcd::v3lockpb::{LockRequest, UnlockRequest};
use caucus_tests::http::Client;
use caucus_tests::process::Process;
use caucus_tests::wait::{wait_for, wait_until};
use caucus_tests::{Cluster, Options};
use rustix::process::Signal;
use serde_json::{Value, json};
use tonic::Code;

use super::tool::{ETCDCTL, etcdctl, started};
use super::{node, run};

const LIMIT: Duration = Duration::from_secs(60);

/// An `etcdctl` that goes on.
fn begin(cluster: &Cluster, all: &str, name: &str, args: &[&str]) -> Process {
    let mut command = Command::new(ETCDCTL);
    command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", all])
        .args(args)
        .stdin(Stdio::null());
    Process::start(command, cluster.dir(), name)
}

#[test]
fn etcdctl_leases() {
    let Some((cluster, all)) = started() else {
        return;
    };
    let ctl = |args: &[&str]| etcdctl(&all, args, "");
    let granted = ctl(&["lease", "grant", "600"]);
    let lease = granted.split_whitespace().nth(1).expect("an id").to_owned();
    assert!(granted.ends_with("granted with TTL(600s)\n"), "{granted}");
    let keys: Vec<String> = (0..6).map(|n| format!("/lease/{n}/k")).collect();
    for key in &keys {
        assert_eq!(ctl(&["put", key, "v", "--lease", &lease]), "OK\n");
    }
    let shown = ctl(&["lease", "timetolive", &lease, "--keys"]);
    assert!(shown.contains("granted with TTL(600s)"), "{shown}");
    assert!(keys.iter().all(|key| shown.contains(key)), "{shown}");
    assert!(ctl(&["lease", "list"]).contains(&lease));
    let kept = ctl(&["lease", "keep-alive", "--once", &lease]);
    assert!(kept.contains("TTL(600)"), "{kept}");
    let keeping = begin(
        &cluster,
        &all,
        "keep-alive",
        &["lease", "keep-alive", &lease],
    );
    wait_until("a stream of keepalives", LIMIT, || {
        keeping.stdout().contains("keepalived")
    });
    assert_eq!(
        ctl(&["lease", "revoke", &lease]),
        format!("lease {lease} revoked\n")
    );
    assert_eq!(ctl(&["get", "--prefix", "/lease/"]), "");
    let gone = ctl(&["lease", "timetolive", &lease]);
    assert!(gone.contains("already expired"), "{gone}");
}

#[test]
fn etcdctl_locks_and_elects() {
    let Some((cluster, all)) = started() else {
        return;
    };
    let ctl = |args: &[&str]| etcdctl(&all, args, "");
    // A command under a lock.
    let said = ctl(&["lock", "mine", "--", "sh", "-c", "echo $ETCD_LOCK_KEY"]);
    assert!(said.starts_with("mine/"), "{said}");
    let mut first = begin(&cluster, &all, "lock-1", &["lock", "mine"]);
    wait_until("it has the lock", LIMIT, || {
        first.stdout().starts_with("mine/")
    });
    let second = begin(&cluster, &all, "lock-2", &["lock", "mine"]);
    wait_until("another one waits", LIMIT, || {
        ctl(&["get", "--prefix", "mine/", "--keys-only"])
            .matches("mine/")
            .count()
            == 2
    });
    assert_eq!(second.stdout(), "");
    first.signal(Signal::INT);
    assert!(first.wait(LIMIT).is_some());
    wait_until("the next has it", LIMIT, || {
        second.stdout().starts_with("mine/")
    });
    let mut leads = begin(&cluster, &all, "elect-1", &["elect", "boss", "one"]);
    wait_until("the first leads", LIMIT, || leads.stdout().contains("one"));
    let waits = begin(&cluster, &all, "elect-2", &["elect", "boss", "two"]);
    let listens = begin(&cluster, &all, "elect-3", &["elect", "-l", "boss"]);
    wait_until("it is seen", LIMIT, || listens.stdout().contains("one"));
    assert_eq!(waits.stdout(), "");
    leads.signal(Signal::INT);
    assert!(leads.wait(LIMIT).is_some());
    wait_until("the second leads", LIMIT, || waits.stdout().contains("two"));
    wait_until("that is seen, too", LIMIT, || {
        listens.stdout().contains("two")
    });
}

fn lease(cluster: &Cluster, ttl: u64) -> i64 {
    let body = json!({ "TTL": ttl }).to_string();
    let granted =
        Client::new(&cluster.address(1)).request("POST", "/v3/lease/grant", &[], body.as_bytes());
    let granted = granted.expect("an answer").json();
    let id = granted["ID"].as_str().expect("an id");
    id.parse().expect("a number")
}

async fn lock_at(
    address: &str,
    ask: LockRequest,
) -> Result<tonic::Response<caucus_etcd::v3lockpb::LockResponse>, tonic::Status> {
    LockClient::new(super::channel(address)).lock(ask).await
}

#[test]
fn the_lock_service() {
    let cluster = Cluster::start(Options::nodes(3));
    let (one, two) = (lease(&cluster, 60), lease(&cluster, 60));
    let ask = |lease| LockRequest {
        name: "/locks/service/a".into(),
        lease,
    };
    let lock = |at, lease| {
        let (address, ask) = (cluster.address(at), ask(lease));
        run(async move { lock_at(&address, ask).await })
    };
    let first = lock(1, one).expect("the lock").into_inner();
    assert_eq!(first.key, format!("/locks/service/a/{one:x}"));
    assert_eq!(lock(2, one).expect("the same").into_inner().key, first.key);
    let (sender, answers) = mpsc::channel();
    let (address, asked) = (cluster.address(2), ask(two));
    let waits = std::thread::spawn(move || {
        _ = sender.send(run(async move { lock_at(&address, asked).await }));
    });
    let mut client = cluster.client(3);
    let waiting =
        json!({"key": "L2xvY2tzL3NlcnZpY2UvYS8=", "range_end": "L2xvY2tzL3NlcnZpY2UvYTA="});
    wait_until("both stand in the queue", LIMIT, || {
        let found = client.request("POST", "/v3/kv/range", &[], waiting.to_string().as_bytes());
        found.expect("an answer").json()["count"] == json!("2")
    });
    assert!(answers.try_recv().is_err());
    let unlock = |key| {
        run(async {
            let mut client = LockClient::new(node(&cluster, 3));
            client.unlock(UnlockRequest { key }).await
        })
    };
    unlock(first.key).expect("released");
    let second = answers.recv_timeout(LIMIT).expect("an answer");
    let second = second.expect("the lock").into_inner();
    assert_eq!(second.key, format!("/locks/service/a/{two:x}"));
    waits.join().expect("it ends");
    unlock(second.key).expect("released");
    let none = lock(1, 12345).expect_err("no such lease");
    assert_eq!(none.code(), Code::Unknown);
    assert_eq!(none.message(), "etcdserver: requested lease not found");
    // Who waits under a lease that ends is told so, and never that it holds (etcd's #11456).
    lock(1, one).expect("the lock");
    let brief = lease(&cluster, 600);
    let (sender, answers) = mpsc::channel();
    let (address, asked) = (cluster.address(2), ask(brief));
    let waits = std::thread::spawn(move || {
        _ = sender.send(run(async move { lock_at(&address, asked).await }));
    });
    wait_until("it waits", LIMIT, || {
        let found = client.request("POST", "/v3/kv/range", &[], waiting.to_string().as_bytes());
        found.expect("an answer").json()["count"] == json!("2")
    });
    let body = json!({ "ID": brief.to_string() }).to_string();
    let revoked = client.request("POST", "/v3/lease/revoke", &[], body.as_bytes());
    assert_eq!(revoked.expect("an answer").status, 200);
    let refused = answers
        .recv_timeout(LIMIT)
        .expect("an answer")
        .expect_err("expired");
    assert_eq!(refused.message(), "mutex: session is expired");
    waits.join().expect("it ends");
}

#[test]
fn the_election_service() {
    let cluster = Cluster::start(Options::nodes(3));
    let (one, two) = (lease(&cluster, 60), lease(&cluster, 60));
    let leader_of = || LeaderRequest {
        name: "boss".into(),
    };
    let ask = |lease, value: &'static str| CampaignRequest {
        name: "boss".into(),
        lease,
        value: value.into(),
    };
    run(async {
        let mut client = ElectionClient::new(node(&cluster, 1));
        let mut other = ElectionClient::new(node(&cluster, 2));
        let nobody = client.leader(leader_of()).await.expect_err("nobody leads");
        assert_eq!(nobody.message(), "election: no leader");
        let mut seen = other
            .observe(leader_of())
            .await
            .expect("a stream")
            .into_inner();
        let first = client
            .campaign(ask(one, "v1"))
            .await
            .expect("it leads")
            .into_inner();
        let first = first.leader.expect("a leader");
        assert_eq!(first.key, format!("boss/{one:x}"));
        let told = |told: Option<caucus_etcd::v3electionpb::LeaderResponse>| {
            let kv = told.expect("a leader").kv.expect("its key");
            String::from_utf8_lossy(&kv.value).into_owned()
        };
        assert_eq!(told(seen.message().await.expect("a message")), "v1");
        let second = tokio::spawn({
            let mut client = ElectionClient::new(node(&cluster, 3));
            let ask = ask(two, "v2");
            async move { client.campaign(ask).await }
        });
        let say = ProclaimRequest {
            leader: Some(first.clone()),
            value: "v1b".into(),
        };
        client.proclaim(say.clone()).await.expect("it leads");
        assert_eq!(told(seen.message().await.expect("a message")), "v1b");
        let found = other
            .leader(leader_of())
            .await
            .expect("a leader")
            .into_inner();
        assert_eq!(told(Some(found)), "v1b");
        let resign = ResignRequest {
            leader: Some(first),
        };
        client.resign(resign).await.expect("it resigns");
        let second = second
            .await
            .expect("it ends")
            .expect("it leads")
            .into_inner();
        assert_eq!(second.leader.expect("a leader").lease, two);
        assert_eq!(told(seen.message().await.expect("a message")), "v2");
        let late = client.proclaim(say).await.expect_err("it leads no more");
        assert_eq!(late.message(), "election: not leader");
    });
}

/// The JSON routes, the streams of keepalives among them.
#[test]
fn the_gateway_leases_and_locks() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    let mut post = |path: &str, body: Value| {
        let body = body.to_string();
        let answer = client.request("POST", path, &[], body.as_bytes());
        answer.expect("an answer").json()
    };
    let granted = post("/v3/lease/grant", json!({"TTL": "60", "ID": "77"}));
    assert_eq!(granted["ID"], "77", "{granted}");
    let least = post("/v3/lease/grant", json!({"TTL": "0"}));
    assert_eq!(least["TTL"], "1", "{least}");
    let kept = post("/v3/lease/keepalive", json!({"ID": "77"}));
    assert_eq!(kept["result"]["TTL"], "60", "{kept}");
    let none = post("/v3/lease/keepalive", json!({"ID": "78"}));
    assert!(none["result"]["TTL"].is_null(), "{none}");
    post(
        "/v3/kv/put",
        json!({"key": "Zm9v", "value": "YmFy", "lease": "77"}),
    );
    let shown = post("/v3/kv/lease/timetolive", json!({"ID": "77", "keys": true}));
    assert_eq!(shown["keys"], json!(["Zm9v"]), "{shown}");
    let refused = post("/v3/kv/put", json!({"key": "Zm9v", "lease": "78"}));
    assert_eq!(refused["error"], "etcdserver: requested lease not found");
    let taken = post("/v3/lease/grant", json!({"TTL": "60", "ID": "77"}));
    assert_eq!(
        taken["error"], "etcdserver: lease already exists",
        "{taken}"
    );
    let locked = post("/v3/lock/lock", json!({"name": "bG9jaw==", "lease": "77"}));
    assert_eq!(locked["key"], "bG9jay80ZA==", "{locked}");
    post("/v3/lock/unlock", json!({"key": locked["key"]}));
    let led = post(
        "/v3/election/campaign",
        json!({"name": "ZQ==", "lease": "77", "value": "dg=="}),
    );
    let leader = post("/v3/election/leader", json!({"name": "ZQ=="}));
    assert_eq!(leader["kv"]["key"], led["leader"]["key"], "{leader} {led}");
    post("/v3/lease/revoke", json!({"ID": "77"}));
    let leases = wait_for("the shortest lease ends", LIMIT, || {
        let leases = post("/v3/lease/leases", json!({}));
        leases["leases"].is_null().then_some(leases)
    });
    assert!(leases["header"].is_object());
    let gone = post("/v3/kv/range", json!({"key": "Zm9v"}));
    assert!(gone["kvs"].is_null(), "{gone}");
}
