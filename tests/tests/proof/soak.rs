//! The same for hours, with fresh seeds and any mix of faults: `tests/soak` runs it. By itself it does one seed, for
//! who wants to see a run again.
//!
//! `PROOF_SECONDS`: so long. `PROOF_SEED`: the first seed; each run has the next one. `PROOF_FAULTS`: only these, by name.
//! `PROOF_REPORT`: where to write what was done, a line of JSON.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use caucus_tests::random::Random;
use caucus_tests::wait::Stopwatch;
use serde_json::json;

use crate::nemesis::Fault;
use crate::{RUN, run};

/// Faults of a run.
const MIX: usize = 4;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Which faults a seed has.
fn mix(seed: u64) -> Vec<Fault> {
    if let Ok(names) = std::env::var("PROOF_FAULTS") {
        let named = |fault: &Fault| names.split(',').any(|name| name == fault.name());
        return Fault::ALL.into_iter().filter(named).collect();
    }
    let mut random = Random::nth(seed, 2000);
    let mut left = Fault::ALL.to_vec();
    (0..MIX)
        .map(|_| left.swap_remove(random.below(left.len() as u64) as usize))
        .collect()
}

#[test]
#[ignore = "takes as long as it is told to"]
fn soak() {
    let time = Duration::from_secs(number("PROOF_SECONDS").unwrap_or(1));
    let first = number("PROOF_SEED").unwrap_or(1000);
    let begun = Stopwatch::start();
    let (mut seed, mut answers, mut failed) = (first, 0, Vec::new());
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    while seed == first || begun.elapsed() < time {
        let run_time = RUN.min(time);
        match catch_unwind(AssertUnwindSafe(|| run(seed, &mix(seed), run_time))) {
            Ok(report) => {
                answers += report.answers;
                for fault in report.faults {
                    *faults.entry(fault.name()).or_default() += 1;
                }
            }
            Err(_) => failed.push(seed),
        }
        seed += 1;
    }
    let report = json!({
        "seeds": [first, seed - 1], "answers": answers, "faults": faults, "failed": failed,
        "seconds": begun.elapsed().as_secs(),
    });
    eprintln!("{report}");
    if let Ok(file) = std::env::var("PROOF_REPORT") {
        std::fs::write(file, format!("{report}\n")).expect("the report can be written");
    }
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}
