//! Requests that clients name: the same name and the same request are executed once.

use caucus_tests::http::{Answer, Client};
use caucus_tests::{Cluster, Options, kv};
use serde_json::{Value, json};

fn named(client: &mut Client, what: (&str, &str), name: &str, body: &[u8]) -> Answer {
    let headers = [
        ("idempotency-key", name),
        ("content-type", "application/json"),
    ];
    let (method, target) = what;
    client
        .request(method, target, &headers, body)
        .expect("an answer")
}

#[test]
fn a_name_is_executed_once() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let path = kv::path("/count/a");
    let increment = format!("{path}/increment");
    let append = format!("{}/append", kv::path("/text/a"));
    let two = json!({"then": [
        {"increment": {"key": "/count/b", "by": 5}},
        {"increment": {"key": "/other/c", "by": 7}},
        {"get": {"key": "/count/a"}},
    ]});
    let two = two.to_string();
    let requests: [((&str, &str), &str, &[u8]); 5] = [
        (("PUT", &path), "put", b"10"),
        (("POST", &increment), "add", b"{\"by\": 3}"),
        (("POST", &append), "append", b"tail"),
        (("POST", "/v1/txn"), "both", two.as_bytes()),
        (("DELETE", &kv::path("/text/b")), "delete", b""),
    ];
    let mut client = cluster.client(1);
    let first: Vec<Answer> = requests
        .iter()
        .map(|(what, name, body)| named(&mut client, *what, name, body))
        .collect();
    assert!(first.iter().all(|answer| answer.status < 300));
    assert_eq!(first[1].json()["value"], json!(13));
    // Others changed them meanwhile; one node fails; and it is another router that is asked.
    kv::put(&mut client, "/count/a", &json!(100));
    cluster.kill(1);
    let mut other = cluster.client(2);
    let leaders = |client: &mut Client| kv::get(client, "/count/a").is_some();
    assert!(leaders(&mut other));
    for ((what, name, body), first) in requests.iter().zip(&first) {
        let again = named(&mut other, *what, name, body);
        assert_eq!(again.status, first.status, "{name}");
        assert_eq!(again.json(), first.json(), "{name}");
    }
    let values = ["/count/b", "/other/c"].map(|key| kv::get(&mut other, key));
    let values = values.map(|record| record.map_or(Value::Null, |record| record["value"].clone()));
    assert_eq!(values, [json!(5), json!(7)]);
    let (what, name, _) = requests[0];
    let clash = named(&mut other, what, name, b"11");
    assert_eq!(
        (clash.status, clash.problem_code()),
        (422, "idempotency_key_reused".to_owned())
    );
    assert_eq!(
        kv::get(&mut other, "/count/a").expect("a record")["value"],
        json!(100)
    );
    // The same name on another key is another request.
    let (what, name) = (("PUT", &*kv::path("/count/z")), requests[0].1);
    assert_eq!(named(&mut other, what, name, b"1").status, 201);
}

#[test]
fn names_that_are_none_and_places_without_them() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    let long = "n".repeat(256);
    for name in ["", &long] {
        let answer = named(&mut client, ("PUT", &kv::path("/a/b")), name, b"1");
        assert_eq!(answer.problem_code(), "bad_query_value");
    }
    let answer = named(&mut client, ("POST", "/v1/batch"), "name", b"{}");
    assert_eq!(answer.problem_code(), "invalid_request");
    assert_eq!(kv::get(&mut client, "/a/b"), None);
}

#[test]
fn a_key_changes_in_place_and_its_history_is_told() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    let path = kv::path("/count/visits");
    let mut send = |method: &str, target: &str, body: &[u8]| {
        let headers = [("content-type", "application/json")];
        client
            .request(method, target, &headers, body)
            .expect("an answer")
    };
    let increment = format!("{path}/increment");
    assert_eq!(send("POST", &increment, b"").json()["value"], json!(1));
    assert_eq!(
        send("POST", &increment, b"{\"by\": -5}").json()["value"],
        json!(-4)
    );
    assert_eq!(
        send("POST", &increment, b"{\"by\": \"x\"}").problem_code(),
        "malformed_json"
    );
    assert_eq!(send("DELETE", &path, b"").status, 200);
    assert_eq!(send("POST", &format!("{path}/append"), b"ab").status, 200);
    assert_eq!(send("POST", &increment, b"").problem_code(), "impossible");
    assert_eq!(
        send("POST", &path, b"").problem_code(),
        "method_not_allowed"
    );

    let history = send("GET", &format!("{path}/history?limit=3"), b"").json();
    let changes = history["changes"].as_array().expect("changes").clone();
    assert_eq!(changes[1]["deleted"], json!(true), "{history}");
    assert_eq!(changes[2]["value"], json!(-4), "{history}");
    let below = history["below"].as_u64().expect("there are more");
    let rest = send("GET", &format!("{path}/history?below={below}"), b"").json();
    assert_eq!(rest["changes"][0]["value"], json!(1), "{rest}");
    assert_eq!(rest["changes"].as_array().map(Vec::len), Some(1));
    assert_eq!(rest.get("below"), None);
}
