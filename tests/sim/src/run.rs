//! One seed, from the first step to the verdict.

use std::panic;
use std::path::PathBuf;
use std::sync::Mutex;

use caucus_history::history::Type;
use serde_json::{Value, json};

use crate::entropy;
use crate::judge;
use crate::nemesis::Nemesis;
use crate::plan::Plan;
use crate::trace::Trace;
use crate::world::World;

/// A cluster must serve within this, in ms.
const START_LIMIT: u64 = 60_000;

/// What panicked, anywhere in the process: tasks swallow it.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What is asked of one run.
pub(crate) struct Order {
    pub(crate) seed: u64,
    /// Of the part with faults, in ms.
    pub(crate) length: u64,
    /// The bug that is planted.
    #[cfg(feature = "planted")]
    pub(crate) planted: Option<caucus_planted::Bug>,
    /// Prints all that happens.
    pub(crate) traces: bool,
    /// Where the history of a run with a violation is kept.
    pub(crate) keep: PathBuf,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) value: Value,
    pub(crate) is_ok: bool,
}

/// Runs a seed; in a thread of its own, so that all that a thread keeps begins anew.
pub(crate) fn run(order: Order) -> Report {
    entropy::seed(order.seed);
    #[cfg(feature = "planted")]
    caucus_planted::plant(order.planted);
    panic::set_hook(Box::new(|info| {
        let mut panics = PANICS
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        panics.push(info.to_string());
    }));
    let running = std::thread::spawn(move || simulate(&order));
    match running.join() {
        Ok(report) => report,
        Err(_) => {
            let panics = PANICS
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            Report {
                value: json!({"wrong": *panics}),
                is_ok: false,
            }
        }
    }
}

fn simulate(order: &Order) -> Report {
    let plan = Plan::new(order.seed, order.length);
    let trace = Trace::new(order.traces);
    trace.say(0, format!("{plan:?}"));
    let mut world = World::new(plan, trace);
    let names: Vec<&str> = world.plan.kinds.iter().map(|kind| kind.name()).collect();
    let rates = world.plan.rates.iter().any(|rate| *rate != 1000);
    // Checkers of time know of clocks that are off.
    let clocks: &[&str] = if rates { &["clock-rate"] } else { &[] };
    let header = json!({
        "seed": order.seed, "faults": names, "nemesis": clocks, "least": {"all": 50, "after": 5},
    });
    world.scene.say(Type::Info, "harness", "header", header);
    for host in &mut world.hosts {
        host.boot();
    }
    let answers = |world: &World| world.scene.recorder.count("txn", Type::Ok);
    if !world.wait(START_LIMIT, |world| answers(world) > 0) {
        world.fail("the cluster doesn't begin");
    }
    let mut nemesis = Nemesis::new(order.seed);
    while world.now < world.plan.length && world.wrong.is_empty() {
        nemesis.act(&mut world);
        world.step();
        look(&mut world);
    }
    nemesis.heal(&mut world);
    if rates {
        // From the first step on, and for ever; for who counts answers after the last fault it ends here.
        for step in ["begin", "end"] {
            let what = json!({"step": step});
            world.scene.say(Type::Info, "nemesis", "clock-rate", what);
        }
    }
    if world.wrong.is_empty() {
        judge::end(&mut world);
        look(&mut world);
    }
    verdict(world, order)
}

/// What must never be.
fn look(world: &mut World) {
    let ended: Vec<String> = world
        .hosts
        .iter()
        .enumerate()
        .filter_map(|(host, process)| Some(format!("host {host} ended: {}", process.ended()?)))
        .collect();
    let mut panics = PANICS
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let panics = std::mem::take(&mut *panics);
    for why in ended.into_iter().chain(panics) {
        world.fail(why);
    }
}

fn verdict(mut world: World, order: &Order) -> Report {
    let history = world.scene.recorder.history();
    let replayed = caucus_history::replay::check(&history);
    let found = caucus_history::check(&history);
    for violation in found.iter().take(20) {
        world.fail(violation.to_string());
    }
    for line in &history.lines {
        let line = serde_json::to_string(line).expect("a line can be written");
        world.trace.say(line.len() as u64, line);
    }
    let is_ok = world.wrong.is_empty();
    let mut kept = None;
    if !is_ok {
        let file = order.keep.join(format!("sim-{}.jsonl", order.seed));
        let written = std::fs::create_dir_all(&order.keep)
            .and_then(|()| std::fs::write(&file, history.to_text()));
        kept = written.is_ok().then(|| file.display().to_string());
    }
    let (digest, packets) = world.trace.digest();
    let value = json!({
        "seed": order.seed,
        "simulated_ms": world.now,
        "lines": history.lines.len(),
        "answers": history.operations().iter().filter(|o| o.outcome == caucus_history::Outcome::Ok).count(),
        "checked": replayed.checked,
        "placed": replayed.placed,
        "packets": packets,
        "faults": world.faults,
        "trace": format!("{digest:016x}"),
        "wrong": world.wrong,
        "history": kept,
    });
    Report { value, is_ok }
}
