//! An engine under test, and how to crash it.

use caucus_engine::memory::MemoryEngine;
use caucus_engine::rocks::{Options, RocksEngine};
use caucus_engine::{Direction, Engine, Error, Reader, Space};
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use tempfile::TempDir;

/// One of the engines.
pub(crate) enum Bench {
    Memory(MemoryEngine),
    Rocks(RocksEngine, TempDir),
}

impl Bench {
    pub(crate) fn memory() -> Self {
        Bench::Memory(MemoryEngine::new())
    }

    pub(crate) fn rocks() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let engine = RocksEngine::open(directory.path(), Options::default()).expect("open");
        Bench::Rocks(engine, directory)
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        match self {
            Bench::Memory(engine) => engine,
            Bench::Rocks(engine, _) => engine,
        }
    }

    /// The engine that another process would find if this one died now. What RocksDB has not
    /// written out yet is in its memory, so a copy of its files is what a crash leaves.
    pub(crate) fn crash(self) -> Self {
        match self {
            Bench::Memory(engine) => Bench::Memory(engine.crash()),
            Bench::Rocks(_running, directory) => {
                let copy = tempfile::tempdir().expect("a temporary directory");
                copy_directory(directory.path(), copy.path());
                let engine = RocksEngine::open(copy.path(), Options::default()).expect("reopen");
                Bench::Rocks(engine, copy)
            }
        }
    }
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

/// Sync and wait.
pub(crate) fn sync(engine: &dyn Engine) -> Result<(), Error> {
    let (sender, receiver) = mpsc::channel();
    engine.sync(Box::new(move |outcome| {
        let _ = sender.send(outcome);
    }));
    receiver.recv().expect("the callback is called")
}

/// Everything a reader finds in a range.
pub(crate) fn pairs(
    reader: &(impl Reader + ?Sized),
    space: Space,
    start: &[u8],
    end: &[u8],
    direction: Direction,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut scan = reader.scan(space, start, end, direction).expect("scan");
    let mut found = Vec::new();
    while let Some((key, value)) = scan.next().expect("next") {
        found.push((key.to_vec(), value.to_vec()));
    }
    found
}
