//! Clients of etcd's keys: registers under `/r/`, written, read, compared and removed, one or several at once; and
//! lists under `/l/`, which etcd hasn't: they are read and written back if nobody has changed them.

use std::collections::HashMap;

use caucus_history::history::{Line, Process, Type};
use caucus_history::record::line;
use caucus_tests::random::Random;
use caucus_tests::wait::pause;
use serde_json::{Value, json};

use crate::gateway::{Failed, Gateway, decode, encode, number, range, revision};
use crate::scene::Scene;

pub(super) const REGISTERS: &str = "/r/";
const KEYS: u64 = 8;
/// So many values are used in all while the same lists are appended to.
const NUMBERS: u64 = 2000;

pub(super) struct Client<'s> {
    scene: &'s Scene,
    members: Vec<Gateway>,
    at: usize,
    process: u64,
    /// What was read last of each register.
    seen: HashMap<String, Value>,
}

/// Works until the run is over, at one member after the other.
pub(super) fn play(scene: &Scene, addresses: &[String], seed: u64, client: u64) {
    let mut random = Random::nth(seed, client);
    let mut client = Client::new(scene, addresses, client as usize);
    while !scene.is_over() {
        client.act(&mut random);
    }
}

fn two(random: &mut Random, prefix: &str) -> [String; 2] {
    let first = random.below(KEYS);
    let second = (first + 1 + random.below(KEYS - 1)) % KEYS;
    [format!("{prefix}{first}"), format!("{prefix}{second}")]
}

