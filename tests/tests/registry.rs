//! Services, members, barriers and counters through the front door, by real processes.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
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

fn get(client: &mut Client, target: &str) -> Value {
    let answer = send(client, "GET", target, &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[track_caller]
fn done(answer: &Answer) {
    assert!(answer.status < 300, "{} {}", answer.status, answer.text());
}

/// Messages of a stream.
struct Messages(Stream);

impl Messages {
    fn open(cluster: &Cluster, node: u32, target: &str) -> Messages {
        let headers = [("accept", "application/x-ndjson")];
        let stream = Stream::open(&cluster.address(node), ("GET", target), &headers, b"");
        let mut stream = stream.expect("an answer").expect("a stream");
        stream.set_patience(LIMIT);
        Messages(stream)
    }

    #[track_caller]
    fn next(&mut self) -> Value {
        loop {
            let line = self.0.line().expect("a line").expect("the stream goes on");
            let message: Value = serde_json::from_slice(&line).expect("JSON");
            if message["event"] != "alive" {
                return message;
            }
        }
    }
}

#[test]
fn services_come_live_and_go() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    let mut seen = Messages::open(&cluster, 2, "/v1/services/web/watch");
    assert_eq!(seen.next()["instances"], json!([]));
    let one = json!({
        "address": "10.0.0.1", "port": 80, "tags": ["blue"], "metadata": {"zone": "a"},
        "ttl": 3, "critical_after": 2,
    });
    done(&send(&mut client, "PUT", "/v1/services/web/one", &one));
    let two = json!({"address": "10.0.0.2", "port": 80, "ttl": 600});
    done(&send(&mut client, "PUT", "/v1/services/web/two", &two));
    let listed = get(&mut client, "/v1/services/web");
    assert_eq!(listed["instances"][0]["status"], "passing", "{listed}");
    assert_eq!(listed["instances"][1]["id"], "two");
    let tagged = get(&mut client, "/v1/services/web?tag=blue");
    assert_eq!(tagged["instances"].as_array().map(Vec::len), Some(1));
    let beat = |client: &mut Client, body: Value| {
        send(client, "POST", "/v1/services/web/one/heartbeat", &body)
    };
    for _ in 0..20 {
        done(&beat(&mut client, json!({})));
    }
    done(&beat(
        &mut client,
        json!({"status": "warning", "note": "slow"}),
    ));
    let found = get(&mut client, "/v1/services/web/one");
    assert_eq!(
        (&found["status"], &found["note"]),
        (&json!("warning"), &json!("slow"))
    );
    done(&beat(&mut client, json!({"status": "critical"})));
    let healthy = get(&mut client, "/v1/services/web?healthy");
    assert_eq!(
        healthy["instances"].as_array().map(Vec::len),
        Some(1),
        "{healthy}"
    );
    done(&beat(&mut client, json!({"status": "passing"})));
    dies_slowly(&mut seen);
    assert_eq!(
        beat(&mut client, json!({})).problem_code(),
        "instance_not_found"
    );
    let two = "/v1/services/web/two";
    done(&send(&mut client, "DELETE", two, &Value::Null));
    let again = send(&mut client, "DELETE", two, &Value::Null);
    assert_eq!(again.problem_code(), "instance_not_found");
    assert_eq!(get(&mut client, "/v1/services/web")["instances"], json!([]));
    bad_instances(&mut client);
}

/// Without a sign of life it is critical first, and then it has gone.
fn dies_slowly(seen: &mut Messages) {
    let statuses = |seen: &mut Messages| {
        let message = seen.next();
        let instances = message["instances"].as_array().expect("instances").clone();
        let one = instances
            .into_iter()
            .find(|instance| instance["id"] == "one");
        one.map(|one| one["status"].as_str().expect("a status").to_owned())
    };
    let mut last = Some(String::new());
    let mut order = Vec::new();
    while last.is_some() {
        let next = statuses(seen);
        if next != last {
            order.push(next.clone().unwrap_or("gone".to_owned()));
        }
        last = next;
        if order.len() == 1 && last.is_none() {
            // Before it was registered.
            order.clear();
            last = Some(String::new());
        }
    }
    assert_eq!(
        order,
        [
            "passing", "warning", "critical", "passing", "critical", "gone"
        ]
    );
}

fn bad_instances(client: &mut Client) {
    for bad in [
        json!({"address": "a"}),
        json!({"address": "", "port": 1}),
        json!({"address": "a", "port": 70000}),
        json!({"address": "a", "port": 1, "ttl": 0}),
        json!({"address": "a", "port": 1, "ttl": 1, "check": {"tcp": 1, "interval": 1}}),
        json!({"address": "a", "port": 1, "check": {"interval": 1}}),
        json!({"address": "a", "port": 1, "check": {"http": "x", "interval": 1}}),
        json!({"address": "a", "port": 1, "check": {"tcp": 1, "interval": 0}}),
    ] {
        let refused = send(client, "PUT", "/v1/services/web/bad", &bad);
        assert_eq!(refused.status, 400, "{bad}: {}", refused.text());
    }
}

/// Answers every request with a status, until the process ends.
fn serve(status: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            _ = stream.read(&mut [0; 1024]);
            let status = status.load(Ordering::Relaxed);
            _ = write!(stream, "HTTP/1.1 {status} \r\ncontent-length: 0\r\n\r\n");
        }
    });
    port
}

