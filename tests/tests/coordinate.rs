//! The command line and the client library of what people coordinate with, by real processes.

use std::process::Command;
use std::time::Duration;

use caucus_sdk::{Client, encoded};
use caucus_tests::http;
use caucus_tests::process::{self, Process};
use caucus_tests::wait::{wait_for, wait_until};
use caucus_tests::{Cluster, Options};
use rustix::process::Signal;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn caucus(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = process::command(args);
    command.env("CAUCUS_ENDPOINTS", cluster.endpoints());
    command.env("USER", "ada");
    command
}

/// What it writes; panics if it fails.
#[track_caller]
fn run(cluster: &Cluster, args: &[&str]) -> String {
    let done = caucus(cluster, args).output().expect("it starts");
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    );
    assert!(done.status.success(), "{args:?}: {out}{err}");
    out
}

#[track_caller]
fn json(cluster: &Cluster, args: &[&str]) -> Value {
    let text = run(cluster, args);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
}

fn post(client: &mut http::Client, target: &str, body: &Value) -> http::Answer {
    let body = body.to_string();
    let sent = client.request("POST", target, &[], body.as_bytes());
    sent.expect("an answer")
}

#[test]
fn commands_coordinate() {
    let cluster = Cluster::start(Options::nodes(3));
    leases(&cluster);
    configuration(&cluster);
    services_and_topics(&cluster);
    a_command_under_a_lock(&cluster);
    a_command_that_leads(&cluster);
}

fn leases(cluster: &Cluster) {
    let granted = json(cluster, &["lease", "grant", "600"]);
    let lease = granted["lease"].as_str().expect("a lease");
    assert_eq!(
        json(cluster, &["lease", "keep-alive", "--once", lease])["ttl"],
        json!(600)
    );
    assert_eq!(json(cluster, &["lease", "show", lease])["keys"], json!([]));
    assert_eq!(
        json(cluster, &["lease", "list"])["leases"][0]["lease"],
        json!(lease)
    );
    assert_eq!(run(cluster, &["lease", "revoke", lease]), "");
    let gone = caucus(cluster, &["lease", "show", lease])
        .output()
        .expect("it starts");
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("lease_not_found"));
}

fn configuration(cluster: &Cluster) {
    let set = json(
        cluster,
        &["config", "set", "app/size", "5", "--comment", "first"],
    );
    assert_eq!(set["version"], json!(1));
    json(
        cluster,
        &["config", "set", "app/size", "7", "--if-version", "1"],
    );
    let got = json(cluster, &["config", "get", "app/size"]);
    assert_eq!((&got["value"], &got["author"]), (&json!(7), &json!("ada")));
    let old = json(cluster, &["config", "get", "app/size", "--version", "1"]);
    assert_eq!(old["comment"], json!("first"));
    let diff = json(cluster, &["config", "diff", "app/size", "1", "2"]);
    assert_eq!(diff["changes"][0]["to"], json!(7));
    assert_eq!(
        json(cluster, &["config", "rollback", "app/size", "1"])["version"],
        json!(3)
    );
    let history = json(cluster, &["config", "history", "app/size"]);
    assert_eq!(history["versions"].as_array().map(Vec::len), Some(3));
    let file = cluster.dir().join("publication.json");
    let publication =
        json!({"set": [{"path": "app/a", "value": 1}, {"path": "node/a", "value": 2}]});
    std::fs::write(&file, publication.to_string()).expect("a file");
    json(
        cluster,
        &["config", "publish", file.to_str().expect("a path")],
    );
    let merged = json(cluster, &["config", "effective", "app", "node"]);
    assert_eq!(merged["entries"][0]["value"], json!(2), "{merged}");
    let listed = json(cluster, &["config", "list", "app"]);
    assert_eq!(listed["entries"].as_array().map(Vec::len), Some(2));
    json(cluster, &["config", "delete", "app/size"]);
    assert!(run(cluster, &["config", "reference"]).contains("[node]"));
}

