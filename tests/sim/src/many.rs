//! Many seeds, each in a process of its own, so that one that hangs or aborts is only one that failed.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::Args;

#[derive(Default)]
struct Sum {
    seeds: u64,
    simulated_ms: u64,
    checked: u64,
    faults: BTreeMap<String, u64>,
    failed: Vec<u64>,
}

/// Runs what is asked for, and prints a line for each failure and one in the end.
pub(crate) fn run(args: &Args) -> ExitCode {
    let first = args.from.unwrap_or_else(fresh);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores).max(1);
    let next = AtomicU64::new(first);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + args.seeds {
                        return;
                    }
                    let report = one(args, seed);
                    sum.lock()
                        .expect("no panic under this lock")
                        .add(seed, &report);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no panic under this lock");
    println!(
        "{} seeds from {first}, {:.1} simulated hours, {} answers checked, {} failed, faults {:?}",
        sum.seeds,
        Duration::from_millis(sum.simulated_ms).as_secs_f64() / 3600.0,
        sum.checked,
        sum.failed.len(),
        sum.faults
    );
    ExitCode::from(u8::from(!sum.failed.is_empty()))
}

/// A seed that was never used, as far as the clock goes.
#[expect(
    clippy::disallowed_methods,
    reason = "fresh seeds are to differ from run to run; each is printed"
)]
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| since.as_millis() as u64)
}

fn one(args: &Args, seed: u64) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let child = Command::new(program)
        .arg("--seed")
        .arg(seed.to_string())
        .arg("--length")
        .arg(args.length.to_string())
        .arg("--keep")
        .arg(&args.keep)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = child.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|_| format!("{}: {line}", output.status))
}

impl Sum {
    fn add(&mut self, seed: u64, report: &Result<Value, String>) {
        self.seeds += 1;
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
            self.failed.push(seed);
            println!("seed {seed} failed: {wrong}");
        }
    }
}
