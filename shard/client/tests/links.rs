//! Links to nodes, against a real peer port.

mod support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use caucus_api::shard::request::Body;
use caucus_api::shard::{Get, Replies, Reply, Request, Requests, SessionProgress};
use caucus_api::{Groups, ReplyTo};
use caucus_client::{CallError, LinksOptions, NodeHandle, NodeLinks};
use caucus_peer::{Frame, Service};
use caucus_ring::NodeId;
use prost::Message;
use support::{Server, peers};

fn get(key: &str) -> Request {
    Request {
        body: Some(Body::Get(Get {
            key: Bytes::copy_from_slice(key.as_bytes()),
            head: false,
            revision: 0,
        })),
        ..Request::default()
    }
}

fn key_of(request: &Request) -> &[u8] {
    match &request.body {
        Some(Body::Get(get)) => &get.key,
        _ => panic!("not a get"),
    }
}

fn requests(frame: &Frame) -> Requests {
    assert_eq!((frame.service, frame.id), (Service::Shard as u8, 0));
    Requests::decode(frame.body.clone()).unwrap()
}

/// Answers with revisions, to see which reply came where.
fn replies(answers: impl IntoIterator<Item = (u64, u64)>) -> Frame {
    let replies = answers
        .into_iter()
        .map(|(call, revision)| Reply {
            call,
            revision,
            body: None,
        })
        .collect();
    let body = Replies { replies }.encode_to_vec().into();
    Frame::new(Service::Shard, 0, Bytes::new()).reply(body)
}

fn links(options: LinksOptions) -> NodeLinks {
    NodeLinks::new(peers(), options, 77, None)
}

fn node(links: &NodeLinks, server: &Server) -> NodeHandle {
    links.node(NodeId(1), &server.addr)
}

#[tokio::test]
async fn what_waits_leaves_in_one_frame_and_replies_find_their_callers() {
    let mut server = Server::start().await;
    let links = links(LinksOptions::default());
    links.progress().raise(9, 4);
    let node = node(&links, &server);
    let pending: Vec<_> = (0..10)
        .map(|n| node.submit(get(&format!("k{n}"))).unwrap())
        .collect();

    let (link, frame) = server.next().await;
    let frame = requests(&frame);
    assert_eq!(frame.requests.len(), 10, "all in one frame");
    let progress = SessionProgress {
        session: 77,
        finished_below: 9,
        stamp: 4,
    };
    assert_eq!(frame.progress, Some(progress));
    for (n, request) in frame.requests.iter().enumerate() {
        assert_eq!(key_of(request), format!("k{n}").as_bytes());
    }

    // The last first, in two frames; and one that nobody asked for.
    let calls: Vec<u64> = frame.requests.iter().map(|r| r.call).collect();
    let numbered = calls.iter().enumerate().map(|(n, call)| (*call, n as u64));
    let mut answers: Vec<_> = numbered.rev().collect();
    answers.insert(3, (u64::MAX, 0));
    let second = answers.split_off(5);
    link.send_now(replies(answers)).unwrap();
    link.send_now(replies(second)).unwrap();
    for (n, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.await.unwrap().revision, n as u64);
    }
}

#[tokio::test]
async fn a_batch_leaves_together() {
    let mut server = Server::start().await;
    let links = links(LinksOptions::default());
    let node = node(&links, &server);
    let mut pending = Vec::new();
    node.submit_many((0..5).map(|n| get(&n.to_string())), |p| pending.push(p));
    let (link, frame) = server.next().await;
    let calls = requests(&frame).requests;
    assert_eq!(calls.len(), 5);
    link.send_now(replies(calls.iter().map(|r| (r.call, 7))))
        .unwrap();
    for pending in pending {
        assert_eq!(pending.unwrap().await.unwrap().revision, 7);
    }
}

#[tokio::test]
async fn a_broken_link_fails_its_requests_and_the_next_one_connects_again() {
    let mut server = Server::start().await;
    let links = links(LinksOptions::default());
    let node = node(&links, &server);
    let first = node.submit(get("a")).unwrap();
    let second = node.submit(get("b")).unwrap();
    let (link, _) = server.next().await;
    link.close();
    for pending in [first, second] {
        let error = pending.await.unwrap_err();
        assert!(matches!(error, CallError::Broken { .. }), "{error}");
        assert!(!error.is_unsent());
    }
    let third = node.submit(get("c")).unwrap();
    let (link, frame) = server.next().await;
    let call = requests(&frame).requests[0].call;
    link.send_now(replies([(call, 3)])).unwrap();
    assert_eq!(third.await.unwrap().revision, 3);
}

