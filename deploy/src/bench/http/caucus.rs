//! Caucus' own HTTP API.

use std::io::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::connection::Dialect;
use crate::bench::keyspace::Pair;
use crate::bench::workload::Request;

/// Everything but the unreserved characters: the slashes of a key become `%2F`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `PUT` and `GET /v1/kv/{key}`, `POST /v1/batch`.
pub(in crate::bench) struct Caucus;

impl Dialect for Caucus {
    fn encode(host: &str, request: &Request<'_>, out: &mut Vec<u8>) {
        let written = match request {
            Request::Put(pair) => write!(
                out,
                "PUT /v1/kv/{} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\n\
                 Content-Length: {}\r\n\r\n{}",
                utf8_percent_encode(pair.key, ESCAPED),
                pair.value.len(),
                pair.value,
            ),
            Request::Get(pair) => write!(
                out,
                "GET /v1/kv/{} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n",
                utf8_percent_encode(pair.key, ESCAPED),
            ),
            Request::Batch(pairs) => post(out, host, "/v1/batch", &batch_body(pairs)),
            Request::Lock(number) => post(
                out,
                host,
                &format!("/v1/locks/bench-{number}/acquire"),
                r#"{"ttl":60}"#,
            ),
            Request::Publish(topic, pairs) => {
                let path = format!("/v1/topics/bench-{topic}/messages");
                post(out, host, &path, &publish_body(pairs))
            }
            // Refused with the options.
            Request::Txn(_) | Request::List(_) => unreachable!("these are for gRPC only"),
        };
        written.expect("writing to memory doesn't fail");
    }

    fn check(request: &Request<'_>, body: &[u8]) -> bool {
        match request {
            Request::Put(_)
            | Request::Txn(_)
            | Request::List(_)
            | Request::Lock(_)
            | Request::Publish(..) => true,
            // The value is in the answer, whatever stands around it.
            Request::Get(pair) => body.len() > pair.value.len(),
            Request::Batch(pairs) => all_done(body, pairs.len()),
        }
    }

    /// A lock is given back with what was answered when it was taken.
    fn follow_up(host: &str, request: &Request<'_>, body: &[u8], out: &mut Vec<u8>) {
        if let Request::Lock(number) = request {
            let path = format!("/v1/locks/bench-{number}/release");
            let body = String::from_utf8_lossy(body);
            let written = post(out, host, &path, &body);
            written.expect("writing to memory doesn't fail");
        }
    }
}

fn post(out: &mut Vec<u8>, host: &str, path: &str, body: &str) -> std::io::Result<()> {
    write!(
        out,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len(),
    )
}

fn publish_body(pairs: &[Pair<'_>]) -> String {
    let mut body = String::from(r#"{"messages":["#);
    for (number, pair) in pairs.iter().enumerate() {
        if number > 0 {
            body.push(',');
        }
        body.push_str(&format!(r#"{{"value":"{}"}}"#, pair.value));
    }
    body.push_str("]}");
    body
}

/// Keys and values are letters, digits, slashes and the like: JSON needs no escapes for the values,
/// and the key prefix of the options is written by `serde_json` to be sure.
fn batch_body(pairs: &[Pair<'_>]) -> String {
    let mut body = String::from(r#"{"operations":["#);
    for (number, pair) in pairs.iter().enumerate() {
        if number > 0 {
            body.push(',');
        }
        let key = serde_json::Value::from(pair.key);
        body.push_str(&format!(
            r#"{{"put":{{"key":{key},"value":"{}"}}}}"#,
            pair.value
        ));
    }
    body.push_str("]}");
    body
}

#[derive(Deserialize)]
struct BatchAnswer {
    results: Vec<BatchResult>,
}

#[derive(Deserialize)]
struct BatchResult {
    error: Option<IgnoredAny>,
}

/// A batch is answered with 200 even if some of it failed.
fn all_done(body: &[u8], expected: usize) -> bool {
    match serde_json::from_slice::<BatchAnswer>(body) {
        Ok(answer) => {
            answer.results.len() == expected
                && answer.results.iter().all(|result| result.error.is_none())
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(request: &Request<'_>) -> String {
        let mut out = Vec::new();
        Caucus::encode("h:1", request, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_key_is_one_path_segment() {
        let pair = Pair {
            key: "/bench/1/2",
            value: "abc",
        };
        let put = encoded(&Request::Put(pair));
        assert!(
            put.starts_with("PUT /v1/kv/%2Fbench%2F1%2F2 HTTP/1.1\r\nHost: h:1\r\n"),
            "{put}"
        );
        assert!(put.ends_with("Content-Length: 3\r\n\r\nabc"), "{put}");
        let get = encoded(&Request::Get(pair));
        assert!(
            get.starts_with("GET /v1/kv/%2Fbench%2F1%2F2 HTTP/1.1\r\n"),
            "{get}"
        );
        assert!(get.ends_with("\r\n\r\n"), "{get}");
    }

    #[test]
    fn a_batch_is_json_of_the_announced_length() {
        let pairs = vec![
            Pair {
                key: "/a",
                value: "1",
            },
            Pair {
                key: "/b",
                value: "2",
            },
        ];
        let text = encoded(&Request::Batch(pairs));
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            head.ends_with(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let put = |key: &str, value: &str| serde_json::json!({"put": {"key": key, "value": value}});
        assert_eq!(
            body,
            serde_json::json!({"operations": [put("/a", "1"), put("/b", "2")]})
        );
    }

    #[test]
    fn a_batch_with_one_failure_has_failed() {
        let good = br#"{"results":[{"revision":1},{"revision":2}]}"#;
        let bad = br#"{"results":[{"revision":1},{"error":{"code":"locked"}}]}"#;
        assert!(all_done(good, 2));
        assert!(!all_done(good, 3));
        assert!(!all_done(bad, 2));
        assert!(!all_done(b"{}", 2));
    }
}
