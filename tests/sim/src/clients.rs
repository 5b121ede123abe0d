//! Clients that write, read and compare keys of many groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::answer::Answer;
use caucus_api::shard::change::By;
use caucus_api::shard::compare::Target;
use caucus_api::shard::operation::Operation as Op;
use caucus_api::shard::{Change, Compare, Item, Operation, Place, RangeRead, Record, Remove, Txn};
use caucus_history::history::{Line, Process, Type};
use caucus_history::record::line;
use caucus_router::{Outcome, RequestName, Router, Transacted};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::plan::Plan;
use crate::scene::{Scene, deadline, does, one, only, put};

/// Registers, and lists, of a directory.
const KEYS: u64 = 2;
/// A request with a name is sent again so often while its outcome isn't known.
const ATTEMPTS_MAX: usize = 4;

pub(crate) struct Client {
    scene: Arc<Scene>,
    router: Router,
    process: u64,
    random: fastrand::Rng,
    /// What was read last of each register.
    seen: BTreeMap<String, Value>,
}

/// How a request ended.
enum Ended {
    Answer(Transacted),
    NotApplied(String),
    Unknown(String),
}

/// What a record holds: a register's number, or a list's elements.
pub(crate) fn read_value(key: &str, record: Option<&Record>) -> Value {
    let Some(record) = record else {
        return Value::Null;
    };
    let text = std::str::from_utf8(&record.value).expect("ours");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    if is_list(key) {
        let elements = text.split_terminator(',').map(number);
        return Value::from(elements.collect::<Vec<u64>>());
    }
    Value::from(number(text))
}

/// An item of a listing as histories have it: key, value, revision of its last change.
pub(crate) fn shown(item: &Item) -> Value {
    let key = std::str::from_utf8(&item.key).expect("ours");
    let record = item.record.as_ref();
    let changed = record.map_or(0, |record| record.mod_revision);
    json!([key, read_value(key, record), changed])
}

/// Any register.
pub(crate) fn register(plan: &Plan, random: &mut fastrand::Rng) -> String {
    key(plan, random, 'r')
}

fn key(plan: &Plan, random: &mut fastrand::Rng, kind: char) -> String {
    let directory = random.u64(0..plan.directories);
    format!("/p/{directory}/{kind}{}", random.u64(0..KEYS))
}

/// Lists are named `l…`.
pub(crate) fn is_list(key: &str) -> bool {
    let name = key.rsplit('/').next();
    name.is_some_and(|name| name.starts_with('l'))
}

impl Client {
    pub(crate) fn new(scene: &Arc<Scene>, router: &Router) -> Client {
        let process = scene.process();
        Client {
            scene: scene.clone(),
            router: router.clone(),
            process,
            random: fastrand::Rng::with_seed(scene.plan.seed ^ (process + 1) << 32),
            seen: BTreeMap::new(),
        }
    }

    /// Works until the clients' time is over.
    pub(crate) async fn play(mut self) {
        while !self.scene.is_over() {
            let pause = self.random.u64(0..self.scene.plan.think_max);
            sleep(Duration::from_millis(pause)).await;
            if self.scene.is_over() {
                return;
            }
            self.act().await;
        }
    }

    fn key(&mut self, kind: char) -> String {
        key(&self.scene.plan, &mut self.random, kind)
    }

    /// Two different keys.
    fn two(&mut self, kind: char) -> [String; 2] {
        let first = self.key(kind);
        loop {
            let second = self.key(kind);
            if second != first {
                return [first, second];
            }
        }
    }

    async fn act(&mut self) {
        let value = Value::from(self.scene.value());
        let steps = match self.random.u8(0..14) {
            0..=2 => vec![json!(["w", self.key('r'), value])],
            3 | 12 => vec![json!(["r", self.key('r'), null])],
            4 | 5 => {
                let key = self.key('r');
                let expected = self.seen.get(&key).cloned().unwrap_or(Value::Null);
                let compares = vec![(key.clone(), expected)];
                self.run(compares, vec![json!(["w", key, value])]).await;
                return;
            }
            6 | 7 => {
                let [one, other] = self.two('r');
                vec![
                    json!(["r", self.key('r'), null]),
                    json!(["w", one, value]),
                    json!(["w", other, value]),
                ]
            }
            8 => {
                let [one, other] = self.two('l');
                vec![
                    json!(["append", one, value]),
                    json!(["append", other, value]),
                    json!(["r", self.key('l'), null]),
                ]
            }
            9 | 13 => {
                let [one, other] = self.two('r');
                vec![json!(["r", one, null]), json!(["r", other, null])]
            }
            10 => {
                let [one, other] = self.two('l');
                vec![json!(["r", one, null]), json!(["r", other, null])]
            }
            _ => vec![json!(["d", self.key('r')])],
        };
        self.run(Vec::new(), steps).await;
    }

    /// A write that all watchers see; its revision, if it was answered.
    pub(crate) async fn write_last(&mut self) -> Option<u64> {
        let value = self.scene.value();
        self.run(Vec::new(), vec![json!(["w", "/p/0/r0", value])])
            .await
    }

