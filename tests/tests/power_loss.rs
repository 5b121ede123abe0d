//! Nodes lose power: what they had not synced is gone from their files. Nothing that was acknowledged is.
//!
//! The engine alone is put to the same test in `shard/engine/tests/lives`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use caucus_power::{Loss, Lost, variable};
use caucus_tests::http::Client;
use caucus_tests::load::{Ledger, Load};
use caucus_tests::random::Random;
use caucus_tests::wait::{pause, wait_until};
use caucus_tests::{Cluster, Options, kv};
use serde_json::{Value, json};

const WRITERS: usize = 6;
const LIMIT: Duration = Duration::from_secs(90);
/// All nodes lose power this often, which makes three crash points each.
const ROUNDS: u64 = 6;
/// Revisions that a compaction leaves.
const KEPT: u64 = 20;

/// Small buffers, so that tables are written too.
fn options(nodes: u32) -> Options {
    Options::nodes(nodes)
        .power()
        .set("storage.write_buffer_bytes=1048576")
        .set("storage.write_buffers_bytes=1048576")
}

fn check_all(cluster: &Cluster, ledgers: &[Ledger]) {
    for node in cluster.nodes() {
        let mut client = cluster.client(node);
        for ledger in ledgers {
            ledger.check(&mut client, &format!("node {node}"));
        }
    }
}

/// Power goes and comes under load, at moments that the seed gives.
fn lives(cluster: &mut Cluster, rounds: u64, seed: u64, mut after: impl FnMut(&Cluster)) {
    let mut random = Random::nth(seed, 0);
    let load = Load::start(cluster, WRITERS);
    let mut all = Lost::default();
    for _ in 0..rounds {
        load.await_progress(1 + random.below(40), LIMIT);
        let loss = Loss::one(&mut random);
        let lost = cluster.lose_power(loss, &mut random);
        eprintln!("seed {seed}, {loss:?}: {lost:?}");
        all.files += lost.files;
        all.names += lost.names;
        cluster.up();
        after(cluster);
    }
    load.await_progress(10, LIMIT);
    check_all(cluster, &load.finish());
    assert!(all.files > 0, "no file has lost anything: {all:?}");
}

#[test]
fn all_nodes_lose_power_under_load() {
    let mut cluster = Cluster::start(options(3));
    lives(&mut cluster, ROUNDS, 1, |_| {});
}

#[test]
fn each_node_loses_power_in_turn() {
    let mut cluster = Cluster::start(options(3));
    let mut random = Random::nth(2, 0);
    let load = Load::start(&cluster, WRITERS);
    for node in cluster.nodes() {
        load.await_progress(1 + random.below(40), LIMIT);
        cluster.lose_power_of(node, Loss::one(&mut random), &mut random);
        load.await_progress(20, LIMIT);
        cluster.revive(node);
    }
    load.await_progress(10, LIMIT);
    check_all(&cluster, &load.finish());
}

/// B2: who has no majority to wait for waits for his own disk.
#[test]
fn b2_a_group_of_one_replica_loses_power_after_it_acknowledged() {
    let mut cluster = Cluster::start(options(1));
    lives(&mut cluster, ROUNDS, 3, |_| {});
}

/// B3: neither the revision nor what was compacted goes back, and no key is lost.
#[test]
fn b3_power_loss_in_compactions_takes_no_revision_back() {
    let mut cluster = Cluster::start(options(1));
    let compactions = Compactions::start(&cluster);
    lives(&mut cluster, ROUNDS, 4, |cluster| {
        let mut client = cluster.client(1);
        let told = compactions.told();
        let put = kv::put(&mut client, "/compact/b", &json!("after"));
        assert!(revision(&put) > told.revision, "{put} after {told:?}");
        // One before what was compacted.
        if let Some(gone) = told.compacted.checked_sub(1).filter(|gone| *gone > 0) {
            let target = format!("{}?revision={gone}", kv::path("/compact/a"));
            let old = client.request("GET", &target, &[], b"");
            let old = old.expect("the node answers");
            assert_eq!(old.status, 410, "{told:?}: {}", old.text());
        }
    });
    let told = compactions.finish();
    assert!(told.compacted > 0 && told.defragmented > 0, "{told:?}");
}