/// The nodes check, and go on when the one that did is killed.
#[test]
fn nodes_check_instances() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(3);
    let answers = Arc::new(AtomicU16::new(200));
    let port = serve(answers.clone());
    let closed = {
        let unused = TcpListener::bind("127.0.0.1:0").expect("a port");
        unused.local_addr().expect("an address").port()
    };
    let check = |check: Value| json!({"address": "127.0.0.1", "port": port, "check": check});
    let checks = [
        ("http", check(json!({"http": "/health", "interval": 1}))),
        ("tcp", check(json!({"tcp": port, "interval": 1}))),
        ("closed", check(json!({"tcp": closed, "interval": 1}))),
    ];
    for (id, body) in &checks {
        done(&send(
            &mut client,
            "PUT",
            &format!("/v1/services/checked/{id}"),
            body,
        ));
    }
    let mut becomes = |id: &str, status: &str| {
        wait_until(&format!("{id} is {status}"), LIMIT, || {
            let target = format!("/v1/services/checked/{id}");
            let found = client.request("GET", &target, &[], b"").expect("an answer");
            found.status == 200 && found.json()["status"] == status
        });
    };
    becomes("http", "passing");
    becomes("tcp", "passing");
    becomes("closed", "critical");
    answers.store(429, Ordering::Relaxed);
    becomes("http", "warning");
    answers.store(503, Ordering::Relaxed);
    becomes("http", "critical");
    for (node, status, name) in [(1, 200, "passing"), (2, 429, "warning")] {
        cluster.kill(node);
        answers.store(status, Ordering::Relaxed);
        becomes("http", name);
        cluster.revive(node);
        cluster.await_ready(node);
    }
}

