//! A state as chunks: what arrives is what was sent, or it is refused and leaves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Direction, Engine, Reader, Space, WriteBatch, keys};
use proptest::prelude::*;
use prost::Message;

use super::snapshot_in::Staging;
use super::snapshot_out::ChunkReader;
use crate::state::{Places, SnapshotSource};
use crate::wire;

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Of the sender.
const STORAGE: keys::StorageId = 3;

fn pairs() -> impl Strategy<Value = Pairs> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    prop::collection::btree_map(bytes(6), bytes(40), 0..40)
}

fn chunks(pairs: &Pairs, chunk_bytes: usize) -> Vec<wire::SnapshotChunk> {
    let engine = MemoryEngine::new();
    let mut batch = WriteBatch::new();
    for (key, value) in pairs {
        let key = [&STORAGE.to_be_bytes()[..], key].concat();
        batch.put(Space::State, key, value.clone());
    }
    // Others' states lie on both sides.
    for storage in [STORAGE - 1, STORAGE + 1] {
        batch.put(Space::State, keys::meta(storage, 9), vec![1]);
    }
    engine.write(batch).unwrap();
    let source = SnapshotSource {
        engine: engine.snapshot(),
        storage: STORAGE,
        applied: wire::Applied {
            last: Some(wire::LogId { term: 2, index: 7 }),
            ..wire::Applied::default()
        },
    };
    let to = wire::To {
        group: 1,
        replica: 2,
    };
    let mut reader = ChunkReader::new(to, wire::Vote::default(), source, chunk_bytes);
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next().unwrap() {
        chunks.push(chunk);
    }
    chunks
}

/// What is stored under all storage ids.
fn stored(engine: &MemoryEngine) -> Pairs {
    let start = keys::prefix_range(1).start;
    let end = keys::prefix_range(keys::STORAGE_ID_MAX).start;
    let scan = engine.scan(Space::State, &start, &end, Direction::Forward);
    let mut scan = scan.unwrap();
    let mut pairs = Pairs::new();
    while let Some((key, value)) = scan.next().unwrap() {
        pairs.insert(key[4..].to_vec(), value.to_vec());
    }
    pairs
}

/// Takes frames as they come; what was installed, if anything.
fn receive(frames: &[Vec<u8>]) -> (Option<Pairs>, Pairs) {
    let engine = MemoryEngine::new();
    let shared: Arc<dyn Engine> = Arc::new(engine.clone());
    let places = Places::open(shared.clone()).unwrap();
    let mut staging = Staging::new(shared, &places).unwrap();
    let mut taken = None;
    for frame in frames {
        // A chunk that can't be read ends its link.
        let Ok(chunk) = wire::SnapshotChunk::decode(&frame[..]) else {
            break;
        };
        match staging.stage(chunk) {
            Ok(None) => {}
            Ok(Some((staged, applied))) => {
                // openraft asks for it; it must not panic.
                let _ = applied.meta();
                taken = Some(stored(&engine));
                drop(staged);
            }
            Err(_) => break,
        }
    }
    drop(staging);
    (taken, stored(&engine))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_arrives_is_what_was_sent(pairs in pairs(), chunk_bytes in 1..200_usize) {
        let frames: Vec<_> = chunks(&pairs, chunk_bytes).iter().map(Message::encode_to_vec).collect();
        let (taken, left) = receive(&frames);
        prop_assert_eq!(taken, Some(pairs));
        prop_assert_eq!(left, Pairs::new(), "what nobody installs goes");
    }

    /// Bytes changed, chunks lost, doubled and in another order: never a panic, never another state.
    #[test]
    fn what_was_damaged_is_not_installed(
        pairs in pairs(),
        chunk_bytes in 1..100_usize,
        damage in prop::collection::vec((0..5_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let whole: Vec<_> = chunks(&pairs, chunk_bytes).iter().map(Message::encode_to_vec).collect();
        let mut frames = whole.clone();
        for (kind, frame, byte, value) in damage {
            let at = frame.index(frames.len());
            let length = frames[at].len();
            let inside = byte.index(length.max(1)).min(length);
            match kind {
                0 if !frames[at].is_empty() => frames[at][inside] ^= value,
                1 => frames[at].truncate(inside),
                2 => frames[at].insert(inside, value),
                3 => { let frame = frames[at].clone(); frames.insert(at, frame); }
                4 if frames.len() > 1 => _ = frames.remove(at),
                _ => {}
            }
        }
        let (taken, left) = receive(&frames);
        if let Some(taken) = taken {
            prop_assert_eq!(taken, pairs);
        }
        prop_assert_eq!(left, Pairs::new(), "a refused transfer leaves nothing");
    }
}
