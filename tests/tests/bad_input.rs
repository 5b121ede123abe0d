//! Requests that make no sense: each gets a problem that says what is wrong, changes nothing and leaves
//! the connection as good as it was.

use caucus_tests::http::{Answer, Connection};
use caucus_tests::{Cluster, Options, kv};
use serde_json::{Value, json};

const KEY_BYTES_MAX: usize = 4 << 10;
const VALUE_BYTES_MAX: usize = 1 << 20;
const REQUEST_BYTES_MAX: usize = 3 << 19;
const BATCH_OPERATIONS_MAX: usize = 1024;

/// A request and what must come of it.
struct Case {
    what: &'static str,
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    status: u16,
    /// Empty: any.
    code: &'static str,
}

fn case(
    what: &'static str,
    request: (&'static str, impl Into<String>),
    (status, code): (u16, &'static str),
) -> Case {
    let (method, target) = request;
    let (headers, body) = (Vec::new(), Vec::new());
    Case {
        what,
        method,
        target: target.into(),
        headers,
        body,
        status,
        code,
    }
}

impl Case {
    fn header(mut self, name: &'static str, value: &'static str) -> Case {
        self.headers.push((name, value));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Case {
        self.body = body.into();
        self
    }

    fn json(self, body: impl Into<Vec<u8>>) -> Case {
        self.header("content-type", "application/json").body(body)
    }
}

const SENTINEL: &str = "/sentinel/key";

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    kv::put(&mut client, SENTINEL, &json!({"n": 1}));
    let before = kv::list(&mut client, "");
    let mut connection = Connection::open(&cluster.address(1)).expect("the node listens");
    let mut wrong = Vec::new();
    for case in cases() {
        let exchanged = connection
            .exchange(case.method, &case.target, &case.headers, &case.body)
            .and_then(|answer| {
                Ok((
                    answer,
                    connection.exchange("GET", &kv::path(SENTINEL), &[], b"")?,
                ))
            });
        match exchanged {
            Ok((answer, after)) => wrong.extend(judge(&case, &answer, &after)),
            Err(error) => {
                wrong.push(format!("{}: the connection is gone: {error}", case.what));
                connection = Connection::open(&cluster.address(1)).expect("the node listens");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(kv::list(&mut client, ""), before, "something was changed");
}

fn judge(case: &Case, answer: &Answer, after: &Answer) -> Option<String> {
    let said = |what: &str| {
        Some(format!(
            "{}: {what}: {} {}",
            case.what,
            answer.status,
            answer.text()
        ))
    };
    if after.status != 200 {
        return said(&format!("the next request got {}", after.status));
    }
    if answer.status != case.status {
        return said(&format!("expected {}", case.status));
    }
    if case.method == "HEAD" {
        return None;
    }
    if answer.header("content-type") != Some("application/problem+json") {
        return said("not a problem");
    }
    let problem = answer.json();
    if case.status == 405 && answer.header("allow").is_none() {
        return said("doesn't say what is allowed");
    }
    let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
    let complete = !text("code").is_empty() && !text("detail").is_empty();
    if !complete || problem["retryable"] != Value::Bool(false) {
        return said("needs code, detail and retryable");
    }
    match case.code.is_empty() || text("code") == case.code {
        true => None,
        false => said(&format!("expected code {}", case.code)),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = keys();
    cases.extend(bodies());
    cases.extend(conditions());
    cases.extend(queries());
    cases.extend(batches());
    cases
}

fn keys() -> Vec<Case> {
    let long = kv::path(&"k".repeat(KEY_BYTES_MAX + 1));
    vec![
        case("empty key", ("PUT", "/v1/kv/"), (400, "key_empty"))
            .header("content-type", "text/plain")
            .body("x"),
        case("empty key, get", ("GET", "/v1/kv/"), (400, "key_empty")),
        case("long key, put", ("PUT", &long), (400, "key_too_long"))
            .header("content-type", "text/plain")
            .body("x"),
        case("long key, get", ("GET", &long), (400, "key_too_long")),
        case("long key, delete", ("DELETE", &long), (400, "key_too_long")),
        case("long key, head", ("HEAD", &long), (400, "key_too_long")),
        case(
            "no hexadecimal",
            ("PUT", "/v1/kv/a%zz"),
            (400, "bad_percent_encoding"),
        )
        .header("content-type", "text/plain")
        .body("x"),
        case(
            "cut short",
            ("GET", "/v1/kv/a%2"),
            (400, "bad_percent_encoding"),
        ),
        case("no UTF-8", ("GET", "/v1/kv/a%ff"), (400, "bad_utf8_key")),
        case(
            "method on a key",
            ("PATCH", kv::path(SENTINEL)),
            (405, "method_not_allowed"),
        ),
        case(
            "method on the list",
            ("POST", "/v1/kv"),
            (405, "method_not_allowed"),
        ),
        case(
            "method on the batch",
            ("GET", "/v1/batch"),
            (405, "method_not_allowed"),
        ),
        case("no such path", ("GET", "/v1/nothing"), (404, "")),
    ]
}

fn bodies() -> Vec<Case> {
    let put = ("PUT", kv::path(SENTINEL));
    vec![
        case("large value", put.clone(), (413, "value_too_large"))
            .header("content-type", "application/octet-stream")
            .body(vec![b'v'; VALUE_BYTES_MAX + 1]),
        case("large body", put.clone(), (413, "body_too_large"))
            .header("content-type", "application/octet-stream")
            .body(vec![b'v'; REQUEST_BYTES_MAX + 1]),
        case(
            "large batch",
            ("POST", "/v1/batch"),
            (413, "body_too_large"),
        )
        .json(vec![b' '; REQUEST_BYTES_MAX + 1]),
        case("a value that is no JSON", put, (400, "malformed_json")).json("{\"a\":"),
    ]
}

fn conditions() -> Vec<Case> {
    let with = |what, name, value| {
        case(
            what,
            ("PUT", kv::path(SENTINEL)),
            (400, "malformed_if_match"),
        )
        .header(name, value)
        .json("1")
    };
    vec![
        with("a word", "if-match", "abc"),
        with("a quoted word", "if-match", "\"abc\""),
        with("an open quote", "if-match", "\"1"),
        with("a negative number", "if-match", "\"-1\""),
        with(
            "a number too large",
            "if-match",
            "\"99999999999999999999999\"",
        ),
        Case {
            code: "",
            ..with("another condition", "if-none-match", "nothing")
        },
    ]
}

fn queries() -> Vec<Case> {
    let key = kv::path(SENTINEL);
    let unknown = (400, "unknown_query_parameter");
    vec![
        case("unknown, list", ("GET", "/v1/kv?prefxi=a"), unknown),
        case("unknown, get", ("GET", format!("{key}?nope=1")), unknown),
        case("unknown, put", ("PUT", format!("{key}?nope=1")), unknown).json("1"),
        case(
            "unknown, delete",
            ("DELETE", format!("{key}?nope=1")),
            unknown,
        ),
        case("unknown, ring", ("GET", "/v1/ring?key=a&nope=1"), unknown),
        case(
            "limit is no number",
            ("GET", "/v1/kv?limit=many"),
            (400, ""),
        ),
        case("limit is negative", ("GET", "/v1/kv?limit=-1"), (400, "")),
        case("a made-up cursor", ("GET", "/v1/kv?cursor=!!!"), (400, "")),
    ]
}

fn batches() -> Vec<Case> {
    let batch = |what, status, body: String| case(what, ("POST", "/v1/batch"), status).json(body);
    let many = vec![json!({"get": {"key": "a"}}); BATCH_OPERATIONS_MAX + 1];
    let put = json!({"put": {"key": "/changed", "value": 1}});
    vec![
        batch(
            "no JSON",
            (400, "malformed_json"),
            "{\"operations\":[".to_owned(),
        ),
        batch("not an object", (400, "malformed_json"), "[]".to_owned()),
        batch("no operations", (400, "malformed_json"), "{}".to_owned()),
        batch(
            "an unknown field",
            (400, "malformed_json"),
            json!({"operations": [], "x": 1}).to_string(),
        ),
        batch(
            "an unknown operation",
            (400, "malformed_json"),
            json!({"operations": [put, {"putt": {}}]}).to_string(),
        ),
        batch(
            "too many operations",
            (400, ""),
            json!({ "operations": many }).to_string(),
        ),
    ]
}

#[test]
fn a_bad_operation_of_a_batch_fails_alone() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let body = json!({"operations": [
        {"put": {"key": "/a/1", "value": 1}},
        {"put": {"key": "", "value": 1}},
        {"put": {"key": long, "value": 1}},
        {"get": {"key": "/a/missing"}},
        {"put": {"key": "/a/2", "value": 2}},
    ]});
    let headers = [("content-type", "application/json")];
    let answer = client.request("POST", "/v1/batch", &headers, body.to_string().as_bytes());
    let answer = answer.expect("the node answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.json()["results"]
        .as_array()
        .expect("results")
        .clone();
    assert_eq!(results.len(), 5, "{results:?}");
    assert_eq!(results[1]["error"]["code"], "key_empty");
    assert_eq!(results[2]["error"]["code"], "key_too_long");
    assert!(
        results[0]["put"].is_object() && results[4]["put"].is_object(),
        "{results:?}"
    );
    assert_eq!(kv::list(&mut client, "/a/").len(), 2);
}
