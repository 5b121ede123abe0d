//! The form of a history: lines of JSON, as Jepsen's.
//!
//! ```json
//! {"index":8,"time":1200,"type":"invoke","process":3,"f":"txn","value":[["w","/a/k",41],["r","/b/k",null]]}
//! {"index":9,"time":1300,"type":"ok","process":3,"f":"txn","value":[["w","/a/k",41],["r","/b/k",7]],"rev":88,"mods":[0,61]}
//! ```
//!
//! `time` is of one clock, in ns. `ok`: it was answered; `fail`: it certainly didn't happen; `info`, or no second
//! line: nobody knows. Steps: `r` reads, `w` writes, `d` deletes, `append` appends to a list. `if` holds compares,
//! `[key, value]` each, null for a key that isn't there, and `held` says whether all held; if not, no step was executed.
//! `rev` is the revision of the answer, and `mods` says for each step that read when its value was written.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// A client begins.
    Invoke,
    /// It was answered.
    Ok,
    /// It certainly has not happened.
    Fail,
    /// Nobody knows; or something that isn't an operation.
    Info,
}

/// Who wrote a line: a client by its number, or something else by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Process {
    /// A client; after an unknown outcome it goes on under another number.
    Client(u64),
    /// `harness`, `nemesis`, …
    Other(String),
}

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Counts the lines.
    pub index: u64,
    /// In ns.
    pub time: u64,
    /// What the line is about.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Who wrote it.
    pub process: Process,
    /// What is done.
    pub f: String,
    /// With what; what came of it.
    #[serde(default)]
    pub value: Value,
    /// Compares that all have to hold.
    #[serde(rename = "if", default, skip_serializing_if = "Vec::is_empty")]
    pub compares: Vec<(String, Value)>,
    /// Whether they held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
    /// The revision of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<u64>,
    /// When what each step read was written; 0: it read nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mods: Vec<u64>,
    /// The name that the client gave the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idem: Option<String>,
    /// It may have been answered from the past.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// Why it failed, or isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A step of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Reads a key; what it read, null for nothing.
    Read(String, Value),
    /// Writes it.
    Write(String, Value),
    /// Removes it.
    Delete(String),
    /// Appends to a list.
    Append(String, Value),
}

impl Step {
    /// The key.
    pub fn key(&self) -> &str {
        match self {
            Step::Read(key, _) | Step::Write(key, _) | Step::Delete(key) | Step::Append(key, _) => {
                key
            }
        }
    }

    /// Whether it changes something.
    pub fn writes(&self) -> bool {
        !matches!(self, Step::Read(..))
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// It certainly has not happened.
    Fail,
    /// Nobody knows.
    Unknown,
}

/// A transaction of a client, from its beginning to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// The line of its end, or of its beginning if it has none.
    pub index: u64,
    /// When it began.
    pub begun: u64,
    /// When it ended; never, if its outcome isn't known: it may happen yet.
    pub ended: u64,
    /// How.
    pub outcome: Outcome,
    /// What it compared.
    pub compares: Vec<(String, Value)>,
    /// Whether that held; `true` if it compared nothing.
    pub held: bool,
    /// Its steps, with what was read if it was answered.
    pub steps: Vec<Step>,
    /// The revision of the answer; 0: there is none.
    pub rev: u64,
    /// As in [`Line::mods`].
    pub mods: Vec<u64>,
    /// As in [`Line::idem`].
    pub idem: Option<String>,
    /// As in [`Line::stale`].
    pub stale: bool,
}

impl Operation {
    /// Whether it changes something, if it happens.
    pub fn writes(&self) -> bool {
        self.held && self.steps.iter().any(Step::writes)
    }
}

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read as one.
    #[error("line {0}: {1}")]
    Malformed(usize, String),
}

/// What clients did and were told.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In their order.
    pub lines: Vec<Line>,
}

impl History {
    /// Reads lines of JSON.
    ///
    /// # Errors
    ///
    /// The first line that is none of a history, or of an operation that makes no sense.
    pub fn parse(text: &str) -> Result<History, Error> {
        let mut lines: Vec<Line> = Vec::new();
        for (at, text) in text.lines().enumerate() {
            if text.trim().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_str(text)
                .map_err(|error| Error::Malformed(at + 1, error.to_string()))?;
            if lines
                .last()
                .is_some_and(|last| last.index >= line.index || last.time > line.time)
            {
                return Err(Error::Malformed(at + 1, "out of order".to_owned()));
            }
            if line.f == "txn" && steps(&line.value).is_none() {
                return Err(Error::Malformed(at + 1, "an unknown step".to_owned()));
            }
            lines.push(line);
        }
        Ok(History { lines })
    }

