//! A node dies at each place. All three are armed at any time, each with another place; who has died is started
//! again with the next one.

use std::collections::VecDeque;
use std::time::Duration;

use caucus_planted::{POINTS, Point};
use caucus_tests::Cluster;
use caucus_tests::wait::{Stopwatch, pause, wait_until};

use crate::traffic::{self, Traffic};
use crate::{armed, said};

/// Of all deaths together.
const LIMIT: Duration = Duration::from_secs(300);
/// A node that hasn't come to its place for so long gets another one: it may lead nothing.
const TURN: Duration = Duration::from_secs(12);

/// What a node is armed with, and since when.
type Armed = Option<(&'static Point, Stopwatch)>;

#[test]
fn a_node_dies_at_each_place() {
    // Those that no node comes to before there are clients come first, or the cluster would not start.
    let mut queue: VecDeque<&Point> = POINTS.iter().collect();
    let first = |point: &&Point| point.name == "lease-ending";
    let leases = queue.iter().position(first).expect("it is one of them");
    queue.rotate_left(leases);
    let mut nodes: Vec<Armed> = Vec::new();
    let mut places = Vec::new();
    for node in 1..=3 {
        let point = queue.pop_front().expect("there are more");
        places.push(armed(node, point, "die"));
        nodes.push(Some((point, Stopwatch::start())));
    }
    let mut cluster = Cluster::start(traffic::options().armed(&places.join(",")));
    let traffic = Traffic::start(&cluster);
    let begun = Stopwatch::start();
    while nodes.iter().any(Option::is_some) {
        for node in cluster.nodes() {
            let slot = &mut nodes[node as usize - 1];
            if !cluster.is_up(node) {
                let (point, _) = slot.take().unwrap_or_else(|| died(&cluster, node, None));
                await_said(&cluster, node, point);
            } else if let Some((point, _)) = slot.take_if(|(_, since)| since.elapsed() > TURN) {
                cluster.kill(node);
                queue.push_back(point);
            } else {
                continue;
            }
            let next = queue.pop_front();
            if next.is_some_and(|point| point.name.starts_with("snapshot-")) {
                traffic.cut_logs();
            }
            let places = next.map(|point| armed(node, point, "die"));
            cluster.revive_armed(node, places.as_deref());
            *slot = next.map(|point| (point, Stopwatch::start()));
        }
        assert!(begun.elapsed() < LIMIT, "left: {nodes:?} {queue:?}");
        pause();
    }
    cluster.nodes().for_each(|node| cluster.await_ready(node));
    traffic.finish(&cluster);
}

fn await_said(cluster: &Cluster, node: u32, point: &Point) {
    let words = said(point, "die");
    let begun = Stopwatch::start();
    wait_until("a dead node's last words", 2 * TURN, || {
        let is_said = cluster.said(node).contains(&words);
        if !is_said && begun.elapsed() > TURN {
            died(cluster, node, Some(point));
        }
        is_said
    });
}

/// Of something else than what it was armed with.
fn died(cluster: &Cluster, node: u32, armed: Option<&Point>) -> ! {
    let said = cluster.said(node);
    panic!("node {node}, armed with {armed:?}, died of something else:\n{said}");
}
