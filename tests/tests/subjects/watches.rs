//! The known faults of etcd's watches, each by itself: nothing is left to luck that needn't be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caucus_history::Violation;
use caucus_tests::wait::wait_until;
use serde_json::{Value, json};

use crate::clients::Client;
use crate::gateway::{Gateway, Watch, range, revision};
use crate::members::{COUNT, Members, number};
use crate::scene::{Scene, judge, refused_by, turn};
use crate::watchers::Told;

const LIMIT: Duration = Duration::from_secs(60);
/// etcd's leader keeps 5,000 entries for those who lag behind, and more until its next snapshot.
const ENTRIES_KEPT: u64 = 5000;
const SNAPSHOT_COUNT: &str = "100";
/// It has sent so many messages before it waits for an answer, each with what the writers had under way at most.
const MESSAGES_AHEAD: u64 = 512;
const WRITERS: u64 = 4;
const NOT_IN_SNAPSHOT: u64 = 20;
/// A restored watch is looked at ten times a second; leaders are given up after a second.
const LATE: Duration = Duration::from_millis(500);
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

/// Stops a member until it needs a snapshot, holds that back while more is written and a watch of what follows is
/// opened there, and lets it go on; the rest of the log comes late.
fn lag(members: &Members) -> Arc<Scene> {
    let scene = Arc::new(Scene::new());
    let leader = members.leader(0).expect("a leader");
    let behind = (leader + 1) % COUNT;
    let others: Vec<String> = (0..COUNT)
        .filter(|member| *member != behind)
        .map(|member| members.address(member))
        .collect();
    members.pause(behind);
    write_much(&scene, &others);
    let (to_it, from_leader) = ([(0, number(behind))], [(number(leader), 0)]);
    members.wires.cut(&to_it);
    members.go_on(behind);
    wait_until("a snapshot on its way", LIMIT, || {
        members.sends_snapshot(leader)
    });
    let mut client = Client::new(&scene, &others, 0);
    let mut write = || {
        let written = client.write("/r/hot/0", Value::from(scene.number()));
        written.expect("an answer")
    };
    let last = (0..NOT_IN_SNAPSHOT).map(|_| write()).max();
    // All up to there was told to a watch at another member, if there was one.
    let from = last.expect("some") + 1;
    let mut told = Told::new(&scene, "/r/hot", from);
    let mut watch = told.open(&members.address(behind), false).expect("a watch");
    let created = watch.message().expect("the watch can be read");
    assert_eq!(created.expect("the watch goes on")["created"], json!(true));
    members.wires.delay(&from_leader, LATE);
    members.wires.reopen(&to_it);
    let end = write();
    read(&scene, &mut told, &mut watch, end);
    scene
}

/// Writes until a member that hears nothing needs a snapshot.
fn write_much(scene: &Arc<Scene>, addresses: &[String]) {
    let ends = scene.ends();
    let begun = revision(&Gateway::new(&addresses[0]).must("kv/range", &range("/")));
    let last = AtomicU64::new(begun);
    let lag = ENTRIES_KEPT + MESSAGES_AHEAD * WRITERS + 1000;
    std::thread::scope(|threads| {
        for n in 0..WRITERS {
            let last = &last;
            threads.spawn(move || write(scene, addresses, n, last));
        }
        wait_until("a member that needs a snapshot", LIMIT, || {
            last.load(Ordering::Acquire) > begun + lag
        });
        drop(ends);
    });
}

/// Writes a key of its own.
fn write(scene: &Scene, addresses: &[String], writer: u64, last: &AtomicU64) {
    let mut client = Client::new(scene, addresses, writer as usize);
    while !scene.is_over() {
        let key = format!("/r/cold/{writer}");
        if let Some(revision) = client.write(&key, Value::from(scene.number())) {
            last.fetch_max(revision, Ordering::AcqRel);
        }
    }
}
