//! Topics through the front door, by real processes that are killed.

use std::collections::BTreeMap;
use std::time::Duration;

use caucus_tests::http::{Answer, Client, Stream};
use caucus_tests::wait::{wait_for, wait_until};
use caucus_tests::{Cluster, Options};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn send(client: &mut Client, method: &str, target: &str, body: &Value) -> Answer {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    client
        .request(method, target, &[], body.as_bytes())
        .expect("an answer")
}

#[track_caller]
fn done(answer: &Answer) -> Value {
    assert!(answer.status < 300, "{} {}", answer.status, answer.text());
    match answer.body.is_empty() {
        true => Value::Null,
        false => answer.json(),
    }
}

#[track_caller]
fn get(client: &mut Client, target: &str) -> Value {
    done(&send(client, "GET", target, &Value::Null))
}

fn batch(values: impl IntoIterator<Item = Value>) -> Value {
    let messages: Vec<Value> = values
        .into_iter()
        .map(|value| json!({ "value": value }))
        .collect();
    json!({ "messages": messages })
}

fn publish(client: &mut Client, topic: &str, values: impl IntoIterator<Item = Value>) -> Value {
    done(&send(
        client,
        "POST",
        &format!("/v1/topics/{topic}/messages"),
        &batch(values),
    ))
}

struct Messages(Stream);

impl Messages {
    fn open(cluster: &Cluster, node: u32, target: &str, last: Option<u64>) -> Messages {
        let last = last.map(|last| last.to_string());
        let mut headers = vec![("accept", "application/x-ndjson")];
        headers.extend(last.as_deref().map(|last| ("last-event-id", last)));
        let stream = Stream::open(&cluster.address(node), ("GET", target), &headers, b"");
        let mut stream = stream.expect("an answer").expect("a stream");
        stream.set_patience(LIMIT);
        Messages(stream)
    }

    /// The next message; `None`: the stream was cut.
    fn try_next(&mut self) -> Option<Value> {
        loop {
            let line = self.0.line().ok()??;
            let message: Value = serde_json::from_slice(&line).ok()?;
            match message["event"].as_str() {
                Some("alive") => {}
                Some("end") => return None,
                _ => return Some(message),
            }
        }
    }

    #[track_caller]
    fn next(&mut self) -> Value {
        self.try_next().expect("the stream goes on")
    }
}

#[test]
fn topics_keep_messages_in_order() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    pages(&cluster, &mut client);
    retention(&mut client);
    consumers(&mut client);
    shared(&cluster, &mut client);
    bad_input(&mut client);
}

fn pages(cluster: &Cluster, client: &mut Client) {
    let mut live = Messages::open(cluster, 2, "/v1/topics/t/subscribe?from=last", None);
    let first = publish(client, "t", (0..5).map(|n| json!(n)));
    assert_eq!((&first["first"], &first["last"]), (&json!(0), &json!(4)));
    let headers = [("content-type", "text/plain")];
    let one = client.request("POST", "/v1/topics/t/message?key=k", &headers, b"hello");
    assert_eq!(done(&one.expect("an answer"))["first"], json!(5));
    for n in 0..5 {
        let message = live.next();
        assert_eq!(
            (&message["offset"], &message["value"]),
            (&json!(n), &json!(n))
        );
    }
    let message = live.next();
    assert_eq!(
        (&message["key"], &message["value"]),
        (&json!("k"), &json!("hello"))
    );
    let page = get(client, "/v1/topics/t/messages?from=3&limit=2");
    assert_eq!(page["messages"][0]["offset"], json!(3));
    assert_eq!((&page["after"], &page["next"]), (&json!(5), &json!(6)));
    let keyed = get(client, "/v1/topics/t/messages?key=k");
    assert_eq!(keyed["messages"].as_array().map(Vec::len), Some(1));
    // Who comes back goes on after what was seen.
    let mut back = Messages::open(cluster, 3, "/v1/topics/t/subscribe?from=first", Some(3));
    assert_eq!(back.next()["offset"], json!(4));
    let headers = [("idempotency-key", "once")];
    let mut once = || {
        let body = batch([json!("x")]).to_string();
        let sent = client.request("POST", "/v1/topics/t/messages", &headers, body.as_bytes());
        done(&sent.expect("an answer"))["first"].clone()
    };
    assert_eq!((once(), once()), (json!(6), json!(6)));
    assert_eq!(get(client, "/v1/topics/t")["next"], json!(7));
    assert_eq!(get(client, "/v1/topics")["topics"], json!(["t"]));
}

