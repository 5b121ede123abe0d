//! Disks that are full: writes are refused, all else goes on, and nothing has to be repaired afterwards.

use std::time::Duration;

use caucus_tests::http::{Answer, Client};
use caucus_tests::wait::{wait_for, wait_until};
use caucus_tests::{Cluster, Options, kv, say_skipped};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
const DISK: &str = "24m";
/// Something that is no data of ours, and can go.
const BALLAST_BYTES: usize = 6 << 20;
const BLOCK_BYTES: usize = 64 << 10;
/// Enough to have some on each node.
const DIRECTORIES: u64 = 8;

#[test]
fn a_full_disk_refuses_writes_and_serves_the_rest() {
    let mut cluster = Cluster::prepare(Options::nodes(3));
    if let Err(error) = cluster.mount_disks(&[1, 2, 3], DISK) {
        return say_skipped(&format!("no small disks on this machine: {error}"));
    }
    let ballast = |node| cluster.node_dir(node).join("ballast");
    let ballast: Vec<_> = cluster.nodes().map(ballast).collect();
    for file in &ballast {
        std::fs::write(file, vec![1; BALLAST_BYTES]).expect("it is empty");
    }
    cluster.up();
    let mut client = cluster.client(1);
    kv::put(&mut client, "/kept/a", &json!("here before"));

    let mut written = fill(&mut client, 0);
    assert!(written > 10, "full after {written} writes");
    check(&cluster, written);

    // Room from outside.
    for file in ballast {
        std::fs::remove_file(file).expect("nobody else uses it");
    }
    let refused = written;
    let goes_on = await_room(&mut client, refused);
    written = fill(&mut client, goes_on);
    assert!(written > goes_on + 10, "full after {written} writes");
    check(&cluster, written);

    // A start needs no room, and finds everything.
    cluster.down();
    cluster.up();
    check(&cluster, written);

    // Room from inside.
    let mut client = cluster.client(2);
    for number in 0..written {
        let target = kv::path(&filler(number));
        let answer = settled(|| client.request("DELETE", &target, &[], b""));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(kv::get(&mut client, &filler(number)), None);
    }
    let last = await_room(&mut client, written) - 1;
    for node in cluster.nodes() {
        let found = kv::get(&mut cluster.client(node), &filler(last));
        assert_eq!(found.expect("it was written")["value"], block(last));
    }
}

/// Every node reads what was acknowledged, and what was refused isn't there.
fn check(cluster: &Cluster, written: u64) {
    for node in cluster.nodes() {
        let mut client = cluster.client(node);
        let kept = kv::get(&mut client, "/kept/a").expect("reads go on");
        assert_eq!(kept["value"], "here before");
        for number in [0, written / 2, written - 1] {
            let found = kv::get(&mut client, &filler(number)).expect("it was acknowledged");
            assert_eq!(found["value"], block(number), "node {node}");
        }
        assert_eq!(kv::get(&mut client, &filler(written)), None);
        assert_eq!(kv::list(&mut client, "/filler/").len() as u64, written);
    }
}

/// Writes from a number on until the cluster says that it is full; returns the number that it refused.
fn fill(client: &mut Client, from: u64) -> u64 {
    for number in from..from + 2000 {
        let answer = settled(|| put(client, number));
        match answer.status {
            200 | 201 => {}
            507 => {
                assert_eq!(answer.problem_code(), "no_space");
                assert_eq!(answer.json()["outcome"], "not_applied");
                return number;
            }
            status => panic!("{number}: {status} {}", answer.text()),
        }
    }
    panic!("2000 writes of 64 KiB fit on {DISK}");
}

/// Waits until writes of all directories go on: each node finds its own disk to have room. Returns the
/// number behind them.
fn await_room(client: &mut Client, from: u64) -> u64 {
    for number in from..from + DIRECTORIES {
        wait_until("writes to go on", LIMIT, || {
            put(client, number).is_ok_and(|answer| [200, 201].contains(&answer.status))
        });
    }
    from + DIRECTORIES
}

fn put(client: &mut Client, number: u64) -> std::io::Result<Answer> {
    kv::put_once(client, &filler(number), &block(number), &[])
}

/// Asks until the answer is more than "later". A write whose outcome was unknown is just sent again.
fn settled(mut ask: impl FnMut() -> std::io::Result<Answer>) -> Answer {
    wait_for("an answer", LIMIT, || {
        let answer = ask().expect("the node lives");
        (answer.status == 507 || !answer.is_retryable()).then_some(answer)
    })
}

fn filler(number: u64) -> String {
    format!("/filler/{}/{number}", number % DIRECTORIES)
}

/// 64 KiB that don't compress to nothing.
fn block(number: u64) -> serde_json::Value {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(BLOCK_BYTES);
    while text.len() < BLOCK_BYTES {
        // xorshift64: any sequence without repetition will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text.into()
}
