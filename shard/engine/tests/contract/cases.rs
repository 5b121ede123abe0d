//! The cases of the contract.

use crate::bench::{Bench, pairs, sync};
use bytes::Bytes;
use caucus_engine::{Direction, Engine, Reader, Scan, Space, SpaceState, WriteBatch};
use std::sync::{Arc, Mutex, mpsc};

use Direction::{Forward, Reverse};
use Space::{Log, State};

fn put(engine: &dyn Engine, space: Space, key: &'static str, value: &'static str) {
    let mut batch = WriteBatch::new();
    batch.put(space, key, value);
    engine.write(batch).expect("write");
}

fn get(reader: &(impl Reader + ?Sized), space: Space, key: &str) -> Option<Bytes> {
    reader.get(space, key.as_bytes()).expect("get")
}

/// `a` to `e`, each with itself as its value.
fn letters(engine: &dyn Engine) {
    for letter in ["a", "b", "c", "d", "e"] {
        put(engine, State, letter, letter);
    }
}

fn keys(
    reader: &(impl Reader + ?Sized),
    start: &str,
    end: &str,
    direction: Direction,
) -> Vec<String> {
    pairs(reader, State, start.as_bytes(), end.as_bytes(), direction)
        .into_iter()
        .map(|(key, _)| String::from_utf8(key).expect("text"))
        .collect()
}

