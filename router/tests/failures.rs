//! What clients see when groups fail, and how the router gets round it.

mod support;

use std::time::Duration;

use caucus_api::Failure;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Put, RequestId, Write};
use caucus_router::http::HttpOptions;
use caucus_router::{Op, OpAnswer, Router, RouterOptions};
use support::Door;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

#[tokio::test]
async fn a_write_is_sent_again_with_the_same_id_and_applied_once() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let lost = || Failure::Unavailable {
        reason: "the leader stepped down".to_owned(),
        unknown: true,
    };
    door.groups.fail([
        Some(Failure::NotLeader { leader: None }),
        Some(Failure::NotLeader { leader: Some(1) }),
        Some(Failure::NotLeader { leader: Some(9) }),
        Some(Failure::Busy("a queue".to_owned())),
        Some(Failure::Moved { epoch: 1 }),
        Some(lost()),
        Some(lost()),
    ]);
    let put = client.put("/v1/kv/k", "v").await;
    assert_eq!(put.status, 201);
    assert_eq!(put.json()["version"], 1, "applied once");
    let ids = door.groups.ids();
    assert_eq!(ids.len(), 8);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!((ids[0].session, ids[0].sequence), (42, 1));
}

#[tokio::test]
async fn final_failures_are_told_with_their_outcome() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (failure, status, code) in [
        (Failure::NoSpace, 507, "no_space"),
        (Failure::Expired, 409, "expired"),
        (Failure::FutureRevision, 400, "future_revision"),
        (Failure::Compacted { revision: 7 }, 410, "compacted"),
        (Failure::Conflict, 409, "conflict"),
        (Failure::Invalid("x".to_owned()), 400, "invalid_request"),
        (Failure::Deadline { unknown: false }, 504, "deadline"),
    ] {
        door.groups.fail([Some(failure.clone())]);
        let answer = client.put("/v1/kv/k", "v").await;
        let problem = answer.is_problem(status, code);
        assert_eq!(problem["outcome"], "not_applied", "{failure:?}");
        door.groups.fail([Some(failure)]);
        let problem = client.get("/v1/kv/k").await.is_problem(status, code);
        assert!(problem.get("outcome").is_none(), "{problem}");
    }
    // After an attempt that may have been applied no later answer makes the outcome known.
    let lost = Failure::Unavailable {
        reason: "lost".to_owned(),
        unknown: true,
    };
    door.groups.fail([Some(lost), Some(Failure::NoSpace)]);
    let problem = client
        .put("/v1/kv/k", "v")
        .await
        .is_problem(507, "no_space");
    assert_eq!(problem["outcome"], "unknown");
}

#[tokio::test]
async fn the_deadline_ends_what_no_group_answers() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.groups.fail([None]);
    let answer = client.put("/v1/kv/k?timeout=0.05", "v").await;
    let problem = answer.is_problem(504, "deadline");
    assert_eq!(problem["outcome"], "unknown");
    assert_eq!(problem["retryable"], true);

    door.groups.fail([None]);
    let header = &["caucus-timeout: 0.05"];
    let answer = client.send("GET", "/v1/kv/k", header, "").await;
    answer.is_problem(504, "deadline");

    door.groups
        .fail(vec![Some(Failure::Busy("a queue".to_owned())); 1000]);
    let answer = client.put("/v1/kv/k?timeout=0.05", "v").await;
    assert_eq!(answer.is_problem(503, "busy")["outcome"], "not_applied");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_group_without_a_leader_is_unavailable() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.groups
        .fail(vec![Some(Failure::NotLeader { leader: None }); 1000]);
    let answer = client.put("/v1/kv/k?timeout=0.05", "v").await;
    let problem = answer.is_problem(503, "unavailable");
    assert_eq!(problem["outcome"], "not_applied");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_silent_replica_is_left_before_the_deadline() {
    let options = RouterOptions {
        attempt_timeout: Duration::from_millis(20),
        ..RouterOptions::default()
    };
    let door = Door::without_map(options, HttpOptions::default()).await;
    door.maps.publish(support::map(1));
    let mut client = door.client().await;
    door.groups.fail([None, None]);
    assert_eq!(client.put("/v1/kv/k", "v").await.status, 201);
    assert_eq!(door.groups.ids().len(), 3);
}