    /// Lines of JSON.
    pub fn to_text(&self) -> String {
        let lines = self.lines.iter();
        let line = |line| serde_json::to_string(line).unwrap_or_default() + "\n";
        lines.map(line).collect()
    }

    /// The lines of something else than transactions.
    pub fn of<'h>(&'h self, f: &'h str) -> impl Iterator<Item = &'h Line> {
        self.lines.iter().filter(move |line| line.f == f)
    }

    /// The transactions, in the order of their beginnings.
    pub fn operations(&self) -> Vec<Operation> {
        let mut all: Vec<Operation> = Vec::new();
        let mut open: HashMap<&Process, usize> = HashMap::new();
        for line in self.of("txn") {
            if line.kind == Type::Invoke {
                open.insert(&line.process, all.len());
                all.push(Operation {
                    index: line.index,
                    begun: line.time,
                    ended: u64::MAX,
                    outcome: Outcome::Unknown,
                    compares: line.compares.clone(),
                    held: true,
                    steps: steps(&line.value).unwrap_or_default(),
                    rev: 0,
                    mods: Vec::new(),
                    idem: line.idem.clone(),
                    stale: line.stale,
                });
                continue;
            }
            let Some(at) = open.remove(&line.process) else {
                continue;
            };
            let operation = &mut all[at];
            operation.index = line.index;
            match line.kind {
                Type::Ok => {
                    operation.outcome = Outcome::Ok;
                    operation.ended = line.time;
                    operation.held = line.held.unwrap_or(true);
                    operation.steps = steps(&line.value).unwrap_or_default();
                    operation.rev = line.rev.unwrap_or(0);
                    operation.mods = line.mods.clone();
                }
                Type::Fail => {
                    operation.outcome = Outcome::Fail;
                    operation.ended = line.time;
                }
                Type::Invoke | Type::Info => {}
            }
        }
        all
    }
}

fn steps(value: &Value) -> Option<Vec<Step>> {
    let steps = value.as_array()?.iter().map(|step| {
        let step = step.as_array()?;
        let key = step.get(1)?.as_str()?.to_owned();
        let value = step.get(2).cloned().unwrap_or(Value::Null);
        Some(match step.first()?.as_str()? {
            "r" => Step::Read(key, value),
            "w" => Step::Write(key, value),
            "d" => Step::Delete(key),
            "append" => Step::Append(key, value),
            _ => return None,
        })
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_paired_by_their_process() {
        let text = r#"
{"index":0,"time":0,"type":"info","process":"harness","f":"header","value":{"seed":7}}
{"index":1,"time":10,"type":"invoke","process":3,"f":"txn","value":[["w","/a",1]],"if":[["/a",null]]}
{"index":2,"time":11,"type":"invoke","process":4,"f":"txn","value":[["r","/a",null]]}
{"index":3,"time":12,"type":"ok","process":4,"f":"txn","value":[["r","/a",1]],"rev":5,"mods":[5]}
{"index":4,"time":13,"type":"info","process":3,"f":"txn","value":[["w","/a",1]],"error":"timeout"}
"#;
        let history = History::parse(text).expect("a history");
        let operations = history.operations();
        assert_eq!(operations.len(), 2);
        let (first, second) = (&operations[0], &operations[1]);
        assert_eq!((first.outcome, first.ended), (Outcome::Unknown, u64::MAX));
        assert_eq!(first.compares, [("/a".to_owned(), Value::Null)]);
        assert_eq!((second.begun, second.ended, second.rev), (11, 12, 5));
        let again = History::parse(&history.to_text()).expect("a history");
        assert_eq!(again.lines, history.lines);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "{}",
            r#"{"index":0,"time":0,"type":"ok","process":1,"f":"txn","value":[["x","/a"]]}"#,
            "{\"index\":1,\"time\":0,\"type\":\"info\",\"process\":1,\"f\":\"a\"}\n{\"index\":1,\"time\":0,\"type\":\"info\",\"process\":1,\"f\":\"a\"}",
        ] {
            assert!(History::parse(text).is_err(), "{text}");
        }
    }
}
