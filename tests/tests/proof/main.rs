//! Real processes under fire, and all that clients were told held against one order (`caucus-history`).
//!
//! ```text
//!  registers, compares, lists, many keys at once ──────────┐
//!  bank, sets, counters, causal pairs, leases ─────────────┤
//!  watchers, who come back at another node ────────────────┼─▶ Recorder ─▶ all checkers
//!  lockers: a token, and a step that is guarded by it ─────┤        ▲
//!  nemesis: processes, network, disks, clocks ─────────────┘        │
//!  ending: healed, all agree, nothing is left behind ───────────────┘
//! ```
//!
//! A run that fails leaves its history in `target/tmp`.

mod bank;
mod causal;
mod client;
mod counters;
mod ending;
mod faults;
mod leases;
mod lockers;
mod nemesis;
mod registers;
mod scene;
mod sets;
mod soak;
mod watchers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use caucus_history::history::Type;
use caucus_tests::random::Random;
use caucus_tests::say_skipped;
use caucus_tests::servers::Servers;
use serde_json::json;

use nemesis::{Fault, Nemesis};
use scene::Scene;

const LIMIT: Duration = Duration::from_secs(90);
const NODES: u32 = 3;
const CLIENTS: u64 = 4;
const RUN: Duration = Duration::from_secs(60);

/// What a run did.
struct Report {
    answers: usize,
    faults: Vec<Fault>,
}

fn run(seed: u64, faults: &[Fault], time: Duration) -> Report {
    let mut servers = Servers::start(NODES, &settings(seed));
    let faults = possible(&servers, faults);
    let addresses = servers.nodes().map(|node| servers.address(node));
    let scene = Arc::new(Scene::new(seed, addresses.collect()));
    let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
    let header = json!({
        "seed": seed, "nodes": NODES, "nemesis": names, "effects": true,
        "least": {"all": 300, "during": 1, "after": 50},
    });
    scene.say(Type::Info, "harness", "header", header);
    let kept = Kept(Arc::clone(&scene));
    bank::open(&scene);
    let actors = actors(&scene);
    let until = Arc::new(AtomicU64::new(0));
    let watchers = watchers(&scene, &until);
    let mut nemesis = Nemesis {
        servers: &mut servers,
        scene: &scene,
        random: Random::nth(seed, 1000),
    };
    let done = nemesis.play(&faults, time);
    scene.end();
    actors.into_iter().for_each(join);
    until.store(ending::last(&servers, &scene), Ordering::Release);
    watchers.into_iter().for_each(join);
    ending::comes_to_rest(&servers);
    ending::every_key_is_free(&servers);
    let groups = ending::replicas_agree(&servers);
    ending::nodes_agree(&servers);
    eprintln!("seed {seed}: {done:?}; the replicas of {groups} groups agree");
    Report {
        answers: judge(&kept),
        faults: done,
    }
}

/// Some clusters cut their logs early, and so send snapshots to those who were away.
fn settings(seed: u64) -> String {
    match seed % 2 {
        0 => String::new(),
        _ => "[raft]\nlog_bytes_max = 1048576\nlog_bytes_kept = 65536\n".to_owned(),
    }
}

/// Keeps the history of a run that fails, however it does.
struct Kept(Arc<Scene>);

impl Kept {
    fn file(&self) -> PathBuf {
        let name = format!("proof-{}.jsonl", self.0.seed);
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (file, seed) = (self.file(), self.0.seed);
            let text = self.0.recorder.history().to_text();
            match std::fs::write(&file, text) {
                Ok(()) => eprintln!("seed {seed}: the history is in {}", file.display()),
                Err(error) => eprintln!("seed {seed}: {}: {error}", file.display()),
            }
        }
    }
}