fn next(scan: &mut (dyn Scan + Send + '_)) -> Option<Bytes> {
    scan.next().expect("next").map(|(key, _)| key)
}

pub(crate) fn reads_see_writes_on_return(bench: Bench) {
    let engine = bench.engine();
    assert_eq!(get(engine, State, "k"), None);
    put(engine, State, "k", "1");
    assert_eq!(get(engine, State, "k").as_deref(), Some(&b"1"[..]));
    put(engine, State, "k", "2");
    assert_eq!(get(engine, State, "k").as_deref(), Some(&b"2"[..]));
    engine
        .write(WriteBatch::new())
        .expect("an empty batch is fine");
    assert_eq!(engine.space(), SpaceState::Ok);
}

pub(crate) fn a_batch_applies_in_order(bench: Bench) {
    let engine = bench.engine();
    put(engine, State, "b", "old");
    let mut batch = WriteBatch::new();
    batch.put(State, "a", "1");
    batch.delete_range(State, "a".."c");
    batch.put(State, "a", "2");
    batch.put(State, "c", "3");
    batch.delete(State, "c");
    batch.put(State, "a", "4");
    assert_eq!((batch.len(), batch.size_bytes()), (6, 11));
    engine.write(batch).expect("write");
    assert_eq!(keys(engine, "", "", Forward), ["a"]);
    assert_eq!(get(engine, State, "a").as_deref(), Some(&b"4"[..]));
}

pub(crate) fn spaces_are_apart(bench: Bench) {
    let engine = bench.engine();
    let mut batch = WriteBatch::new();
    batch.put(Log, "k", "log");
    batch.put(State, "k", "state");
    engine.write(batch).expect("write");
    assert_eq!(get(engine, Log, "k").as_deref(), Some(&b"log"[..]));
    let mut batch = WriteBatch::new();
    batch.delete(Log, "k");
    engine.write(batch).expect("write");
    assert_eq!(get(engine, Log, "k"), None);
    assert_eq!(get(engine, State, "k").as_deref(), Some(&b"state"[..]));
}

pub(crate) fn appended_batches_are_one(bench: Bench) {
    let engine = bench.engine();
    let mut first = WriteBatch::new();
    first.put(Log, "a", "1");
    assert!(!first.is_essential());
    let mut second = WriteBatch::new();
    second.delete(Log, "a");
    assert!(second.is_essential(), "deletes are");
    second.put(State, "b", "2");
    first.append(second.essential());
    assert!(first.is_essential());
    assert_eq!((first.len(), first.size_bytes()), (3, 5));
    assert_eq!(first.ops().len(), 3);
    engine.write(first).expect("write");
    assert_eq!(get(engine, Log, "a"), None);
    assert_eq!(get(engine, State, "b").as_deref(), Some(&b"2"[..]));
}

pub(crate) fn delete_range_is_half_open(bench: Bench) {
    let engine = bench.engine();
    letters(engine);
    for (start, end) in [("c", "c"), ("d", "b"), ("a", ""), ("x", "z")] {
        let mut batch = WriteBatch::new();
        batch.delete_range(State, start..end);
        engine.write(batch).expect("write");
        assert_eq!(keys(engine, "", "", Forward).len(), 5, "{start}..{end}");
    }
    let mut batch = WriteBatch::new();
    batch.delete_range(State, "b".."d");
    engine.write(batch).expect("write");
    assert_eq!(keys(engine, "", "", Forward), ["a", "d", "e"]);
    assert_eq!(keys(engine, "", "", Reverse), ["e", "d", "a"]);
    put(engine, State, "c", "again");
    assert_eq!(keys(engine, "b", "e", Forward), ["c", "d"]);
}

pub(crate) fn multi_get_keeps_the_order(bench: Bench) {
    let engine = bench.engine();
    letters(engine);
    let asked = ["d", "x", "a", "a", ""].map(Bytes::from_static_str);
    let wanted = [Some("d"), None, Some("a"), Some("a"), None].map(|v| v.map(Bytes::from));
    let snapshot = engine.snapshot();
    assert_eq!(engine.multi_get(State, &asked).expect("multi_get"), wanted);
    assert_eq!(
        snapshot.multi_get(State, &asked).expect("multi_get"),
        wanted
    );
    assert_eq!(engine.multi_get(State, &[]).expect("multi_get"), []);
}

/// So that arrays of literals become arrays of keys.
trait FromStaticStr {
    fn from_static_str(text: &'static str) -> Self;
}

impl FromStaticStr for Bytes {
    fn from_static_str(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes())
    }
}

pub(crate) fn scans_go_both_ways(bench: Bench) {
    let engine = bench.engine();
    letters(engine);
    let table: [(&str, &str, &[&str]); 8] = [
        ("", "", &["a", "b", "c", "d", "e"]),
        ("b", "d", &["b", "c"]),
        ("bb", "dd", &["c", "d"]),
        ("e", "", &["e"]),
        ("", "a", &[]),
        ("f", "", &[]),
        ("c", "c", &[]),
        ("d", "b", &[]),
    ];
    for (start, end, wanted) in table {
        assert_eq!(keys(engine, start, end, Forward), wanted, "{start}..{end}");
        let mut reversed = wanted.to_vec();
        reversed.reverse();
        assert_eq!(
            keys(engine, start, end, Reverse),
            reversed,
            "{start}..{end}"
        );
    }
    let mut scan = engine.scan(State, b"d", b"", Forward).expect("scan");
    for wanted in [Some("d"), Some("e"), None, None] {
        assert_eq!(next(&mut *scan).as_deref(), wanted.map(str::as_bytes));
    }
}

pub(crate) fn scans_seek_within_bounds(bench: Bench) {
    let engine = bench.engine();
    letters(engine);
    let snapshot = engine.snapshot();
    // Bounds are b..e throughout: b, c and d are within.
    let table = [
        (Forward, "c", Some("c"), Some("d")),
        (Forward, "bb", Some("c"), Some("d")),
        (Forward, "", Some("b"), Some("c")),
        (Forward, "d", Some("d"), None),
        (Forward, "e", None, None),
        (Forward, "z", None, None),
        (Reverse, "c", Some("c"), Some("b")),
        (Reverse, "cc", Some("c"), Some("b")),
        (Reverse, "e", Some("d"), Some("c")),
        (Reverse, "z", Some("d"), Some("c")),
        (Reverse, "b", Some("b"), None),
        (Reverse, "a", None, None),
        (Reverse, "", None, None),
    ];
    for (direction, target, first, second) in table {
        let mut fresh = engine.scan(State, b"b", b"e", direction).expect("scan");
        let mut used = snapshot.scan(State, b"b", b"e", direction).expect("scan");
        while next(&mut *used).is_some() {}
        for scan in [&mut fresh, &mut used] {
            scan.seek(target.as_bytes());
            let found = (next(&mut **scan), next(&mut **scan));
            let wanted = (first.map(Bytes::from), second.map(Bytes::from));
            assert_eq!(found, wanted, "{direction:?} to {target:?}");
        }
    }
}

pub(crate) fn scans_and_snapshots_see_no_later_write(bench: Bench) {
    let engine = bench.engine();
    letters(engine);
    put(engine, Log, "l", "1");
    let snapshot = engine.snapshot();
    let mut running = engine.scan(State, b"", b"", Forward).expect("scan");
    assert_eq!(next(&mut *running).as_deref(), Some(&b"a"[..]));
    let mut batch = WriteBatch::new();
    batch.put(State, "a", "new");
    batch.delete_range(State, "b".."z");
    batch.put(State, "bb", "new");
    batch.delete(Log, "l");
    engine.write(batch).expect("write");
    sync(engine).expect("sync");
    assert_eq!(next(&mut *running).as_deref(), Some(&b"b"[..]));
    drop(running);
    assert_eq!(keys(engine, "", "", Forward), ["a", "bb"]);
    assert_eq!(keys(&*snapshot, "", "", Reverse), ["e", "d", "c", "b", "a"]);
    assert_eq!(get(&*snapshot, State, "a").as_deref(), Some(&b"a"[..]));
    assert_eq!(get(&*snapshot, Log, "l").as_deref(), Some(&b"1"[..]));
    drop(snapshot);
    assert_eq!(get(engine, Log, "l"), None);
    assert_eq!(engine.stats().snapshots, 0);
}

pub(crate) fn a_snapshot_outlives_the_engine_handle(bench: Bench) {
    letters(bench.engine());
    let snapshot = bench.engine().snapshot();
    drop(bench);
    let read = std::thread::spawn(move || keys(&*snapshot, "", "", Forward));
    assert_eq!(read.join().expect("read").len(), 5);
}

pub(crate) fn syncs_call_back_in_order(bench: Bench) {
    let engine = bench.engine();
    let called = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = mpsc::channel();
    for number in 0..1000 {
        let (called, sender) = (Arc::clone(&called), sender.clone());
        engine.sync(Box::new(move |outcome| {
            outcome.expect("sync");
            called.lock().expect("lock").push(number);
            let _ = sender.send(());
        }));
    }
    drop(sender);
    assert_eq!(receiver.iter().count(), 1000);
    let called = called.lock().expect("lock");
    assert!(called.iter().copied().eq(0..1000));
    let stats = engine.stats();
    assert_eq!(stats.sync_requests, 1000);
    assert!((1..=1000).contains(&stats.syncs));
}

pub(crate) fn a_callback_may_use_the_engine(bench: Bench) {
    let (sender, receiver) = mpsc::channel();
    let (engine, _directory): (Arc<dyn Engine>, _) = match bench {
        Bench::Memory(engine) => (Arc::new(engine), None),
        Bench::Rocks(engine, directory) => (Arc::new(engine), Some(directory)),
    };
    let owned = Arc::clone(&engine);
    engine.sync(Box::new(move |_| {
        put(&*owned, State, "k", "from the callback");
        let value = get(&*owned, State, "k");
        // The last handle may go here, on the engine's own thread.
        drop(owned);
        let _ = sender.send(value);
    }));
    drop(engine);
    let value = receiver.recv().expect("called");
    assert_eq!(value.as_deref(), Some(&b"from the callback"[..]));
}

pub(crate) fn a_crash_keeps_what_was_synced(bench: Bench) {
    letters(bench.engine());
    put(bench.engine(), Log, "l", "1");
    sync(bench.engine()).expect("sync");
    let bench = bench.crash();
    let engine = bench.engine();
    assert_eq!(keys(engine, "", "", Forward).len(), 5);
    assert_eq!(get(engine, Log, "l").as_deref(), Some(&b"1"[..]));
    put(engine, State, "a", "after");
    sync(engine).expect("sync");
    let bench = bench.crash();
    let value = get(bench.engine(), State, "a");
    assert_eq!(value.as_deref(), Some(&b"after"[..]));
}

pub(crate) fn keys_and_values_may_be_any_bytes(bench: Bench) {
    let engine = bench.engine();
    let mut sorted: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0, 0],
        vec![0, 0xFF],
        vec![0xFF],
        vec![0xFF; 300],
    ];
    let mut batch = WriteBatch::new();
    for key in sorted.iter().rev() {
        batch.put(State, key.clone(), key.clone());
    }
    engine.write(batch).expect("write");
    let found = pairs(engine, State, b"", b"", Forward);
    assert!(found.iter().all(|(key, value)| key == value));
    assert!(found.iter().map(|(key, _)| key).eq(&sorted));
    sorted.reverse();
    let found = pairs(engine, State, b"", b"", Reverse);
    assert!(found.iter().map(|(key, _)| key).eq(&sorted));
}
