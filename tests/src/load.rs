//! Writers that know exactly what the cluster owes them.
//!
//! Each writer is the only one of its keys, so every answer can be judged:
//!
//! - a *counter* is written only at its known revision (`If-Match`). A refusal of that condition is
//!   right only after an attempt whose outcome is unknown; else somebody applied a write twice.
//! - a *register* is written without condition. Its version counts the writes, so it must have risen by
//!   exactly one since the last answer, but for attempts whose outcome is unknown.
//! - *records* are created once each, in many directories, so that all groups have some.
//!
//! An answer that says `not_applied` is taken at its word: such an attempt counts for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::{Answer, Client};
use crate::kv;
use crate::wait::wait_until;

const DIRECTORIES: u64 = 16;
/// A writer that finds nobody doesn't spin.
const PAUSE: Duration = Duration::from_millis(10);

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Vec<Arc<AtomicU64>>,
    writers: Vec<JoinHandle<Ledger>>,
}

impl Load {
    /// Starts writers, each at another node first.
    pub fn start(cluster: &Cluster, writers: usize) -> Load {
        let addresses: Vec<String> = cluster.nodes().map(|node| cluster.address(node)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Vec<_> = (0..writers).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let start = |(number, count): (usize, &Arc<AtomicU64>)| {
            let mut writer = Writer::new(number, addresses.clone(), Arc::clone(count));
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    writer.round();
                }
                writer.ledger
            })
        };
        let writers = acknowledged.iter().enumerate().map(start).collect();
        Load {
            stop,
            acknowledged,
            writers,
        }
    }

    /// Waits until each writer has had so many more acknowledgements.
    pub fn await_progress(&self, more: u64, limit: Duration) {
        let now = || {
            self.acknowledged
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
        };
        let goal: Vec<u64> = now().map(|count| count + more).collect();
        wait_until(&format!("{more} more writes of each writer"), limit, || {
            now().zip(&goal).all(|(count, goal)| count >= *goal)
        });
    }

    /// Ends the load; what the cluster owes now.
    pub fn finish(mut self) -> Vec<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        let writers = std::mem::take(&mut self.writers);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer doesn't panic"))
            .collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What one writer was told, and so what must be found.
#[derive(Debug, Default)]
pub struct Ledger {
    counter: Owed,
    register: Owed,
    records: Vec<String>,
    violations: Vec<String>,
}

/// A key that was written many times.
#[derive(Debug, Default, Clone)]
struct Owed {
    key: String,
    /// The last acknowledged value; 0: none.
    value: u64,
    /// Version and revision that came with it.
    version: u64,
    revision: u64,
    /// Attempts since then whose outcome is unknown.
    unknown: u64,
}

impl Ledger {
    /// Panics unless the node has everything that was acknowledged, and nothing twice.
    pub fn check(&self, client: &mut Client, who: &str) {
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
        assert!(
            self.counter.value > 0 && !self.records.is_empty(),
            "the load did nothing"
        );
        let (value, version) = stored(client, &self.counter.key, who);
        let most = self.counter.value + self.counter.unknown.min(1);
        assert!(
            (self.counter.value..=most).contains(&value) && version == value,
            "{who}: counter is {value} at version {version}, owed {:?}",
            self.counter
        );
        let (value, version) = stored(client, &self.register.key, who);
        let most = self.register.version + self.register.unknown;
        // An attempt whose outcome is unknown may take effect late, over a newer value.
        let right = value == self.register.value || self.register.unknown > 0;
        assert!(
            right && (self.register.version..=most).contains(&version),
            "{who}: register is {value} at version {version}, owed {:?}",
            self.register
        );
        for key in &self.records {
            let (_, version) = stored(client, key, who);
            assert_eq!(version, 1, "{who}: {key} was created twice");
        }
    }
}

fn stored(client: &mut Client, key: &str, who: &str) -> (u64, u64) {
    let found = kv::get(client, key).unwrap_or_else(|| panic!("{who}: {key} is lost"));
    (number(&found, "value"), number(&found, "version"))
}

