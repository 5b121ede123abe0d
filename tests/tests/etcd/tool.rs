//! Debian's `etcdctl` against Caucus.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use caucus_tests::http::{Client, Stream};
use caucus_tests::process::Process;
use caucus_tests::wait::wait_until;
use caucus_tests::{Cluster, Options, say_skipped};
use serde_json::{Value, json};

pub(super) const ETCDCTL: &str = "/usr/bin/etcdctl";

/// What it writes; panics if it fails.
pub(super) fn etcdctl(endpoints: &str, args: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new(ETCDCTL)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoints])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcdctl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let done = child.wait_with_output().expect("it ends");
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    );
    assert!(done.status.success(), "{args:?}: {out}{err}");
    out
}

/// A cluster, and its endpoints; none if there is no etcdctl.
pub(super) fn started() -> Option<(Cluster, String)> {
    if !Path::new(ETCDCTL).exists() {
        say_skipped("there is no etcdctl");
        return None;
    }
    let cluster = Cluster::start(Options::nodes(3));
    // Some commands of etcdctl send a URL here as the authority of a request, which it isn't.
    let all = cluster.endpoints().replace("http://", "");
    Some((cluster, all))
}

#[test]
fn etcdctl_finds_nothing_amiss() {
    let Some((_cluster, all)) = started() else {
        return;
    };
    let ctl = |args: &[&str]| etcdctl(&all, args, "");
    for n in 0..5 {
        assert_eq!(
            ctl(&["put", &format!("/fruit/{n}/name"), &format!("v{n}")]),
            "OK\n"
        );
    }
    assert_eq!(ctl(&["get", "/fruit/1/name"]), "/fruit/1/name\nv1\n");
    let values = ctl(&[
        "get",
        "--prefix",
        "/fruit/",
        "--print-value-only",
        "--order",
        "DESCEND",
    ]);
    assert_eq!(values, "v4\nv3\nv2\nv1\nv0\n");
    let limited = ctl(&[
        "get",
        "--from-key",
        "/fruit/3",
        "--limit",
        "1",
        "--keys-only",
    ]);
    assert_eq!(limited.trim(), "/fruit/3/name");
    let txn = "mod(\"/fruit/1/name\") > \"0\"\n\nput /fruit/1/name two\nput /fruit/9/name nine\n\nget /fruit/1/name\n\n";
    let done = etcdctl(&all, &["txn"], txn);
    assert!(done.starts_with("SUCCESS"), "{done}");
    assert_eq!(
        ctl(&["get", "/fruit/9/name", "--print-value-only"]),
        "nine\n"
    );
    let found: Value = parse(&ctl(&["get", "/fruit/1/name", "-w", "json"]));
    let revision = found["kvs"][0]["mod_revision"].as_i64().expect("a number");
    let before = (revision - 1).to_string();
    assert_eq!(
        ctl(&[
            "get",
            "/fruit/1/name",
            "--rev",
            &before,
            "--print-value-only"
        ]),
        "v1\n"
    );
    assert_eq!(
        ctl(&["del", "--prefix", "/fruit/", "--prev-kv"])
            .lines()
            .next(),
        Some("6")
    );
    let compacted = ctl(&["compaction", &revision.to_string()]);
    assert_eq!(compacted, format!("compacted revision {revision}\n"));
}

#[test]
fn etcdctl_tends_the_cluster() {
    let Some((_cluster, all)) = started() else {
        return;
    };
    let ctl = |args: &[&str]| etcdctl(&all, args, "");
    assert_eq!(ctl(&["put", "/a/b/c", "d"]), "OK\n");
    let hashes = parse(&ctl(&["endpoint", "hashkv", "-w", "json"]));
    let hash = |n: usize| hashes[n]["HashKV"]["hash"].as_u64().expect("a number");
    assert!(hash(0) == hash(1) && hash(1) == hash(2), "{hashes}");
    assert_eq!(ctl(&["alarm", "list"]), "");
    assert_eq!(ctl(&["alarm", "disarm"]), "");

    let members = parse(&ctl(&["member", "list", "-w", "json"]));
    assert_eq!(
        members["members"].as_array().map(Vec::len),
        Some(3),
        "{members}"
    );
    let health = ctl(&["endpoint", "health", "--cluster"]);
    let healthy = health.matches("is healthy").count();
    assert!(healthy == 3 || health.is_empty(), "{health}");
    let status = parse(&ctl(&["endpoint", "status", "-w", "json"]));
    let leader = |n: usize| status[n]["Status"]["leader"].as_u64();
    assert!(leader(0).is_some_and(|leader| leader > 0), "{status}");
    assert!(leader(0) == leader(1) && leader(1) == leader(2), "{status}");
    assert!(ctl(&["defrag"]).contains("Finished defragmenting"));
}

