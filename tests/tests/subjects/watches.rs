//! The known faults of etcd's watches, each by itself: nothing is left to luck that needn't be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caucus_history::Violation;
use caucus_tests::wait::{Stopwatch, pause, wait_until};
use serde_json::{Value, json};

use crate::clients::Client;
use crate::gateway::{Gateway, Watch, range, revision};
use crate::members::{COUNT, Members};
use crate::scene::{Scene, judge, refused_by, turn};
use crate::watchers::Told;

const LIMIT: Duration = Duration::from_secs(60);
/// etcd's leader keeps 5,000 entries for those who lag behind, and more until its next snapshot.
const ENTRIES_KEPT: u64 = 5000;
const SNAPSHOT_COUNT: &str = "100";
/// It has sent so many messages before it waits for an answer, each with what the writers had under way at most.
const MESSAGES_AHEAD: u64 = 512;
const WRITERS: u64 = 4;
/// Who open watches at the same time: there are a few dozen milliseconds in which it matters.
const OPENERS: usize = 4;
const ATTEMPTS: usize = 5;

/// Reads a watch until it was told of a revision.
fn read(scene: &Scene, told: &mut Told, watch: &mut Watch, until: u64) {
    while told.last < until {
        let message = watch.message().expect("the watch can be read");
        let message = message.expect("the watch goes on");
        assert_eq!(told.take(scene, &message), None, "nothing is compacted");
    }
}

fn whys(found: &[Violation]) -> Vec<&str> {
    found.iter().map(|violation| &violation.why[..]).collect()
}

/// etcd issues 18089 and 19179: a watch may begin at the revision up to which all is compacted, and if that removed a
/// key nobody tells it. Fixed in 3.4.36.
#[test]
fn a_removal_at_the_compacted_revision_is_lost() {
    let _turn = turn();
    let Some(members) = Members::start(&[]) else {
        return;
    };
    let scene = Scene::new();
    let mut client = Client::new(&scene, &members.addresses(), 0);
    client.write("/r/0", json!(1)).expect("an answer");
    let removed = client.delete("/r/0").expect("an answer");
    let compact = json!({"revision": removed.to_string(), "physical": true});
    Gateway::new(&members.address(0)).must("kv/compaction", &compact);
    let mut told = Told::new(&scene, "/r/", removed);
    let mut watch = told.open(&members.address(0), false).expect("a watch");
    let last = client.write("/r/1", json!(2)).expect("an answer");
    read(&scene, &mut told, &mut watch, last);
    let found = judge("etcd compaction", &scene.recorder.history());
    assert_eq!(refused_by(&found), ["watched"]);
    assert_eq!(whys(&found), [format!("/r/0 at {removed} is missing")]);
}

/// etcd issue 15220: who asks is told that his watch has got further than it has. Fixed in 3.4.25.
#[test]
fn progress_is_ahead_of_events() {
    let _turn = turn();
    let Some(members) = Members::start(&[]) else {
        return;
    };
    let scene = Scene::new();
    let mut client = Client::new(&scene, &members.addresses(), 0);
    let mut last = 0;
    for value in 1..=20 {
        last = client.write("/r/0", json!(value)).expect("an answer");
    }
    // Who is told the events within a moment isn't told too much: then another asks.
    for _ in 0..ATTEMPTS {
        let mut told = Told::new(&scene, "/r/", 1);
        let mut watch = told.open(&members.address(0), true).expect("a watch");
        read(&scene, &mut told, &mut watch, last);
        while let Ok(Some(message)) = watch.message() {
            told.take(&scene, &message);
            if message["events"].is_array() || message["watch_id"] == json!("-1") {
                break;
            }
        }
    }
    let found = judge("etcd progress", &scene.recorder.history());
    assert_eq!(refused_by(&found), ["watched"]);
    assert!(
        whys(&found)[0].contains("comes after all up to"),
        "{found:?}"
    );
}

