//! Engines live, die of power loss and live again: both against one small model, all from a seed.
//!
//! ```text
//!   open ─▶ batches, syncs, compactions ─▶ power loss ─▶ what is there? ─▶ open ─▶ ...
//! ```
//!
//! What is there must be a prefix of the batches that were written, with all that were synced, whole, and the same
//! in both spaces. If the memory engine kept another promise than RocksDB does on a disk, a simulation on it would
//! prove a fiction.

mod damage;
mod life;
mod memory;
mod model;
mod rocks;

use caucus_power::Loss;
use life::{Coverage, live};
use memory::Memory;
use rocks::Rocks;

/// How often each RocksDB engine loses power; with [`ROCKS_LIVES`] these are the crash points of the gate.
const ROCKS_DEATHS: u64 = 6;
const ROCKS_LIVES: u64 = 12;
const MEMORY_DEATHS: u64 = 12;
const MEMORY_LIVES: u64 = 60;

fn all(lives: u64, mut one: impl FnMut(u64) -> Result<Coverage, String>) -> Coverage {
    let mut all = Coverage::default();
    for seed in 1..=lives {
        match one(seed) {
            Ok(coverage) => all.add(&coverage),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    all
}

/// So many of the seeds are found out.
fn found_out(lives: u64, mut one: impl FnMut(u64) -> Result<Coverage, String>) -> (u64, String) {
    let said: Vec<String> = (1..=lives).filter_map(|seed| one(seed).err()).collect();
    (said.len() as u64, said.join("\n"))
}

#[test]
fn the_memory_engine_keeps_its_promises() {
    let coverage = all(MEMORY_LIVES, |seed| {
        live(&mut Memory::new(), seed, MEMORY_DEATHS)
    });
    coverage.must_be_wide();
}

#[test]
fn the_memory_engine_is_found_out_if_it_forgets() {
    let (found, said) = found_out(10, |seed| {
        live(&mut Memory::forgetful(), seed, MEMORY_DEATHS)
    });
    assert_eq!(found, 10, "{said}");
}

#[test]
fn rocksdb_keeps_its_promises() {
    let coverage = all(ROCKS_LIVES, |seed| {
        live(&mut Rocks::new(None), seed, ROCKS_DEATHS)
    });
    coverage.must_be_wide();
    assert!(coverage.names_lost > 0, "no name of a file was lost");
    assert!(
        coverage.deaths_in_recovery > 0,
        "none died while it was opened"
    );
}

/// Planted: the write-ahead log is never synced.
#[test]
fn rocksdb_is_found_out_if_it_leaves_out_the_sync() {
    let (found, said) = found_out(3, |seed| {
        live(&mut Rocks::new(Some(".log")), seed, ROCKS_DEATHS)
    });
    assert_eq!(found, 3, "{said}");
    assert!(said.contains("synced"), "{said}");
}

/// Planted: tables are never synced. What was moved from the log into them is lost with them.
#[test]
fn rocksdb_is_found_out_if_it_leaves_out_the_sync_of_tables() {
    let (found, said) = found_out(3, |seed| {
        live(&mut Rocks::new(Some(".sst")), seed, ROCKS_DEATHS)
    });
    assert_eq!(found, 3, "{said}");
}

/// A manifest with zeros in its last record can't be told from a damaged one: then it doesn't open. A write-ahead
/// log is used up to the zeros.
#[test]
fn zeros_where_data_was_are_a_shorter_prefix_or_a_refusal() {
    let mut coverage = Coverage::default();
    for seed in 1..=ROCKS_LIVES / 2 {
        match live(&mut Rocks::losing(Loss::Zeros), seed, ROCKS_DEATHS) {
            Ok(lived) => coverage.add(&lived),
            Err(why) => assert!(
                why.contains("open: storage is corrupt"),
                "seed {seed}: {why}"
            ),
        }
    }
    assert!(coverage.lost > 0 && coverage.kept > 0, "{coverage:?}");
}