#[test]
fn members_join_in_order() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    let mut seen = Messages::open(&cluster, 3, "/v1/members/db/watch");
    assert_eq!(seen.next()["members"], json!([]));
    let mut joined = Vec::new();
    for n in 0..3 {
        let body = json!({"ttl": 30, "id": format!("m{n}"), "metadata": {"n": n}});
        let answer = send(
            &mut cluster.client(n % 3 + 1),
            "POST",
            "/v1/members/db",
            &body,
        );
        assert_eq!(answer.status, 201, "{}", answer.text());
        joined.push(answer.json());
        let told = seen.next();
        assert_eq!(
            (&told["event"], &told["metadata"]["n"]),
            (&json!("joined"), &json!(n))
        );
    }
    let twice = json!({"id": "m0"});
    let twice = send(&mut client, "POST", "/v1/members/db", &twice);
    assert_eq!(twice.problem_code(), "exists");
    let listed = get(&mut client, "/v1/members/db");
    let ids: Vec<&Value> = listed["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(ids, [&json!("m0"), &json!("m1"), &json!("m2")]);
    done(&send(
        &mut client,
        "PUT",
        "/v1/members/db/m1",
        &json!({"metadata": "new"}),
    ));
    let told = seen.next();
    assert_eq!(
        (&told["event"], &told["metadata"]),
        (&json!("changed"), &json!("new"))
    );
    // Another one than that which joined then.
    let stale = format!("/v1/members/db/m1?joined={}", joined[0]["joined"]);
    let stale = send(&mut client, "DELETE", &stale, &Value::Null);
    assert_eq!(stale.problem_code(), "member_not_found");
    done(&send(
        &mut client,
        "DELETE",
        "/v1/members/db/m1",
        &Value::Null,
    ));
    assert_eq!(seen.next()["event"], "left");
    leaves_by_itself(&mut client, &mut seen);
}

/// Its time is over.
fn leaves_by_itself(client: &mut Client, seen: &mut Messages) {
    let brief = send(client, "POST", "/v1/members/db", &json!({"ttl": 1}));
    let brief = brief.json();
    assert_eq!(brief["id"], brief["lease"]);
    assert_eq!(seen.next()["event"], "joined");
    let told = seen.next();
    assert_eq!(
        (&told["event"], &told["id"]),
        (&json!("left"), &brief["id"])
    );
    assert_eq!(get(client, "/v1/members")["groups"], json!(["db"]));
    for bad in [
        json!({"ttl": 0}),
        json!({"id": ""}),
        json!({"lease": "1", "ttl": 1}),
        json!({"x": 1}),
    ] {
        let refused = send(client, "POST", "/v1/members/db", &bad);
        assert_eq!(refused.status, 400, "{bad}: {}", refused.text());
    }
}

#[test]
fn barriers_and_counters() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    single(&cluster, &mut client);
    double(&cluster, &mut client);
    counters(&cluster, &mut client);
}

fn beside(cluster: &Cluster, node: u32, target: &str, body: Value) -> mpsc::Receiver<Answer> {
    let (sender, answers) = mpsc::channel();
    let mut client = cluster.client(node);
    let target = target.to_owned();
    std::thread::spawn(move || _ = sender.send(send(&mut client, "POST", &target, &body)));
    answers
}

fn single(cluster: &Cluster, client: &mut Client) {
    done(&send(client, "POST", "/v1/barriers/b/wait", &json!({})));
    done(&send(client, "PUT", "/v1/barriers/b", &Value::Null));
    assert_eq!(get(client, "/v1/barriers/b")["closed"], json!(true));
    let late = send(client, "POST", "/v1/barriers/b/wait", &json!({"wait": 0.1}));
    assert_eq!(late.problem_code(), "not_acquired");
    let waiting: Vec<_> = (1..=3)
        .map(|node| beside(cluster, node, "/v1/barriers/b/wait", json!({"wait": 60})))
        .collect();
    assert!(waiting.iter().all(|answers| answers.try_recv().is_err()));
    done(&send(client, "DELETE", "/v1/barriers/b", &Value::Null));
    for answers in waiting {
        done(&answers.recv_timeout(LIMIT).expect("an answer"));
    }
}

