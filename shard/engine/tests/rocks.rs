//! What only the RocksDB engine does: files, damage, shared syncs.

use caucus_engine::rocks::{Options, RocksEngine};
use caucus_engine::{Engine, Error, Space, WriteBatch};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, mpsc};

fn open(path: &Path) -> Result<RocksEngine, Error> {
    RocksEngine::open(path, Options::default())
}

fn put(engine: &dyn Engine, number: u32) {
    let mut batch = WriteBatch::new();
    let key = number.to_be_bytes();
    batch.put(Space::Log, key.to_vec(), vec![7; 100]);
    batch.put(Space::State, key.to_vec(), vec![8; 100]);
    engine.write(batch).expect("write");
}

fn request(engine: &dyn Engine) -> mpsc::Receiver<Result<(), Error>> {
    let (sender, receiver) = mpsc::channel();
    engine.sync(Box::new(move |outcome| {
        let _ = sender.send(outcome);
    }));
    receiver
}

fn sync(engine: &dyn Engine) {
    request(engine).recv().expect("called").expect("sync");
}

/// How many numbers from 0 on are there; none may follow a gap, and both spaces agree.
fn prefix(engine: &dyn Engine) -> u32 {
    let has = |space, number: u32| {
        let value = engine.get(space, &number.to_be_bytes());
        value.expect("get").is_some()
    };
    let count = (0..1000)
        .take_while(|number| has(Space::Log, *number))
        .count() as u32;
    for number in 0..1000 {
        assert_eq!(has(Space::Log, number), number < count, "{number}");
        assert_eq!(has(Space::State, number), number < count, "{number}");
    }
    count
}

fn newest_wal(path: &Path) -> PathBuf {
    let mut logs: Vec<PathBuf> = fs::read_dir(path.join("db"))
        .expect("list")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    logs.pop().expect("a write-ahead log")
}

#[test]
fn reopens_after_drop_with_everything() {
    let directory = tempfile::tempdir().expect("directory");
    for round in 0..3 {
        let engine = open(directory.path()).expect("open");
        assert_eq!(prefix(&engine), round * 10);
        for number in round * 10..round * 10 + 10 {
            put(&engine, number);
        }
        // Not synced: an orderly close loses nothing all the same.
    }
    assert_eq!(prefix(&open(directory.path()).expect("open")), 30);
}

#[test]
fn many_requests_share_a_sync() {
    let directory = tempfile::tempdir().expect("directory");
    let engine = open(directory.path()).expect("open");
    // The first callback keeps the thread busy until all others have asked.
    let gate = Arc::new(Barrier::new(2));
    let inside = Arc::clone(&gate);
    engine.sync(Box::new(move |_| {
        inside.wait();
        inside.wait();
    }));
    gate.wait();
    let waiting: Vec<_> = (0..999)
        .map(|number| {
            put(&engine, number);
            request(&engine)
        })
        .collect();
    gate.wait();
    for receiver in waiting {
        receiver.recv().expect("called").expect("sync");
    }
    let stats = engine.stats();
    assert_eq!((stats.sync_requests, stats.syncs), (1000, 2));
    assert!(stats.wal_bytes > 0 && stats.memtable_bytes > 0 && stats.free_bytes > 0);
    assert!(stats.sync_total >= stats.sync_last);
}

#[test]
fn a_panicking_callback_stops_nobody_else() {
    let directory = tempfile::tempdir().expect("directory");
    let engine = open(directory.path()).expect("open");
    engine.sync(Box::new(|_| panic!("planned")));
    put(&engine, 0);
    sync(&engine);
}

#[test]
fn unsynced_writes_die_with_the_process_and_synced_ones_dont() {
    let directory = tempfile::tempdir().expect("directory");
    let engine = open(directory.path()).expect("open");
    put(&engine, 0);
    sync(&engine);
    put(&engine, 1);
    let copy = tempfile::tempdir().expect("directory");
    fs::create_dir(copy.path().join("db")).expect("create");
    fs::copy(directory.path().join("FORMAT"), copy.path().join("FORMAT")).expect("copy");
    for entry in fs::read_dir(directory.path().join("db")).expect("list") {
        let entry = entry.expect("entry");
        fs::copy(entry.path(), copy.path().join("db").join(entry.file_name())).expect("copy");
    }
    assert_eq!(prefix(&engine), 2);
    assert_eq!(prefix(&open(copy.path()).expect("open")), 1);
}

