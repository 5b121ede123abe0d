//! Requests that make no sense: each gets a problem that says what is wrong, changes nothing and leaves
//! the connection as good as it was.

use caucus_tests::http::{Answer, Connection};
use caucus_tests::{Cluster, Options, kv};
use serde_json::{Value, json};

const KEY_BYTES_MAX: usize = 4 << 10;
const REQUEST_BYTES_MAX: usize = 3 << 19;
const VALUE_BYTES_MAX: usize = REQUEST_BYTES_MAX - 8;
const BATCH_OPERATIONS_MAX: usize = 1024;

/// A request and what must come of it.
struct Case {
    what: &'static str,
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// What the explanation must have: what is allowed.
    allowed: &'static str,
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
        allowed: "",
    }
}

impl Case {
    fn allowed(mut self, words: &'static str) -> Case {
        self.allowed = words;
        self
    }

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
    if text("code") != case.code {
        return said(&format!("expected code {}", case.code));
    }
    if text("detail").is_empty() || !text("detail").contains(case.allowed) {
        return said(&format!("expected a detail with {}", case.allowed));
    }
    let of_write = ["PUT", "DELETE", "POST"].contains(&case.method) && case.status != 405;
    let outcome = if of_write {
        json!("not_applied")
    } else {
        Value::Null
    };
    if problem["retryable"] != json!(false) || problem["outcome"] != outcome {
        return said(&format!(
            "expected to be told not to retry, outcome {outcome}"
        ));
    }
    let same = problem["status"] == json!(case.status) && !text("title").is_empty();
    match same && text("type").ends_with(case.code) {
        true => None,
        false => said("needs type, title and status"),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = keys();
    cases.extend(methods());
    cases.extend(bodies());
    cases.extend(conditions());
    cases.extend(queries());
    cases.extend(batches());
    cases
}

fn keys() -> Vec<Case> {
    let long = kv::path(&"k".repeat(KEY_BYTES_MAX + 1));
    let longer = kv::path(&"k".repeat(10 * KEY_BYTES_MAX));
    let text = |case: Case| case.header("content-type", "text/plain").body("x");
    let empty = (400, "key_empty");
    let too_long = (400, "key_too_long");
    let encoding = (400, "bad_percent_encoding");
    let mut cases = vec![
        text(case("empty key", ("PUT", "/v1/kv/"), empty)),
        text(case("no key", ("PUT", "/v1/kv"), empty)),
        case("empty key, get", ("GET", "/v1/kv/"), empty),
        case("empty key, delete", ("DELETE", "/v1/kv/"), empty),
        case("empty key, ring", ("GET", "/v1/ring?key="), empty),
        case("no key, ring", ("GET", "/v1/ring"), empty).allowed("`key64`"),
        text(case("no hexadecimal", ("PUT", "/v1/kv/a%zz"), encoding)).allowed("hexadecimal"),
        case("cut short", ("GET", "/v1/kv/a%2"), encoding).allowed("hexadecimal"),
        case("cut shorter", ("DELETE", "/v1/kv/a%"), encoding).allowed("hexadecimal"),
        case("no UTF-8", ("GET", "/v1/kv/a%ff"), (400, "bad_utf8_key")).allowed("key64"),
        case(
            "no base64",
            ("GET", "/v1/kv?key64=!"),
            (400, "bad_query_value"),
        )
        .allowed("base64"),
        case("no such path", ("GET", "/v1/nothing"), (404, "not_found")).allowed("/v1/nothing"),
        case("no such path, put", ("PATCH", "/"), (404, "not_found")),
    ];
    cases.push(text(case("long key, put", ("PUT", &long), too_long)));
    cases.push(text(case("very long key, put", ("PUT", &longer), too_long)));
    for method in ["GET", "HEAD", "DELETE"] {
        cases.push(case("long key", (method, &long), too_long));
    }
    let limited = cases.into_iter().map(|case| match case.code {
        "key_too_long" => case.allowed("4096"),
        _ => case,
    });
    limited.collect()
}

fn methods() -> Vec<Case> {
    let wrong = |what, method, target: &str, allowed| {
        case(what, (method, target), (405, "method_not_allowed")).allowed(allowed)
    };
    let key = kv::path(SENTINEL);
    vec![
        wrong("method on a key", "PATCH", &key, "GET, HEAD, PUT, DELETE"),
        wrong("post to a key", "POST", &key, "GET, HEAD, PUT, DELETE"),
        wrong(
            "a method of one's own",
            "BREW",
            &key,
            "GET, HEAD, PUT, DELETE",
        ),
        wrong("method on the list", "POST", "/v1/kv", "GET"),
        wrong("method on the batch", "GET", "/v1/batch", "POST"),
        wrong("method on the cluster", "PUT", "/v1/cluster", "GET"),
        wrong("method on the ring", "DELETE", "/v1/ring", "GET"),
        wrong("method on the metrics", "POST", "/metrics", "GET"),
        wrong("method on a probe", "POST", "/healthz", "GET"),
    ]
}

fn bodies() -> Vec<Case> {
    let put = |what, refusal| case(what, ("PUT", kv::path(SENTINEL)), refusal);
    let bytes = |case: Case, length: usize| {
        case.header("content-type", "application/octet-stream")
            .body(vec![b'v'; length])
    };
    let kind = (415, "bad_content_type");
    let integer = "application/vnd.caucus.integer";
    vec![
        bytes(
            put("large value", (413, "value_too_large")),
            VALUE_BYTES_MAX + 1,
        )
        .allowed("1572856"),
        bytes(
            put("large body", (413, "body_too_large")),
            REQUEST_BYTES_MAX + 1,
        )
        .allowed("1572864"),
        bytes(
            put("larger body", (413, "body_too_large")),
            2 * REQUEST_BYTES_MAX,
        )
        .allowed("1572864"),
        case(
            "large batch",
            ("POST", "/v1/batch"),
            (413, "body_too_large"),
        )
        .json(vec![b' '; REQUEST_BYTES_MAX + 1])
        .allowed("1572864"),
        put("a value that is no JSON", (400, "malformed_json")).json("{\"a\":"),
        put("two values", (400, "malformed_json")).json("1 2"),
        put("no value", (400, "malformed_json")).json(""),
        put("a text that is none", kind)
            .header("content-type", "text/plain")
            .body(b"\xff"),
        put("a number that is none", kind)
            .header("content-type", integer)
            .body("seven"),
        put("no media type", kind)
            .header("content-type", "json")
            .body("1")
            .allowed("type/subtype"),
    ]
}

fn conditions() -> Vec<Case> {
    let with = |what, name, value| {
        let request = ("PUT", kv::path(SENTINEL));
        let case = case(what, request, (400, "malformed_if_match")).header(name, value);
        case.json("1").allowed("\"42\"")
    };
    let read = |what, method, value| {
        let request = (method, kv::path(SENTINEL));
        let case = case(what, request, (400, "malformed_if_match"));
        case.header("if-match", value).allowed("\"42\"")
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
        with("a weak tag", "if-match", "W/\"1\""),
        with("another condition", "if-none-match", "nothing"),
        with("both conditions", "if-none-match", "*")
            .header("if-match", "\"1\"")
            .allowed("not both"),
        read("a word, get", "GET", "abc"),
        read("a word, delete", "DELETE", "abc"),
    ]
}

fn queries() -> Vec<Case> {
    let key = kv::path(SENTINEL);
    let get = |what, query: &str, refusal| case(what, ("GET", format!("{key}?{query}")), refusal);
    let list = |what, query: &str, refusal| case(what, ("GET", format!("/v1/kv?{query}")), refusal);
    let unknown = (400, "unknown_query_parameter");
    let value = (400, "bad_query_value");
    vec![
        list("unknown, list", "prefxi=a", unknown).allowed("prefix"),
        get("unknown, get", "nope=1", unknown).allowed("raw"),
        case("unknown, put", ("PUT", format!("{key}?nope=1")), unknown)
            .json("1")
            .allowed("timeout"),
        case(
            "unknown, delete",
            ("DELETE", format!("{key}?nope=1")),
            unknown,
        )
        .allowed("timeout"),
        case("unknown, ring", ("GET", "/v1/ring?key=a&nope=1"), unknown).allowed("key"),
        case("unknown, cluster", ("GET", "/v1/cluster?nope=1"), unknown).allowed("none"),
        case("unknown, batch", ("POST", "/v1/batch?nope=1"), unknown)
            .json("{}")
            .allowed("timeout"),
        get("two keys", "key64=YQ", unknown).allowed("raw"),
        get("twice", "raw=1&raw=1", value),
        get("no switch", "raw=maybe", value).allowed("`true` or `false`"),
        get("no consistency", "consistency=weak", value).allowed("`global`"),
        get("no time", "timeout=0", value).allowed("seconds"),
        get("no number of seconds", "timeout=soon", value).allowed("seconds"),
        get("too much time", "timeout=1e9", value).allowed("at most"),
        case("no time, header", ("GET", &key), value)
            .header("caucus-timeout", "-1")
            .allowed("seconds"),
        list("limit is no number", "limit=many", value).allowed("10000"),
        list("limit is negative", "limit=-1", value).allowed("10000"),
        list("limit is nothing", "limit=0", value).allowed("10000"),
        list("limit is too high", "limit=10001", value).allowed("10000"),
        list("no delimiter", "delimiter=", value).allowed("byte"),
        list("a made-up cursor", "cursor=!!!", (400, "invalid_cursor")),
        list(
            "bad encoding in a query",
            "prefix=%zz",
            (400, "bad_percent_encoding"),
        ),
    ]
}

fn batches() -> Vec<Case> {
    let batch = |what, status, body: String| case(what, ("POST", "/v1/batch"), status).json(body);
    let many = vec![json!({"get": {"key": "a"}}); BATCH_OPERATIONS_MAX + 1];
    let put = json!({"put": {"key": "/changed", "value": 1}});
    let json = (400, "malformed_json");
    let broken = json!({"operations": [put, {"put": {"key": 1, "value": 1}}]});
    vec![
        batch("no JSON", json, "{\"operations\":[".to_owned()),
        batch("not an object", json, "[]".to_owned()),
        batch("no operations", json, "{}".to_owned()),
        batch(
            "an unknown field",
            json,
            json!({"operations": [], "x": 1}).to_string(),
        )
        .allowed("`operations`"),
        batch(
            "an unknown operation",
            json,
            json!({"operations": [put, {"putt": {}}]}).to_string(),
        )
        .allowed("`put`"),
        batch("a key that is a number", json, broken.to_string()).allowed("string"),
        batch(
            "too many operations",
            (400, "too_many_operations"),
            json!({ "operations": many }).to_string(),
        )
        .allowed("1024"),
    ]
}

/// What ends the connection, because the rest of it can't be told from the next request, ends no other.
#[test]
fn a_body_that_stays_away_costs_only_its_connection() {
    let cluster = Cluster::start(Options::nodes(1).set("http.body_timeout_ms=200"));
    let mut client = cluster.client(1);
    kv::put(&mut client, SENTINEL, &json!(1));
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf",
        kv::path(SENTINEL)
    );
    let mut late = Connection::open(&cluster.address(1)).expect("the node listens");
    let answer = late.send_raw(head.as_bytes(), false).expect("an answer");
    assert_eq!(
        (answer.status, answer.problem_code().as_str()),
        (408, "body_timeout")
    );
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.json()["outcome"], "not_applied");
    let mut cut = Connection::open(&cluster.address(1)).expect("the node listens");
    // There may be nobody left to answer.
    if let Ok(answer) = cut.send_raw(head.as_bytes(), true) {
        assert_eq!(
            (answer.status, answer.problem_code().as_str()),
            (400, "body_incomplete")
        );
    }
    for noise in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"\r\n\r\n\0",
    ] {
        let mut stranger = Connection::open(&cluster.address(1)).expect("the node listens");
        if let Ok(answer) = stranger.send_raw(noise, true) {
            assert_eq!(answer.status, 400);
        }
    }
    let found = kv::get(&mut client, SENTINEL).expect("it was acknowledged");
    assert_eq!((&found["value"], &found["version"]), (&json!(1), &json!(1)));
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