#[tokio::test]
async fn without_a_map_requests_wait_for_one() {
    let door = Door::without_map(RouterOptions::default(), HttpOptions::default()).await;
    let mut client = door.client().await;
    let answer = client.put("/v1/kv/k?timeout=0.03", "v").await;
    let problem = answer.is_problem(503, "unavailable");
    assert_eq!(problem["outcome"], "not_applied");
    client
        .get("/v1/kv?timeout=0.03")
        .await
        .is_problem(503, "unavailable");
    client
        .get("/v1/cluster")
        .await
        .is_problem(503, "unavailable");
    assert_eq!(client.get("/readyz").await.status, 503);
    let (put, ()) = tokio::join!(client.put("/v1/kv/k", "v"), async {
        tokio::task::yield_now().await;
        door.maps.publish(support::map(1));
    });
    assert_eq!(put.status, 201);
}

#[tokio::test]
async fn a_moved_key_waits_for_the_newer_map() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.groups.fail([Some(Failure::Moved { epoch: 2 })]);
    let (put, ()) = tokio::join!(client.put("/v1/kv/k", "v"), async {
        tokio::task::yield_now().await;
        door.maps.publish(support::map(2));
    });
    assert_eq!(put.status, 201);
}

#[tokio::test]
async fn reads_ask_for_what_was_seen_and_groups_hear_how_far_writes_are() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for n in 0..200 {
        client.put(&format!("/v1/kv//d{n}/s/k"), "v").await;
    }
    client.get("/v1/kv/absent").await;
    assert_eq!(door.groups.at_least(), 200);
    assert_eq!(door.router.highest().0, 200);
    let finished = door.groups.finished_below();
    assert!((100..=201).contains(&finished), "{finished}");
}

#[tokio::test]
async fn connections_are_bounded_and_idle_ones_are_closed() {
    let http = HttpOptions {
        connections_max: 1,
        header_read_timeout: Duration::from_millis(100),
        ..HttpOptions::default()
    };
    let door = Door::without_map(RouterOptions::default(), http).await;
    // It says nothing, or too little to tell HTTP/1.1 from HTTP/2: it is closed, and makes room.
    for beginning in [&b""[..], b"P", b"GET / HTTP/1.1\r\nho"] {
        let mut silent = TcpStream::connect(door.addr()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut silent, beginning)
            .await
            .unwrap();
        let mut rest = Vec::new();
        let _ = silent.read_to_end(&mut rest).await;
    }
    assert_eq!(door.client().await.get("/healthz").await.status, 200);
    door.close().await;
}

/// A store with one write in it, and a router that has seen nothing and will be told that its first id
/// is too old.
async fn stale() -> (Door, Router) {
    let door = Door::open().await;
    let mut client = door.client().await;
    // The fresh router has the same session: its sequence is not to meet this one's.
    for count in 1..=2 {
        let put = client.put("/v1/kv/k", "v").await;
        assert_eq!(put.json()["version"], count);
    }
    let fresh = door.fresh_router();
    door.groups.fail([Some(Failure::Expired)]);
    (door, fresh)
}

fn put() -> Write {
    Write {
        key: "other".into(),
        action: Some(Action::Put(Put::default())),
        ..Write::default()
    }
}

/// The last two writes came under ids of their own, the second with a newer stamp.
fn is_anew(ids: &[RequestId]) {
    let [.., first, second] = ids else {
        panic!("{ids:?}");
    };
    assert!(first.sequence < second.sequence, "{ids:?}");
    assert_eq!((first.stamp, second.stamp), (0, 2), "{ids:?}");
}

#[tokio::test]
async fn a_router_that_has_seen_nothing_writes_under_a_newer_id() {
    let (door, fresh) = stale().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    fresh.write(put(), deadline).await.unwrap();
    is_anew(&door.groups.ids());

    let (door, fresh) = stale().await;
    let answers = fresh.batch(vec![Op::Write(put())], deadline).await;
    assert!(
        matches!(answers[..], [Ok(OpAnswer::Written(_))]),
        "{answers:?}"
    );
    is_anew(&door.groups.ids());
}
