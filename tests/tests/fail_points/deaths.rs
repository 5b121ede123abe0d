//! A node dies at each place. All three nodes are armed with all places that none has died at yet: whoever comes to one
//! dies there, and is started again with the rest. So it doesn't matter who leads what. Those where a state is on its
//! way to a node come afterwards, one by one: a log must be cut behind that node first.

use std::collections::BTreeSet;
use std::time::Duration;

use caucus_planted::{POINTS, Point};
use caucus_tests::Cluster;
use caucus_tests::wait::{Stopwatch, pause, wait_for};

use crate::traffic::{self, Traffic};
use crate::{armed, said};

/// Of all deaths together.
const LIMIT: Duration = Duration::from_secs(300);
/// A node that has come to no place for so long is started again.
const TURN: Duration = Duration::from_secs(8);
/// Places where a state is on its way.
const WHEN_SENT: [&str; 4] = [
    "snapshot-sending",
    "snapshot-receiving",
    "snapshot-installing",
    "snapshot-installed",
];
/// Last words come through a pipe.
const WORDS_LIMIT: Duration = Duration::from_secs(10);

/// Numbers of places that no node has died at.
type Wanted = BTreeSet<usize>;

fn places(wanted: &Wanted, node: u32) -> String {
    let places = wanted.iter().map(|at| armed(node, &POINTS[*at], "die"));
    places.collect::<Vec<_>>().join(",")
}

#[test]
fn a_node_dies_at_each_place() {
    let all = 0..POINTS.len();
    let (sent, mut wanted): (Wanted, Wanted) =
        all.partition(|at| WHEN_SENT.contains(&POINTS[*at].name));
    let mut cluster = Cluster::start(traffic::options());
    let traffic = Traffic::start(&cluster);
    traffic.await_progress();
    let begun = Stopwatch::start();
    let mut since: [Option<Stopwatch>; 3] = [None; 3];
    while !wanted.is_empty() {
        for node in cluster.nodes() {
            let since = &mut since[node as usize - 1];
            let lingers = since.is_none_or(|since| since.elapsed() > TURN);
            if !cluster.is_up(node) {
                wanted.remove(&died_at(&cluster, node));
            } else if lingers {
                cluster.kill(node);
            } else {
                continue;
            }
            cluster.revive_armed(node, Some(&places(&wanted, node)));
            *since = Some(Stopwatch::start());
        }
        let left = || wanted.iter().map(|at| POINTS[*at].name);
        assert!(
            begun.elapsed() < LIMIT,
            "left: {:?}",
            left().collect::<Vec<_>>()
        );
        pause();
    }
    // Some are still armed with what others have died at.
    for node in cluster.nodes() {
        cluster.kill(node);
        cluster.revive(node);
    }
    for at in sent {
        dies_when_sent(&mut cluster, &traffic, at);
    }
    traffic.finish(&cluster);
}

/// The sender of a state dies, or who gets it.
fn dies_when_sent(cluster: &mut Cluster, traffic: &Traffic, at: usize) {
    let point = &POINTS[at];
    let victims = match point.name {
        "snapshot-sending" => vec![1, 2],
        _ => vec![3],
    };
    for node in victims.iter().filter(|node| **node != 3) {
        cluster.kill(*node);
        cluster.revive_armed(*node, Some(&armed(*node, point, "die")));
        cluster.await_ready(*node);
    }
    let places = armed(3, point, "die");
    let places = victims.contains(&3).then_some(&places[..]);
    let mut since: Option<Stopwatch> = None;
    let dead = wait_for("a node to die on the way of a state", LIMIT, || {
        if since.is_none_or(|since| since.elapsed() > 2 * TURN) {
            cluster.kill(3);
            traffic.await_progress();
            traffic.cut_logs();
            cluster.revive_armed(3, places);
            since = Some(Stopwatch::start());
        }
        victims.iter().find(|node| !cluster.is_up(**node))
    });
    assert_eq!(died_at(cluster, *dead), at, "{}", point.name);
    for node in victims {
        if cluster.is_up(node) {
            cluster.kill(node);
        }
        cluster.revive(node);
    }
    cluster.await_ready(3);
}

/// The place at which a node has died; panics if it died of something else.
fn died_at(cluster: &Cluster, node: u32) -> usize {
    let begun = Stopwatch::start();
    wait_for("a dead node's last words", 2 * WORDS_LIMIT, || {
        let words = cluster.said(node);
        let at = POINTS
            .iter()
            .position(|point: &Point| words.contains(&said(point, "die")));
        if at.is_none() && begun.elapsed() > WORDS_LIMIT {
            panic!("node {node} died of something else:\n{words}");
        }
        at
    })
}
