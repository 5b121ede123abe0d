//! A node dies at each step of a transaction over groups, in a cluster of its own: the keys are unlocked soon.

use std::time::Duration;

use caucus_planted::{POINTS, Point};
use caucus_tests::{Cluster, Options};

use crate::armed;
use crate::transfers::Told;

/// So long may keys stay locked after the death of a node.
const UNLOCK_LIMIT: Duration = Duration::from_secs(5);
/// More transfers than a node's groups need to get to any step.
const TRANSFERS_MAX: u64 = 500;

/// Up to the decision, and after it.
fn steps() -> (Vec<&'static Point>, Vec<&'static Point>) {
    // Nobody comes to a recovery by itself: the other tests do.
    let steps = POINTS
        .iter()
        .filter(|point| point.name.starts_with("txn-") && point.name != "txn-recovering");
    let steps: Vec<&Point> = steps.collect();
    let decided = steps.iter().position(|point| point.name == "txn-decided");
    let (before, after) = steps.split_at(decided.expect("it is one of them"));
    (before.to_vec(), after.to_vec())
}

fn dies_at(step: &Point) {
    let victim = 2;
    let options = Options::nodes(3).armed(&armed(victim, step, "die"));
    let mut cluster = Cluster::start(options);
    let mut client = cluster.client(1);
    let mut told = Told::default();
    while cluster.is_up(victim) {
        let name = step.name;
        assert!(
            told.sent() < TRANSFERS_MAX,
            "{name}: no transfer gets there"
        );
        told.transfer(&mut client);
    }
    // All keys, and so all that the dead node left locked.
    told.await_unlocked(&mut cluster.client(3), UNLOCK_LIMIT);
    told.check(&mut cluster.client(3), step.name);
    cluster.revive(victim);
    told.check(&mut cluster.client(victim), step.name);
}

#[test]
fn a_coordinator_dies_before_the_decision() {
    steps().0.into_iter().for_each(dies_at);
}

#[test]
fn a_node_dies_after_the_decision() {
    steps().1.into_iter().for_each(dies_at);
}