fn retention(client: &mut Client) {
    let kept = json!({"retention": {"messages_max": 30}});
    done(&send(client, "PUT", "/v1/topics/r", &kept));
    for _ in 0..20 {
        publish(client, "r", (0..10).map(|n| json!(n)));
    }
    wait_until("what is too much is let go", LIMIT, || {
        publish(client, "r", [json!("more")]);
        let shown = get(client, "/v1/topics/r");
        let (first, next) = (shown["first"].as_u64(), shown["next"].as_u64());
        next.unwrap_or(0) - first.unwrap_or(0) <= 40
    });
    let gone = send(client, "GET", "/v1/topics/r/messages?from=0", &Value::Null);
    assert_eq!(
        (gone.status, gone.problem_code().as_str()),
        (410, "offset_gone")
    );
    let page = get(client, "/v1/topics/r/messages?from=first&limit=1");
    let shown = get(client, "/v1/topics/r");
    assert_eq!(page["messages"][0]["offset"], shown["first"]);
    done(&send(client, "DELETE", "/v1/topics/r", &Value::Null));
    assert_eq!(get(client, "/v1/topics/r")["next"], json!(0));
}

fn consumers(client: &mut Client) {
    publish(client, "c", (0..10).map(|n| json!(n)));
    let base = "/v1/topics/c/consumers/app";
    done(&send(client, "PUT", base, &json!({"from": "first"})));
    let twice = send(client, "PUT", base, &json!({}));
    assert_eq!(twice.problem_code(), "exists");
    let page = get(client, &format!("{base}/messages?limit=4"));
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(4));
    let acked = done(&send(
        client,
        "POST",
        &format!("{base}/ack"),
        &json!({"offset": 3}),
    ));
    assert_eq!(acked["acked"], json!(4));
    assert_eq!(
        get(client, &format!("{base}/messages"))["messages"][0]["offset"],
        json!(4)
    );
    assert_eq!(get(client, base)["lag"], json!(6));
    let beyond = send(
        client,
        "POST",
        &format!("{base}/ack"),
        &json!({"offset": 10}),
    );
    assert_eq!(
        (beyond.status, beyond.problem_code().as_str()),
        (400, "beyond_end")
    );
    let behind = send(
        client,
        "POST",
        &format!("{base}/ack"),
        &json!({"offset": 1}),
    );
    assert_eq!(behind.problem_code(), "acknowledged");
    done(&send(
        client,
        "POST",
        &format!("{base}/seek"),
        &json!({"offset": 2}),
    ));
    assert_eq!(get(client, base)["acked"], json!(2));
    done(&send(client, "DELETE", base, &Value::Null));
    assert_eq!(
        send(client, "GET", base, &Value::Null).problem_code(),
        "no_consumer"
    );
}

/// Each message goes to one member; what isn't acknowledged in time to another.
fn shared(cluster: &Cluster, client: &mut Client) {
    publish(client, "s", (0..40).map(|n| json!(n)));
    let base = "/v1/topics/s/consumers/workers";
    done(&send(client, "PUT", base, &json!({"shared": true})));
    let fetch = json!({"member": "lost", "count": 5, "visible": 0.5});
    let lost = done(&send(client, "POST", &format!("{base}/fetch"), &fetch));
    assert_eq!(lost["messages"].as_array().map(Vec::len), Some(5));
    let members: Vec<_> = (0..3)
        .map(|n| {
            let mut client = cluster.client(n % 3 + 1);
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                loop {
                    let ask =
                        json!({"member": format!("m{n}"), "count": 4, "visible": 30, "wait": 2});
                    let got = send(
                        &mut client,
                        "POST",
                        "/v1/topics/s/consumers/workers/fetch",
                        &ask,
                    );
                    if got.is_retryable() {
                        continue;
                    }
                    let got = done(&got);
                    let messages = got["messages"].as_array().expect("messages").clone();
                    let (Some(first), Some(last)) = (messages.first(), messages.last()) else {
                        return seen;
                    };
                    let range = json!({"from": first["offset"], "to": last["offset"]});
                    let target = "/v1/topics/s/consumers/workers/ack";
                    wait_until("it is acknowledged", LIMIT, || {
                        send(&mut client, "POST", target, &range).status == 200
                    });
                    seen.extend(messages.iter().map(|m| {
                        (
                            m["offset"].as_u64().expect("an offset"),
                            got["times"].as_u64(),
                        )
                    }));
                }
            })
        })
        .collect();
    let mut seen: Vec<(u64, Option<u64>)> = members
        .into_iter()
        .flat_map(|m| m.join().expect("a member"))
        .collect();
    seen.sort_unstable();
    let offsets: Vec<u64> = seen.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (0..40).collect::<Vec<u64>>(), "each once");
    assert!(
        seen[..5].iter().all(|(_, times)| *times == Some(2)),
        "{seen:?}"
    );
    let shown = get(client, base);
    assert_eq!(
        (&shown["acked"], &shown["pending"], &shown["lag"]),
        (&json!(40), &json!(0), &json!(0))
    );
}