#[tokio::test]
async fn replies_that_cannot_be_read_break_the_link() {
    let mut server = Server::start().await;
    let links = links(LinksOptions::default());
    let pending = node(&links, &server).submit(get("a")).unwrap();
    let (link, frame) = server.next().await;
    link.send_now(frame.reply(Bytes::from_static(b"\xff\xff")))
        .unwrap();
    let error = pending.await.unwrap_err();
    assert!(matches!(error, CallError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn an_unreachable_node_has_certainly_received_nothing() {
    let server = Server::start().await;
    let links = links(LinksOptions::default());
    let node = node(&links, &server);
    server.stop().await;
    let error = node.submit(get("a")).unwrap().await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    assert!(error.is_unsent());
    // For a while nobody waits for another attempt.
    let Err(error) = node.submit(get("b")) else {
        panic!("submitted to a node that was just unreachable");
    };
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn open_requests_are_bounded_and_giving_up_makes_room() {
    let mut server = Server::start().await;
    let links = links(LinksOptions {
        open_requests_max: 2,
        ..LinksOptions::default()
    });
    let node = node(&links, &server);
    let first = node.submit(get("a")).unwrap();
    let given_up = node.submit(get("b")).unwrap();
    assert!(matches!(node.submit(get("c")), Err(CallError::Busy { .. })));
    let (link, frame) = server.next().await;
    let calls: Vec<u64> = requests(&frame).requests.iter().map(|r| r.call).collect();
    drop(given_up);
    let third = node.submit(get("c")).unwrap();
    let (_, frame) = server.next().await;
    let third_call = requests(&frame).requests[0].call;
    assert!(!calls.contains(&third_call), "numbers are not used again");
    // The reply to what was given up comes first, and is nobody's.
    link.send_now(replies([(calls[1], 1), (third_call, 2), (calls[0], 3)]))
        .unwrap();
    assert_eq!(third.await.unwrap().revision, 2);
    assert_eq!(first.await.unwrap().revision, 3);
}

#[tokio::test]
async fn open_bytes_are_bounded() {
    let server = Server::start().await;
    let links = links(LinksOptions {
        open_bytes_max: 1000,
        ..LinksOptions::default()
    });
    let node = node(&links, &server);
    let _first = node.submit(get(&"a".repeat(400))).unwrap();
    let second = node.submit(get(&"b".repeat(400)));
    assert!(matches!(second, Err(CallError::Busy { .. })));
}

#[tokio::test]
async fn a_node_that_left_the_cluster_takes_nothing() {
    let mut server = Server::start().await;
    let links = links(LinksOptions::default());
    let node = node(&links, &server);
    let pending = node.submit(get("a")).unwrap();
    server.next().await;
    links.retain(|_| false);
    let error = pending.await.unwrap_err();
    assert!(matches!(error, CallError::Broken { .. }), "{error}");
    assert!(node.submit(get("b")).is_err());
}

/// Groups in the same process: answers at once with the key's length.
#[derive(Default)]
struct Here {
    progress: Mutex<Vec<SessionProgress>>,
}

impl Groups for Here {
    fn submit(&self, request: Request, reply: ReplyTo) {
        let revision = match &request.body {
            Some(Body::Get(get)) => get.key.len() as u64,
            _ => 0,
        };
        reply(Reply {
            call: request.call,
            revision,
            body: None,
        });
    }

    fn progress(&self, progress: SessionProgress) {
        self.progress.lock().unwrap().push(progress);
    }
}

#[tokio::test]
async fn requests_to_the_own_node_take_the_short_way() {
    let here = Arc::new(Here::default());
    let local = Some((NodeId(4), here.clone() as Arc<dyn Groups>));
    let links = NodeLinks::new(peers(), LinksOptions::default(), 5, local);
    assert_eq!(links.local(), Some(NodeId(4)));
    let node = links.node(NodeId(4), "nowhere:1");
    assert_eq!(node.submit(get("abc")).unwrap().await.unwrap().revision, 3);

    // Progress is told with writes, when it has got far enough.
    let write = || Request {
        body: Some(Body::Write(Bytes::new())),
        ..Request::default()
    };
    links.progress().raise(10, 1);
    node.submit(write()).unwrap().await.unwrap();
    assert!(here.progress.lock().unwrap().is_empty());
    links.progress().raise(1000, 2);
    node.submit(write()).unwrap().await.unwrap();
    node.submit(write()).unwrap().await.unwrap();
    let told = here.progress.lock().unwrap().clone();
    let expected = SessionProgress {
        session: 5,
        finished_below: 1000,
        stamp: 2,
    };
    assert_eq!(told, [expected]);
}
