//! Nodes that die, and disks that are full.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use caucus_tests::http::{Answer, Client};
use caucus_tests::load::Load;
use caucus_tests::wait::wait_for;
use caucus_tests::{Cluster, Options, kv};
use serde_json::json;

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

/// A small file system in memory; unmounted at the end.
struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// None if the machine doesn't allow it.
    fn mount(path: &Path, size: &str) -> Option<Tmpfs> {
        std::fs::create_dir_all(path).expect("the test's directory can be written");
        let options = format!("size={size}");
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path);
        let done = command.output().is_ok_and(|output| output.status.success());
        done.then(|| Tmpfs {
            path: path.to_owned(),
        })
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_and_serves_the_rest() {
    let mut cluster = Cluster::prepare(Options::nodes(3));
    let mounts = cluster
        .nodes()
        .map(|node| Tmpfs::mount(&cluster.node_dir(node), "48m"));
    let Some(_mounts) = mounts.collect::<Option<Vec<_>>>() else {
        println!("skipped: this machine doesn't let the test mount a tmpfs");
        return;
    };
    cluster.up();
    let mut client = cluster.client(1);
    let kept = json!("here before");
    kv::put(&mut client, "/kept/a", &kept);
    let written = fill(&mut client);
    assert!(written > 10, "full after {written} writes");

    for node in cluster.nodes() {
        let mut client = cluster.client(node);
        let found = kv::get(&mut client, "/kept/a").expect("reads go on");
        assert_eq!(found["value"], kept);
        let found = kv::get(&mut client, &filler(written - 1)).expect("it was acknowledged");
        assert_eq!(found["value"], json!(block(written - 1)));
    }
    for number in 0..3 {
        let target = kv::path(&filler(number));
        let answer = settled(|| client.request("DELETE", &target, &[], b""));
        assert!(
            [200, 204].contains(&answer.status),
            "{} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(kv::get(&mut client, &filler(number)), None);
    }
}

/// Writes until the cluster says that it is full; returns how many writes it took.
fn fill(client: &mut Client) -> u64 {
    for number in 0..2000 {
        let (key, value) = (filler(number), json!(block(number)));
        let answer = settled(|| kv::put_once(client, &key, &value, &[]));
        match answer.status {
            200 | 201 => {}
            507 => {
                assert_eq!(answer.problem_code(), "no_space");
                return number;
            }
            status => panic!("{key}: {status} {}", answer.text()),
        }
    }
    panic!("2000 writes of 128 KiB fit on 48 MiB");
}

/// Asks until the answer is more than "later". A write whose outcome was unknown is just sent again.
fn settled(mut ask: impl FnMut() -> std::io::Result<Answer>) -> Answer {
    wait_for("an answer", PROGRESS_LIMIT, || {
        let answer = ask().expect("the node lives");
        (answer.status == 507 || !answer.is_retryable()).then_some(answer)
    })
}

fn filler(number: u64) -> String {
    format!("/filler/{}/{number}", number % 8)
}

/// 128 KiB that don't compress to nothing.
fn block(number: u64) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(128 << 10);
    while text.len() < 128 << 10 {
        // xorshift64: any sequence without repetition will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text
}
