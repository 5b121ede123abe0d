//! Watches of configuration.

use caucus_tests::http::{Client, Stream};
use caucus_tests::kv;
use caucus_tests::wait::wait_until;
use caucus_tests::{Cluster, Options};
use serde_json::{Value, json};

use crate::{LIMIT, done, send};

fn next(stream: &mut Stream) -> Value {
    loop {
        let line = stream.line().expect("a line").expect("the stream goes on");
        let message: Value = serde_json::from_slice(&line).expect("JSON");
        if message["event"] != "alive" {
            return message;
        }
    }
}

fn watch(cluster: &Cluster, node: u32, target: &str) -> Stream {
    resume(cluster, node, target, "")
}

/// `last`: the id of the last message that was seen.
fn resume(cluster: &Cluster, node: u32, target: &str, last: &str) -> Stream {
    let headers = [("accept", "application/x-ndjson"), ("last-event-id", last)];
    let stream = Stream::open(&cluster.address(node), ("GET", target), &headers, b"");
    let mut stream = stream.expect("an answer").expect("a stream");
    stream.set_patience(LIMIT);
    stream
}

#[test]
fn a_value_or_all_below_a_path() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    let mut put = |target: &str, value: u32| {
        done(&send(&mut client, "PUT", target, &json!(value)))["revision"].clone()
    };
    put("/v1/config/app/a?author=ada", 1);
    put("/v1/config/app/a/b", 2);
    let mut one = watch(&cluster, 2, "/v1/config/app/a?watch");
    let state = next(&mut one);
    let entry = &state["entries"][0];
    assert_eq!(
        (
            &entry["path"],
            &entry["value"],
            &entry["version"],
            &entry["author"]
        ),
        (&json!("app/a"), &json!(1), &json!(1), &json!("ada"))
    );
    assert_eq!(
        state["entries"].as_array().map(Vec::len),
        Some(1),
        "{state}"
    );
    put("/v1/config/app/a/b", 3);
    put("/v1/config/app/ab", 3);
    let revision = put("/v1/config/app/a?comment=why", 4);
    let published = next(&mut one);
    assert_eq!(published["revision"], revision, "{published}");
    let change = &published["changes"][0];
    assert_eq!(
        (
            &change["path"],
            &change["value"],
            &change["version"],
            &change["comment"]
        ),
        (&json!("app/a"), &json!(4), &json!(2), &json!("why"))
    );
    done(&send(
        &mut client,
        "DELETE",
        "/v1/config/app/a",
        &Value::Null,
    ));
    let removed = next(&mut one);
    let change = &removed["changes"][0];
    assert_eq!(
        (&change["deleted"], &change["version"], change.get("value")),
        (&json!(true), &json!(3), None)
    );
    let published = below_a_path(&cluster, &mut client);
    resumes(&cluster, &published);
}

/// What was removed isn't part of the state; what is published together comes together.
fn below_a_path(cluster: &Cluster, client: &mut Client) -> Value {
    let mut below = watch(cluster, 3, "/v1/config/app/?watch");
    let state = next(&mut below);
    let paths: Vec<&Value> = state["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|e| &e["path"])
        .collect();
    assert_eq!(paths, [&json!("app/a/b"), &json!("app/ab")]);
    let both = json!({"set": [{"path": "app/x", "value": 1}, {"path": "app/y", "value": 2}]});
    done(&send(client, "POST", "/v1/config", &both));
    let published = next(&mut below);
    assert_eq!(
        published["changes"].as_array().map(Vec::len),
        Some(2),
        "{published}"
    );
    published
}

/// Who comes back with an id misses nothing and gets nothing twice; if that is compacted, the state again.
fn resumes(cluster: &Cluster, last: &Value) {
    let mut client = cluster.client(1);
    let target = "/v1/config/app/?watch";
    let last = last["revision"].to_string();
    let mut revisions = Vec::new();
    for value in 0..3 {
        let put = send(&mut client, "PUT", "/v1/config/app/x", &json!(value));
        revisions.push(done(&put)["revision"].clone());
    }
    let mut resumed = resume(cluster, 2, target, &last);
    for (value, revision) in revisions.iter().enumerate() {
        let published = next(&mut resumed);
        assert_eq!(
            (&published["changes"][0]["value"], &published["revision"]),
            (&json!(value), revision)
        );
    }
    let body = json!({ "revision": revisions[2] });
    done(&send(&mut client, "POST", "/v1/compact", &body));
    let mut resumed = resume(cluster, 2, target, &last);
    let state = next(&mut resumed);
    assert_eq!(state["event"], "state", "{state}");
    // An id of another store.
    let state = next(&mut resume(cluster, 2, target, "4000000000000000"));
    assert_eq!(state["event"], "state", "{state}");
    let headers = [("last-event-id", "x")];
    let refused = client
        .request("GET", target, &headers, b"")
        .expect("an answer");
    assert_eq!(refused.problem_code(), "bad_query_value");
}

/// The state comes in messages of some values each.
#[test]
fn a_large_state_comes_in_parts() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    for batch in 0..40 {
        let path = |n: u32| json!({"path": format!("many/{batch:02}-{n:02}"), "value": n});
        let set: Vec<Value> = (0..60).map(path).collect();
        done(&send(
            &mut client,
            "POST",
            "/v1/config",
            &json!({ "set": set }),
        ));
    }
    let mut stream = watch(&cluster, 1, "/v1/config/many/?watch");
    let (mut paths, mut parts) = (Vec::new(), 0);
    loop {
        let message = next(&mut stream);
        assert_eq!(message["event"], "state");
        let entries = message["entries"].as_array().expect("entries").iter();
        paths.extend(entries.map(|entry| entry["path"].to_string()));
        parts += 1;
        if message["more"] != json!(true) {
            assert!(message["revision"].is_u64(), "{message}");
            break;
        }
    }
    assert!(parts > 1);
    assert_eq!(paths.len(), 2400);
    assert!(paths.is_sorted());
}

