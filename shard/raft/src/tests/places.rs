//! Storage ids: never used twice, swept when nothing points to them.

use std::sync::Arc;

use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Direction, Engine, Reader, Space, WriteBatch, keys};

use crate::state::{Places, Staged};

fn fill_state(engine: &MemoryEngine, storage: keys::StorageId) {
    let mut batch = WriteBatch::new();
    batch.put(Space::State, keys::meta(storage, 1), vec![1]);
    batch.put(Space::State, keys::current(storage, 9, b"key"), vec![1]);
    engine.write(batch).unwrap();
}

fn fill_log(engine: &MemoryEngine, storage: keys::StorageId) {
    let mut batch = WriteBatch::new();
    batch.put(Space::Log, keys::entry(storage, 1), vec![1]);
    engine.write(batch).unwrap();
}

fn fill(engine: &MemoryEngine, storage: keys::StorageId) {
    fill_state(engine, storage);
    fill_log(engine, storage);
}

fn keys_of(engine: &MemoryEngine, storage: keys::StorageId) -> usize {
    let range = keys::prefix_range(storage);
    let mut found = 0;
    for space in Space::ALL {
        let mut scan = engine
            .scan(space, &range.start, &range.end, Direction::Forward)
            .unwrap();
        while scan.next().unwrap().is_some() {
            found += 1;
        }
    }
    found
}

fn open(engine: &MemoryEngine) -> Places {
    Places::open(Arc::new(engine.clone())).unwrap()
}

#[test]
fn what_nothing_points_to_is_swept_at_open() {
    let engine = MemoryEngine::new();
    let places = open(&engine);
    let one = places.of(1, 1).unwrap();
    let orphan = places.allocate().unwrap();
    let two = places.of(2, 7).unwrap();
    let last = places.allocate().unwrap();
    for storage in [one.log, one.state, orphan, two.log, two.state, last] {
        fill(&engine, storage);
    }
    let places = open(&engine);
    assert_eq!(places.of(1, 1).unwrap(), one);
    assert_eq!(places.of(2, 7).unwrap(), two);
    assert_eq!(places.replicas(), [(1, 1), (2, 7)]);
    for storage in [one.log, one.state, two.log, two.state] {
        assert_eq!(keys_of(&engine, storage), 3);
    }
    assert_eq!(keys_of(&engine, orphan), 0);
    assert_eq!(keys_of(&engine, last), 0);
    assert!(places.allocate().unwrap() > last, "no id is used twice");
}

#[test]
fn a_wiped_replica_leaves_nothing_and_gets_new_ids() {
    let engine = MemoryEngine::new();
    let places = open(&engine);
    let (old, other) = (places.of(1, 1).unwrap(), places.of(1, 2).unwrap());
    for place in [old, other] {
        fill_log(&engine, place.log);
        fill_state(&engine, place.state);
    }
    places.wipe(1, 1).unwrap();
    assert_eq!(keys_of(&engine, old.log) + keys_of(&engine, old.state), 0);
    assert_eq!(
        keys_of(&engine, other.log) + keys_of(&engine, other.state),
        3
    );
    let new = open(&engine).of(1, 1).unwrap();
    assert!(new.log > other.state && new.state > other.state);
}

#[test]
fn ids_of_a_crash_that_forgot_them_hold_nothing() {
    let engine = MemoryEngine::new();
    let places = open(&engine);
    for keep in 0..6 {
        let engine = engine.crash_with(keep);
        let place = open(&engine).of(1, 1).unwrap();
        assert_eq!(
            keys_of(&engine, place.log) + keys_of(&engine, place.state),
            0
        );
    }
    drop(places);
}

#[test]
fn a_staged_state_goes_unless_it_is_kept() {
    let engine = MemoryEngine::new();
    let places = open(&engine);
    let shared: Arc<dyn Engine> = Arc::new(engine.clone());
    let staged = Staged::new(shared.clone(), &places).unwrap();
    let storage = staged.storage();
    fill(&engine, storage);
    assert_eq!(staged.keep(), storage);
    assert_eq!(keys_of(&engine, storage), 3);
    let staged = Staged::new(shared, &places).unwrap();
    let storage = staged.storage();
    let mut batch = WriteBatch::new();
    batch.put(Space::State, keys::meta(storage, 1), vec![1]);
    engine.write(batch).unwrap();
    drop(staged);
    assert_eq!(keys_of(&engine, storage), 0);
}
