//! Nodes that die.

use std::time::Duration;

use caucus_tests::load::Load;
use caucus_tests::{Cluster, Options};

const WRITERS: usize = 6;
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn each_node_killed_in_turn_under_load() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let load = Load::start(&cluster, WRITERS);
    for node in cluster.nodes() {
        load.await_progress(50, PROGRESS_LIMIT);
        cluster.kill(node);
        load.await_progress(100, PROGRESS_LIMIT);
        cluster.revive(node);
    }
    load.await_progress(50, PROGRESS_LIMIT);
    let ledgers = load.finish();
    for node in cluster.nodes() {
        let mut client = cluster.client(node);
        ledgers
            .iter()
            .for_each(|ledger| ledger.check(&mut client, &format!("node {node}")));
    }
}

#[test]
fn all_nodes_killed_under_load() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let load = Load::start(&cluster, WRITERS);
    for _ in 0..2 {
        load.await_progress(100, PROGRESS_LIMIT);
        cluster.kill_all();
        cluster.up();
    }
    load.await_progress(50, PROGRESS_LIMIT);
    let ledgers = load.finish();
    cluster.kill_all();
    cluster.up();
    for node in cluster.nodes() {
        let mut client = cluster.client(node);
        ledgers
            .iter()
            .for_each(|ledger| ledger.check(&mut client, &format!("node {node}")));
    }
}
