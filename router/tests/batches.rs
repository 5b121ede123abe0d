//! `POST /v1/batch`.

mod support;

use caucus_api::Failure;
use serde_json::{Value, json};
use support::Door;

#[tokio::test]
async fn operations_are_answered_in_order_each_on_its_own() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = json!({"operations": [
        {"put": {"key": "/a/1/x", "value": "text"}},
        {"put": {"key": "/a/2/x", "value": {"n": [1]}}},
        {"put": {"key": "/a/3/x", "value": null}},
        {"put": {"key": "/a/4/x", "value64": "/w=="}},
        {"put": {"key": "/a/5/x", "value": "a \"quoted\" text", "content_type": "application/json"}},
        {"put": {"key64": "/wA=", "value": 7, "content_type": "application/vnd.caucus.integer"}},
        {"get": {"key": "absent"}},
        {"put": {"key": "", "value": 1}},
        {"put": {"key": "/a/1/y", "value": 1, "if_revision": 99}},
        {"put": {"key": "/a/1/z", "value": 1, "if_absent": true}},
        {"delete": {"key": "absent"}},
        {"delete": {"key": "absent too", "if_revision": 5}},
        {"put": {"key": "k", "value": "x", "value64": "eA=="}},
        {"get": {}},
    ]});
    let answer = client.batch(&body).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    let results = answer["results"].as_array().unwrap();
    let code = |at: usize| results[at]["error"]["code"].as_str().unwrap_or("none");
    for at in [0, 1, 2, 3, 4, 5, 9] {
        assert_eq!(results[at]["put"]["version"], 1, "{at}: {}", results[at]);
    }
    assert_eq!(results[0]["put"]["key"], "/a/1/x");
    assert_eq!(results[5]["put"]["key64"], "/wA=");
    assert_eq!(code(6), "key_not_found");
    assert_eq!(code(7), "key_empty");
    assert_eq!(code(8), "condition_failed");
    assert_eq!(results[8]["error"]["found_revision"], 0);
    assert_eq!(results[10]["delete"]["deleted"], 0);
    assert_eq!(code(11), "condition_failed");
    assert_eq!(code(12), "malformed_json");
    assert_eq!(code(13), "key_empty");
    assert!(answer["revision"].as_u64().unwrap() >= 7);

    for (key, content_type, value) in [
        ("/a/1/x", "text/plain", json!("text")),
        ("/a/2/x", "application/json", json!({"n": [1]})),
        ("/a/3/x", "application/json", Value::Null),
        ("/a/5/x", "application/json", json!("a \"quoted\" text")),
    ] {
        let read = client.get(&format!("/v1/kv/{key}")).await.json();
        assert_eq!(read["content_type"], content_type);
        assert_eq!(read["value"], value);
    }
}

#[tokio::test]
async fn operations_on_one_key_keep_their_order() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = json!({"operations": [
        {"put": {"key": "k", "value": "1"}},
        {"put": {"key": "other", "value": "1"}},
        {"get": {"key": "k"}},
        {"put": {"key": "k", "value": "2"}},
        {"get": {"key": "k"}},
        {"delete": {"key": "k"}},
        {"get": {"key": "k"}},
    ]});
    let results = client.batch(&body).await.json()["results"].clone();
    assert_eq!(results[2]["get"]["value"], "1");
    assert_eq!(results[3]["put"]["version"], 2);
    assert_eq!(results[4]["get"]["value"], "2");
    assert_eq!(results[5]["delete"]["deleted"], 1);
    assert_eq!(results[6]["error"]["code"], "key_not_found");
}

#[tokio::test]
async fn what_stumbles_is_sent_again_with_its_id() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.groups.fail([
        Some(Failure::NotLeader { leader: None }),
        Some(Failure::Unavailable {
            reason: "lost".to_owned(),
            unknown: true,
        }),
        Some(Failure::NoSpace),
    ]);
    let operations: Vec<Value> = (0..20)
        .map(|n| json!({"put": {"key": format!("/d{n}/s/k"), "value": n}}))
        .collect();
    let answer = client
        .batch(&json!({"operations": operations}))
        .await
        .json();
    let results = answer["results"].as_array().unwrap();
    let failed: Vec<_> = results.iter().filter(|r| r.get("put").is_none()).collect();
    assert_eq!(failed.len(), 1, "{answer}");
    assert_eq!(failed[0]["error"]["code"], "no_space");
    assert_eq!(failed[0]["error"]["outcome"], "not_applied");
    let put = |result: &&Value| result["put"]["version"] == 1;
    assert_eq!(results.iter().filter(put).count(), 19, "each applied once");

    let mut sequences: Vec<u64> = door.groups.ids().iter().map(|id| id.sequence).collect();
    assert_eq!(sequences.len(), 22);
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences, (1..=20).collect::<Vec<u64>>());
}

#[tokio::test]
async fn bodies_that_are_no_batch() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for body in [
        "",
        "{",
        "[]",
        r#"{"operations": [{"increment": {}}]}"#,
        r#"{"operations": [{"get": {"key": "k", "nope": 1}}]}"#,
        r#"{"operations": [], "nope": 1}"#,
        r#"{"operations": [{"get": {"key": 7}}]}"#,
    ] {
        let answer = client.send("POST", "/v1/batch", &[], body).await;
        let problem = answer.is_problem(400, "malformed_json");
        assert_eq!(problem["outcome"], "not_applied");
    }
    let empty = client.batch(&json!({"operations": []})).await.json();
    assert_eq!(empty, json!({"results": [], "revision": 0}));
    let many = vec![json!({"get": {"key": "k"}}); 1025];
    let answer = client.batch(&json!({"operations": many})).await;
    answer.is_problem(400, "too_many_operations");
    let large = vec![b' '; (3 << 19) + 1];
    let answer = client.send("POST", "/v1/batch", &[], large).await;
    answer.is_problem(413, "body_too_large");
    let answer = client.get("/v1/batch").await;
    answer.is_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
}
