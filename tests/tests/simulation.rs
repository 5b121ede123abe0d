//! Whole clusters from seeds (`tests/sim`): fresh ones, those that once showed a bug, and the same one twice.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use caucus_tests::process::program;

/// Fresh seeds of each run. The next ones begin with the time, so that no two runs have the same.
const FRESH: &str = "200";
/// Simulated seconds of each.
const LENGTH: &str = "90";

/// Seeds with which the product failed once, and how.
const FAILED: [(u64, &str); 7] = [
    (2, "nodes asked a silent placement leader for ever"),
    (
        10,
        "an oracle that takes longer than 50 ms was never waited for",
    ),
    (22, "the same, without faults of disks"),
    (37, "of two faults that meet in one host"),
    (
        1795835108542,
        "a wall clock that jumps made a group forget names of requests",
    ),
    (1795835108631, "the same, without a new leader"),
    (
        1795835108636,
        "a compaction left what was granted before it and applied after it",
    ),
];

fn sim(args: &[&str]) -> (bool, String) {
    let keep = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sim");
    let mut command = Command::new(program("caucus-sim"));
    command.args(args).arg("--keep").arg(keep);
    let output = command.stdin(Stdio::null()).output();
    let output = output.expect("caucus-sim is beside the tests");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

#[test]
fn fresh_seeds_hold() {
    let (holds, said) = sim(&["--seeds", FRESH, "--length", LENGTH]);
    eprint!("{said}");
    assert!(holds, "{said}");
}

#[test]
fn seeds_that_failed_once_hold() {
    for (seed, what) in FAILED {
        let (holds, said) = sim(&["--seed", &seed.to_string(), "--length", "300"]);
        assert!(holds, "seed {seed} ({what}): {said}");
    }
}

/// Byte for byte: every packet, fault and line of the history, with their times.
#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in ["1", "4", "9", "16", "25"] {
        let trace = || sim(&["--seed", seed, "--length", "20", "--trace"]).1;
        let (first, second) = (trace(), trace());
        assert!(first.lines().count() > 1000, "seed {seed} does little");
        let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}: one ends before the other");
    }
}