/// etcd issue 15271: a member that was cut off is asked to go on where another one was, gets a snapshot of before
/// that, and tells again what had been told. Fixed in 3.4.25.
#[test]
fn a_watch_goes_back_in_time_with_a_snapshot() {
    let _turn = turn();
    for attempt in 1..=ATTEMPTS {
        // Others each time: a leader that has sent a snapshot keeps its entries for half a minute.
        let Some(members) = Members::start(&["--snapshot-count", SNAPSHOT_COUNT]) else {
            return;
        };
        let scene = lag(&members);
        let found = judge("etcd snapshot", &scene.recorder.history());
        if found.is_empty() {
            continue;
        }
        eprintln!("attempt {attempt}");
        assert_eq!(refused_by(&found), ["watched"]);
        assert!(
            whys(&found)[0].contains("comes after all up to"),
            "{found:?}"
        );
        return;
    }
    panic!("no watch went back in {ATTEMPTS} attempts");
}

/// Stops a member until it needs a snapshot, lets it go on, and watches there meanwhile.
fn lag(members: &Members) -> Arc<Scene> {
    let scene = Arc::new(Scene::new());
    let _ends = Arc::clone(&scene);
    let ends = scene.ends();
    let leader = members.leader(0).expect("a leader");
    let behind = (leader + 1) % COUNT;
    let others: Vec<String> = (0..COUNT)
        .filter(|member| *member != behind)
        .map(|member| members.address(member))
        .collect();
    members.pause(behind);
    let begun = revision(&Gateway::new(&others[0]).must("kv/range", &range("/")));
    let last = Arc::new(AtomicU64::new(begun));
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let (scene, others, last) = (Arc::clone(&scene), others.clone(), Arc::clone(&last));
            std::thread::spawn(move || write(&scene, &others, n, &last))
        })
        .collect();
    let lag = ENTRIES_KEPT + MESSAGES_AHEAD * WRITERS + 1000;
    wait_until("a member that needs a snapshot", LIMIT, || {
        last.load(Ordering::Acquire) > begun + lag
    });
    members.go_on(behind);
    let mut watches: Vec<(Told, Watch)> = std::thread::scope(|threads| {
        let openers: Vec<_> = (0..OPENERS)
            .map(|_| threads.spawn(|| open(&scene, &members.address(behind), &last)))
            .collect();
        let opened = openers
            .into_iter()
            .flat_map(|opener| opener.join().expect("watches"));
        opened.collect()
    });
    drop(ends);
    for writer in writers {
        writer.join().expect("a writer");
    }
    let mut closing = Client::new(&scene, &others, 0);
    let end = closing.write("/r/hot/8", Value::from(scene.number()));
    for (told, watch) in &mut watches {
        read(&scene, told, watch, end.expect("an answer"));
    }
    scene
}

/// Opens one watch after the other at a member that is on its way back.
fn open(scene: &Scene, address: &str, last: &AtomicU64) -> Vec<(Told, Watch)> {
    let clock = Stopwatch::start();
    let mut watches = Vec::new();
    while clock.elapsed() < Duration::from_secs(1) {
        // What was answered was told to a watch at another member, if there was one.
        let told = Told::new(scene, "/r/hot", last.load(Ordering::Acquire) + 1);
        if let Ok(watch) = told.open(address, false) {
            watches.push((told, watch));
        }
        pause();
    }
    watches
}

/// Writes keys of its own, some of which are watched, with values that take time to send.
fn write(scene: &Scene, addresses: &[String], writer: u64, last: &AtomicU64) {
    let mut client = Client::new(scene, addresses, writer as usize);
    let directory = if writer == 0 { "hot" } else { "cold" };
    while !scene.is_over() {
        let key = format!("/r/{directory}/{writer}");
        if let Some(revision) = client.write(&key, Value::from(scene.number())) {
            last.fetch_max(revision, Ordering::AcqRel);
        }
    }
}
