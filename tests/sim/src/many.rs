//! Many seeds, each in a process of its own, so that one that hangs or aborts is only one that failed.
#![allow(
    clippy::disallowed_methods,
    reason = "here, outside of the simulated world, time is the real one"
)]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::Args;

/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Sum {
    seeds: u64,
    last: u64,
    seconds: u64,
    simulated_ms: u64,
    checked: u64,
    faults: BTreeMap<String, u64>,
    failed: BTreeMap<u64, String>,
}

/// Runs what is asked for, and prints a line for each failure and one in the end.
pub(crate) fn run(args: &Args) -> ExitCode {
    let first = args.from.unwrap_or_else(fresh);
    match args.planted.as_deref() {
        None => plain(args, first),
        Some("all") => {
            let names = caucus_planted::ALL.map(|bug| bug.name);
            let found = names.map(|name| hunt(args, name, first));
            ExitCode::from(u8::from(found.contains(&false)))
        }
        Some(name) => ExitCode::from(u8::from(!hunt(args, name, first))),
    }
}

fn plain(args: &Args, first: u64) -> ExitCode {
    let sum = all(args, None, first);
    for (seed, wrong) in &sum.failed {
        println!("seed {seed} failed: {wrong}");
    }
    let hours = Duration::from_millis(sum.simulated_ms).as_secs_f64() / 3600.0;
    if let Some(file) = &args.report {
        let report = json!({
            "seeds": [first, sum.last],
            "seconds": sum.seconds,
            "hours": (hours * 10.0).round() / 10.0,
            "answers": sum.checked,
            "faults": sum.faults,
            "failed": sum.failed.keys().collect::<Vec<_>>(),
        });
        if let Err(error) = std::fs::write(file, report.to_string()) {
            eprintln!("{}: {error}", file.display());
            return ExitCode::from(2);
        }
    }
    println!(
        "{} seeds from {first}, {hours:.1} simulated hours, {} answers checked, {} failed, faults {:?}",
        sum.seeds,
        sum.checked,
        sum.failed.len(),
        sum.faults
    );
    ExitCode::from(u8::from(!sum.failed.is_empty()))
}

/// Looks for a planted bug; whether it is found.
fn hunt(args: &Args, name: &str, first: u64) -> bool {
    let sum = all(args, Some(name), first);
    match sum.failed.first_key_value() {
        Some((seed, wrong)) => {
            let wrong: String = wrong.chars().take(160).collect();
            println!("| {name} | {} | {wrong} |", seed - first + 1);
            true
        }
        None => {
            println!("| {name} | not in {} | |", sum.seeds);
            false
        }
    }
}

/// Runs the seeds, all of them or, with a bug, until it is found.
fn all(args: &Args, planted: Option<&str>, first: u64) -> Sum {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores).max(1);
    let next = AtomicU64::new(first);
    let found = AtomicBool::new(false);
    let begun = Instant::now();
    let is_late = || {
        args.seconds
            .is_some_and(|most| begun.elapsed().as_secs() >= most)
    };
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !found.load(Ordering::Relaxed) && !is_late() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + args.seeds {
                        return;
                    }
                    let report = one(args, planted, seed);
                    let mut sum = sum.lock().expect("no panic under this lock");
                    sum.add(seed, &report);
                    let is_found = planted.is_some() && !sum.failed.is_empty();
                    found.fetch_or(is_found, Ordering::Relaxed);
                }
            });
        }
    });
    let mut sum = sum.into_inner().expect("no panic under this lock");
    sum.seconds = begun.elapsed().as_secs();
    sum
}

/// A seed that was never used, as far as the clock goes.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| since.as_millis() as u64)
}

fn one(args: &Args, planted: Option<&str>, seed: u64) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--seed", &seed.to_string()]);
    command.args(["--length", &args.length.to_string()]);
    command.arg("--keep").arg(&args.keep);
    if let Some(name) = planted {
        command.args(["--planted", name]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // It prints one line in the end, which a pipe has room for.
    let mut waited = Duration::ZERO;
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if waited > LIMIT => {
                // It may have ended in this moment.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it hangs: no end in {} s", LIMIT.as_secs()));
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
        waited += LOOK_EVERY;
    };
    let mut text = String::new();
    let mut output = child.stdout.take().expect("it is a pipe");
    let read = output.read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|_| format!("{status}: {line}"))
}

impl Sum {
    fn add(&mut self, seed: u64, report: &Result<Value, String>) {
        self.seeds += 1;
        self.last = self.last.max(seed);
        let wrong = match report {
            Ok(report) => {
                self.simulated_ms += report["simulated_ms"].as_u64().unwrap_or(0);
                self.checked += report["checked"].as_u64().unwrap_or(0);
                for (name, count) in report["faults"].as_object().into_iter().flatten() {
                    *self.faults.entry(name.clone()).or_default() += count.as_u64().unwrap_or(0);
                }
                let wrong = report["wrong"].as_array();
                wrong.and_then(|wrong| wrong.first()).map(Value::to_string)
            }
            Err(why) => Some(why.clone()),
        };
        if let Some(wrong) = wrong {
            self.failed.insert(seed, wrong);
        }
    }
}