fn services_and_topics(cluster: &Cluster) {
    let register = [
        "service",
        "register",
        "web",
        "one",
        "--address",
        "h",
        "--port",
        "80",
        "--tag",
        "t",
    ];
    run(cluster, &register);
    run(
        cluster,
        &["service", "heartbeat", "web", "one", "--status", "warning"],
    );
    let listed = json(cluster, &["service", "list", "web", "--healthy"]);
    assert_eq!(listed["instances"][0]["status"], json!("warning"));
    run(cluster, &["service", "deregister", "web", "one"]);
    let published = json(cluster, &["topic", "publish", "news", "one", "2"]);
    assert_eq!(published["last"], json!(1));
    json(cluster, &["topic", "keep", "news", "--messages", "100"]);
    json(cluster, &["topic", "consumer", "news", "app", "--shared"]);
    let fetched = json(
        cluster,
        &[
            "topic", "fetch", "news", "app", "--member", "m", "--count", "5",
        ],
    );
    assert_eq!(fetched["messages"][1]["value"], json!(2), "{fetched}");
    json(cluster, &["topic", "ack", "news", "app", "0", "--to", "1"]);
    let shown = json(cluster, &["topic", "consumer", "news"]);
    assert_eq!(shown["consumers"][0]["lag"], json!(0));
    let subscribing = Process::start(
        caucus(cluster, &["topic", "subscribe", "news", "--from", "first"]),
        cluster.dir(),
        "subscribe",
    );
    wait_until("both messages", LIMIT, || {
        subscribing.stdout().lines().count() == 2
    });
    run(cluster, &["topic", "delete", "news"]);
}

fn a_command_under_a_lock(cluster: &Cluster) {
    let script = "echo $CAUCUS_LOCK_TOKEN; exit 7";
    let done = caucus(cluster, &["lock", "l", "--", "sh", "-c", script])
        .output()
        .expect("it starts");
    assert_eq!(done.status.code(), Some(7));
    let token: u64 = String::from_utf8_lossy(&done.stdout)
        .trim()
        .parse()
        .expect("a token");
    let again = run(
        cluster,
        &["lock", "l", "--", "sh", "-c", "echo $CAUCUS_LOCK_TOKEN"],
    );
    assert!(again.trim().parse::<u64>().expect("a token") > token);
    let mut held = Process::start(
        caucus(cluster, &["lock", "l", "--owner", "me"]),
        cluster.dir(),
        "lock",
    );
    wait_until("it holds", LIMIT, || !held.stdout().is_empty());
    let shown = json(cluster, &["lock", "l", "--show"]);
    assert_eq!(shown["holders"][0]["owner"], json!("me"));
    let busy = caucus(cluster, &["lock", "l", "--wait", "0", "--", "true"])
        .output()
        .expect("it starts");
    assert_eq!(busy.status.code(), Some(1));
    held.signal(Signal::TERM);
    assert_eq!(held.wait(LIMIT), Some(0), "{}", held.stderr());
    assert_eq!(
        json(cluster, &["lock", "l", "--show"])["holders"],
        json!([])
    );
}

/// When leadership is lost the command is ended.
fn a_command_that_leads(cluster: &Cluster) {
    let args = [
        "elect",
        "e",
        "--value",
        "one",
        "--",
        "sh",
        "-c",
        "echo $CAUCUS_ELECTION_LEASE; exec sleep 600",
    ];
    let mut leads = Process::start(caucus(cluster, &args), cluster.dir(), "elect");
    wait_until("it leads", LIMIT, || !leads.stdout().is_empty());
    assert_eq!(
        json(cluster, &["elect", "e", "--leader"])["value"],
        json!("one")
    );
    run(cluster, &["lease", "revoke", leads.stdout().trim()]);
    assert_eq!(leads.wait(LIMIT), Some(1), "{}", leads.stderr());
    assert!(
        leads.stderr().contains("leadership is lost"),
        "{}",
        leads.stderr()
    );
}

/// A holder that is stopped for longer than its time goes on believing that it holds; where its token is checked it is
/// refused, and when it wakes it finds out.
#[test]
fn a_holder_that_was_stopped_is_refused() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    let script = "echo $CAUCUS_LOCK_KEY $CAUCUS_LOCK_TOKEN; exec sleep 600";
    let args = ["lock", "p", "--ttl", "1", "--", "sh", "-c", script];
    let mut stopped = Process::start(caucus(&cluster, &args), cluster.dir(), "stopped");
    wait_until("it holds", LIMIT, || !stopped.stdout().is_empty());
    let said = stopped.stdout();
    let (key, token) = said.trim().split_once(' ').expect("a key and a token");
    let token: u64 = token.parse().expect("a number");
    let held = json!({"key": key, "token": token});
    assert_eq!(post(&mut client, "/v1/locks/p/check", &held).status, 200);
    stopped.signal(Signal::STOP);
    let next = post(
        &mut client,
        "/v1/locks/p/acquire",
        &json!({"ttl": 30, "wait": 60}),
    );
    assert_eq!(next.status, 200, "{}", next.text());
    let next = next.json();
    assert!(next["token"].as_u64() > Some(token));
    let refused = post(&mut client, "/v1/locks/p/check", &held);
    assert_eq!(refused.problem_code(), "not_held");
    let guarded = json!({
        "if": [{"key": key, "create_revision": token}],
        "then": [{"put": {"key": "/guarded", "value": "late"}}],
    });
    let done = post(&mut client, "/v1/txn", &guarded).json();
    assert_eq!(done["succeeded"], json!(false), "{done}");
    stopped.signal(Signal::CONT);
    assert_eq!(stopped.wait(LIMIT), Some(1), "{}", stopped.stderr());
    let shown = client
        .request("GET", "/v1/locks/p", &[], b"")
        .expect("an answer")
        .json();
    assert_eq!(
        shown["holders"][0]["token"], next["token"],
        "the next one holds it still"
    );
}

