//! A full disk, on a small file system of its own. Mounting one takes rights that not every
//! machine gives; without them the tests say so and pass.

use caucus_engine::rocks::{Options, RocksEngine};
use caucus_engine::{Engine, Error, Reader, Space, SpaceState, WriteBatch};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const VALUE_BYTES: usize = 64 << 10;
const BALLAST_BYTES: usize = 8 << 20;

/// A file system of 24 MiB in memory, a third of it filled by a file that can go.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path();
        if let Err(error) = mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"size=24m") {
            // Not `print!`, which is kept from view if the test passes.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED, a test of the engine: no small disk on this machine: {error}"
            );
            return None;
        }
        fs::create_dir(path.join("engine")).expect("create");
        fs::write(path.join("ballast"), vec![1; BALLAST_BYTES]).expect("write");
        Some(Self { directory })
    }

    fn open(&self, reserve_bytes: u64) -> Result<RocksEngine, Error> {
        let options = Options {
            write_buffer_bytes: 512 << 10,
            write_buffers_bytes: 1 << 20,
            wal_bytes_max: 1 << 20,
            reserve_bytes,
            ..Options::default()
        };
        RocksEngine::open(self.directory.path().join("engine"), options)
    }

    fn drop_ballast(&self) {
        fs::remove_file(self.directory.path().join("ballast")).expect("remove");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

/// Bytes that don't compress, other ones for each number.
fn value(number: u32) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(VALUE_BYTES)
    .collect()
}

fn put(engine: &dyn Engine, number: u32) -> Result<(), Error> {
    let mut batch = WriteBatch::new();
    batch.put(Space::State, number.to_be_bytes().to_vec(), value(number));
    engine.write(batch)
}

fn sync(engine: &dyn Engine) -> Result<(), Error> {
    let (sender, receiver) = mpsc::channel();
    engine.sync(Box::new(move |outcome| {
        let _ = sender.send(outcome);
    }));
    receiver.recv().expect("called")
}

/// Write and sync until that fails; how many were synced, and the error.
fn fill(engine: &dyn Engine) -> (u32, Error) {
    for number in 0..10_000 {
        if let Err(error) = put(engine, number).and_then(|()| sync(engine)) {
            return (number, error);
        }
    }
    panic!("the disk never fills");
}

fn check(engine: &dyn Engine, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let found = engine.get(Space::State, &number.to_be_bytes());
        assert!(found.expect("get").is_some_and(|v| v == value(number)));
    }
}

#[test]
fn the_guard_refuses_in_time_and_lifts_by_itself() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let engine = disk.open(u64::MAX).expect("open");
    assert!(engine.stats().reserve_bytes <= 6 << 20, "a quarter at most");
    let (count, error) = fill(&engine);
    assert!(error.is_no_space() && !error.needs_reopen(), "{error}");
    assert!(count > 20, "{count}");
    assert_eq!(engine.space(), SpaceState::Low);
    check(&engine, 0..count);

    let mut batch = WriteBatch::new();
    batch.put(Space::Log, "vote", "1");
    engine.write(batch.essential()).expect("a vote passes");
    let mut batch = WriteBatch::new();
    batch.delete_range(
        Space::State,
        0u32.to_be_bytes().to_vec()..10u32.to_be_bytes().to_vec(),
    );
    engine.write(batch).expect("deletes pass");
    sync(&engine).expect("sync");

    disk.drop_ballast();
    // Real time, because the guard looks at a real disk now and then.
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    while engine.space() == SpaceState::Low {
        assert!(start.elapsed() < Duration::from_secs(30), "it doesn't lift");
        std::thread::yield_now();
    }
    put(&engine, count).expect("user writes pass again");
    sync(&engine).expect("sync");
    drop(engine);
    let engine = disk.open(u64::MAX).expect("open");
    check(&engine, 10..count + 1);
    assert_eq!(engine.get(Space::State, &0u32.to_be_bytes()), Ok(None));
}

#[test]
fn a_disk_that_is_really_full_loses_nothing_that_was_synced() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let engine = disk.open(0).expect("open");
    let (count, error) = fill(&engine);
    assert!(error.is_no_space(), "{error}");
    assert!(count > 20, "{count}");
    check(&engine, 0..count);
    drop(engine);
    disk.drop_ballast();
    let engine = disk.open(0).expect("open");
    check(&engine, 0..count);
    put(&engine, count).expect("write");
    sync(&engine).expect("sync");
}

#[test]
fn a_failed_sync_poisons_until_reopened() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let engine = disk.open(0).expect("open");
    put(&engine, 0).expect("write");
    sync(&engine).expect("sync");
    // All that is left, so that nothing but the write-ahead log can be what fails.
    let filler = disk.directory.path().join("filler");
    let mut left = 24 << 20;
    while left > 0 {
        let mut file = fs::OpenOptions::new();
        let mut file = file.append(true).create(true).open(&filler).expect("open");
        let chunk = vec![1; left];
        if file.write(&chunk).is_err() {
            left /= 2;
        }
    }
    let mut failed = None;
    for number in 1..100 {
        if let Err(error) = put(&engine, number).and_then(|()| sync(&engine)) {
            failed = Some((number, error));
            break;
        }
    }
    let (number, error) = failed.expect("a full disk fails a sync");
    assert!(error.is_no_space() && error.needs_reopen(), "{error}");
    assert_eq!(put(&engine, number + 1), Err(error.clone()));
    disk.drop_ballast();
    assert_eq!(sync(&engine), Err(error.clone()), "a retry proves nothing");
    assert_eq!(engine.stats().poisoned, Some(error));
    check(&engine, 0..number);
    drop(engine);
    let engine = disk.open(0).expect("open");
    check(&engine, 0..number);
    put(&engine, number).expect("write");
    sync(&engine).expect("sync");
}
