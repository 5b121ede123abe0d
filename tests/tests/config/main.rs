//! The configuration centre through the front door, by real processes.

mod requests;
mod streams;

use std::time::Duration;

use caucus_tests::http::{Answer, Client};
use caucus_tests::wait::wait_until;
use caucus_tests::{Cluster, Options};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn send(client: &mut Client, method: &str, target: &str, body: &Value) -> Answer {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let headers = [("content-type", "application/json")];
    client
        .request(method, target, &headers, body.as_bytes())
        .expect("an answer")
}

#[track_caller]
fn done(answer: &Answer) -> Value {
    assert!(answer.status < 300, "{} {}", answer.status, answer.text());
    answer.json()
}

#[track_caller]
fn get(client: &mut Client, target: &str) -> Value {
    done(&send(client, "GET", target, &Value::Null))
}

#[test]
fn configuration_has_versions() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    versions(&mut client);
    limits(&mut client);
    all_at_once(&mut client);
    layers(&mut client);
    bad_input(&mut client);
    requests::names_are_known_for_longer_than_their_versions(&mut client);
    requests::conditions(&mut client);
    requests::back_to_nothing(&mut client);
    requests::large_values(&mut client);
    requests::many_publish_the_same(&cluster);
    requests::all_or_nothing_is_seen(&cluster);
}

fn versions(client: &mut Client) {
    let target = "/v1/config/app/db/pool";
    let set = format!("{target}?author=ada&comment=first");
    let first = done(&send(client, "PUT", &set, &json!({"size": 5, "host": "a"})));
    assert_eq!(first["version"], 1);
    let second = done(&send(
        client,
        "PUT",
        &format!("{target}?author=bob"),
        &json!({"size": 9, "host": "a"}),
    ));
    assert_eq!(second["version"], 2);
    let now = get(client, target);
    assert_eq!(
        (&now["value"]["size"], &now["version"], &now["author"]),
        (&json!(9), &json!(2), &json!("bob"))
    );
    assert!(
        now["time_ms"]
            .as_u64()
            .is_some_and(|time| time > 1_600_000_000_000),
        "{now}"
    );
    let diff = get(client, &format!("{target}?diff=1..2"));
    assert_eq!(
        diff["changes"],
        json!([{"at": "/size", "from": 5, "to": 9}])
    );
    outlive(client, target, &second["revision"]);
    text(client);
    // The same request again publishes nothing more.
    let headers = [
        ("idempotency-key", "once"),
        ("content-type", "application/json"),
    ];
    let mut once = || {
        let put = client.request("PUT", target, &headers, b"7");
        done(&put.expect("an answer"))
    };
    let (one, two) = (once(), once());
    assert_eq!((&one["version"], &one), (&json!(6), &two));
}

/// Versions outlive the store's own history, and the value.
fn outlive(client: &mut Client, target: &str, revision: &Value) {
    let compacted = send(
        client,
        "POST",
        "/v1/compact",
        &json!({ "revision": revision }),
    );
    done(&compacted);
    let old = get(client, &format!("{target}?version=1"));
    assert_eq!(
        (&old["value"]["size"], &old["comment"]),
        (&json!(5), &json!("first"))
    );
    let back = done(&send(
        client,
        "POST",
        &format!("{target}?rollback=1&author=eve"),
        &Value::Null,
    ));
    assert_eq!(back["version"], 3);
    assert_eq!(
        get(client, target)["value"],
        json!({"size": 5, "host": "a"})
    );
    let deleted = done(&send(client, "DELETE", target, &Value::Null));
    assert_eq!(deleted["version"], 4);
    assert_eq!(
        send(client, "GET", target, &Value::Null).problem_code(),
        "key_not_found"
    );
    // A path goes on counting.
    let again = done(&send(
        client,
        "PUT",
        &format!("{target}?if_version=0"),
        &json!(1),
    ));
    assert_eq!(again["version"], 5);
    let history = get(client, &format!("{target}?history"));
    let numbers: Vec<u64> = history["versions"]
        .as_array()
        .expect("versions")
        .iter()
        .filter_map(|v| v["version"].as_u64())
        .collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    assert_eq!(history["versions"][1]["deleted"], json!(true));
    let page = get(client, &format!("{target}?history&limit=2&before=4"));
    assert_eq!(
        (&page["versions"][0]["version"], &page["more"]),
        (&json!(3), &json!(true))
    );
}

