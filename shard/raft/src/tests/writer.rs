//! The log writer: order, group commit, failures.

use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Engine, Error};
use openraft::storage::RaftLogStorage;

use super::support::{Rig, append, contents, entry, settle, vote, within};

#[tokio::test]
async fn a_callback_never_runs_before_its_entry_and_all_before_it_are_durable() {
    let engine = MemoryEngine::new();
    let rig = Rig::memory(&engine);
    let mut log = rig.log(1);
    engine.hold_syncs();
    let mut first = append(&mut log, vec![entry(1, 0, b"a")]).await;
    settle().await;
    assert_eq!(engine.held_syncs(), 1);
    // While the first sync runs these wait, and come with the next.
    let mut second = append(&mut log, vec![entry(1, 1, b"b")]).await;
    let mut third = append(&mut log, vec![entry(1, 2, b"c")]).await;
    settle().await;
    assert!(futures::poll!(&mut first).is_pending());
    assert_eq!(contents(&mut log).await.len(), 3, "readable at once");
    engine.complete_syncs();
    within("the first callback", &mut first).await.unwrap();
    settle().await;
    assert!(futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut third).is_pending());
    assert_eq!(engine.held_syncs(), 1, "both in one sync");
    engine.complete_syncs();
    within("the others", second).await.unwrap();
    within("the others", third).await.unwrap();
    let rig = Rig::memory(&engine.crash());
    assert_eq!(contents(&mut rig.log(1)).await.len(), 3);
}

#[tokio::test]
async fn a_vote_follows_the_appends_before_it() {
    let engine = MemoryEngine::new();
    let rig = Rig::memory(&engine);
    let mut log = rig.log(1);
    engine.hold_syncs();
    let mut appended = append(&mut log, vec![entry(1, 0, b"a")]).await;
    let mut voter = log.clone();
    let mut saved = Box::pin(async move { voter.save_vote(&vote(7)).await });
    assert!(futures::poll!(&mut saved).is_pending());
    settle().await;
    assert!(futures::poll!(&mut saved).is_pending(), "not durable yet");
    engine.release_syncs();
    within("the vote", saved).await.unwrap();
    assert!(matches!(
        futures::poll!(&mut appended),
        std::task::Poll::Ready(Ok(()))
    ));
}

#[tokio::test]
async fn groups_share_syncs() {
    const GROUPS: u32 = 50;
    let engine = MemoryEngine::new();
    let rig = Rig::memory(&engine);
    let mut logs: Vec<_> = (1..=GROUPS).map(|group| rig.log(group)).collect();
    engine.hold_syncs();
    let mut waiting = Vec::new();
    for round in 0..4 {
        for log in &mut logs {
            waiting.push(append(log, vec![entry(1, round, b"x")]).await);
            settle().await;
        }
    }
    engine.release_syncs();
    let appends = waiting.len() as u64;
    for done in waiting {
        within("an append", done).await.unwrap();
    }
    let syncs = engine.stats().sync_requests;
    assert_eq!(appends, 200);
    assert_eq!(syncs, 2, "one for the first append, one for all others");
    let rig = Rig::memory(&engine.crash());
    for group in 1..=GROUPS {
        assert_eq!(contents(&mut rig.log(group)).await.len(), 4);
    }
}

#[tokio::test]
async fn a_refused_write_leaves_no_hole() {
    let engine = MemoryEngine::new();
    let rig = Rig::memory(&engine);
    let (mut log, mut other) = (rig.log(1), rig.log(2));
    let done = append(&mut log, vec![entry(1, 0, b"a")]).await;
    within("the first", done).await.unwrap();
    engine.fail_next_write(Error::Io {
        context: "simulated".to_owned(),
    });
    let lost = append(&mut log, vec![entry(1, 1, b"b")]).await;
    settle().await;
    // openraft may have sent more before it learns of the failure.
    let after = append(&mut log, vec![entry(1, 2, b"c")]).await;
    let elsewhere = append(&mut other, vec![entry(1, 0, b"z")]).await;
    assert!(within("the lost one", lost).await.is_err());
    assert!(within("the one after", after).await.is_err());
    assert!(log.save_vote(&vote(3)).await.is_err());
    assert!(log.truncate_after(None).await.is_err());
    within("another group", elsewhere).await.unwrap();
    let rig = Rig::memory(&engine.crash());
    let found = contents(&mut rig.log(1)).await;
    assert_eq!(found, [(1, 0, "a".into())]);
    assert_eq!(contents(&mut rig.log(2)).await.len(), 1);
}

#[tokio::test]
async fn a_failed_sync_is_told_to_all_who_wait() {
    let engine = MemoryEngine::new();
    let rig = Rig::memory(&engine);
    let (mut log, mut other) = (rig.log(1), rig.log(2));
    engine.fail_next_sync(Error::Io {
        context: "simulated".to_owned(),
    });
    let done = append(&mut log, vec![entry(1, 0, b"a")]).await;
    assert!(within("the append", done).await.is_err());
    let late = append(&mut other, vec![entry(1, 0, b"a")]).await;
    assert!(within("a later append", late).await.is_err());
    assert!(other.save_vote(&vote(2)).await.is_err());
}
