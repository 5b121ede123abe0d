//! The faults that only the memory engine has.

use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Direction, Engine, Error, Reader, Space, SpaceState, WriteBatch};
use std::sync::mpsc;

fn put(engine: &MemoryEngine, key: &'static str) -> Result<(), Error> {
    let mut batch = WriteBatch::new();
    batch.put(Space::State, key, "value");
    engine.write(batch)
}

fn has(engine: &MemoryEngine, key: &str) -> bool {
    let value = engine.get(Space::State, key.as_bytes()).expect("get");
    value.is_some()
}

fn request(engine: &MemoryEngine) -> mpsc::Receiver<Result<(), Error>> {
    let (sender, receiver) = mpsc::channel();
    engine.sync(Box::new(move |outcome| {
        let _ = sender.send(outcome);
    }));
    receiver
}

fn no_space() -> Error {
    Error::NoSpace {
        context: "planned".to_owned(),
    }
}

#[test]
fn a_held_sync_covers_what_was_written_before_it_and_no_more() {
    let engine = MemoryEngine::new();
    engine.hold_syncs();
    put(&engine, "before").expect("write");
    let first = request(&engine);
    put(&engine, "between").expect("write");
    let second = request(&engine);
    put(&engine, "after").expect("write");
    assert_eq!(engine.held_syncs(), 2);
    assert!(first.try_recv().is_err(), "held");
    engine.complete_syncs();
    assert_eq!(first.recv(), Ok(Ok(())));
    assert_eq!(second.recv(), Ok(Ok(())));
    assert_eq!(engine.stats().syncs, 1, "both in one");
    assert_eq!(engine.unsynced_batches(), 1);
    let third = request(&engine);
    assert!(third.try_recv().is_err(), "still held");
    let recovered = engine.crash();
    assert!(third.recv().is_err(), "a dead process tells nobody");
    assert!(has(&recovered, "before") && has(&recovered, "between"));
    assert!(!has(&recovered, "after"));
}

#[test]
fn released_syncs_complete_at_once() {
    let engine = MemoryEngine::new();
    engine.hold_syncs();
    let waiting = request(&engine);
    engine.release_syncs();
    assert_eq!(waiting.try_recv(), Ok(Ok(())));
    assert_eq!(request(&engine).try_recv(), Ok(Ok(())));
}

#[test]
fn a_crashed_engine_is_closed_but_its_snapshots_read_on() {
    let engine = MemoryEngine::new();
    put(&engine, "key").expect("write");
    let snapshot = engine.snapshot();
    let recovered = engine.crash_with(1);
    assert!(has(&recovered, "key"));
    assert_eq!(put(&engine, "other"), Err(Error::Closed));
    assert_eq!(engine.get(Space::State, b"key"), Err(Error::Closed));
    assert_eq!(request(&engine).recv(), Ok(Err(Error::Closed)));
    assert!(snapshot.get(Space::State, b"key").expect("get").is_some());
}

#[test]
fn a_failed_write_changes_nothing_and_the_next_succeeds() {
    let engine = MemoryEngine::new();
    engine.fail_next_write(no_space());
    let error = put(&engine, "a").expect_err("planned");
    assert!(error.is_no_space() && !error.needs_reopen());
    assert!(!has(&engine, "a"));
    put(&engine, "a").expect("write");
}

#[test]
fn a_failed_sync_is_final() {
    let engine = MemoryEngine::new();
    put(&engine, "synced").expect("write");
    assert_eq!(request(&engine).recv(), Ok(Ok(())));
    put(&engine, "lost").expect("write");
    engine.fail_next_sync(no_space());
    let error = request(&engine)
        .recv()
        .expect("called")
        .expect_err("planned");
    assert!(error.is_no_space() && error.needs_reopen());
    assert_eq!(put(&engine, "refused"), Err(error.clone()));
    assert_eq!(request(&engine).recv(), Ok(Err(error)));
    assert!(has(&engine, "lost"), "reads go on");
    let recovered = engine.crash();
    assert!(has(&recovered, "synced") && !has(&recovered, "lost"));
    put(&recovered, "again").expect("write");
}

#[test]
fn low_space_lets_only_essential_batches_pass() {
    let engine = MemoryEngine::new();
    put(&engine, "key").expect("write");
    engine.set_space(SpaceState::Low);
    assert_eq!(engine.space(), SpaceState::Low);
    assert!(put(&engine, "more").expect_err("low").is_no_space());
    let mut vote = WriteBatch::new();
    vote.put(Space::Log, "vote", "1");
    engine.write(vote.essential()).expect("essential");
    let mut delete = WriteBatch::new();
    delete.delete(Space::State, "key");
    engine.write(delete).expect("deletes pass");
    engine.set_space(SpaceState::Ok);
    put(&engine, "more").expect("write");
}

