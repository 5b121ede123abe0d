//! Elections through the front door, by real processes that are killed.

use std::sync::mpsc;
use std::time::Duration;

use caucus_tests::http::{Answer, Client, Stream};
use caucus_tests::wait::{wait_for, wait_until};
use caucus_tests::{Cluster, Options};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn post(client: &mut Client, what: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let target = format!("/v1/elections/boss/{what}");
    client
        .request("POST", &target, &[], body.as_bytes())
        .expect("an answer")
}

fn get(client: &mut Client, target: &str) -> Answer {
    client.request("GET", target, &[], b"").expect("an answer")
}

#[track_caller]
fn done(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Messages of a stream of leaders.
struct Observing(Stream);

impl Observing {
    fn open(cluster: &Cluster, node: u32) -> Observing {
        let headers = [("accept", "application/x-ndjson")];
        let target = ("GET", "/v1/elections/boss/observe");
        let stream = Stream::open(&cluster.address(node), target, &headers, b"");
        let mut stream = stream.expect("an answer").expect("a stream");
        stream.set_patience(LIMIT);
        Observing(stream)
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

fn campaign_beside(cluster: &Cluster, node: u32, body: Value) -> mpsc::Receiver<Answer> {
    let (sender, answers) = mpsc::channel();
    let mut client = cluster.client(node);
    std::thread::spawn(move || _ = sender.send(post(&mut client, "campaign", &body)));
    answers
}

#[test]
fn who_came_first_leads() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    let mut seen = Observing::open(&cluster, 3);
    assert_eq!(seen.next()["event"], "none");
    let nobody = get(&mut client, "/v1/elections/boss/leader");
    assert_eq!(nobody.problem_code(), "no_leader");
    let first = done(&post(
        &mut client,
        "campaign",
        &json!({"ttl": 30, "value": "one"}),
    ));
    let told = seen.next();
    assert_eq!(
        (&told["value"], &told["token"]),
        (&json!("one"), &first["token"])
    );
    let late = post(&mut client, "campaign", &json!({"ttl": 30, "wait": 0}));
    assert_eq!(late.problem_code(), "not_acquired");
    let second = campaign_beside(
        &cluster,
        2,
        json!({"ttl": 30, "value": {"n": 2}, "wait": 60}),
    );
    wait_until("a second candidate", LIMIT, || {
        let shown = get(&mut client, "/v1/elections/boss").json();
        shown["candidates"].as_array().map(Vec::len) == Some(2)
    });
    let mut proclaimed = first.clone();
    proclaimed["value"] = json!("one, still");
    done(&post(&mut client, "proclaim", &proclaimed));
    assert_eq!(seen.next()["value"], json!("one, still"));
    let leader = done(&get(&mut client, "/v1/elections/boss/leader"));
    assert_eq!(
        (&leader["value"], &leader["token"]),
        (&json!("one, still"), &first["token"])
    );
    assert!(second.try_recv().is_err(), "it waits");
    assert_eq!(
        done(&post(&mut client, "resign", &first))["resigned"],
        json!(true)
    );
    let second = done(&second.recv_timeout(LIMIT).expect("the second"));
    assert!(second["token"].as_u64() > first["token"].as_u64());
    assert_eq!(seen.next()["value"], json!({"n": 2}));
    assert_eq!(
        post(&mut client, "proclaim", &proclaimed).problem_code(),
        "not_leading"
    );
    assert_eq!(
        post(&mut client, "resign", &first).problem_code(),
        "not_leading"
    );
    let listed = done(&get(&mut client, "/v1/elections"));
    assert_eq!(listed["elections"], json!(["boss"]));
    done(&post(&mut client, "resign", &second));
    assert_eq!(seen.next()["event"], "none");
    its_time_is_over(&mut client, &mut seen);
    bad_input(&mut client);
}

/// Without a sign of life.
fn its_time_is_over(client: &mut Client, seen: &mut Observing) {
    let brief = done(&post(
        client,
        "campaign",
        &json!({"ttl": 1, "value": "brief"}),
    ));
    assert_eq!(seen.next()["token"], brief["token"]);
    assert_eq!(seen.next()["event"], "none");
}

fn bad_input(client: &mut Client) {
    for body in [
        json!({"ttl": 0}),
        json!({"wait": -1}),
        json!({"x": 1}),
        json!({"lease": "g"}),
    ] {
        let refused = post(client, "campaign", &body);
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    let none = post(client, "campaign", &json!({"lease": "77"}));
    assert_eq!(none.problem_code(), "lease_not_found");
}

/// While nodes are killed the tokens of leaders rise, and whoever observes sees each leader in that order.
#[test]
fn leaders_follow_each_other_while_nodes_are_killed() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let mut token = 0;
    let mut tokens = Vec::new();
    let mut seen = Observing::open(&cluster, 3);
    for node in [1, 2, 1, 2] {
        let answers = campaign_beside(&cluster, 3, json!({"ttl": 30, "wait": 60}));
        cluster.kill(node);
        let elected = done(&answers.recv_timeout(LIMIT).expect("an answer"));
        let next = elected["token"].as_u64().expect("a token");
        assert!(next > token, "{next} after {token}");
        token = next;
        tokens.push(next);
        let mut client = cluster.client(3);
        wait_for("it resigns", LIMIT, || {
            let resigned = post(&mut client, "resign", &elected);
            (!resigned.is_retryable()).then_some(())
        });
        cluster.revive(node);
        cluster.await_ready(node);
    }
    let mut told = Vec::new();
    while told.len() < tokens.len() {
        let message = seen.next();
        if message["event"] == "leader" {
            told.push(message["token"].as_u64().expect("a token"));
        }
    }
    assert_eq!(told, tokens);
}