fn revision(answer: &Value) -> u64 {
    answer["revision"].as_u64().expect("a number")
}

/// What was answered so far.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    revision: u64,
    compacted: u64,
    defragmented: u64,
}

/// One who writes, lets go of the past and rewrites the database, all the time.
struct Compactions {
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    worker: JoinHandle<()>,
}

impl Compactions {
    fn start(cluster: &Cluster) -> Compactions {
        let told = Arc::new(Mutex::new(Told::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut client = cluster.client(1);
        let worker = std::thread::spawn({
            let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if compact(&mut client, &told).is_none() {
                        pause();
                    }
                }
            }
        });
        Compactions { told, stop, worker }
    }

    fn told(&self) -> Told {
        *self.told.lock().expect("nobody panics with it")
    }

    fn finish(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        self.worker.join().expect("it doesn't panic");
        *self.told.lock().expect("nobody panics with it")
    }
}

/// None if the node didn't answer, or not with yes.
fn compact(client: &mut Client, told: &Mutex<Told>) -> Option<()> {
    let note =
        |change: &dyn Fn(&mut Told)| change(&mut told.lock().expect("nobody panics with it"));
    let put = kv::put_once(client, "/compact/a", &json!("again"), &[]).ok()?;
    let written = [200, 201]
        .contains(&put.status)
        .then(|| revision(&put.json()))?;
    note(&|told| told.revision = told.revision.max(written));
    let least = written.saturating_sub(KEPT).max(1);
    let body = json!({"revision": least}).to_string();
    let answer = client
        .request("POST", "/v1/compact", &[], body.as_bytes())
        .ok()?;
    if answer.status == 200 {
        note(&|told| told.compacted = told.compacted.max(least));
    }
    let answer = client
        .request("POST", "/v3/maintenance/defragment", &[], b"{}")
        .ok()?;
    if answer.status == 200 {
        note(&|told| told.defragmented += 1);
    }
    Some(())
}

/// Planted: syncs of the write-ahead log are left out. The synced marks tell, and the nodes refuse; without the marks
/// what was acknowledged is lost, and the check says so.
#[test]
fn it_is_found_out_if_the_sync_is_left_out() {
    // With large buffers there is one write-ahead log, of which RocksDB itself can't know how long it was.
    let planted = Options::nodes(3).power().env(variable::LIE, ".log");
    let mut cluster = Cluster::start(planted);
    // With this they can start again; it is the acknowledged writes that were never synced.
    let data = cluster.dir().join("data");
    cluster.power().settle_all(&data).expect("it is there");
    let marks: Vec<PathBuf> = cluster
        .nodes()
        .map(|node| cluster.node_dir(node).join("SYNCED"))
        .collect();
    let written = |mark: &PathBuf| {
        std::fs::metadata(mark)
            .and_then(|found| found.modified())
            .ok()
    };
    let before: Vec<_> = marks.iter().map(written).collect();
    let load = Load::start(&cluster, WRITERS);
    load.await_progress(20, LIMIT);
    wait_until("the marks to be written", LIMIT, || {
        marks
            .iter()
            .map(written)
            .zip(&before)
            .all(|(now, before)| now != *before)
    });
    let ledgers = load.finish();
    check_all(&cluster, &ledgers);
    cluster.lose_power(Loss::Bytes, &mut Random::new(5));

    let dev = cluster.try_up();
    wait_until("replicas to be in doubt", LIMIT, || {
        dev.stderr().contains("is in doubt")
    });
    cluster.kill_all();

    marks
        .iter()
        .for_each(|mark| std::fs::remove_file(mark).expect("it is there"));
    cluster.up();
    let found = catch_unwind(AssertUnwindSafe(|| check_all(&cluster, &ledgers)));
    assert!(found.is_err(), "all acknowledged writes are there");
}
