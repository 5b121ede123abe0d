//! What requests may rely on: their names, their conditions, and that others don't get in their way.

use std::thread::spawn;

use caucus_tests::Cluster;
use caucus_tests::http::{Answer, Client};
use serde_json::{Value, json};

use crate::{done, get, send};

fn named(client: &mut Client, (method, target): (&str, &str), name: &str, body: &Value) -> Answer {
    let headers = [
        ("idempotency-key", name),
        ("content-type", "application/json"),
    ];
    client
        .request(method, target, &headers, body.to_string().as_bytes())
        .expect("an answer")
}

fn with(client: &mut Client, method: &str, target: &str, header: (&str, &str)) -> Answer {
    let headers = [header, ("content-type", "application/json")];
    client
        .request(method, target, &headers, b"1")
        .expect("an answer")
}

pub(super) fn names_are_known_for_longer_than_their_versions(client: &mut Client) {
    for namespace in ["kept1", "kept2"] {
        let policy = format!("/v1/config/{namespace}?policy");
        done(&send(client, "PUT", &policy, &json!({"versions_max": 1})));
    }
    let both = json!({"set": [{"path": "kept1/a", "value": 1}, {"path": "kept2/a", "value": 1}]});
    let publish = ("POST", "/v1/config");
    let first = done(&named(client, publish, "both", &both));
    for value in 0..3 {
        done(&send(client, "PUT", "/v1/config/kept2/a", &json!(value)));
    }
    let gone = send(client, "GET", "/v1/config/kept2/a?version=1", &Value::Null);
    assert_eq!(gone.problem_code(), "version_gone");
    assert_eq!(done(&named(client, publish, "both", &both)), first);
    assert_eq!(get(client, "/v1/config/kept2/a")["version"], 4);
    let other = json!({"set": [{"path": "kept2/b", "value": 1}]});
    let reused = named(client, publish, "both", &other);
    assert_eq!(reused.problem_code(), "idempotency_key_reused");
    // Names are those of a method and path.
    let put = ("PUT", "/v1/config/kept2/a");
    assert_eq!(done(&named(client, put, "both", &json!(5)))["version"], 5);
}

pub(super) fn conditions(client: &mut Client) {
    let target = "/v1/config/cond/a";
    let refused = with(client, "PUT", target, ("if-match", "*"));
    assert_eq!(
        (refused.status, refused.problem_code().as_str()),
        (412, "other_version")
    );
    let created = with(client, "PUT", target, ("if-none-match", "*"));
    assert_eq!(
        (created.status, created.header("etag")),
        (200, Some("\"1\""))
    );
    let again = with(client, "PUT", target, ("if-none-match", "*"));
    assert_eq!(again.problem_code(), "other_version");
    let second = with(client, "PUT", target, ("if-match", "\"7\", \"1\""));
    assert_eq!(second.header("etag"), Some("\"2\""));
    let stale = with(client, "DELETE", target, ("if-match", "\"1\""));
    assert_eq!(stale.problem_code(), "other_version");
    let both = with(
        client,
        "PUT",
        "/v1/config/cond/a?if_version=2",
        ("if-match", "*"),
    );
    assert_eq!(both.problem_code(), "invalid_request");
    let malformed = with(client, "PUT", target, ("if-match", "2"));
    assert_eq!(malformed.problem_code(), "malformed_if_match");
    let found = with(client, "GET", target, ("if-none-match", "\"1\""));
    assert_eq!((found.status, found.header("etag")), (200, Some("\"2\"")));
    let same = with(client, "GET", target, ("if-none-match", "\"2\""));
    assert_eq!((same.status, same.header("etag")), (304, Some("\"2\"")));
    let head = with(client, "HEAD", target, ("accept", "*/*"));
    assert_eq!((head.status, head.header("etag")), (200, Some("\"2\"")));
    let deleted = with(client, "DELETE", target, ("if-match", "\"2\""));
    assert_eq!((deleted.status, deleted.header("etag")), (200, None));
    assert_eq!(with(client, "HEAD", target, ("accept", "*/*")).status, 404);
}

/// To roll back to a version that removed the value removes it.
pub(super) fn back_to_nothing(client: &mut Client) {
    let target = "/v1/config/nothing/a";
    let versions = |client: &mut Client| {
        done(&send(client, "PUT", target, &json!(1)));
        done(&send(client, "DELETE", target, &Value::Null));
    };
    versions(client);
    let back = format!("{target}?rollback=2");
    let refused = send(client, "POST", &back, &Value::Null);
    assert_eq!(refused.problem_code(), "key_not_found");
    done(&send(client, "PUT", target, &json!(3)));
    let done = done(&send(client, "POST", &back, &Value::Null));
    assert_eq!(done["version"], 4);
    assert_eq!(send(client, "GET", target, &Value::Null).status, 404);
    let version = get(client, &format!("{target}?version=4"));
    assert_eq!(version["deleted"], json!(true));
}