    /// Does something, and writes down what came of it; the revision, if it was answered.
    async fn run(&mut self, compares: Vec<(String, Value)>, steps: Vec<Value>) -> Option<u64> {
        let number = self.scene.value();
        let name = format!("op-{number}");
        // Some have no name, and so an outcome that nobody knows when an answer is lost.
        let named = !number.is_multiple_of(3) && steps.iter().any(|step| step[0] != "r");
        let client = Process::Client(self.process);
        let mut begin = line(Type::Invoke, client, "txn", Value::from(steps.clone()));
        begin.compares = compares.clone();
        begin.idem = named.then(|| name.clone());
        self.scene.write(begin.clone());
        let txn = Txn {
            compares: compares.iter().map(compare).collect(),
            ..only(steps.iter().map(step).collect())
        };
        match self.ask(&txn, named.then_some(&name[..])).await {
            Ended::Answer(answer) => {
                let mut end = begin;
                end.kind = Type::Ok;
                self.fill(&mut end, steps, &answer);
                let revision = end.rev;
                self.scene.write(end);
                revision
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
        self.scene.write(Line {
            kind,
            error: Some(why),
            ..begin
        });
    }

    /// What was answered.
    fn fill(&mut self, end: &mut Line, mut steps: Vec<Value>, answer: &Transacted) {
        end.rev = Some(answer.done.revision);
        let held = answer.done.path.first() == Some(&true);
        end.held = Some(held);
        if !held {
            // Somebody has changed it: it is read next time.
            if let Some((key, _)) = end.compares.first() {
                self.seen.remove(key);
            }
        } else {
            for (step, answer) in steps.iter_mut().zip(&answer.done.answers) {
                let key = step[1].as_str().expect("a key").to_owned();
                let mut changed = 0;
                if step[0] == "r" {
                    let record = first(answer.answer.as_ref());
                    changed = record.map_or(0, |record| record.mod_revision);
                    step[2] = read_value(&key, record);
                }
                if step[0] == "r" || step[0] == "w" {
                    self.seen.insert(key, step[2].clone());
                }
                end.mods.push(changed);
            }
        }
        end.value = Value::from(steps);
    }

    async fn ask(&self, txn: &Txn, name: Option<&str>) -> Ended {
        let mut unknown = None;
        for _ in 0..ATTEMPTS_MAX {
            let named = name.map(|name| request_name(txn, name));
            let sent = self.router.txn_named(txn.clone(), named, deadline()).await;
            match sent {
                // It has happened; what it read isn't known any more.
                Ok(answer) if answer.done.forgotten => {
                    return Ended::Unknown("what it read is forgotten".to_owned());
                }
                Ok(answer) => match &answer.done.problem {
                    None => return Ended::Answer(answer),
                    Some(problem) => return Ended::NotApplied(format!("{problem:?}")),
                },
                Err(error) if error.outcome == Outcome::NotApplied => {
                    if unknown.is_none() {
                        return Ended::NotApplied(error.to_string());
                    }
                }
                Err(error) if error.outcome == Outcome::Read => {
                    return Ended::NotApplied(error.to_string());
                }
                Err(error) => unknown = Some(error.to_string()),
            }
            sleep(Duration::from_millis(100)).await;
            // Without a name it isn't sent again.
            if name.is_none() {
                break;
            }
        }
        Ended::Unknown(unknown.unwrap_or_default())
    }
}

fn request_name(txn: &Txn, name: &str) -> RequestName {
    let keys = txn.then.iter().filter_map(|operation| {
        let span = match operation.operation.as_ref()? {
            Op::Range(read) => &read.span.as_ref()?.start,
            Op::Place(place) => &place.key,
            Op::Remove(remove) => &remove.span.as_ref()?.start,
            Op::Change(change) => &change.key,
            Op::Txn(_) | Op::Lease(_) | Op::Sequence(_) => return None,
        };
        Some(span.clone())
    });
    let compared = txn.compares.iter();
    let compared = compared.filter_map(|compare| Some(compare.span.as_ref()?.start.clone()));
    let home = keys.chain(compared).min().unwrap_or_default();
    RequestName::new(&[b"sim", &home], name.as_bytes(), &[&txn.encode_to_vec()])
}

fn first(answer: Option<&Answer>) -> Option<&Record> {
    match answer {
        Some(Answer::Ranged(ranged)) => ranged.items.first()?.record.as_ref(),
        _ => None,
    }
}

fn compare((key, value): &(String, Value)) -> Compare {
    let target = match value {
        Value::Null => Target::Version(0),
        value => Target::Value(value.to_string().into()),
    };
    Compare {
        span: one(key),
        target: Some(target),
        ..Compare::default()
    }
}

fn step(step: &Value) -> Operation {
    let key = step[1].as_str().expect("a key");
    let bytes = Bytes::copy_from_slice(key.as_bytes());
    does(match step[0].as_str() {
        Some("r") => Op::Range(RangeRead {
            span: one(key),
            ..RangeRead::default()
        }),
        Some("w") => Op::Place(Place {
            key: bytes,
            put: put(&step[2].to_string()),
            ..Place::default()
        }),
        Some("d") => Op::Remove(Remove {
            span: one(key),
            ..Remove::default()
        }),
        _ => Op::Change(Change {
            key: bytes,
            by: Some(By::Append(format!("{},", step[2]).into())),
            ..Change::default()
        }),
    })
}
