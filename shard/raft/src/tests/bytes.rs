//! Bytes that were never written: refused, and never a panic.

use caucus_engine::memory::MemoryEngine;
use caucus_engine::record::{CHAIN_START, encode_record};
use caucus_engine::{Space, WriteBatch, keys};
use proptest::prelude::*;
use prost::Message;

use super::support::{Rig, entry};
use crate::types;
use crate::wire::{self, Applied, LogId, Membership, Voters};

/// Changes bytes as a disk or a hand might: flipped, cut, put in, taken from elsewhere, numbers at their
/// ends.
fn damage() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, u8)>> {
    prop::collection::vec((0..6_u8, any::<prop::sample::Index>(), any::<u8>()), 0..5)
}

fn damaged(mut bytes: Vec<u8>, damage: &[(u8, prop::sample::Index, u8)]) -> Vec<u8> {
    for (kind, at, value) in damage {
        let at = at.index(bytes.len().max(1)).min(bytes.len());
        match kind {
            0 if !bytes.is_empty() => bytes[at] ^= value,
            1 => bytes.truncate(at),
            2 => bytes.insert(at, *value),
            3 => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
            4 => _ = bytes.drain(..at),
            // The largest number there is, in the place of whatever follows.
            _ => bytes
                .splice(at.., [[0xff; 9].as_slice(), &[1]].concat())
                .for_each(drop),
        }
    }
    bytes
}

fn entries() -> Vec<Vec<u8>> {
    let membership = Membership {
        configs: vec![Voters {
            replicas: vec![1, 2, 3],
        }],
        nodes: [(1, 10), (2, 20), (3, 30)].into(),
        log_id: Some(LogId { term: 1, index: 1 }),
    };
    let member = wire::Entry {
        log_id: LogId { term: 1, index: 0 },
        command: None,
        membership: Some(membership.clone()),
    };
    let applied = Applied {
        last: Some(LogId { term: 1, index: 0 }),
        membership,
    };
    vec![
        member.encode_to_vec(),
        applied.encode_to_vec(),
        wire::Entry::from(&entry(1, 0, b"a command")).encode_to_vec(),
        Vec::new(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn entries_and_messages_are_read_or_refused(which in 0..4_usize, damage in damage(), random in prop::collection::vec(any::<u8>(), 0..60)) {
        for bytes in [damaged(entries()[which].clone(), &damage), random] {
            let bytes = &bytes[..];
            if let Ok(entry) = wire::Entry::decode(bytes) {
                // And back again, as it is sent on.
                let entry = types::Entry::from(entry);
                let again = wire::Entry::from(&entry);
                prop_assert_eq!(types::Entry::from(again), entry);
            }
            if let Ok(applied) = Applied::decode(bytes) {
                let _ = applied.meta();
            }
            let _ = wire::AppendRequest::decode(bytes).map(|request| {
                request.entries.into_iter().map(types::Entry::from).collect::<Vec<_>>()
            });
            let _ = wire::VoteRequest::decode(bytes).map(|request| types::Vote::from(request.vote));
            let _ = wire::StandingQuestion::decode(bytes);
            let _ = (wire::To::decode(bytes), wire::BlankAnswer::decode(bytes));
            let _ = wire::TransferRequest::decode(bytes);
            let _ = wire::SnapshotChunk::decode(bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// A record whose checksum is right, with a content that nobody wrote; and damaged positions beside.
    #[test]
    fn a_log_of_any_bytes_is_opened_or_doubted(
        which in 0..4_usize,
        payload in damage(),
        beside in damage(),
        index in prop_oneof![Just(0_u64), Just(1), Just(u64::MAX - 1), Just(u64::MAX)],
    ) {
        // Of the writer's task, which has nothing to do here.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let rig = Rig::memory(&MemoryEngine::new());
        let storage = rig.storage(1);
        let payload = damaged(entries()[which].clone(), &payload);
        let (record, _) = encode_record(CHAIN_START, &[&payload]);
        let purged = damaged(vec![10, 2, 8, 1, 17, 0, 0, 0, 0, 0, 0, 0, 0], &beside);
        let at_the_end = damaged([[10, 11, 16].as_slice(), &[0xff; 9], &[1]].concat(), &beside);
        for (record_of, position) in [(1_u8, &purged), (2, &purged), (2, &at_the_end)] {
            let mut batch = WriteBatch::new();
            batch.put(Space::Log, keys::entry(storage, index), record.clone());
            if !beside.is_empty() {
                batch.put(Space::Log, keys::log_meta(storage, record_of), position.clone());
            }
            rig.engine.write(batch).unwrap();
            let _ = rig.try_log(1);
        }
    }
}

/// A purge up to the last index there can be, and an entry after all: in doubt.
#[tokio::test]
async fn nothing_follows_the_last_index() {
    let rig = Rig::memory(&MemoryEngine::new());
    let storage = rig.storage(1);
    let (record, _) = encode_record(CHAIN_START, &[&entries()[2]]);
    let mut batch = WriteBatch::new();
    batch.put(Space::Log, keys::entry(storage, 0), record);
    let last = [[10, 11, 16].as_slice(), &[0xff; 9], &[1]].concat();
    batch.put(Space::Log, keys::log_meta(storage, 2), last);
    rig.engine.write(batch).unwrap();
    assert!(rig.doubt(1).contains("does not follow"));
}
