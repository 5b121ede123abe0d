//! The oracle over real groups.

use std::sync::Arc;

use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{Ask as AskBlock, LastGranted};
use caucus_client::PlacementClient;
use caucus_engine::memory::MemoryEngine;
use tokio::sync::watch;

use super::cluster::{ask, client, leader, replica, start};

/// Blocks that each client asks for, one after the other.
const ROUNDS: u32 = 200;

async fn block(client: &PlacementClient, count: u32) -> u64 {
    let body = Ask::Ask(AskBlock {
        count,
        ..AskBlock::default()
    });
    match ask(client, body).await {
        Answer::Granted(granted) => {
            assert_eq!(granted.count, count);
            granted.first
        }
        other => panic!("{other:?}"),
    }
}

async fn last_granted(client: &PlacementClient) -> u64 {
    match ask(client, Ask::LastGranted(LastGranted {})).await {
        Answer::LastGranted(last) => last.revision,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_replica_goes_on_above_its_ceiling() {
    let engine = MemoryEngine::new();
    let members = start(std::slice::from_ref(&engine), 1).await;
    let client_before = client(&members);
    assert_eq!(last_granted(&client_before).await, 1);
    assert_eq!(block(&client_before, 5).await, 2);
    assert_eq!(block(&client_before, 1).await, 7);
    assert_eq!(last_granted(&client_before).await, 7);
    // Larger than what is left: it waits for the log.
    assert_eq!(block(&client_before, 500_000).await, 8);
    for member in members.into_values() {
        let mut leadership = member.group.watch_leadership();
        member.stop().await;
        let ended = leadership.wait_for(|leadership| !leadership.here);
        ended.await.expect("a stopped replica leads no more");
    }

    let members = start(&[engine], 1).await;
    let client = client(&members);
    let last = last_granted(&client).await;
    assert!(last >= 500_007, "{last}");
    assert_eq!(block(&client, 1).await, last + 1);
    let catalog = members[&1].placement.view().catalog();
    assert_eq!(
        catalog.epoch().0,
        1,
        "the cluster is still initialized, once"
    );
}

/// What one client was granted, in its order.
async fn asker(
    client: PlacementClient,
    count: u32,
    granted: Arc<watch::Sender<u32>>,
) -> Vec<(u64, u64)> {
    let mut blocks = Vec::new();
    for _ in 0..ROUNDS {
        let first = block(&client, count).await;
        blocks.push((first, first + u64::from(count) - 1));
        granted.send_modify(|granted| *granted += 1);
    }
    blocks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_rise_over_a_change_of_leader() {
    let engines: Vec<MemoryEngine> = (0..3).map(|_| MemoryEngine::new()).collect();
    let mut members = start(&engines, 3).await;
    let (granted, mut progress) = watch::channel(0);
    let granted = Arc::new(granted);
    let askers: Vec<_> = [1, 7, 30_000]
        .into_iter()
        .map(|count| tokio::spawn(asker(client(&members), count, granted.clone())))
        .collect();

    // The leader goes in the middle of it. Two of three are needed, so the next one stays and
    // hands the lead over instead.
    progress
        .wait_for(|granted| *granted >= ROUNDS / 2)
        .await
        .unwrap();
    let leading = leader(&members).await;
    members.remove(&leading).unwrap().stop().await;
    let at = *progress.borrow() + ROUNDS / 2;
    progress.wait_for(|granted| *granted >= at).await.unwrap();
    let leading = leader(&members).await;
    let other = *members.keys().find(|id| **id != leading).unwrap();
    let asked = members[&leading].group.hand_over(replica(other)).await;
    asked.unwrap();

    let mut all = Vec::new();
    for asker in askers {
        let blocks = asker.await.unwrap();
        let rise = blocks.windows(2).all(|pair| pair[0].1 < pair[1].0);
        assert!(rise, "the grants of one client go back");
        all.extend(blocks);
    }
    all.sort_unstable();
    let twice = all.windows(2).find(|pair| pair[0].1 >= pair[1].0);
    assert_eq!(twice, None, "a revision was granted twice");
    let last = last_granted(&client(&members)).await;
    assert!(all.last().unwrap().1 <= last);
}
