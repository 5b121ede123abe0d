//! A client that writes down what it does, and what came of it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use caucus_history::history::{Line, Process, Type};
use caucus_history::record::line;
use caucus_tests::http;
use caucus_tests::wait::pause;
use serde_json::{Value, json};

use crate::scene::Scene;

/// A request with a name is sent again so often while its outcome isn't known.
const ATTEMPTS_MAX: usize = 4;

pub(super) struct Client<'s> {
    scene: &'s Scene,
    nodes: Vec<http::Client>,
    at: usize,
    process: u64,
    /// What was read last of each register.
    seen: HashMap<String, Value>,
}

/// What was answered.
pub(super) struct Done {
    pub(super) revision: Option<u64>,
    /// What each step that reads has read.
    pub(super) read: Vec<Value>,
}

/// How a request ended.
pub(super) enum Ended {
    Answer(Value),
    NotApplied(String),
    Unknown(String),
}

/// A register's value, or a list's elements.
pub(super) fn read_value(item: &Value) -> Value {
    match &item["value"] {
        Value::String(list) => {
            let elements = list.split_terminator(',');
            let elements = elements.map(|element| element.parse::<u64>().expect("an element"));
            Value::from(elements.collect::<Vec<u64>>())
        }
        other => other.clone(),
    }
}

impl<'s> Client<'s> {
    pub(super) fn new(scene: &'s Scene, at: usize) -> Client<'s> {
        Client {
            scene,
            nodes: scene.nodes(),
            at,
            process: scene.process(),
            seen: HashMap::new(),
        }
    }

    /// What was read or written last of a register.
    pub(super) fn seen(&self, key: &str) -> Value {
        self.seen.get(key).cloned().unwrap_or(Value::Null)
    }

    /// A write that all watchers see; its revision, if it was answered.
    pub(super) fn write_last(&mut self) -> Option<u64> {
        let value = self.scene.value();
        let done = self.run(Vec::new(), vec![json!(["w", "/p/0/r0", value])]);
        done.and_then(|done| done.revision)
    }

    /// Does something, and writes down what came of it; what was answered, if it was.
    pub(super) fn run(
        &mut self,
        compares: Vec<(String, Value)>,
        steps: Vec<Value>,
    ) -> Option<Done> {
        let number = self.scene.value();
        let name = format!("op-{number}");
        // Some have no name, and so an outcome that nobody knows when an answer is lost.
        let named = !number.is_multiple_of(3) && steps.iter().any(|step| step[0] != "r");
        let mut begin = self.line(Type::Invoke, Value::from(steps.clone()));
        begin.compares = compares.clone();
        begin.idem = named.then(|| name.clone());
        self.scene.recorder.write(begin.clone());
        let body = json!({
            "if": compares.iter().map(compare).collect::<Vec<Value>>(),
            "then": steps.iter().map(step).collect::<Vec<Value>>(),
        });
        match self.ask(&body, named.then_some(&name[..])) {
            Ended::Answer(answer) => {
                let mut end = begin;
                end.kind = Type::Ok;
                self.fill(&mut end, steps, &answer);
                let steps = end.value.as_array().into_iter().flatten();
                let done = Done {
                    revision: end.rev,
                    read: steps.map(|step| step[2].clone()).collect(),
                };
                self.scene.recorder.write(end);
                self.scene.answered.fetch_add(1, Ordering::Relaxed);
                Some(done)
            }
            Ended::NotApplied(why) => {
                self.end(begin, Type::Fail, why);
                None
            }
            Ended::Unknown(why) => {
                self.end(begin, Type::Info, why);
                self.process = self.scene.process();
                None
            }
        }
    }

    fn end(&self, begin: Line, kind: Type, why: String) {
        self.scene.recorder.write(Line {
            kind,
            error: Some(why),
            ..begin
        });
        pause();
    }

    fn line(&self, kind: Type, value: Value) -> Line {
        line(kind, Process::Client(self.process), "txn", value)
    }

    /// What was answered.
    fn fill(&mut self, end: &mut Line, mut steps: Vec<Value>, answer: &Value) {
        end.rev = answer["revision"].as_u64();
        end.held = answer["succeeded"].as_bool();
        if end.held == Some(true) {
            let results = answer["results"].as_array().expect("results");
            for (step, result) in steps.iter_mut().zip(results) {
                let mut changed = 0;
                if step[0] == "r" {
                    let item = &result["get"]["items"][0];
                    changed = item["revision"].as_u64().unwrap_or(0);
                    step[2] = read_value(item);
                    if let Some(key) = step[1].as_str() {
                        self.seen.insert(key.to_owned(), step[2].clone());
                    }
                } else if step[0] == "w" {
                    let key = step[1].as_str().expect("a key").to_owned();
                    self.seen.insert(key, step[2].clone());
                }
                end.mods.push(changed);
            }
        } else if let Some((key, _)) = end.compares.first() {
            // Somebody has changed it: it is read next time.
            self.seen.remove(key);
        }
        end.value = Value::from(steps);
    }

    /// Sends a transaction to one node after the other.
    pub(super) fn ask(&mut self, body: &Value, name: Option<&str>) -> Ended {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(name.map(|name| ("idempotency-key", name)));
        let mut unknown = None;
        for _ in 0..ATTEMPTS_MAX {
            let at = self.at % self.nodes.len();
            let target = "/v1/txn?timeout=3";
            let body = body.to_string();
            let sent = self.nodes[at].request("POST", target, &headers, body.as_bytes());
            match sent {
                Ok(answer) if answer.status == 200 => {
                    let answer = answer.json();
                    return match answer["results_forgotten"] == json!(true) {
                        false => Ended::Answer(answer),
                        // It has happened; what it read isn't known any more.
                        true => Ended::Unknown("what it read is forgotten".to_owned()),
                    };
                }
                Ok(answer) if answer.json()["outcome"] == "not_applied" => {
                    if unknown.is_none() {
                        return Ended::NotApplied(answer.text());
                    }
                }
                Ok(answer) => unknown = Some(answer.text()),
                Err(error) => unknown = Some(error.to_string()),
            }
            self.at += 1;
            pause();
            // Without a name it isn't sent again; a read that wasn't answered is no matter.
            if name.is_none() {
                break;
            }
        }
        Ended::Unknown(unknown.unwrap_or_default())
    }
}

fn compare((key, value): &(String, Value)) -> Value {
    match value {
        Value::Null => json!({"key": key, "version": 0}),
        value => json!({"key": key, "value": value}),
    }
}

fn step(step: &Value) -> Value {
    let (key, value) = (&step[1], &step[2]);
    match step[0].as_str() {
        Some("r") => json!({"get": {"key": key}}),
        Some("w") => json!({"put": {"key": key, "value": value}}),
        Some("d") => json!({"delete": {"key": key}}),
        _ => json!({"append": {"key": key, "text": format!("{value},")}}),
    }
}