/// Pages, layers and differences of values that don't fit into one page of the store.
pub(super) fn large_values(client: &mut Client) {
    let text = |seed: usize| {
        let line = |n: usize| format!("{:016x}\n", (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..50_000).map(line).collect::<String>()
    };
    let headers = [("content-type", "text/plain")];
    for n in 0..8 {
        let target = format!("/v1/config/large,1/{n}");
        let body = text(n << 32);
        let put = client.request("PUT", &target, &headers, body.as_bytes());
        done(&put.expect("an answer"));
    }
    let merged = get(client, "/v1/config?effective=large%2C1,app");
    let large = merged["entries"].as_array().expect("entries").iter();
    let large = large.filter(|e| {
        e["path"]
            .as_str()
            .is_some_and(|p| p.starts_with("large,1/"))
    });
    assert_eq!(large.count(), 8);
    let (mut after, mut paths) = (String::new(), Vec::new());
    loop {
        let page = get(client, &format!("/v1/config/large,1/?limit=1000{after}"));
        let entries = page["entries"].as_array().expect("entries");
        assert!(
            entries.iter().all(|entry| entry["version"] == 1),
            "each with its version"
        );
        let listed = entries
            .iter()
            .map(|e| e["path"].as_str().expect("a path").to_owned());
        paths.extend(listed);
        if page["more"] == json!(false) {
            break;
        }
        after = format!("&after={}", paths.last().expect("a page has a value"));
    }
    assert_eq!(
        paths,
        (0..8).map(|n| format!("large,1/{n}")).collect::<Vec<_>>()
    );
    // Not a line is the same.
    let put = client.request(
        "PUT",
        "/v1/config/large,1/0",
        &headers,
        text(1 << 48).as_bytes(),
    );
    done(&put.expect("an answer"));
    let diff = get(client, "/v1/config/large,1/0?diff=1..2");
    let unified = diff["unified"].as_str().expect("a text");
    assert_eq!(
        unified.lines().filter(|line| line.starts_with('+')).count(),
        50_000
    );
}

/// None of them gives up because of the others.
pub(super) fn many_publish_the_same(cluster: &Cluster) {
    let writers: Vec<_> = (0..40)
        .map(|n| {
            let mut client = cluster.client(n % 3 + 1);
            spawn(move || {
                let mut put = |value: u32| {
                    let put = send(&mut client, "PUT", "/v1/config/contended/a", &json!(value));
                    done(&put)["version"].as_u64().expect("a number")
                };
                (0..5).map(|turn| put(n * 10 + turn)).collect::<Vec<u64>>()
            })
        })
        .collect();
    let mut versions: Vec<u64> = writers
        .into_iter()
        .flat_map(|writer| writer.join().expect("a writer"))
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=200).collect::<Vec<u64>>());
}

/// What is published at once over groups is never seen in part.
pub(super) fn all_or_nothing_is_seen(cluster: &Cluster) {
    let set = |value: u32| {
        let path = |n: u32| json!({"path": format!("atomic{n}/{n}"), "value": value});
        json!({ "set": (0..6).map(path).collect::<Vec<Value>>() })
    };
    let mut client = cluster.client(1);
    done(&send(&mut client, "POST", "/v1/config", &set(0)));
    let writer = spawn(move || {
        for value in 1..=50 {
            done(&send(&mut client, "POST", "/v1/config", &set(value)));
        }
    });
    let mut reader = cluster.client(2);
    let layers: Vec<String> = (0..6).map(|n| format!("atomic{n}")).collect();
    let target = format!("/v1/config?effective={}", layers.join(","));
    let mut seen = Vec::new();
    while seen.last() != Some(&json!(50)) {
        let merged = get(&mut reader, &target);
        let values = merged["entries"].as_array().expect("entries").iter();
        let values: Vec<&Value> = values.map(|entry| &entry["value"]).collect();
        assert_eq!(values, [values[0]; 6], "all of one publication");
        seen.push(values[0].clone());
    }
    writer.join().expect("the writer");
    let numbers: Vec<u64> = seen.iter().filter_map(Value::as_u64).collect();
    assert!(numbers.is_sorted(), "never back: {numbers:?}");
}
