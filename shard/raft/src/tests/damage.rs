//! What a replica notices when its log is opened: damaged, missing and foreign records, a lost tail.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Engine, Error, Space, WriteBatch, keys};
use openraft::storage::RaftLogStorage;

use super::support::{Rig, append, contents, entry, rocks, vote, within};
use crate::log::Marks;
use crate::wire::LogId;

/// A log of five entries.
async fn five(rig: &Rig, group: u32) {
    let mut log = rig.log(group);
    let entries = (0..5).map(|index| entry(1, index, format!("{group} {index}").as_bytes()));
    let done = append(&mut log, entries.collect()).await;
    within("five entries", done).await.unwrap();
}

fn put(rig: &Rig, group: u32, index: u64, record: Vec<u8>) {
    let mut batch = WriteBatch::new();
    batch.put(Space::Log, keys::entry(rig.storage(group), index), record);
    rig.engine.write(batch).unwrap();
}

fn remove(rig: &Rig, group: u32, index: u64) {
    let mut batch = WriteBatch::new();
    batch.delete(Space::Log, keys::entry(rig.storage(group), index));
    rig.engine.write(batch).unwrap();
}

fn record(rig: &Rig, group: u32, index: u64) -> Vec<u8> {
    let key = keys::entry(rig.storage(group), index);
    rig.engine.get(Space::Log, &key).unwrap().unwrap().to_vec()
}

#[tokio::test]
async fn every_flipped_byte_is_noticed() {
    let rig = Rig::memory(&MemoryEngine::new());
    five(&rig, 1).await;
    for index in [0, 2, 4] {
        let whole = record(&rig, 1, index);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            put(&rig, 1, index, damaged);
            rig.doubt(1);
        }
        put(&rig, 1, index, whole[..whole.len() - 1].to_vec());
        rig.doubt(1);
        put(&rig, 1, index, Vec::new());
        rig.doubt(1);
        put(&rig, 1, index, whole);
    }
    assert_eq!(contents(&mut rig.log(1)).await.len(), 5, "mended");
}

#[tokio::test]
async fn a_missing_moved_or_foreign_record_is_noticed() {
    let rig = Rig::memory(&MemoryEngine::new());
    five(&rig, 1).await;
    five(&rig, 2).await;
    let (one, two) = (record(&rig, 1, 1), record(&rig, 1, 2));
    remove(&rig, 1, 2);
    rig.doubt(1);
    put(&rig, 1, 2, record(&rig, 2, 2));
    assert!(rig.doubt(1).contains("does not follow"), "another group's");
    put(&rig, 1, 2, one.clone());
    rig.doubt(1);
    put(&rig, 1, 2, two);
    rig.log(1);
    remove(&rig, 1, 0);
    assert!(
        rig.doubt(1).contains("does not follow"),
        "the first is missing"
    );
    rig.log(2);
}

#[tokio::test]
async fn a_damaged_vote_or_purge_position_is_noticed() {
    let rig = Rig::memory(&MemoryEngine::new());
    for meta in [1, 2] {
        let group = u32::from(meta);
        five(&rig, group).await;
        let mut batch = WriteBatch::new();
        let key = keys::log_meta(rig.storage(group), meta);
        batch.put(Space::Log, key, vec![0xFF; 3]);
        rig.engine.write(batch).unwrap();
        assert!(rig.doubt(group).contains("cannot be read"));
    }
}

#[tokio::test]
async fn a_lost_tail_is_noticed_by_the_mark() {
    let directory = tempfile::tempdir().unwrap();
    let marks = Some(directory.path().join("SYNCED"));
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let rig = Rig::new(engine.clone(), marks.clone());
    five(&rig, 1).await;
    let mut log = rig.log(1);
    log.save_vote(&vote(4)).await.unwrap();
    log.0.mark();
    rig.marks.write().unwrap();
    drop((log, rig));
    let rig = Rig::new(engine, marks);
    rig.log(1);
    let last = record(&rig, 1, 4);
    remove(&rig, 1, 4);
    assert!(rig.doubt(1).contains("synced up to 4"));
    assert!(rig.doubt(1).contains("ends at 3"));
    put(&rig, 1, 4, last);
    rig.log(1);
    let mut batch = WriteBatch::new();
    batch.delete(Space::Log, keys::log_meta(rig.storage(1), 1));
    rig.engine.write(batch).unwrap();
    assert!(rig.doubt(1).contains("vote"));
}

