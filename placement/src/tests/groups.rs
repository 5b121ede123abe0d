//! From an empty log to data groups, as routers and nodes see it.

use std::collections::BTreeMap;

use caucus_api::placement::error::Code;
use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{Activate, Activated, FollowMap, Leads, Report, Request};
use caucus_client::{PlacementClient, PlacementError};
use caucus_engine::memory::MemoryEngine;
use caucus_ring::{GroupId, GroupState};

use super::cluster::{LIMIT, Member, ask, client, leader, map_at, peers, register, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_becomes_a_cluster() {
    let members = start(&[MemoryEngine::new()], 1).await;
    let (client, addr) = (client(&members), members[&1].addr.clone());
    let (node, cluster_id) = register(&client, &members, 0).await;
    // Node 1 is kept for the voter; this one is the next.
    assert_eq!((node, cluster_id), (2, vec![1; 16]));
    let map = map_at(&client, &addr, |map| map.has_owners()).await;
    assert_eq!(map.groups().len(), 2);
    assert_eq!(map.placement().replicas[0].id.0, 11);

    // In the same process, without a link; nothing newer yet.
    let follow = Ask::FollowMap(FollowMap {
        known_epoch: map.epoch().0,
        wait_ms: 0,
    });
    let request = Request { body: Some(follow) };
    match members[&1].placement.handle(request).await.body {
        Some(Answer::Map(none)) => assert!(none.map.is_empty() && none.epoch == map.epoch().0),
        other => panic!("{other:?}"),
    }
    for _ in 0..2 {
        let activate = Ask::Activate(Activate { group: 1 });
        assert_eq!(
            ask(&client, activate).await,
            Answer::Activated(Activated {})
        );
    }
    let active = map_at(&client, &addr, |map| map.epoch().0 == 4).await;
    let state = active.group(GroupId(1)).unwrap().state;
    assert_eq!(state, GroupState::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_made_when_enough_nodes_are_there() {
    let engines: Vec<MemoryEngine> = (0..3).map(|_| MemoryEngine::new()).collect();
    let members = start(&engines, 3).await;
    let client = client(&members);
    for node in 1..=2 {
        register(&client, &members, node).await;
    }
    // Every replica shows what it has applied.
    for member in members.values() {
        let map = map_at(&client, &member.addr, |map| map.nodes().len() == 2).await;
        assert!(!map.has_owners());
    }
    // Held, the controller makes no groups; but the node is registered.
    members
        .values()
        .for_each(|member| member.placement.pause(true));
    register(&client, &members, 3).await;
    for member in members.values() {
        let map = map_at(&client, &member.addr, |map| map.nodes().len() == 3).await;
        assert!(!map.has_owners());
    }
    members
        .values()
        .for_each(|member| member.placement.pause(false));
    for member in members.values() {
        let map = map_at(&client, &member.addr, |map| map.has_owners()).await;
        assert_eq!(map.groups().len(), 6);
        assert!(map.groups().iter().all(|group| group.replicas.len() == 3));
    }
    reports_reach_the_leader(&members, &client).await;
}

async fn reports_reach_the_leader(members: &BTreeMap<u32, Member>, client: &PlacementClient) {
    let leading = leader(members).await;
    let map = members[&leading].placement.view().map().unwrap();
    let replica = map.group(GroupId(1)).unwrap().replica_on(2.into()).unwrap();
    let leads = Leads {
        group: 1,
        term: 7,
        replica: replica.id.0,
    };
    // A replica of nobody: left out.
    let wrong = Leads {
        group: 2,
        term: 7,
        replica: 999,
    };
    let report = Report {
        node: 2,
        leads: vec![leads, wrong],
    };
    match ask(client, Ask::Report(report.clone())).await {
        Answer::Reported(reported) => {
            assert_eq!(reported.epoch, map.epoch().0);
            assert_eq!(reported.leads, [leads]);
            assert!(reported.suspects.is_empty());
        }
        other => panic!("{other:?}"),
    }
    let (_, follower) = members.iter().find(|(node, _)| **node != leading).unwrap();
    let body = Some(Ask::Report(report));
    match follower.placement.handle(Request { body }).await.body {
        Some(Answer::Error(error)) => {
            assert_eq!(error.code(), Code::NotLeader);
            assert_eq!(error.leader_addr, members[&leading].addr);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused() {
    let members = start(&[MemoryEngine::new()], 1).await;
    leader(&members).await;
    let placement = &members[&1].placement;
    let ask = |count| {
        Ask::Ask(caucus_api::placement::Ask {
            count,
            ..Default::default()
        })
    };
    let register = Ask::Register(Default::default());
    for body in [None, Some(ask(0)), Some(ask(u32::MAX)), Some(register)] {
        let asked = format!("{body:?}");
        match placement.handle(Request { body }).await.body {
            Some(Answer::Error(error)) => assert_eq!(error.code(), Code::Invalid, "{asked}"),
            other => panic!("{asked}: {other:?}"),
        }
    }
    let client = client(&members);
    register_is_refused(&client, &members).await;
    // Bytes that are no request are answered too.
    let peer = peers(0).peer(&members[&1].addr);
    let garbage = bytes::Bytes::from_static(&[0xff; 9]);
    let answer = peer
        .call(caucus_peer::Service::Placement, garbage, LIMIT)
        .await;
    let answer: caucus_api::placement::Response = prost::Message::decode(answer.unwrap()).unwrap();
    assert!(matches!(answer.body, Some(Answer::Error(error)) if error.code() == Code::Invalid));
}

async fn register_is_refused(client: &PlacementClient, members: &BTreeMap<u32, Member>) {
    register(client, members, 1).await;
    let other = Ask::Register(caucus_api::placement::Register {
        node: 1,
        storage_id: vec![1; 16].into(),
        peer_addr: "n:1".to_owned(),
        client_addr: "n:2".to_owned(),
        shard: true,
        ..Default::default()
    });
    let deadline = tokio::time::Instant::now() + LIMIT;
    let refused = client.ask(other, deadline).await.unwrap_err();
    assert!(matches!(refused, PlacementError::Refused(_)), "{refused}");
}