fn bad_input(client: &mut Client) {
    for (method, target, body) in [
        ("POST", "/v1/topics/b/messages", json!({"messages": []})),
        (
            "POST",
            "/v1/topics/b/messages",
            json!({"messages": [{"key": "k"}]}),
        ),
        (
            "POST",
            "/v1/topics/b/messages",
            json!({"messages": vec![json!({"value": 1}); 1001]}),
        ),
        ("GET", "/v1/topics/b/messages?from=x", Value::Null),
        ("GET", "/v1/topics/b/messages?from=7", Value::Null),
        ("PUT", "/v1/topics/b", json!({"retention": {"messages": 1}})),
        ("PUT", "/v1/topics/b/consumers/x", json!({"from": 9})),
    ] {
        let refused = send(client, method, target, &body);
        assert_eq!(refused.status, 400, "{target}: {}", refused.text());
    }
    done(&send(
        client,
        "PUT",
        "/v1/topics/b/consumers/x",
        &json!({"shared": true}),
    ));
    for (what, body) in [
        ("ack", json!({})),
        ("ack", json!({"offset": 1, "from": 1})),
        ("fetch", json!({"member": "m", "count": 0})),
        ("fetch", json!({"member": "m", "visible": 0})),
        ("fetch", json!({"member": ""})),
        ("seek", json!({"offset": 3})),
    ] {
        let target = format!("/v1/topics/b/consumers/x/{what}");
        let refused = send(client, "POST", &target, &body);
        assert_eq!(refused.status, 400, "{what}: {}", refused.text());
    }
    let none = send(
        client,
        "GET",
        "/v1/topics/b/consumers/y/messages",
        &Value::Null,
    );
    assert_eq!(none.problem_code(), "no_consumer");
}

/// Publishers of one topic through all nodes while nodes are killed: what is acknowledged is there once, at the offsets
/// that were said, without a gap; a subscription that comes back has each message once, in order.
#[test]
fn messages_outlive_nodes_that_are_killed() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let publishers: Vec<_> = (0..4)
        .map(|n| {
            let mut clients: Vec<Client> =
                cluster.nodes().map(|node| cluster.client(node)).collect();
            std::thread::spawn(move || {
                let mut said = BTreeMap::new();
                for turn in 0..25 {
                    let values: Vec<Value> =
                        (0..3).map(|m| json!(format!("{n}-{turn}-{m}"))).collect();
                    let body = batch(values.clone()).to_string();
                    let name = format!("{n}-{turn}");
                    let headers = [("idempotency-key", &name[..])];
                    let first = wait_for("it is published", LIMIT, || {
                        let at = (n + turn) % clients.len();
                        clients.rotate_left(1);
                        let sent = clients[at].request(
                            "POST",
                            "/v1/topics/f/messages",
                            &headers,
                            body.as_bytes(),
                        );
                        let sent = sent.ok().filter(|sent| sent.status == 201)?;
                        sent.json()["first"].as_u64()
                    });
                    said.extend((first..).zip(values));
                }
                said
            })
        })
        .collect();
    let mut read = Vec::new();
    let mut last = None;
    for node in [1, 2] {
        cluster.kill(node);
        let mut stream = Messages::open(&cluster, 3, "/v1/topics/f/subscribe?from=first", last);
        for _ in 0..30 {
            let message = stream.next();
            last = message["offset"].as_u64();
            read.push(message);
        }
        cluster.revive(node);
        cluster.await_ready(node);
    }
    let mut said: BTreeMap<u64, Value> = BTreeMap::new();
    for publisher in publishers {
        said.extend(publisher.join().expect("a publisher"));
    }
    assert_eq!(said.len(), 300, "each has its own offset");
    assert_eq!(
        said.keys().copied().collect::<Vec<u64>>(),
        (0..300).collect::<Vec<u64>>()
    );
    let mut stream = Messages::open(&cluster, 1, "/v1/topics/f/subscribe?from=first", last);
    while read.len() < 300 {
        read.push(stream.next());
    }
    for (at, message) in read.iter().enumerate() {
        assert_eq!(message["offset"], json!(at), "{message}");
        assert_eq!(message["value"], said[&(at as u64)], "{message}");
    }
}
