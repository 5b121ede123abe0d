//! The journal of vnode records: it ends now and then, and what it said stays.

use caucus_api::shard::Batch;
use caucus_engine::keys::state_kind;

use super::history::{History, KEYS};
use super::rig::{Entry, Pairs, Rig};

/// More rounds than the journal keeps records of, twice.
const ROUNDS: u64 = 1_100;

fn entries() -> Vec<Entry> {
    let mut history = History::new(100);
    for round in 0..ROUNDS {
        let key = KEYS[round as usize % KEYS.len()];
        let first_revision = history.model.highest + 1;
        history.batch(Batch {
            first_revision,
            writes: vec![super::cases::put(1, round, first_revision - 1, key, b"v")],
            progress: Vec::new(),
            ..Batch::default()
        });
    }
    history.entries
}

fn count(pairs: &Pairs, kind: u8) -> usize {
    pairs.keys().filter(|key| key[0] == kind).count()
}

#[test]
fn a_journal_ends_with_the_vnode_records_and_begins_anew() {
    let mut rig = Rig::memory(100);
    let mut lengths = Vec::new();
    for entry in entries() {
        rig.round(&[entry]);
        lengths.push(count(&rig.dump(), state_kind::JOURNAL));
    }
    let longest = lengths.iter().max().copied().unwrap_or(0);
    assert!((100..600).contains(&longest), "{longest}");
    let ends = lengths.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(ends >= 1, "it was never cut");
    assert!(count(&rig.dump(), state_kind::VNODE) > 0);
}

#[test]
fn restarts_and_snapshots_around_its_end_change_no_byte() {
    let entries = entries();
    let mut straight = Rig::memory(100);
    straight.one_by_one(&entries);
    let wanted = straight.dump();
    for at in [1, 500, 512, 513, 514, 600, 1_050] {
        let mut restarted = Rig::memory(100);
        restarted.one_by_one(&entries[..at]);
        let mut restored = restarted.restore();
        let mut restarted = restarted.restart();
        for other in [&mut restarted, &mut restored] {
            other.one_by_one(&entries[at..]);
            assert!(other.dump() == wanted, "from {at}");
            assert_eq!(other.published.hash(), straight.published.hash());
        }
    }
}

#[test]
fn its_length_hides_nothing_from_the_essence() {
    let entries = entries();
    let (mut singly, mut gathered) = (Rig::memory(100), Rig::memory(100));
    singly.one_by_one(&entries);
    for round in entries.chunks(100) {
        gathered.round(round);
    }
    assert_ne!(singly.dump(), gathered.dump(), "the journals differ");
    assert_eq!(singly.essence(), gathered.essence());
}