/// RocksDB opens with what is before the damage and says nothing.
#[tokio::test]
async fn a_write_ahead_log_that_lost_its_end_is_noticed_by_the_mark() {
    let directory = tempfile::tempdir().unwrap();
    let (whole, marks) = (
        directory.path().join("whole"),
        directory.path().join("SYNCED"),
    );
    let rig = Rig::new(rocks(&whole), Some(marks.clone()));
    five(&rig, 1).await;
    let log = rig.log(1);
    log.0.mark();
    rig.marks.write().unwrap();
    let wal = newest_wal(&whole);
    let bytes = fs::read(whole.join(&wal)).unwrap();
    let doubt = |number: usize, bytes: &[u8]| {
        let copy = directory.path().join(number.to_string());
        copy_files(&whole, &copy);
        fs::write(copy.join(&wal), bytes).unwrap();
        Rig::new(rocks(&copy), Some(marks.clone())).doubt(1)
    };
    // At the end of a record or not.
    for number in 0..16 {
        let reason = doubt(number, &bytes[..bytes.len() * number / 16]);
        assert!(reason.contains("synced up to 4"), "{reason}");
        let mut flipped = bytes.clone();
        flipped[bytes.len() * number / 16] ^= 1;
        let reason = doubt(100 + number, &flipped);
        assert!(reason.contains("synced up to 4"), "{reason}");
    }
    let copy = directory.path().join("copy");
    copy_files(&whole, &copy);
    Rig::new(rocks(&copy), Some(marks)).log(1);
}

fn newest_wal(engine: &Path) -> PathBuf {
    let names = fs::read_dir(engine.join("db")).unwrap();
    let names = names.map(|entry| PathBuf::from("db").join(entry.unwrap().file_name()));
    let wals = names.filter(|name| name.extension().is_some_and(|kind| kind == "log"));
    wals.max().unwrap()
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_files(&path, &target),
            false => _ = fs::copy(path, target).unwrap(),
        }
    }
}

#[tokio::test]
async fn a_truncation_lowers_the_mark_before_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = Some(directory.path().join("SYNCED"));
    let engine = MemoryEngine::new();
    let rig = Rig::new(Arc::new(engine.clone()), path.clone());
    five(&rig, 1).await;
    let mut log = rig.log(1);
    log.0.mark();
    rig.marks.write().unwrap();
    // The process dies between the two.
    engine.fail_next_write(Error::Closed);
    let kept = LogId { term: 1, index: 1 };
    assert!(log.truncate_after(Some(kept.into())).await.is_err());
    let found = Marks::open(path.clone()).unwrap().get(1, 1).unwrap();
    assert_eq!(found.last, Some(kept));
    drop((log, rig));
    let rig = Rig::new(Arc::new(engine), path);
    assert_eq!(
        contents(&mut rig.log(1)).await.len(),
        5,
        "lower is no doubt"
    );
}

#[tokio::test]
async fn what_is_durable_after_it_was_truncated_raises_no_mark() {
    let engine = MemoryEngine::new();
    let rig = Rig::memory(&engine);
    five(&rig, 1).await;
    let mut log = rig.log(1);
    engine.hold_syncs();
    let done = append(&mut log, vec![entry(1, 5, b"f"), entry(1, 6, b"g")]).await;
    let kept = LogId { term: 1, index: 2 };
    // Written by the same batch or the one after; the sync of the append ends later in any case.
    let mut cut = log.clone();
    let cut = tokio::spawn(async move { cut.truncate_after(Some(kept.into())).await });
    super::support::settle().await;
    engine.release_syncs();
    within("the append", done).await.unwrap();
    within("the truncation", cut).await.unwrap().unwrap();
    log.0.mark();
    let mark = rig.marks.get(1, 1).unwrap();
    assert_eq!(mark.last, Some(kept));
}
