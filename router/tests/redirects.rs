//! Several nodes behind real peer ports: the router finds whoever leads, and finds the next one.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Put, Replies, Reply, Requests, Write};
use caucus_api::{Failure, Groups};
use caucus_client::{LinksOptions, Maps, NodeLinks, PlacementClient, PlacementOptions};
use caucus_peer::{
    Frame, Handler, Hello, Link, PROTOCOL_VERSION, Peers, PeersOptions, ServerOptions, TcpNet,
    serve,
};
use caucus_ring::{ClusterMap, NodeId, Replica, ReplicaId, ReplicaRole};
use caucus_router::{Router, RouterOptions};
use prost::Message;
use support::groups::MemoryGroups;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const CLUSTER: &str = "test";

/// A node of three that share one state: consensus is somebody else's test.
struct Replicas {
    node: u32,
    leader: Arc<AtomicU32>,
    /// A node that thinks it leads and has no majority.
    deposed: Arc<AtomicU32>,
    groups: Arc<MemoryGroups>,
}

impl Handler for Replicas {
    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        let requests = Requests::decode(frame.body.clone()).unwrap();
        let leader = self.leader.load(Ordering::SeqCst);
        for request in requests.requests {
            let (link, frame) = (link.clone(), frame.clone());
            let call = request.call;
            let answer = move |reply| {
                let replies = vec![reply];
                let body = Replies { replies }.encode_to_vec().into();
                let _ = link.send_now(frame.reply(body));
            };
            let failure = if self.deposed.load(Ordering::SeqCst) == self.node {
                Failure::Unavailable {
                    reason: "no majority".to_owned(),
                    unknown: false,
                }
            } else if leader != self.node {
                Failure::NotLeader {
                    leader: Some(leader).filter(|leader| *leader != 0),
                }
            } else {
                self.groups.submit(request, Box::new(answer));
                continue;
            };
            answer(Reply {
                call,
                revision: 0,
                body: Some(Answer::Error(failure.into())),
            });
        }
    }
}

struct Cluster {
    router: Router,
    groups: Arc<MemoryGroups>,
    leader: Arc<AtomicU32>,
    deposed: Arc<AtomicU32>,
    nodes: Vec<(CancellationToken, JoinHandle<()>)>,
}

async fn cluster() -> Cluster {
    let groups = Arc::new(MemoryGroups::new(support::map(1)));
    let leader = Arc::new(AtomicU32::new(2));
    let deposed = Arc::new(AtomicU32::new(0));
    let mut content = support::map(1).content().clone();
    let template = content.nodes.remove(0);
    let mut nodes = Vec::new();
    for node in 1..=3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut described = template.clone();
        described.id = NodeId(node);
        described.peer_address = listener.local_addr().unwrap().to_string();
        content.nodes.push(described);
        let handler = Arc::new(Replicas {
            node,
            leader: leader.clone(),
            deposed: deposed.clone(),
            groups: groups.clone(),
        });
        let options = ServerOptions {
            cluster_name: CLUSTER.to_owned(),
            links_max: 4,
        };
        let stop = CancellationToken::new();
        let serving = serve(listener, options, handler, stop.clone());
        nodes.push((stop, tokio::spawn(serving)));
    }
    for group in &mut content.groups {
        let replica = |node: u32| Replica {
            id: ReplicaId(u64::from(group.id.0 * 10 + node)),
            node: NodeId(node),
            role: ReplicaRole::Voter,
        };
        group.replicas = (1..=3).map(replica).collect();
    }
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        cluster_name: CLUSTER.to_owned(),
        node: 0,
        ..Hello::default()
    };
    let net = Arc::new(TcpNet::default());
    let peers = Peers::new(net, hello, PeersOptions::default());
    let links = NodeLinks::new(peers.clone(), LinksOptions::default(), 42, None);
    let placement = PlacementClient::new(peers, PlacementOptions::default(), Vec::new());
    let maps = Maps::default();
    maps.publish(Arc::new(ClusterMap::new(content).unwrap()));
    let router = Router::new(RouterOptions::default(), links, placement, maps);
    Cluster {
        router,
        groups,
        leader,
        deposed,
        nodes,
    }
}

impl Cluster {
    async fn put(&self, key: &'static str) {
        let write = Write {
            key: Bytes::from_static(key.as_bytes()),
            action: Some(Action::Put(Put::default())),
            ..Write::default()
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        self.router.write(write, deadline).await.expect("written");
    }

    fn known_leader(&self, key: &str) -> Option<NodeId> {
        let (_, group) = self.router.map().unwrap().locate(key.as_bytes());
        self.router.leader(group)
    }
}

#[tokio::test]
async fn the_leader_is_found_and_remembered() {
    let cluster = cluster().await;
    cluster.put("k").await;
    assert_eq!(cluster.known_leader("k"), Some(NodeId(2)));
    cluster.leader.store(3, Ordering::SeqCst);
    cluster.put("k").await;
    assert_eq!(cluster.known_leader("k"), Some(NodeId(3)));
    assert_eq!(cluster.groups.ids().len(), 2, "only leaders took them");
}

#[tokio::test]
async fn a_lost_leader_is_left_for_the_next() {
    let mut cluster = cluster().await;
    cluster.put("k").await;
    let (stop, ended) = cluster.nodes.remove(1);
    stop.cancel();
    ended.await.unwrap();
    // The others still name the node that is gone; then nobody leads; then node 1 does.
    let elected = cluster.leader.clone();
    let ((), ()) = tokio::join!(cluster.put("k"), async {
        for leader in [0, 1] {
            tokio::task::yield_now().await;
            elected.store(leader, Ordering::SeqCst);
        }
    });
    assert_eq!(cluster.known_leader("k"), Some(NodeId(1)));
}

#[tokio::test]
async fn a_leader_without_a_majority_does_not_hold_its_callers() {
    let cluster = cluster().await;
    cluster.put("k").await;
    cluster.deposed.store(2, Ordering::SeqCst);
    cluster.leader.store(3, Ordering::SeqCst);
    cluster.put("k").await;
    assert_eq!(cluster.known_leader("k"), Some(NodeId(3)));
}

#[tokio::test]
async fn a_batch_finds_its_way_too() {
    let cluster = cluster().await;
    let ops = (0..30)
        .map(|n| {
            caucus_router::Op::Write(Write {
                key: Bytes::from(format!("/d{n}/s/k")),
                action: Some(Action::Put(Put::default())),
                ..Write::default()
            })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    let answers = cluster.router.batch(ops, deadline).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(cluster.groups.ids().len(), 30, "each applied once");
}
