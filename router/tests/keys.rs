//! `/v1/kv/{key}`: one key, over a real listener.

mod support;

use caucus_api::limits::{REQUEST_BYTES_MAX, VALUE_BYTES_MAX};
use serde_json::json;
use support::Door;

#[tokio::test]
async fn a_key_lives() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let created = client.put("/v1/kv/%2Fservice%2Fbatman", "robin").await;
    assert_eq!(created.status, 201);
    assert_eq!(created.header("etag"), Some("\"1\""));
    assert_eq!(created.header("content-type"), Some("application/json"));
    let expected =
        json!({"key": "/service/batman", "revision": 1, "create_revision": 1, "version": 1});
    assert_eq!(created.json(), expected);

    let updated = client.put("/v1/kv//service/batman", "alfred").await;
    assert_eq!(updated.status, 200, "the same key, written another way");
    assert_eq!(updated.json()["version"], 2);

    let read = client.get("/v1/kv/%2Fservice/batman").await;
    assert_eq!(read.status, 200);
    assert_eq!(read.header("etag"), Some("\"2\""));
    assert_eq!(read.header("caucus-revision"), Some("2"));
    let expected = json!({
        "key": "/service/batman", "value": "alfred", "content_type": "text/plain",
        "revision": 2, "create_revision": 1, "version": 2,
    });
    assert_eq!(read.json(), expected);

    let head = client.send("HEAD", "/v1/kv//service/batman", &[], "").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("etag"), Some("\"2\""));
    assert!(head.body.is_empty());

    let deleted = client
        .send("DELETE", "/v1/kv//service/batman", &[], "")
        .await;
    assert_eq!(deleted.json(), json!({"deleted": 1, "revision": 3}));
    let again = client
        .send("DELETE", "/v1/kv//service/batman", &[], "")
        .await;
    assert_eq!(again.status, 200);
    assert_eq!(again.json()["deleted"], 0);

    let missing = client.get("/v1/kv//service/batman").await;
    let problem = missing.is_problem(404, "key_not_found");
    assert!(problem.get("outcome").is_none(), "reads have none");
    assert!(missing.header("caucus-revision").is_some());
    door.close().await;
}

#[tokio::test]
async fn values_keep_their_media_type() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (content_type, value, expected) in [
        (
            "application/json",
            &b"{\"a\": [1, 2]}"[..],
            json!({"value": {"a": [1, 2]}}),
        ),
        (
            "text/plain; charset=utf-8",
            b"x\"y",
            json!({"value": "x\"y"}),
        ),
        (
            "application/vnd.caucus.integer",
            b"-12",
            json!({"value": -12}),
        ),
        ("image/png", b"\x89PNG", json!({"value64": "iVBORw=="})),
        (
            "application/octet-stream",
            b"plain",
            json!({"value": "plain"}),
        ),
    ] {
        let header = format!("content-type: {content_type}");
        let put = client.send("PUT", "/v1/kv/k", &[&header], value).await;
        assert!(put.status.is_success());
        let read = client.get("/v1/kv/k").await.json();
        assert_eq!(read["content_type"], content_type);
        for (name, expected) in expected.as_object().unwrap() {
            assert_eq!(read[name], *expected);
        }
        let raw = client.get("/v1/kv/k?raw").await;
        assert_eq!(&raw.body[..], value);
        assert_eq!(raw.header("content-type"), Some(content_type));
    }
    client.send("PUT", "/v1/kv/n", &[], "x").await;
    let read = client.get("/v1/kv/n").await.json();
    assert_eq!(read["content_type"], "application/octet-stream");

    for (content_type, value, status, code) in [
        ("application/json", &b"{"[..], 400, "malformed_json"),
        ("text/plain", b"\xff", 415, "bad_content_type"),
        (
            "application/vnd.caucus.integer",
            b"1.5",
            415,
            "bad_content_type",
        ),
        ("nonsense", b"", 415, "bad_content_type"),
    ] {
        let header = format!("content-type: {content_type}");
        let put = client.send("PUT", "/v1/kv/k", &[&header], value).await;
        let problem = put.is_problem(status, code);
        assert_eq!(problem["outcome"], "not_applied");
    }
}

