//! Keys and values of a cluster.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::http::{Answer, Client};
use crate::wait::wait_for;

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How long a cluster with a majority may take to answer, elections included.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Percent-encodes a key, or a part of a query.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The path of a key.
pub fn path(key: &str) -> String {
    format!("/v1/kv/{}", encoded(key))
}

/// Reads a key, through refusals that pass; none if it doesn't exist.
pub fn get(client: &mut Client, key: &str) -> Option<Value> {
    let answer = persistent(client, "GET", &path(key), b"");
    match answer.status {
        200 => Some(answer.json()),
        404 => None,
        status => panic!("GET {key}: {status} {}", answer.text()),
    }
}

/// Sets a key to JSON; panics if that isn't acknowledged.
pub fn put(client: &mut Client, key: &str, value: &Value) -> Value {
    let answer = put_once(client, key, value, &[]).expect("the node answers");
    assert!(
        [200, 201].contains(&answer.status),
        "{} {}",
        answer.status,
        answer.text()
    );
    answer.json()
}

/// One attempt to set a key to JSON.
pub fn put_once(
    client: &mut Client,
    key: &str,
    value: &Value,
    condition: &[(&str, &str)],
) -> std::io::Result<Answer> {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(condition);
    client.request("PUT", &path(key), &headers, value.to_string().as_bytes())
}

/// One attempt at a transaction: status and answer, if one came.
pub fn txn(client: &mut Client, body: &Value) -> Option<(u16, Value)> {
    let sent = client.request("POST", "/v1/txn", &[], body.to_string().as_bytes());
    sent.ok().map(|answer| (answer.status, answer.json()))
}

/// Everything under a prefix, page after page.
pub fn list(client: &mut Client, prefix: &str) -> Vec<Value> {
    let base = format!("/v1/kv?limit=1000&prefix={}", encoded(prefix));
    let mut items = Vec::new();
    let mut target = base.clone();
    loop {
        let answer = persistent(client, "GET", &target, b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        items.extend(
            page["items"]
                .as_array()
                .expect("a page has items")
                .iter()
                .cloned(),
        );
        match page["cursor"].as_str() {
            Some(cursor) => target = format!("{base}&cursor={}", encoded(cursor)),
            None => return items,
        }
    }
}

/// Sends a request that changes nothing until it is answered for good.
fn persistent(client: &mut Client, method: &str, target: &str, body: &[u8]) -> Answer {
    wait_for(
        &format!("an answer to {method} {target}"),
        ANSWER_LIMIT,
        || {
            let answer = client.request(method, target, &[], body).ok();
            answer.filter(|answer| !answer.is_retryable())
        },
    )
}