fn number(answer: &Value, field: &str) -> u64 {
    answer[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no number `{field}` in {answer}"))
}

/// What an attempt came to.
enum Outcome {
    Done(Value),
    ConditionFailed,
    NotApplied,
    Unknown,
}

struct Writer {
    number: usize,
    addresses: Vec<String>,
    at: usize,
    client: Client,
    acknowledged: Arc<AtomicU64>,
    created: u64,
    creating_unknown: bool,
    ledger: Ledger,
}

impl Writer {
    fn new(number: usize, addresses: Vec<String>, acknowledged: Arc<AtomicU64>) -> Writer {
        let at = number % addresses.len();
        let owed = |name: &str| Owed {
            key: format!("/{name}/w{number}/key"),
            ..Owed::default()
        };
        Writer {
            number,
            client: Client::new(&addresses[at]),
            addresses,
            at,
            acknowledged,
            created: 0,
            creating_unknown: false,
            ledger: Ledger {
                counter: owed("counters"),
                register: owed("registers"),
                ..Ledger::default()
            },
        }
    }

    fn round(&mut self) {
        self.count();
        self.set();
        self.create();
    }

    fn count(&mut self) {
        let owed = self.ledger.counter.clone();
        let next = owed.value + 1;
        let revision = format!("\"{}\"", owed.revision);
        let condition = match owed.value {
            0 => ("if-none-match", "*"),
            _ => ("if-match", revision.as_str()),
        };
        match self.attempt(&owed.key, next, &[condition]) {
            Outcome::Done(answer) => self.counted(next, &answer),
            Outcome::NotApplied => {}
            Outcome::Unknown => self.ledger.counter.unknown += 1,
            Outcome::ConditionFailed if owed.unknown == 0 => {
                self.violation(format!(
                    "{}: refused at {revision}, only we write it",
                    owed.key
                ));
            }
            // The unknown attempt was applied after all.
            Outcome::ConditionFailed => {
                if let Some(found) = self.look(&owed.key) {
                    match number(&found, "value") == next {
                        true => self.counted(next, &found),
                        false => self.violation(format!("{}: {found} instead of {next}", owed.key)),
                    }
                }
            }
        }
    }

    fn counted(&mut self, value: u64, answer: &Value) {
        let (version, revision) = (number(answer, "version"), number(answer, "revision"));
        if version != value || revision <= self.ledger.counter.revision {
            self.violation(format!(
                "counter {value}: {answer} after {:?}",
                self.ledger.counter
            ));
        }
        let counter = &mut self.ledger.counter;
        (counter.value, counter.version, counter.revision) = (value, version, revision);
        counter.unknown = 0;
        self.acknowledge();
    }

    fn set(&mut self) {
        let owed = self.ledger.register.clone();
        let next = owed.value + owed.unknown + 1;
        match self.attempt(&owed.key, next, &[]) {
            Outcome::Done(answer) => {
                let version = number(&answer, "version");
                let most = owed.version + owed.unknown + 1;
                if !(owed.version + 1..=most).contains(&version) {
                    self.violation(format!("{answer} after {owed:?}"));
                }
                let register = &mut self.ledger.register;
                (register.value, register.version) = (next, version);
                // Those that the version doesn't count may still come.
                register.unknown = most - version;
                self.acknowledge();
            }
            Outcome::NotApplied => {}
            Outcome::Unknown => self.ledger.register.unknown += 1,
            Outcome::ConditionFailed => self.violation(format!("{}: no condition", owed.key)),
        }
    }

    fn create(&mut self) {
        let (number, created) = (self.number, self.created);
        let key = format!("/records-{number}/{}/r{created}", created % DIRECTORIES);
        match self.attempt(&key, created, &[("if-none-match", "*")]) {
            Outcome::NotApplied => {}
            Outcome::Unknown => self.creating_unknown = true,
            Outcome::ConditionFailed if !self.creating_unknown => {
                self.violation(format!("{key}: exists, only we create it"));
                self.created += 1;
            }
            Outcome::Done(_) | Outcome::ConditionFailed => {
                self.ledger.records.push(key);
                self.created += 1;
                self.creating_unknown = false;
                self.acknowledge();
            }
        }
    }

    fn attempt(&mut self, key: &str, value: u64, condition: &[(&str, &str)]) -> Outcome {
        match kv::put_once(&mut self.client, key, &json!(value), condition) {
            Ok(Answer { status: 412, .. }) => Outcome::ConditionFailed,
            Ok(answer) if answer.status == 200 || answer.status == 201 => {
                Outcome::Done(answer.json())
            }
            Ok(answer) if answer.status >= 500 => {
                self.elsewhere();
                match answer.json()["outcome"].as_str() {
                    Some("not_applied") => Outcome::NotApplied,
                    Some("unknown") => Outcome::Unknown,
                    _ => {
                        self.violation(format!("{key}: no outcome in {}", answer.text()));
                        Outcome::Unknown
                    }
                }
            }
            Ok(answer) => {
                self.violation(format!("{key}: {} {}", answer.status, answer.text()));
                Outcome::Unknown
            }
            Err(_) => {
                self.elsewhere();
                Outcome::Unknown
            }
        }
    }

    fn look(&mut self, key: &str) -> Option<Value> {
        let answer = self.client.request("GET", &kv::path(key), &[], b"");
        match answer {
            Ok(answer) if answer.status == 200 => Some(answer.json()),
            Ok(_) | Err(_) => {
                self.elsewhere();
                None
            }
        }
    }

    fn elsewhere(&mut self) {
        self.at = (self.at + 1) % self.addresses.len();
        self.client = Client::new(&self.addresses[self.at]);
        std::thread::sleep(PAUSE);
    }

    fn acknowledge(&mut self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn violation(&mut self, what: String) {
        self.ledger.violations.push(what);
    }
}