#[tokio::test]
async fn conditions_are_http_own() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let mut put = async |headers: &[&str]| client.send("PUT", "/v1/kv/k", headers, "v").await;
    let problem = put(&["if-match: *"])
        .await
        .is_problem(412, "condition_failed");
    assert_eq!(problem["found_revision"], 0);
    assert_eq!(problem["outcome"], "not_applied");
    assert_eq!(put(&["if-none-match: *"]).await.status, 201);
    let etag = put(&["if-match: *"])
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    let problem = put(&["if-none-match: *"])
        .await
        .is_problem(412, "condition_failed");
    assert_eq!(format!("\"{}\"", problem["found_revision"]), etag);
    assert_eq!(
        put(&[&format!("if-match: \"1\", {etag}")]).await.status,
        200
    );
    put(&[&format!("if-match: {etag}")])
        .await
        .is_problem(412, "condition_failed");
    put(&["if-match: 7"])
        .await
        .is_problem(400, "malformed_if_match");
    put(&["if-match: \"7\"", "if-none-match: *"])
        .await
        .is_problem(400, "malformed_if_match");

    let etag = client
        .get("/v1/kv/k")
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    let line = format!("if-none-match: W/{etag}");
    let same = client.send("GET", "/v1/kv/k", &[&line], "").await;
    assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));
    assert_eq!(same.header("etag"), Some(&*etag));
    let other = client
        .send("GET", "/v1/kv/k", &["if-none-match: \"1\""], "")
        .await;
    assert_eq!(other.status, 200);
    let other = client
        .send("GET", "/v1/kv/k", &["if-match: \"1\""], "")
        .await;
    other.is_problem(412, "condition_failed");

    let mut delete = async |key: &str, line: &str| {
        let path = format!("/v1/kv/{key}");
        client.send("DELETE", &path, &[line], "").await
    };
    delete("k", "if-match: \"1\"")
        .await
        .is_problem(412, "condition_failed");
    delete("absent", "if-match: *")
        .await
        .is_problem(412, "condition_failed");
    assert_eq!(delete("k", &format!("if-match: {etag}")).await.status, 200);
}

#[tokio::test]
async fn keys_that_are_no_keys_leave_the_connection_usable() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let long = "a".repeat(4097);
    for (path, status, code) in [
        ("/v1/kv/".to_owned(), 400, "key_empty"),
        (format!("/v1/kv/{long}"), 400, "key_too_long"),
        ("/v1/kv/%zz".to_owned(), 400, "bad_percent_encoding"),
        ("/v1/kv/%ff".to_owned(), 400, "bad_utf8_key"),
        ("/v1/kv/k?nope=1".to_owned(), 400, "unknown_query_parameter"),
        (
            "/v1/kv/k?key64=aw==".to_owned(),
            400,
            "unknown_query_parameter",
        ),
        ("/v1/kv/k?timeout=never".to_owned(), 400, "bad_query_value"),
        ("/v1/kv/k?timeout=0".to_owned(), 400, "bad_query_value"),
        ("/v1/kv/k?timeout=1e9".to_owned(), 400, "bad_query_value"),
        ("/v1/kv?key64=%21".to_owned(), 400, "bad_query_value"),
        ("/v1/kv".to_owned(), 400, "key_empty"),
    ] {
        for body in ["", "a body that nobody reads"] {
            let put = client.send("PUT", &path, &[], body).await;
            let problem = put.is_problem(status, code);
            assert_eq!(problem["outcome"], "not_applied");
        }
    }
    let detail = client.get("/v1/kv/k?nope=1").await.json()["detail"].clone();
    assert!(detail.as_str().unwrap().contains("`nope`"), "{detail}");
    assert!(detail.as_str().unwrap().contains("timeout"), "{detail}");
    assert_eq!(client.put("/v1/kv/k", "v").await.status, 201);
    let patched = client.send("PATCH", "/v1/kv/k", &[], "body").await;
    patched.is_problem(405, "method_not_allowed");
    assert_eq!(patched.header("allow"), Some("GET, HEAD, PUT, DELETE"));
}

#[tokio::test]
async fn any_bytes_are_a_key_through_key64() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let put = client.send("PUT", "/v1/kv?key64=_wA", &[], "v").await;
    assert_eq!(put.status, 201);
    assert_eq!(put.json()["key64"], "/wA=");
    let read = client.get("/v1/kv?key64=%2FwA%3D").await;
    assert_eq!(read.json()["value"], "v");
    let gone = client.send("DELETE", "/v1/kv?key64=/wA=", &[], "").await;
    assert_eq!(gone.json()["deleted"], 1);
}

#[tokio::test]
async fn large_bodies_are_refused_and_the_connection_goes_on() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let largest = vec![b'x'; VALUE_BYTES_MAX];
    assert_eq!(
        client.send("PUT", "/v1/kv/k", &[], largest).await.status,
        201
    );
    let over = vec![b'x'; VALUE_BYTES_MAX + 1];
    let answer = client.send("PUT", "/v1/kv/k", &[], over).await;
    answer.is_problem(413, "value_too_large");
    let far_over = vec![b'x'; REQUEST_BYTES_MAX + 1];
    let answer = client.send("PUT", "/v1/kv/k", &[], far_over).await;
    answer.is_problem(413, "body_too_large");
    let read = client.get("/v1/kv/k?raw").await;
    assert_eq!(read.body.len(), VALUE_BYTES_MAX);
}

#[tokio::test]
async fn http2_speaks_the_same() {
    let door = Door::open().await;
    let mut client = door.http2_client().await;
    assert_eq!(client.put("/v1/kv//a/b/c", "v").await.status, 201);
    let answer = client.send("PUT", "/v1/kv/%ff", &[], "unread").await;
    answer.is_problem(400, "bad_utf8_key");
    assert_eq!(client.get("/v1/kv//a/b/c").await.json()["value"], "v");
    drop(client);
    door.close().await;
}