#[test]
fn the_gateway_speaks_as_etcds_does() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = Client::new(&cluster.address(1));
    let mut post = |path: &str, body: Value| {
        let body = body.to_string();
        let answer = client.request("POST", path, &[], body.as_bytes());
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let put = post("/v3/kv/put", json!({"key": "Zm9v", "value": "YmFy"}));
    let revision = put["header"]["revision"]
        .as_str()
        .expect("a string")
        .to_owned();
    let found = post("/v3/kv/range", json!({"key": "Zm9v"}));
    assert_eq!(
        found["kvs"],
        json!([{
            "key": "Zm9v", "value": "YmFy", "version": "1",
            "create_revision": revision, "mod_revision": revision,
        }])
    );
    assert_eq!(found["count"], "1");
    let gone = post(
        "/v3/kv/deleterange",
        json!({"key": "AA==", "range_end": "AA=="}),
    );
    assert_eq!(gone["deleted"], "1");
    let members = post("/v3beta/cluster/member/list", json!({}));
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1));
    let status = post("/v3/maintenance/status", json!({}));
    assert!(status["version"].is_string(), "{status}");
    let version = client
        .request("GET", "/version", &[], b"")
        .expect("an answer");
    assert!(version.json()["etcdserver"].is_string());
}

#[test]
fn etcdctl_watches() {
    let Some((cluster, all)) = started() else {
        return;
    };
    let ctl = |args: &[&str]| etcdctl(&all, args, "");
    let put = parse(&ctl(&["put", "/fruit/1/name", "v1", "-w", "json"]));
    let revision = put["header"]["revision"].to_string();
    let mut command = Command::new(ETCDCTL);
    command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &all, "watch", "--prefix", "/fruit/"])
        .args(["--rev", &revision, "--prev-kv"])
        .stdin(Stdio::null());
    let watching = Process::start(command, cluster.dir(), "etcdctl-watch");
    ctl(&["put", "/fruit/2/name", "v2"]);
    ctl(&["put", "/fruit/1/name", "v3"]);
    ctl(&["del", "/fruit/1/name"]);
    let expected = "PUT\n/fruit/1/name\nv1\nPUT\n/fruit/2/name\nv2\n\
                    PUT\n/fruit/1/name\nv1\n/fruit/1/name\nv3\n\
                    DELETE\n/fruit/1/name\nv3\n/fruit/1/name\n\n";
    wait_until("all changes", Duration::from_secs(30), || {
        watching.stdout().len() >= expected.len()
    });
    assert_eq!(watching.stdout(), expected);
}

#[test]
fn the_gateway_streams_watches() {
    let cluster = Cluster::start(Options::nodes(1));
    let address = cluster.address(1);
    let create = json!({"create_request": {"key": "Zm9v"}}).to_string();
    let target = ("POST", "/v3/watch");
    let stream = Stream::open(&address, target, &[], create.as_bytes());
    let mut stream = stream.expect("an answer").expect("a stream");
    let mut next = || {
        let line = stream.line().expect("a line").expect("the stream goes on");
        parse(&String::from_utf8(line).expect("text"))
    };
    let created = next();
    assert_eq!(created["result"]["created"], json!(true), "{created}");
    let body = json!({"key": "Zm9v", "value": "YmFy"}).to_string();
    let put = Client::new(&address).request("POST", "/v3/kv/put", &[], body.as_bytes());
    let put = put.expect("an answer").json();
    let told = next();
    let event = &told["result"]["events"][0];
    assert_eq!(event["kv"]["value"], "YmFy", "{told}");
    assert_eq!(event["kv"]["mod_revision"], put["header"]["revision"]);
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