#[test]
fn old_versions_are_freed_when_nobody_can_see_them() {
    let engine = MemoryEngine::new();
    put(&engine, "key").expect("write");
    request(&engine).recv().expect("called").expect("sync");
    let size = engine.stats().memtable_bytes;
    let scan = engine.scan(Space::State, b"", b"", Direction::Forward);
    for _ in 0..100 {
        put(&engine, "key").expect("write");
    }
    request(&engine).recv().expect("called").expect("sync");
    assert!(engine.stats().memtable_bytes > size, "the scan holds them");
    drop(scan);
    assert_eq!(engine.stats().memtable_bytes, size);
    let mut batch = WriteBatch::new();
    batch.delete(Space::State, "key");
    engine.write(batch).expect("write");
    request(&engine).recv().expect("called").expect("sync");
    assert_eq!(engine.stats().memtable_bytes, 0);
}

#[test]
fn a_rotten_bit_is_in_all_that_is_read() {
    let engine = MemoryEngine::new();
    put(&engine, "key").expect("write");
    put(&engine, "other").expect("write");
    request(&engine).recv().expect("called").expect("sync");
    let snapshot = engine.snapshot();
    assert!(engine.rot(Space::State, b"key", 9));
    assert!(!engine.rot(Space::Log, b"key", 9));
    let rotten = Some(&b"vclue"[..]);
    let value = |reader: &dyn Reader| reader.get(Space::State, b"key").expect("get");
    assert_eq!(value(&engine).as_deref(), rotten);
    assert_eq!(value(&*snapshot).as_deref(), rotten);
    let recovered = engine.crash();
    assert_eq!(value(&recovered).as_deref(), rotten);
    put(&recovered, "key").expect("write");
    assert_eq!(
        value(&recovered).as_deref(),
        Some(&b"value"[..]),
        "written anew"
    );
    let other = recovered.get(Space::State, b"other").expect("get");
    assert_eq!(other.as_deref(), Some(&b"value"[..]));
}

#[test]
fn a_number_picks_a_value() {
    let engine = MemoryEngine::new();
    assert_eq!(engine.pick(Space::State, 7), None, "nothing is there");
    for key in ["a", "b", "c"] {
        put(&engine, key).expect("write");
    }
    let mut delete = WriteBatch::new();
    delete.delete(Space::State, "a");
    engine.write(delete).expect("write");
    let picked: Vec<_> = (0..4)
        .map(|n| engine.pick(Space::State, n).expect("two are there"))
        .collect();
    assert_eq!(picked, ["b", "c", "b", "c"]);
}

#[test]
fn a_spoilt_value_is_found_out_when_it_is_read() {
    let engine = MemoryEngine::new();
    for key in ["a", "key", "z"] {
        put(&engine, key).expect("write");
    }
    request(&engine).recv().expect("called").expect("sync");
    assert!(!engine.spoil(Space::State, b"none"));
    assert!(engine.spoil(Space::State, b"key"));
    let spoilt = |reader: &dyn Reader| {
        let read = reader.get(Space::State, b"key");
        let mut scan = reader
            .scan(Space::State, b"", b"", Direction::Forward)
            .expect("scan");
        let first = scan.next().expect("it is whole").expect("three");
        let found = (read, scan.next().map(|_| ()));
        (first.0, found)
    };
    let corrupt = |reader: &dyn Reader| {
        let (first, (read, scanned)) = spoilt(reader);
        assert_eq!(first, "a");
        assert!(matches!(read, Err(Error::Corruption { .. })), "{read:?}");
        assert!(
            matches!(scanned, Err(Error::Corruption { .. })),
            "{scanned:?}"
        );
    };
    corrupt(&engine);
    corrupt(&*engine.snapshot());
    let recovered = engine.crash();
    corrupt(&recovered);
    put(&recovered, "key").expect("write");
    assert!(has(&recovered, "key"), "written anew");
}

#[test]
fn a_wiped_disk_has_nothing_and_can_be_written() {
    let engine = MemoryEngine::new();
    put(&engine, "key").expect("write");
    request(&engine).recv().expect("called").expect("sync");
    let fresh = engine.wipe();
    assert_eq!(put(&engine, "other"), Err(Error::Closed));
    assert!(!has(&fresh, "key"));
    put(&fresh, "key").expect("write");
    assert!(has(&fresh, "key"));
}