#[test]
fn a_flipped_byte_in_the_log_leaves_a_prefix() {
    for part in [1, 5, 9] {
        let directory = tempfile::tempdir().expect("directory");
        let engine = open(directory.path()).expect("open");
        for number in 0..100 {
            put(&engine, number);
        }
        sync(&engine);
        drop(engine);
        let wal = newest_wal(directory.path());
        let mut content = fs::read(&wal).expect("read");
        let at = content.len() * part / 10;
        content[at] ^= 0x10;
        fs::write(&wal, content).expect("write");
        let engine = open(directory.path()).expect("open");
        let kept = prefix(&engine);
        let bound = 100 * part as u32 / 10;
        assert!((bound - 3..=bound).contains(&kept), "{kept} of {bound}");
        // The engine goes on from there.
        for number in kept..200 {
            put(&engine, number);
        }
        drop(engine);
        assert_eq!(prefix(&open(directory.path()).expect("open")), 200);
    }
}

#[test]
fn a_torn_tail_leaves_a_prefix() {
    let directory = tempfile::tempdir().expect("directory");
    let engine = open(directory.path()).expect("open");
    for number in 0..100 {
        put(&engine, number);
    }
    drop(engine);
    let wal = newest_wal(directory.path());
    let file = fs::OpenOptions::new().write(true).open(&wal).expect("open");
    let length = file.metadata().expect("metadata").len();
    file.set_len(length - 5).expect("truncate");
    assert_eq!(prefix(&open(directory.path()).expect("open")), 99);
}

#[test]
fn refuses_what_it_does_not_know() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let kind = |result: Result<RocksEngine, Error>| match result {
        Ok(_) => "open",
        Err(Error::Format { .. }) => "format",
        Err(Error::Corruption { .. }) => "corruption",
        Err(_) => "other",
    };
    fs::write(path.join("photo.jpg"), b"...").expect("write");
    assert_eq!(kind(open(path)), "format", "somebody else's files");
    fs::remove_file(path.join("photo.jpg")).expect("remove");

    let engine = open(path).expect("open");
    assert_eq!(kind(open(path)), "other", "in use");
    put(&engine, 0);
    drop(engine);

    let format = fs::read(path.join("FORMAT")).expect("read");
    assert_eq!(format, b"caucus-engine 1\n");
    fs::write(path.join("FORMAT"), b"caucus-engine 2\n").expect("write");
    assert_eq!(kind(open(path)), "format", "another version");
    fs::remove_file(path.join("FORMAT")).expect("remove");
    assert_eq!(kind(open(path)), "format", "data of unknown version");
    fs::write(path.join("FORMAT"), format).expect("write");
    assert_eq!(kind(open(path)), "open");

    let manifest = fs::read_dir(path.join("db"))
        .expect("list")
        .map(|entry| entry.expect("entry").path())
        .find(|path| path.to_string_lossy().contains("MANIFEST"))
        .expect("a manifest");
    let whole = fs::read(&manifest).expect("read");
    let mut broken = whole.clone();
    broken[20] ^= 1;
    fs::write(&manifest, broken).expect("write");
    let error = open(path).map(drop).expect_err("corrupt");
    assert!(error.is_corruption(), "{error}");
    fs::write(&manifest, whole).expect("write");

    fs::rename(path.join("db"), path.join("gone")).expect("rename");
    assert_eq!(kind(open(path)), "corruption", "no fresh start");
}

#[test]
fn a_first_open_cut_short_starts_again() {
    let directory = tempfile::tempdir().expect("directory");
    drop(open(directory.path()).expect("open"));
    // The mark is made after it.
    for file in ["FORMAT", "MANIFEST-MARK"] {
        fs::remove_file(directory.path().join(file)).expect("remove");
    }
    fs::write(directory.path().join("FORMAT.part"), b"cau").expect("write");
    drop(open(directory.path()).expect("open"));
    drop(open(directory.path()).expect("open"));
}
