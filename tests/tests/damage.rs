//! One node of three has files that are not as it wrote them. It refuses to start, or it heals; it serves nothing that is
//! wrong, and the others have all that was acknowledged.
//!
//! The engine alone is put to the same test in `shard/engine/tests/lives`, the logs in `shard/raft/src/tests/damage.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caucus_tests::load::{Ledger, Load};
use caucus_tests::wait::{Stopwatch, wait_for, wait_until};
use caucus_tests::{Cluster, Options, kv};
use serde_json::json;

/// Who has the damaged files. The others are a majority.
const VICTIM: u32 = 3;
const WRITERS: usize = 6;
const LIMIT: Duration = Duration::from_secs(90);
/// Marks are written once a second, if there is anything to write.
const QUIET: Duration = Duration::from_secs(3);

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Zero,
    Cut,
    Remove,
}

use Damage::{Cut, Flip, Remove, Zero};

/// A file by the end or the begin of its name. Those that a node refuses come first: they need no new cluster.
const DAMAGES: [(&str, Damage); 11] = [
    ("MANIFEST-0", Flip),
    ("MANIFEST-0", Cut),
    ("CURRENT", Zero),
    ("FORMAT", Remove),
    ("SYNCED", Flip),
    ("IDENTITY", Cut),
    ("IDENTITY", Remove),
    (".sst", Remove),
    (".sst", Zero),
    (".log", Flip),
    (".log", Cut),
];

/// The newest file of that kind.
fn file(node: &Path, kind: &str) -> PathBuf {
    let directories = [node.to_owned(), node.join("store"), node.join("store/db")];
    let entries = directories
        .iter()
        .flat_map(|directory| fs::read_dir(directory).expect("it is there"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_kind = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        let is_full = fs::metadata(path).is_ok_and(|found| found.len() > 0);
        is_full
            && if kind.starts_with('.') {
                name.ends_with(kind)
            } else {
                name.starts_with(kind)
            }
    };
    let found = paths.filter(is_kind);
    // RocksDB has an IDENTITY of its own, further down, that says nothing.
    let found = match kind.starts_with('.') {
        true => found.max(),
        false => found.min(),
    };
    found.unwrap_or_else(|| panic!("no {kind} in {}", node.display()))
}

fn hurt(path: &Path, damage: Damage) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    match damage {
        Flip => bytes[middle] ^= 0x10,
        Zero => {
            let end = bytes.len().min(middle + 512);
            bytes[middle..end].fill(0);
        }
        Cut => bytes.truncate(middle),
        Remove => return fs::remove_file(path).expect("it is there"),
    }
    fs::write(path, bytes).expect("it is ours");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it is ours");
    for entry in fs::read_dir(from).expect("it is there") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => _ = fs::copy(&path, &target).expect("it can be copied"),
        }
    }
}

/// Until all that was acknowledged is in the synced marks.
fn await_marks(cluster: &Cluster) {
    let written = || {
        let marks = cluster
            .nodes()
            .map(|node| cluster.node_dir(node).join("SYNCED"));
        let modified = marks.map(|mark| fs::metadata(mark).and_then(|found| found.modified()).ok());
        modified.collect::<Vec<_>>()
    };
    let (mut last, mut since) = (written(), Stopwatch::start());
    wait_until("the marks to be still", LIMIT, || {
        let now = written();
        if now != last || now.contains(&None) {
            (last, since) = (now, Stopwatch::start());
        }
        since.elapsed() > QUIET
    });
}

/// Whether the node serves; else it has ended.
fn serves(cluster: &mut Cluster, node: u32) -> bool {
    let mut client = cluster.client(node);
    let process = cluster.try_revive(node);
    wait_for("a node to serve or to refuse", LIMIT, || {
        if let Some(status) = process.ended() {
            assert!(!status.success(), "{}", process.stderr());
            eprintln!(
                "  refused: {}",
                process.stderr().lines().last().unwrap_or_default()
            );
            return Some(false);
        }
        let answer = client.request("GET", "/readyz", &[], b"").ok()?;
        (answer.status == 200).then_some(true)
    })
}

fn check(cluster: &Cluster, nodes: impl Iterator<Item = u32>, ledgers: &[Ledger], what: &str) {
    for node in nodes {
        let mut client = cluster.client(node);
        for ledger in ledgers {
            ledger.check(&mut client, &format!("{what}: node {node}"));
        }
    }
}

/// A cluster with data in tables and in write-ahead logs, and what it owes.
fn prepared() -> (Cluster, Vec<Ledger>) {
    let cluster = Cluster::start(Options::nodes(3));
    let load = Load::start(&cluster, WRITERS);
    load.await_progress(10, LIMIT);
    let answer = cluster
        .client(VICTIM)
        .request("POST", "/v3/maintenance/defragment", &[], b"{}");
    assert_eq!(answer.expect("the node answers").status, 200);
    load.await_progress(20, LIMIT);
    let ledgers = load.finish();
    await_marks(&cluster);
    (cluster, ledgers)
}

/// Whether the victim refuses to start; then its files are as they were.
fn refuses(cluster: &mut Cluster, ledgers: &[Ledger], kind: &str, damage: Damage) -> bool {
    let what = format!("{damage:?} of {kind}");
    let (directory, saved) = (cluster.node_dir(VICTIM), cluster.dir().join("saved"));
    cluster.kill(VICTIM);
    copy(&directory, &saved);
    hurt(&file(&directory, kind), damage);
    let is_served = serves(cluster, VICTIM);
    eprintln!(
        "{what}: {}",
        if is_served { "it serves" } else { "it refuses" }
    );
    if is_served && kind == ".log" {
        let said = || fs::read_to_string(cluster.dir().join(format!("node-{VICTIM}.err")));
        wait_until("a replica to be in doubt", LIMIT, || {
            said().is_ok_and(|said| said.contains("is in doubt"))
        });
    }
    let last = cluster.nodes().filter(|node| is_served || *node != VICTIM);
    check(cluster, last, ledgers, &what);
    kv::put(&mut cluster.client(1), "/damage/a/last", &json!(what));
    if !is_served {
        // It has done nothing since, so its old files are no past that others have seen it leave.
        fs::remove_dir_all(&directory).expect("it is ours");
        fs::rename(&saved, &directory).expect("it is ours");
        cluster.revive(VICTIM);
        await_marks(cluster);
    }
    !is_served
}

#[test]
fn a_node_with_damaged_files_serves_nothing_wrong() {
    let mut running = None;
    let mut refused = 0;
    for (kind, damage) in DAMAGES {
        let (cluster, ledgers) = running.get_or_insert_with(prepared);
        match refuses(cluster, ledgers, kind, damage) {
            true => refused += 1,
            // Replicas in doubt stay down, and nobody may take what is left of them for whole: a new one.
            false => running = None,
        }
    }
    assert!(
        refused >= 7,
        "manifests and files that are read at once: {refused}"
    );
}
