//! The placement client and the map follower, against real peer ports.

mod support;

use std::sync::Arc;
use std::time::Duration;

use caucus_api::placement::error::Code;
use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{Error, LastGranted, LastGrantedIs, Map, Request, Response};
use caucus_client::{
    MapFollower, MapFollowerOptions, Maps, PlacementClient, PlacementError, PlacementOptions,
};
use caucus_peer::{Frame, Link};
use caucus_ring::{ClusterId, ClusterMap, Epoch, Group, GroupId, GroupState, MapContent, Rules};
use prost::Message;
use support::{Server, peers};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn client(servers: &[&Server]) -> PlacementClient {
    let seeds = servers.iter().map(|server| server.addr.clone()).collect();
    let options = PlacementOptions {
        pause: Duration::from_millis(1),
        ..PlacementOptions::default()
    };
    PlacementClient::new(peers(), options, seeds)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn answer(link: &Link, question: &Frame, body: Answer) {
    let body = Response { body: Some(body) }.encode_to_vec().into();
    link.send_now(question.reply(body)).unwrap();
}

fn error(code: Code, leader_addr: &str) -> Answer {
    Answer::Error(Error {
        code: code as i32,
        message: "because".to_owned(),
        leader_addr: leader_addr.to_owned(),
    })
}

fn last_granted(revision: u64) -> Answer {
    Answer::LastGranted(LastGrantedIs {
        revision,
        ..LastGrantedIs::default()
    })
}

/// Asks in the background; the test plays the servers meanwhile.
fn ask(client: &PlacementClient) -> tokio::task::JoinHandle<Result<Answer, PlacementError>> {
    let client = client.clone();
    tokio::spawn(async move {
        let question = Ask::LastGranted(LastGranted {});
        client.ask(question, soon()).await
    })
}

#[tokio::test]
async fn it_follows_the_leader_and_stays_with_it() {
    let (mut first, mut second) = (Server::start().await, Server::start().await);
    let client = client(&[&first]);
    let asked = ask(&client);
    let (link, question) = first.next().await;
    answer(&link, &question, error(Code::NotLeader, &second.addr));
    let (link, question) = second.next().await;
    answer(&link, &question, last_granted(5));
    assert_eq!(asked.await.unwrap(), Ok(last_granted(5)));

    let asked = ask(&client);
    let (link, question) = second.next().await;
    answer(&link, &question, last_granted(6));
    assert_eq!(asked.await.unwrap(), Ok(last_granted(6)));
}

#[tokio::test]
async fn it_goes_round_when_nobody_knows_the_leader() {
    let (mut first, mut second) = (Server::start().await, Server::start().await);
    let gone = Server::start().await;
    let client = client(&[&gone, &first, &second]);
    gone.stop().await;
    let asked = ask(&client);
    let (link, question) = first.next().await;
    answer(&link, &question, error(Code::Unavailable, ""));
    let (link, question) = second.next().await;
    answer(&link, &question, error(Code::NotLeader, ""));
    let (link, question) = first.next().await;
    // Two that name each other don't hold it for ever.
    answer(&link, &question, error(Code::NotLeader, &second.addr));
    let (link, question) = second.next().await;
    answer(&link, &question, last_granted(8));
    assert_eq!(asked.await.unwrap(), Ok(last_granted(8)));
}

#[tokio::test]
async fn refusals_are_final_and_deadlines_hold() {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let asked = ask(&client);
    let (link, question) = server.next().await;
    answer(&link, &question, error(Code::Refused, ""));
    let refused = PlacementError::Refused("because".to_owned());
    assert_eq!(asked.await.unwrap(), Err(refused));

    let deadline = Instant::now() + Duration::from_millis(20);
    let question = Ask::LastGranted(LastGranted {});
    let error = client.ask(question, deadline).await.unwrap_err();
    assert!(matches!(error, PlacementError::Unavailable { .. }));
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_left_by_questions_that_have_little_time() {
    let (mut first, mut second) = (Server::start().await, Server::start().await);
    let client = client(&[&first, &second]);
    let asked = ask(&client);
    let (link, question) = first.next().await;
    answer(&link, &question, last_granted(5));
    assert_eq!(asked.await.unwrap(), Ok(last_granted(5)));
    // Less than what an attempt may take: each is cut off before its attempt has failed.
    let little = Duration::from_millis(20);
    let mut asked = 0;
    while second.frames.is_empty() {
        assert!(asked < 50, "the silent one is asked for ever");
        let question = Ask::LastGranted(LastGranted {});
        let error = client.ask(question, Instant::now() + little).await;
        assert!(matches!(error, Err(PlacementError::Unavailable { .. })));
        asked += 1;
    }
    let (link, question) = second.next().await;
    answer(&link, &question, last_granted(6));
}

fn map(epoch: u64) -> ClusterMap {
    ClusterMap::new(MapContent {
        epoch: Epoch(epoch),
        cluster_id: ClusterId([7; 16]),
        vnodes: 64,
        rules: Rules::default(),
        nodes: Vec::new(),
        groups: Vec::new(),
        placement: Group {
            id: GroupId::PLACEMENT,
            state: GroupState::Active,
            replicas: Vec::new(),
        },
        owners: vec![GroupId::PLACEMENT; 64],
    })
    .unwrap()
}

fn known_epoch(question: &Frame) -> u64 {
    match Request::decode(question.body.clone()).unwrap().body {
        Some(Ask::FollowMap(follow)) => follow.known_epoch,
        other => panic!("{other:?}"),
    }
}

fn news(epoch: u64) -> Answer {
    Answer::Map(Map {
        epoch,
        map: map(epoch).encode().into(),
    })
}

#[tokio::test]
async fn maps_are_followed_and_never_go_back() {
    let (mut first, mut second) = (Server::start().await, Server::start().await);
    let maps = Maps::default();
    let options = MapFollowerOptions {
        pause: Duration::from_millis(1),
        ..MapFollowerOptions::default()
    };
    let follower = MapFollower::new(client(&[&first, &second]), options, maps.clone());
    let stop = CancellationToken::new();
    let running = tokio::spawn(follower.run(stop.clone()));
    assert_eq!(maps.epoch(), Epoch(0));

    let (link, question) = first.next().await;
    assert_eq!(known_epoch(&question), 0);
    answer(&link, &question, news(3));
    maps.reach(Epoch(3)).await;
    assert_eq!(maps.current().unwrap().epoch(), Epoch(3));

    // It stays with the replica that had news; an older map there is not taken.
    let (link, question) = first.next().await;
    assert_eq!(known_epoch(&question), 3);
    answer(&link, &question, news(2));
    let (_, question) = second.next().await;
    assert_eq!(known_epoch(&question), 3, "the old map was not taken");
    maps.publish(Arc::new(map(2)));
    assert_eq!(maps.epoch(), Epoch(3));

    // The second replica holds the question; somebody has met epoch 5.
    maps.refresh(Epoch(5));
    let (link, question) = first.next().await;
    answer(&link, &question, news(5));
    maps.reach(Epoch(5)).await;

    stop.cancel();
    running.await.unwrap();
}
