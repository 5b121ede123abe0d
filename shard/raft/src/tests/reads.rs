//! Reading a log whose older part is only in the engine, and knowing how long it is.

use caucus_engine::memory::MemoryEngine;
use openraft::storage::{RaftLogReader, RaftLogStorage};

use super::support::{Rig, append, contents, described, entry, settle, within};
use crate::log::LogHandle;
use crate::wire::LogId;

fn indexes(entries: &[crate::types::Entry]) -> Vec<u64> {
    entries.iter().map(|entry| described(entry).1).collect()
}

async fn filled(rig: &Rig, entries: u64, bytes: usize) -> LogHandle {
    let mut log = rig.log(1);
    for index in 0..entries {
        let done = append(&mut log, vec![entry(1, index, &vec![index as u8; bytes])]).await;
        within("an append", done).await.unwrap();
    }
    log
}

#[tokio::test]
async fn what_the_cache_has_let_go_is_read_from_the_engine() {
    let mut rig = Rig::memory(&MemoryEngine::new());
    for tail_bytes_max in [0, 500, 1 << 20] {
        rig.tail_bytes_max = tail_bytes_max;
        let mut log = filled(&rig, 50, 100).await;
        for (start, end) in [
            (0, 50),
            (0, 1),
            (10, 20),
            (40, 50),
            (44, 46),
            (49, 50),
            (7, 90),
        ] {
            let read = log.try_get_log_entries(start..end).await.unwrap();
            let expected: Vec<u64> = (start..end.min(50)).collect();
            assert_eq!(indexes(&read), expected, "{tail_bytes_max} bytes cached");
            let limited = log.limited_get_log_entries(start, end).await.unwrap();
            assert_eq!(indexes(&limited), expected);
        }
        assert!(log.try_get_log_entries(50..60).await.unwrap().is_empty());
        log.truncate_after(None).await.unwrap();
        assert!(contents(&mut log).await.is_empty());
    }
}

#[tokio::test]
async fn a_limited_read_is_never_empty() {
    let mut rig = Rig::memory(&MemoryEngine::new());
    rig.tail_bytes_max = 0;
    // One entry is larger than a read.
    let mut log = filled(&rig, 3, 2 << 20).await;
    for start in 0..3 {
        let read = log.limited_get_log_entries(start, 3).await.unwrap();
        assert_eq!(indexes(&read), [start]);
    }
}

#[tokio::test]
async fn what_is_not_written_is_read_from_the_cache() {
    let engine = MemoryEngine::new();
    let mut rig = Rig::memory(&engine);
    rig.tail_bytes_max = 0;
    let mut log = filled(&rig, 5, 10).await;
    engine.hold_syncs();
    let first = append(&mut log, vec![entry(1, 5, b"five")]).await;
    settle().await;
    // The writer waits for the sync, so this one stays in its queue.
    let second = append(&mut log, vec![entry(1, 6, b"six")]).await;
    let all = log.try_get_log_entries(0..100).await.unwrap();
    assert_eq!(indexes(&all), [0, 1, 2, 3, 4, 5, 6]);
    engine.release_syncs();
    within("both", first).await.unwrap();
    within("both", second).await.unwrap();
}

#[tokio::test]
async fn an_entry_counts_as_written_only_when_it_is() {
    let engine = MemoryEngine::new();
    let rig = Rig::memory(&engine);
    let (mut log, mut other) = (rig.log(1), rig.log(2));
    engine.hold_syncs();
    let _busy = append(&mut other, vec![entry(1, 0, b"z")]).await;
    settle().await;
    let _queued = append(&mut log, vec![entry(1, 0, b"a")]).await;
    let mut written = Box::pin(log.0.wait_written(0));
    settle().await;
    assert!(
        futures::poll!(&mut written).is_pending(),
        "still in the queue"
    );
    engine.release_syncs();
    within("the write", written).await.unwrap();
}

#[tokio::test]
async fn a_purge_leaves_about_the_bytes_asked_for() {
    let rig = Rig::memory(&MemoryEngine::new());
    let mut log = filled(&rig, 400, 4096).await;
    let (length, cut) = log.0.purgeable(512 << 10);
    assert!((1_500_000..1_800_000).contains(&length), "{length}");
    let cut = cut.unwrap();
    // Noted every 64 KiB.
    assert!((250..=272).contains(&cut), "{cut}");
    let upto = LogId {
        term: 1,
        index: cut,
    };
    log.purge(upto.into()).await.unwrap();
    let (length, _) = log.0.purgeable(0);
    assert!(((512 << 10)..(600 << 10)).contains(&length), "{length}");
    let left = contents(&mut log).await;
    assert_eq!(left.first().map(|entry| entry.1), Some(cut + 1));
    assert_eq!(log.0.purgeable(1 << 20).1, None, "nothing more to purge");
    let (reopened, _) = rig.log(1).0.purgeable(0);
    assert!(reopened.abs_diff(length) < 128 << 10, "{reopened} {length}");
}

#[tokio::test]
async fn a_purge_beyond_the_end_begins_anew() {
    let engine = MemoryEngine::new();
    let rig = Rig::memory(&engine);
    let mut log = filled(&rig, 5, 10).await;
    let upto = LogId { term: 3, index: 80 };
    log.purge(upto.into()).await.unwrap();
    within("written", log.0.wait_written(80)).await.unwrap();
    let done = append(&mut log, vec![entry(3, 81, b"next")]).await;
    within("the next", done).await.unwrap();
    let rig = Rig::memory(&engine.crash());
    let mut log = rig.log(1);
    assert_eq!(contents(&mut log).await, [(3, 81, "next".into())]);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(upto.into()));
}
