//! Nodes that stall for a second at each place, or fail there with an error. Two of three nodes stall, the third one
//! fails where it can; each place is met once by each node, if it comes there.

use std::collections::BTreeSet;
use std::time::Duration;

use caucus_planted::{POINTS, Point};
use caucus_tests::Cluster;
use caucus_tests::wait::{Stopwatch, pause, wait_until};

use crate::traffic::{self, Traffic};
use crate::{armed, said};

/// Of all places together.
const LIMIT: Duration = Duration::from_secs(240);
/// A node that has come to no place for so long is started again: what only comes with that comes.
const TURN: Duration = Duration::from_secs(8);
/// To fail there stops replicas until the node is started again: they come last, alone.
const STOPS: [&str; 2] = ["log-writing", "state-applying"];

fn stops(point: &Point) -> bool {
    STOPS.contains(&point.name)
}

/// What is to be seen yet: a place, and what happens there.
type Wanted = BTreeSet<(usize, &'static str)>;

/// What a node does at the places that are wanted.
fn places(wanted: &Wanted, node: u32) -> String {
    let fails = node == 3;
    let all = wanted.iter().filter(|(_, action)| {
        (*action == "fail") == fails || !wanted.iter().any(|(_, other)| (*other == "fail") == fails)
    });
    let all = all.map(|(at, action)| armed(node, &POINTS[*at], action));
    all.collect::<Vec<_>>().join(",")
}

#[test]
fn nodes_stall_or_fail_at_each_place() {
    let mut wanted = Wanted::new();
    for (at, point) in POINTS.iter().enumerate() {
        wanted.insert((at, "stall"));
        if point.can_fail && !stops(point) {
            wanted.insert((at, "fail"));
        }
    }
    let each: Vec<String> = (1..=3).map(|node| places(&wanted, node)).collect();
    let mut cluster = Cluster::start(traffic::options().armed(&each.join(",")));
    let traffic = Traffic::start(&cluster);
    let begun = Stopwatch::start();
    let (mut since, mut next) = (Stopwatch::start(), 1);
    while !wanted.is_empty() {
        let before = wanted.len();
        for node in cluster.nodes() {
            let heard = cluster.said(node);
            wanted.retain(|(at, action)| !heard.contains(&said(&POINTS[*at], action)));
        }
        if wanted.len() < before {
            since = Stopwatch::start();
        }
        if since.elapsed() > TURN {
            // Elections, recoveries and states that are sent come with nodes that come back.
            cluster.kill(next);
            traffic.await_progress();
            traffic.cut_logs();
            cluster.revive_armed(next, Some(&places(&wanted, next)));
            cluster.await_ready(next);
            next = next % 3 + 1;
            since = Stopwatch::start();
        }
        let left = || wanted.iter().map(|(at, action)| (POINTS[*at].name, action));
        assert!(
            begun.elapsed() < LIMIT,
            "left: {:?}",
            left().collect::<Vec<_>>()
        );
        pause();
    }
    for point in POINTS.iter().filter(|point| stops(point)) {
        fail_and_revive(&mut cluster, point, next, &traffic);
        next = next % 3 + 1;
    }
    traffic.finish(&cluster);
}

/// Its replicas stop; the others go on without it, and it with them when it is started again.
fn fail_and_revive(cluster: &mut Cluster, point: &Point, node: u32, traffic: &Traffic) {
    cluster.kill(node);
    cluster.revive_armed(node, Some(&armed(node, point, "fail")));
    wait_until("a node to fail", LIMIT, || {
        cluster.said(node).contains(&said(point, "fail"))
    });
    traffic.await_progress();
    cluster.kill(node);
    cluster.revive(node);
}
