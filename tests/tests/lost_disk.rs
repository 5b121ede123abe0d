//! A first member of the placement group that lost its disk: it must not be what a majority is made with.

use std::time::Duration;

use caucus_tests::kv;
use caucus_tests::servers::{Clock, Servers};
use caucus_tests::wait::wait_until;
use rustix::process::Signal;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
const UP_TO_DATE: u32 = 1;
const LOSES_ITS_DISK: u32 = 2;
const BEHIND: u32 = 3;

/// With the member that is behind it would be a majority, which lacks what the third one has.
#[test]
fn a_member_without_its_disk_waits_for_who_knows_better() {
    let mut servers = Servers::start(3, "");
    servers.kill(BEHIND);
    let mut client = servers.client(UP_TO_DATE);
    kv::put(&mut client, "/lost/a", &json!("of two"));
    servers.signal(UP_TO_DATE, Signal::STOP);
    servers.kill(LOSES_ITS_DISK);
    servers.lose_data(LOSES_ITS_DISK);
    servers.spawn(BEHIND, Clock::Right);
    servers.spawn(LOSES_ITS_DISK, Clock::Right);
    wait_until("a member that waits for the others", LIMIT, || {
        let said = servers.said(LOSES_ITS_DISK);
        assert_eq!(servers.ended(LOSES_ITS_DISK), None, "{said}");
        said.contains("nothing is stored here")
    });
    servers.signal(UP_TO_DATE, Signal::CONT);
    assert_eq!(servers.await_end(LOSES_ITS_DISK), Some(2));
    let said = servers.said(LOSES_ITS_DISK);
    assert!(said.contains("the cluster refuses this node"), "{said}");
    servers.await_ready(UP_TO_DATE);
    servers.await_ready(BEHIND);
    for node in [UP_TO_DATE, BEHIND] {
        let found = kv::get(&mut servers.client(node), "/lost/a");
        let found = found.expect("it was acknowledged");
        assert_eq!(found["value"], json!("of two"), "node {node}");
    }
    // Its disk is found again: it is who it was.
    servers.find_data(LOSES_ITS_DISK);
    servers.revive(LOSES_ITS_DISK, Clock::Right);
}