fn sdk(cluster: &Cluster) -> Client {
    let urls: Vec<String> = cluster.endpoints().split(',').map(str::to_owned).collect();
    Client::new(&urls).expect("addresses")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(work)
}

/// The client library goes through nodes that are killed: what is held stays held, a watch misses nothing.
#[test]
fn the_library_goes_on_while_nodes_are_killed() {
    let mut cluster = Cluster::start(Options::nodes(3));
    block_on(async {
        let client = sdk(&cluster);
        let lock = client
            .lock("jobs/daily")
            .ttl(Duration::from_secs(5))
            .owner("test")
            .acquire()
            .await;
        let lock = lock.expect("the lock");
        let leader = client
            .election("boss")
            .ttl(Duration::from_secs(5))
            .value(json!("v"))
            .lead()
            .await;
        let leader = leader.expect("it leads");
        let lease = client.lease(Duration::from_secs(5)).await.expect("a lease");
        let mut watch = client.watch("/sdk/", None);
        let first = tokio::spawn({
            let client = client.clone();
            async move {
                for n in 0..40 {
                    let mut done = client.put("/sdk/a", &json!(n)).await;
                    while let Err(error) = &done {
                        assert!(error.is_retryable(), "{error}");
                        let endpoints = client.endpoints();
                        endpoints.leave(endpoints.in_use());
                        done = client.put("/sdk/a", &json!(n)).await;
                    }
                }
            }
        });
        // The first it tells is no later than what was written after it was opened.
        let mut last = None;
        for node in [1, 2] {
            let (message, ()) = tokio::join!(watch.next(), async { cluster.kill(node) });
            last = Some(message.expect("a change"));
            tokio::task::block_in_place(|| {
                cluster.revive(node);
                cluster.await_ready(node);
            });
        }
        first.await.expect("it writes");
        let value = |message: &Value| message["changes"][0]["value"].as_u64().expect("a number");
        let mut seen = value(&last.expect("a change"));
        while seen < 39 {
            let next = value(&watch.next().await.expect("a change"));
            assert!(next == seen + 1 || next == seen, "{next} after {seen}");
            seen = next;
        }
        assert!(lock.lease().is_alive() && leader.lease().is_alive() && lease.is_alive());
        let found = client.election("boss").leader().await.expect("an answer");
        assert_eq!(found.expect("a leader")["token"], json!(leader.token()));
        leader.proclaim(json!("w")).await.expect("it leads");
        leader.resign().await.expect("it led");
        lock.release().await.expect("it was held");
        lease.revoke().await.expect("it lived");
        guards_find_out(&cluster, &client).await;
    });
    let gone = wait_for("nobody leads", LIMIT, || {
        let answer = cluster
            .client(1)
            .request("GET", "/v1/elections/boss/leader", &[], b"")
            .ok()?;
        (answer.status == 404).then_some(answer)
    });
    assert_eq!(gone.problem_code(), "no_leader");
}

/// Somebody else ends what is held: the guard says so.
async fn guards_find_out(cluster: &Cluster, client: &Client) {
    let lost = client.lock("taken").acquire().await.expect("the lock");
    let target = format!("/v1/locks/taken/holders/{}", encoded(lost.lease().id()));
    let taken = cluster.client(3).request("DELETE", &target, &[], b"");
    assert_eq!(taken.expect("an answer").status, 204);
    let refused = lost.release().await.expect_err("it is lost");
    assert_eq!(refused.code(), Some("not_held"));
    let brief = client.lease(Duration::from_secs(1)).await.expect("a lease");
    let target = format!("/v1/leases/{}", brief.id());
    let ended = cluster.client(3).request("DELETE", &target, &[], b"");
    assert_eq!(ended.expect("an answer").status, 204);
    brief.lost().await;
    assert!(!brief.is_alive());
}