/// Publishers of one path don't get in each other's way but wait; a watch of the subtree sees all that they published,
/// in order, also while nodes are killed.
#[test]
fn publications_follow_each_other_while_nodes_are_killed() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let mut stream = watch(&cluster, 3, "/v1/config/busy/?watch");
    assert_eq!(next(&mut stream)["entries"], json!([]));
    // This one's node will be killed.
    let mut cut = watch(&cluster, 1, "/v1/config/busy/?watch");
    let last = next(&mut cut)["revision"].to_string();
    let publishers: Vec<_> = (0..3)
        .map(|n| {
            let mut client = cluster.client(3);
            std::thread::spawn(move || {
                let mut published = Vec::new();
                for turn in 0..20 {
                    let target = "/v1/config/busy/a";
                    let key = format!("{n}-{turn}");
                    let headers = [
                        ("idempotency-key", &key[..]),
                        ("content-type", "application/json"),
                    ];
                    let value = json!(key).to_string();
                    let version = caucus_tests::wait::wait_for("it is published", LIMIT, || {
                        let put = client
                            .request("PUT", target, &headers, value.as_bytes())
                            .ok()?;
                        (put.status == 200)
                            .then(|| put.json()["version"].as_u64().expect("a number"))
                    });
                    published.push((version, key));
                }
                published
            })
        })
        .collect();
    for node in [1, 2] {
        cluster.kill(node);
        wait_until("somebody publishes without it", LIMIT, || {
            kv::get(&mut cluster.client(3), "/@config/busy/v/a").is_some()
        });
        cluster.revive(node);
        cluster.await_ready(node);
    }
    let mut published: Vec<(u64, String)> = publishers
        .into_iter()
        .flat_map(|p| p.join().expect("a publisher"))
        .collect();
    published.sort_unstable();
    let versions: Vec<u64> = published.iter().map(|(version, _)| *version).collect();
    assert_eq!(
        versions,
        (1..=60).collect::<Vec<u64>>(),
        "one after the other, without a gap"
    );
    let (mut seen, last) = until_it_is_cut(&mut cut, last);
    let mut resumed = resume(&cluster, 2, "/v1/config/busy/?watch", &last);
    while seen.len() < published.len() {
        seen.push(next(&mut resumed)["changes"][0]["value"].clone());
    }
    let expected: Vec<Value> = published.iter().map(|(_, key)| json!(key)).collect();
    assert_eq!(seen, expected, "nothing is missed and nothing comes twice");
    for (_, key) in &published {
        let message = next(&mut stream);
        assert_eq!(message["changes"][0]["value"], json!(key), "{message}");
    }
}

/// The values that a stream tells until its node is gone, and the id of its last message.
fn until_it_is_cut(cut: &mut Stream, mut last: String) -> (Vec<Value>, String) {
    let mut seen = Vec::new();
    while let Ok(Some(line)) = cut.line() {
        let Ok(message) = serde_json::from_slice::<Value>(&line) else {
            break;
        };
        if message["event"] == "published" {
            last = message["revision"].to_string();
            seen.push(message["changes"][0]["value"].clone());
        }
    }
    (seen, last)
}