fn double(cluster: &Cluster, client: &mut Client) {
    for _round in 0..2 {
        let ask = json!({"parties": 3, "ttl": 30, "wait": 60});
        let target = "/v1/barriers/d/enter";
        let first: Vec<_> = (1..=2)
            .map(|node| beside(cluster, node, target, ask.clone()))
            .collect();
        wait_until("two are in", LIMIT, || {
            get(client, "/v1/barriers/d")["parties"] == json!(2)
        });
        assert!(first.iter().all(|answers| answers.try_recv().is_err()));
        let third = beside(cluster, 3, target, ask.clone());
        let mut parties = Vec::new();
        for answers in first.iter().chain([&third]) {
            let entered = answers.recv_timeout(LIMIT).expect("an answer");
            done(&entered);
            parties.push(entered.json());
        }
        let begun = send(client, "POST", target, &ask);
        assert_eq!(begun.problem_code(), "begun");
        let leave = "/v1/barriers/d/leave";
        let leaving: Vec<_> = parties[..2]
            .iter()
            .map(|party| beside(cluster, 1, leave, party.clone()))
            .collect();
        wait_until("one is in still", LIMIT, || {
            get(client, "/v1/barriers/d")["parties"] == json!(1)
        });
        assert!(leaving.iter().all(|answers| answers.try_recv().is_err()));
        done(&send(client, "POST", leave, &parties[2]));
        for answers in leaving {
            done(&answers.recv_timeout(LIMIT).expect("an answer"));
        }
        let again = send(client, "POST", leave, &parties[2]);
        assert_eq!(again.problem_code(), "not_held");
    }
    // Who gives up isn't counted.
    let few = json!({"parties": 2, "wait": 0.2});
    let late = send(client, "POST", "/v1/barriers/d/enter", &few);
    assert_eq!(late.problem_code(), "not_acquired");
    wait_until("it has left", LIMIT, || {
        get(client, "/v1/barriers/d")["parties"] == json!(0)
    });
    let bad = send(
        client,
        "POST",
        "/v1/barriers/d/enter",
        &json!({"parties": 0}),
    );
    assert_eq!(bad.status, 400);
}

fn counters(cluster: &Cluster, client: &mut Client) {
    // Without gaps, whoever takes them.
    let takers: Vec<_> = (0..4)
        .map(|n| {
            let mut client = cluster.client(n % 3 + 1);
            std::thread::spawn(move || {
                let take = |_| {
                    let taken = send(&mut client, "POST", "/v1/counters/ids/next", &json!({}));
                    done(&taken);
                    taken.json()["first"].as_u64().expect("a number")
                };
                (0..50).map(take).collect::<Vec<u64>>()
            })
        })
        .collect();
    let mut taken: Vec<u64> = takers
        .into_iter()
        .flat_map(|t| t.join().expect("a taker"))
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, (1..=200).collect::<Vec<u64>>());
    let block = send(
        client,
        "POST",
        "/v1/counters/ids/next",
        &json!({"count": 1000}),
    )
    .json();
    assert_eq!(
        (&block["first"], &block["last"]),
        (&json!(201), &json!(1200))
    );
    let added = send(client, "POST", "/v1/counters/ids/add", &json!({"by": -200})).json();
    assert_eq!(added["value"], json!(1000));
    let headers = [("idempotency-key", "once")];
    let mut once = || {
        let answer = client.request("POST", "/v1/counters/ids/add", &headers, b"{\"by\": 5}");
        answer.expect("an answer").json()
    };
    assert_eq!(once()["value"], json!(1005));
    assert_eq!(once()["value"], json!(1005));
    done(&send(
        client,
        "PUT",
        "/v1/counters/ids",
        &json!({"value": i64::MAX}),
    ));
    let over = send(client, "POST", "/v1/counters/ids/add", &json!({}));
    assert_eq!(over.problem_code(), "impossible");
    done(&send(client, "DELETE", "/v1/counters/ids", &Value::Null));
    let gone = wait_for("the counter", LIMIT, || {
        Some(get(client, "/v1/counters/ids"))
    });
    assert_eq!(gone["value"], json!(0));
    let bad = send(
        client,
        "POST",
        "/v1/counters/ids/next",
        &json!({"count": 0}),
    );
    assert_eq!(bad.status, 400);
}