fn text(client: &mut Client) {
    let text = "/v1/config/app/motd";
    for line in ["one\ntwo\n", "one\n2\n"] {
        let headers = [("content-type", "text/plain")];
        let put = client.request("PUT", text, &headers, line.as_bytes());
        done(&put.expect("an answer"));
    }
    let diff = get(client, &format!("{text}?diff=1..2"));
    assert!(
        diff["unified"]
            .as_str()
            .is_some_and(|diff| diff.contains("-two\n+2\n")),
        "{diff}"
    );
    let listed = get(client, "/v1/config/app/");
    let paths: Vec<&Value> = listed["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|e| &e["path"])
        .collect();
    assert_eq!(paths, [&json!("app/db/pool"), &json!("app/motd")]);
    assert_eq!(get(client, "/v1/config")["namespaces"], json!(["app"]));
}

fn limits(client: &mut Client) {
    done(&send(
        client,
        "PUT",
        "/v1/config/few?policy",
        &json!({"versions_max": 3}),
    ));
    for n in 1..=6 {
        let put = send(client, "PUT", "/v1/config/few/a", &json!(n));
        assert_eq!(done(&put)["version"], json!(n));
    }
    let history = get(client, "/v1/config/few/a?history");
    assert_eq!(
        history["versions"].as_array().map(Vec::len),
        Some(3),
        "{history}"
    );
    let gone = send(client, "POST", "/v1/config/few/a?rollback=2", &Value::Null);
    assert_eq!(
        (gone.status, gone.problem_code().as_str()),
        (410, "version_gone")
    );
    let gone = send(client, "GET", "/v1/config/few/a?diff=2..5", &Value::Null);
    assert_eq!(gone.problem_code(), "version_gone");
    let never = send(client, "GET", "/v1/config/few/a?version=7", &Value::Null);
    assert_eq!(never.problem_code(), "no_version");
    // What was replaced long ago goes with the next publication.
    done(&send(
        client,
        "PUT",
        "/v1/config/few?policy",
        &json!({"versions_max": 100, "age_seconds_max": 0}),
    ));
    wait_until("only what is young is kept", LIMIT, || {
        done(&send(client, "PUT", "/v1/config/few/a", &json!(0)));
        let history = get(client, "/v1/config/few/a?history");
        history["versions"].as_array().map(Vec::len) <= Some(3)
    });
}

/// Over namespaces, and so over groups: at one revision, or not at all.
fn all_at_once(client: &mut Client) {
    let paths: Vec<String> = (0..8).map(|n| format!("ns{n}/a")).collect();
    let set = |value: u32| {
        let set: Vec<Value> = paths
            .iter()
            .map(|path| json!({"path": path, "value": value}))
            .collect();
        json!({"author": "ada", "comment": "together", "set": set})
    };
    let first = done(&send(client, "POST", "/v1/config", &set(1)));
    assert_eq!(first["published"].as_array().map(Vec::len), Some(8));
    for path in &paths {
        let found = get(client, &format!("/v1/config/{path}"));
        assert_eq!(
            (&found["value"], &found["revision"]),
            (&json!(1), &first["revision"])
        );
    }
    // One of them isn't where it is expected: nothing is published.
    let mut clash = set(2);
    clash["set"][7]["if_version"] = json!(9);
    let refused = send(client, "POST", "/v1/config", &clash);
    assert_eq!(
        (refused.status, refused.problem_code().as_str()),
        (412, "other_version")
    );
    assert_eq!(get(client, "/v1/config/ns0/a")["version"], 1);
    let mixed = json!({"set": [{"path": "ns0/b", "value": "x"}], "delete": [{"path": "ns1/a", "if_version": 1}]});
    done(&send(client, "POST", "/v1/config", &mixed));
    assert_eq!(get(client, "/v1/config/ns0/b")["value"], "x");
    assert_eq!(
        send(client, "GET", "/v1/config/ns1/a", &Value::Null).status,
        404
    );
    let twice = json!({"set": [{"path": "ns0/b", "value": 1}, {"path": "ns0/b", "value": 2}]});
    assert_eq!(send(client, "POST", "/v1/config", &twice).status, 400);
}

fn layers(client: &mut Client) {
    let set = json!({"set": [
        {"path": "global/log", "value": "info"}, {"path": "global/limit", "value": 10},
        {"path": "shop/limit", "value": 20}, {"path": "shop/name", "value": "shop"},
        {"path": "nodes/shop-1/log", "value": "debug"},
    ]});
    done(&send(client, "POST", "/v1/config", &set));
    let merged = get(client, "/v1/config?effective=global,shop,nodes/shop-1");
    let entries = merged["entries"].as_array().expect("entries");
    let shown: Vec<Value> = entries
        .iter()
        .map(|e| json!([e["name"], e["value"], e["path"]]))
        .collect();
    assert_eq!(
        shown,
        [
            json!(["limit", 20, "shop/limit"]),
            json!(["log", "debug", "nodes/shop-1/log"]),
            json!(["name", "shop", "shop/name"]),
        ]
    );
}

fn bad_input(client: &mut Client) {
    for (method, target) in [
        ("PUT", "/v1/config/app"),
        ("PUT", "/v1/config/app//x"),
        ("PUT", "/v1/config/app/x?if_version=-1"),
        ("PUT", "/v1/config/app/x?unknown=1"),
        ("POST", "/v1/config/app/x"),
        ("GET", "/v1/config/app/x?diff=1"),
        ("GET", "/v1/config/app/x?diff=0..1"),
        ("GET", "/v1/config?effective=a,,b"),
        ("GET", "/v1/config/app/db/?after=app/motd"),
        ("GET", "/v1/config/app/?after=other/a"),
        ("PUT", "/v1/config/app/x/y?policy"),
    ] {
        let refused = send(client, method, target, &json!(1));
        assert!(
            [400, 405].contains(&refused.status),
            "{target}: {} {}",
            refused.status,
            refused.text()
        );
    }
    let zero = send(
        client,
        "PUT",
        "/v1/config/app?policy",
        &json!({"versions_max": 0}),
    );
    assert_eq!(zero.status, 400);
    let large = "x".repeat((1 << 20) + 1);
    let headers = [("content-type", "text/plain")];
    let refused = client.request("PUT", "/v1/config/app/x", &headers, large.as_bytes());
    assert_eq!(
        refused.expect("an answer").problem_code(),
        "value_too_large"
    );
    let empty = send(client, "POST", "/v1/config", &json!({}));
    assert_eq!(empty.status, 400);
    let gone = send(client, "DELETE", "/v1/config/app/none", &Value::Null);
    assert_eq!(gone.problem_code(), "key_not_found");
}
