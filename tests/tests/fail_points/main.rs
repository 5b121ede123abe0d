//! Nodes that die, stall for a second, or fail with an error, at each of the places that the code names
//! (`caucus_planted::POINTS`), while clients are at work. Afterwards: nothing acknowledged is lost and nothing done
//! twice, no transaction is half there, watchers were told all of it once, no lease that was kept alive has ended, and
//! the cluster serves.
//!
//! A place that no node has come to fails these tests: what is armed is the list of all.

mod deaths;
mod stalls;
mod traffic;
mod transactions;
mod transfers;

use caucus_planted::{POINTS, Point};
use caucus_tests::sources;

/// How often a place is passed before a node fails there: those that every node passes as it starts are to be met
/// under load.
fn passes(point: &Point) -> u32 {
    match point.name {
        "log-writing" | "log-written" | "log-synced" | "state-applying" | "state-applied" => 40,
        "router-answered" => 20,
        // One of each group as it starts, and then some.
        "snapshot-building" => 12,
        _ => 0,
    }
}

/// As the environment of a node says it.
fn armed(node: u32, point: &Point, action: &str) -> String {
    let (name, passes) = (point.name, passes(point));
    format!("{node}/{name}={action}@{passes}")
}

/// What a node says when it comes to a place.
fn said(point: &Point, action: &str) -> String {
    format!("fail point: {}={action}", point.name)
}

#[test]
fn the_table_names_each_place() {
    let path = sources::root().join("tests/README.md");
    let readme = std::fs::read_to_string(path).expect("the tests have a README");
    let mut missing = Vec::new();
    for point in POINTS {
        let row = format!("| `{}` |", point.name);
        let fails = readme
            .lines()
            .find(|line| line.starts_with(&row))
            .map(|line| line.contains("fails"));
        if fails != Some(point.can_fail) {
            missing.push(point.name);
        }
    }
    assert!(missing.is_empty(), "not in tests/README.md: {missing:?}");
}
