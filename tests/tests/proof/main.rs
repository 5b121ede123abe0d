//! Real processes under fire, and all that clients were told held against one order (`caucus-history`).
//!
//! ```text
//!  clients: registers, compares, lists, many keys at once ─┐
//!  watchers, who come back at another node ────────────────┼─▶ Recorder ─▶ all checkers
//!  lockers: a token, and a step that is guarded by it ─────┘        ▲
//!  nemesis: kill -9, SIGSTOP, of one node or of all ────────────────┘
//! ```
//!
//! A run that fails leaves its history in `target/tmp`.

mod clients;
mod lockers;
mod nemesis;
mod watchers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use caucus_history::history::{Process, Type};
use caucus_history::record::line;
use caucus_history::{History, Recorder};
use caucus_tests::wait::wait_for;
use caucus_tests::{Cluster, Options, kv};
use serde_json::{Value, json};

use nemesis::Fault;

const LIMIT: Duration = Duration::from_secs(90);
const CLIENTS: u64 = 6;
const LOCKERS: u64 = 2;

/// What a client of any kind needs.
struct Scene {
    recorder: Recorder,
    addresses: Vec<String>,
    over: AtomicBool,
    /// Numbers for clients: after an unknown outcome one goes on under another.
    processes: AtomicU64,
    /// Values that were never used.
    values: AtomicU64,
}

impl Scene {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    fn say(&self, kind: Type, by: &str, f: &str, value: Value) {
        let by = Process::Other(by.to_owned());
        self.recorder.write(line(kind, by, f, value));
    }
}

fn run(seed: u64, faults: &[Fault]) {
    let mut cluster = Cluster::start(Options::nodes(3));
    let scene = Arc::new(Scene {
        recorder: Recorder::new(),
        addresses: cluster.nodes().map(|node| cluster.address(node)).collect(),
        over: AtomicBool::new(false),
        processes: AtomicU64::new(0),
        values: AtomicU64::new(1),
    });
    let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
    let header = json!({
        "seed": seed, "nodes": 3, "nemesis": names,
        "least": {"all": 500, "during": 1, "after": 50},
    });
    scene.say(Type::Info, "harness", "header", header);
    let spawn = |work: Box<dyn FnOnce(&Scene) + Send>| {
        let scene = Arc::clone(&scene);
        std::thread::spawn(move || work(&scene))
    };
    let mut actors: Vec<JoinHandle<()>> = Vec::new();
    for n in 0..CLIENTS {
        actors.push(spawn(Box::new(move |scene| clients::play(scene, seed, n))));
    }
    for n in 0..LOCKERS {
        actors.push(spawn(Box::new(move |scene| lockers::play(scene, n))));
    }
    let until = Arc::new(AtomicU64::new(0));
    let mut watchers: Vec<JoinHandle<()>> = Vec::new();
    for (n, prefix) in ["/p/", "/p/0/", "/p/"].into_iter().enumerate() {
        let until = Arc::clone(&until);
        watchers.push(spawn(Box::new(move |scene| {
            watchers::watch(scene, n, prefix, &until);
        })));
    }
    let progress = || scene.recorder.count("txn", Type::Ok);
    nemesis::play(&mut cluster, &scene, seed, faults, &progress);
    scene.over.store(true, Ordering::Release);
    actors.into_iter().for_each(join);
    until.store(last(&cluster, &scene), Ordering::Release);
    watchers.into_iter().for_each(join);
    judge(&scene.recorder.history(), seed);
}

#[track_caller]
fn join(actor: JoinHandle<()>) {
    if let Err(panic) = actor.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Reads all that there is in the end; the revision of a last write, which the watchers wait for.
fn last(cluster: &Cluster, scene: &Scene) -> u64 {
    let mut client = cluster.client(1);
    let mut closing = clients::Client::new(scene, 0);
    let closed = wait_for("a last write", LIMIT, || closing.write_last());
    let body = json!({"then": [{"get": {"prefix": "/p/"}}]});
    let (_, read) = wait_for("the last state", LIMIT, || {
        kv::txn(&mut client, &body).filter(|(status, _)| *status == 200)
    });
    let items = read["results"][0]["get"]["items"]
        .as_array()
        .expect("items");
    let state: Vec<Value> = items
        .iter()
        .map(|item| json!([item["key"], clients::read_value(item), item["revision"]]))
        .collect();
    let mut line = line(
        Type::Ok,
        Process::Other("harness".to_owned()),
        "final",
        Value::from(state),
    );
    line.rev = read["revision"].as_u64();
    scene.recorder.write(line);
    closed
}

fn judge(history: &History, seed: u64) {
    let replayed = caucus_history::replay::check(history);
    let found = caucus_history::check(history);
    eprintln!(
        "seed {seed}: {} lines, {} answers checked, {} unknown writes that happened",
        history.lines.len(),
        replayed.checked,
        replayed.placed
    );
    if found.is_empty() {
        return;
    }
    let file =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("proof-{seed}.jsonl"));
    std::fs::write(&file, history.to_text()).expect("the history is kept");
    let shown: Vec<String> = found.iter().take(20).map(ToString::to_string).collect();
    panic!(
        "{} violations, in {}:\n{}",
        found.len(),
        file.display(),
        shown.join("\n")
    );
}

#[test]
fn nodes_are_killed() {
    run(1, &[Fault::Kill, Fault::Kill, Fault::Kill]);
}

#[test]
fn nodes_are_stopped() {
    run(2, &[Fault::Pause, Fault::Pause, Fault::Pause]);
}

#[test]
fn all_nodes_are_killed_at_once() {
    run(3, &[Fault::KillAll, Fault::Kill, Fault::Pause]);
}