impl<'s> Client<'s> {
    pub(super) fn new(scene: &'s Scene, addresses: &[String], at: usize) -> Client<'s> {
        Client {
            scene,
            members: addresses.iter().map(|to| Gateway::hasty(to)).collect(),
            at,
            process: scene.number(),
            seen: HashMap::new(),
        }
    }

    fn act(&mut self, random: &mut Random) {
        let value = Value::from(self.scene.number());
        let [one, other] = two(random, REGISTERS);
        // Each read has all of a list: they are left behind before they are long.
        let [list, more] = two(random, &format!("/l/{}/", self.scene.number() / NUMBERS));
        match random.below(10) {
            0 | 1 => self.run(vec![], vec![json!(["w", one, value])]),
            2 => self.run(vec![], vec![json!(["r", one, null])]),
            3 | 4 => {
                let expected = self.seen.get(&one).cloned().unwrap_or(Value::Null);
                self.run(
                    vec![(one.clone(), expected)],
                    vec![json!(["w", one, value])],
                )
            }
            5 => self.run(
                vec![],
                vec![json!(["r", other, null]), json!(["w", one, value])],
            ),
            6 => self.run(
                vec![],
                vec![json!(["r", one, null]), json!(["r", other, null])],
            ),
            7 => self.run(vec![], vec![json!(["d", one])]),
            8 => self.append(
                &[&list, &more],
                vec![json!(["append", list, value]), json!(["r", more, null])],
            ),
            _ => self.append(
                &[&list, &more],
                vec![json!(["r", list, null]), json!(["r", more, null])],
            ),
        };
    }

    /// Writes a register; its revision, if that was answered.
    pub(super) fn write(&mut self, key: &str, value: Value) -> Option<u64> {
        self.run(vec![], vec![json!(["w", key, value])])
    }

    /// Removes a register.
    pub(super) fn delete(&mut self, key: &str) -> Option<u64> {
        self.run(vec![], vec![json!(["d", key])])
    }

    /// One transaction; its revision, if it was answered.
    fn run(&mut self, compares: Vec<(String, Value)>, steps: Vec<Value>) -> Option<u64> {
        let mut begin = self.line(&steps);
        begin.compares = compares;
        self.scene.recorder.write(begin.clone());
        let body = json!({
            "compare": begin.compares.iter().map(compare).collect::<Vec<Value>>(),
            "success": steps.iter().map(operation).collect::<Vec<Value>>(),
        });
        let answer = self.ask("kv/txn", &body);
        let answer = self.answered(&begin, answer)?;
        let mut end = begin;
        end.kind = Type::Ok;
        end.rev = Some(revision(&answer));
        end.held = Some(answer["succeeded"] == json!(true));
        if end.held == Some(true) {
            end.mods = vec![0; steps.len()];
            let mut steps = steps;
            for (at, step) in steps.iter_mut().enumerate() {
                end.mods[at] = self.learn(step, &answer["responses"][at]);
            }
            end.value = Value::from(steps);
        } else if let Some((key, _)) = end.compares.first() {
            self.seen.remove(key);
        }
        let at = end.rev;
        self.scene.answer(end);
        at
    }

    /// Fills in what a step read, and says when that was written.
    fn learn(&mut self, step: &mut Value, response: &Value) -> u64 {
        let key = step[1].as_str().expect("a key").to_owned();
        let mut written = 0;
        match step[0].as_str() {
            Some("r") => {
                let found = &response["response_range"]["kvs"][0];
                written = number(&found["mod_revision"]);
                step[2] = match written {
                    0 => Value::Null,
                    _ => register(found),
                };
            }
            // One that found nothing has no revision of its own: it has read that nothing is there.
            Some("d") if number(&response["response_delete_range"]["deleted"]) == 0 => {
                *step = json!(["r", key, null]);
            }
            _ => {}
        }
        let now = match step[0].as_str() {
            Some("d") => Value::Null,
            _ => step[2].clone(),
        };
        self.seen.insert(key, now);
        written
    }

    /// Reads lists, and writes them back with what is appended if none was changed meanwhile.
    fn append(&mut self, keys: &[&str], mut steps: Vec<Value>) -> Option<u64> {
        let begin = self.line(&steps);
        self.scene.recorder.write(begin.clone());
        let gets = keys.iter().map(|key| operation(&json!(["r", key])));
        let read = self.ask("kv/txn", &json!({"success": gets.collect::<Vec<Value>>()}));
        let Ok(read) = read else {
            self.end(&begin, Type::Fail, "it wasn't read".to_owned());
            self.at += 1;
            pause();
            return None;
        };
        let (mut compares, mut puts) = (Vec::new(), Vec::new());
        for (at, (key, step)) in keys.iter().zip(&mut steps).enumerate() {
            let found = &read["responses"][at]["response_range"]["kvs"][0];
            let text = decode(&found["value"]);
            let changed = number(&found["mod_revision"]).to_string();
            compares.push(json!({"key": encode(key), "target": "MOD", "mod_revision": changed}));
            if step[0] == "append" {
                let text = format!("{text}{},", step[2]);
                puts.push(json!({"request_put": {"key": encode(key), "value": encode(&text)}}));
            } else {
                step[2] = list(&text);
            }
        }
        let mut end = begin.clone();
        end.rev = Some(revision(&read));
        if !puts.is_empty() {
            let body = json!({"compare": compares, "success": puts});
            let answer = self.ask("kv/txn", &body);
            let answer = self.answered(&begin, answer)?;
            if answer["succeeded"] != json!(true) {
                self.end(&begin, Type::Fail, "somebody was faster".to_owned());
                return None;
            }
            end.rev = Some(revision(&answer));
        }
        end.kind = Type::Ok;
        end.value = Value::from(steps);
        let at = end.rev;
        self.scene.answer(end);
        at
    }

    fn line(&self, steps: &[Value]) -> Line {
        let by = Process::Client(self.process);
        line(Type::Invoke, by, "txn", Value::from(steps.to_vec()))
    }

    fn ask(&mut self, path: &str, body: &Value) -> Result<Value, Failed> {
        let at = self.at % self.members.len();
        self.members[at].call(path, body)
    }

    /// An answer, or the end of the operation that has none.
    fn answered(&mut self, begin: &Line, answer: Result<Value, Failed>) -> Option<Value> {
        let steps = begin.value.as_array().map_or(&[][..], |steps| steps);
        let reads = steps.iter().all(|step| step[0] == "r");
        match answer {
            Ok(answer) => return Some(answer),
            Err(Failed::Never(why)) => self.end(begin, Type::Fail, why),
            // What only reads changes nothing.
            Err(Failed::Unknown(why)) if reads => self.end(begin, Type::Fail, why),
            Err(Failed::Unknown(why)) => {
                self.end(begin, Type::Info, why);
                self.process = self.scene.number();
            }
        }
        self.at += 1;
        pause();
        None
    }

    fn end(&self, begin: &Line, kind: Type, why: String) {
        self.scene.recorder.write(Line {
            kind,
            error: Some(why),
            ..begin.clone()
        });
    }
}

fn compare((key, value): &(String, Value)) -> Value {
    match value {
        Value::Null => json!({"key": encode(key), "target": "VERSION", "version": "0"}),
        value => {
            json!({"key": encode(key), "target": "VALUE", "value": encode(&value.to_string())})
        }
    }
}

fn operation(step: &Value) -> Value {
    let key = encode(step[1].as_str().expect("a key"));
    match step[0].as_str() {
        Some("r") => json!({"request_range": {"key": key}}),
        Some("w") => {
            json!({"request_put": {"key": key, "value": encode(&step[2].to_string())}})
        }
        _ => json!({"request_delete_range": {"key": key}}),
    }
}

/// A list's elements.
fn list(text: &str) -> Value {
    let elements = text.split_terminator(',');
    let elements = elements.map(|element| element.parse::<u64>().expect("a number"));
    Value::from(elements.collect::<Vec<u64>>())
}

/// The value of a register.
pub(super) fn register(found: &Value) -> Value {
    serde_json::from_str(&decode(&found["value"])).expect("a number was written")
}

/// Writes down all registers and lists that there are.
pub(super) fn read_last(scene: &Scene, gateway: &mut Gateway) {
    let read = gateway.must("kv/range", &range("/"));
    let found = read["kvs"].as_array().into_iter().flatten();
    let entry = |found: &Value| {
        let changed = number(&found["mod_revision"]);
        let key = decode(&found["key"]);
        let value = match key.starts_with(REGISTERS) {
            true => register(found),
            false => list(&decode(&found["value"])),
        };
        json!([key, value, changed])
    };
    let state: Vec<Value> = found.map(entry).collect();
    let by = Process::Other("harness".to_owned());
    let mut line = line(Type::Ok, by, "final", Value::from(state));
    line.rev = Some(revision(&read));
    scene.recorder.write(line);
}
