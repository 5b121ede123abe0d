//! The past is let go of by itself where the configuration says so, and takes no space any more.

use std::time::Duration;

use caucus_tests::metrics::Scrape;
use caucus_tests::wait::wait_until;
use caucus_tests::{Cluster, Options, kv};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn so_many_revisions_are_kept() {
    let cluster = Cluster::start(Options::nodes(3).set("history.keep_revisions=50"));
    let mut client = cluster.client(1);
    let first = kv::put(&mut client, "/past/a/key", &json!(0));
    let first = first["revision"].as_u64().expect("a number");
    for n in 1..200 {
        kv::put(&mut client, "/past/a/key", &json!(n));
    }
    let mut read = |revision: u64| {
        let target = format!("{}?revision={revision}", kv::path("/past/a/key"));
        client.request("GET", &target, &[], b"").expect("an answer")
    };
    wait_until("old revisions to be refused", LIMIT, || {
        read(first).status == 410
    });
    assert_eq!(read(first).problem_code(), "compacted");
    let latest = kv::get(&mut cluster.client(2), "/past/a/key").expect("a record");
    assert_eq!(latest["value"], json!(199));
    let newest = latest["revision"].as_u64().expect("a number");
    assert_eq!(
        read(newest - 1).json()["value"],
        json!(198),
        "it is young enough"
    );
    // On every node the replica of the group lets go of what nobody can read any more.
    for node in cluster.nodes() {
        let mut client = cluster.client(node);
        wait_until("what was replaced to be removed", LIMIT, || {
            let removed = Scrape::of(&mut client).sum("caucus_shard_compacted_records_total", &[]);
            removed >= 100.0
        });
    }
}