/// Those that this machine lets happen.
fn possible(servers: &Servers, faults: &[Fault]) -> Vec<Fault> {
    let mut possible = Vec::new();
    for fault in faults {
        match fault.is_possible(servers) {
            Ok(()) => possible.push(*fault),
            Err(why) => say_skipped(&format!("{}: {why}", fault.name())),
        }
    }
    possible
}

fn spawn(scene: &Arc<Scene>, work: impl FnOnce(&Scene) + Send + 'static) -> JoinHandle<()> {
    let scene = Arc::clone(scene);
    std::thread::spawn(move || work(&scene))
}

fn actors(scene: &Arc<Scene>) -> Vec<JoinHandle<()>> {
    let mut actors: Vec<JoinHandle<()>> = Vec::new();
    for n in 0..CLIENTS {
        actors.push(spawn(scene, move |scene| registers::play(scene, n)));
    }
    for n in 0..2 {
        actors.push(spawn(scene, move |scene| lockers::play(scene, n)));
        actors.push(spawn(scene, move |scene| bank::play(scene, n)));
        actors.push(spawn(scene, move |scene| counters::play(scene, n)));
        actors.push(spawn(scene, move |scene| sets::add(scene, n)));
        actors.push(spawn(scene, move |scene| sets::look(scene, n)));
        actors.push(spawn(scene, move |scene| leases::play(scene, n)));
    }
    let pair = Arc::new(AtomicU64::new(0));
    let of_writer = Arc::clone(&pair);
    actors.push(spawn(scene, move |scene| causal::write(scene, &of_writer)));
    actors.push(spawn(scene, move |scene| causal::read(scene, &pair)));
    actors
}

fn watchers(scene: &Arc<Scene>, until: &Arc<AtomicU64>) -> Vec<JoinHandle<()>> {
    let prefixes = ["/p/", "/p/0/", "/p/"].into_iter().enumerate();
    let watchers = prefixes.map(|(n, prefix)| {
        let until = Arc::clone(until);
        spawn(scene, move |scene| {
            watchers::watch(scene, n, prefix, &until)
        })
    });
    watchers.collect()
}

#[track_caller]
fn join(actor: JoinHandle<()>) {
    if let Err(panic) = actor.join() {
        std::panic::resume_unwind(panic);
    }
}

/// How many answers were checked; panics if one of them can't be.
fn judge(kept: &Kept) -> usize {
    let (history, seed) = (kept.0.recorder.history(), kept.0.seed);
    let replayed = caucus_history::replay::check(&history);
    let found = caucus_history::check(&history);
    eprintln!(
        "seed {seed}: {} lines, {} answers checked, {} unknown writes that happened",
        history.lines.len(),
        replayed.checked,
        replayed.placed
    );
    if !found.is_empty() {
        let shown: Vec<String> = found.iter().take(20).map(ToString::to_string).collect();
        panic!(
            "seed {seed}: {} violations:\n{}",
            found.len(),
            shown.join("\n")
        );
    }
    replayed.checked
}

#[test]
fn nodes_are_killed_and_cut_off() {
    run(1, &[Fault::Kill, Fault::CutNode, Fault::Resets], RUN);
}

#[test]
fn nodes_are_stopped_and_not_heard() {
    run(2, &[Fault::Pause, Fault::PauseLong, Fault::Dumb], RUN);
}

#[test]
fn all_are_killed_and_disks_are_full() {
    run(3, &[Fault::KillAll, Fault::CutPair, Fault::FullDisk], RUN);
}

#[test]
fn disks_are_slow_or_fail() {
    run(4, &[Fault::SlowSync, Fault::FailSync, Fault::Kill], RUN);
}

#[test]
fn clocks_are_wrong_and_nodes_are_deaf() {
    run(5, &[Fault::ClockOff, Fault::ClockRate, Fault::Deaf], RUN);
}

#[test]
fn nodes_lose_their_data_and_the_network_is_slow() {
    run(6, &[Fault::Wipe, Fault::Delay, Fault::Kill], RUN);
}
