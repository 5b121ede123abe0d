//! Nodes with data groups, and what is asked of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Delete, Get, List, Outcome, Put, Reply, Request, RequestId, Write};
use caucus_api::{Failure, Groups};
use caucus_engine::memory::MemoryEngine;
use caucus_peer::{
    Frame, Handler, Hello, Link, PROTOCOL_VERSION, Peers, PeersOptions, ServerOptions, Service,
    TcpNet, serve,
};
use caucus_raft::{Directory, Group, Host, HostParts, Inbox};
use caucus_ring::{
    ClusterId, ClusterMap, Epoch, GroupId, GroupState, MapContent, NodeId, Replica, ReplicaId,
    ReplicaRole, Roles, Rules, VnodeSet,
};
use futures::future::BoxFuture;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::oracle::{Held, Oracle};
use super::reach::Reach;
use crate::{Activations, Options, Server, Shard, ShardParts};

const NAME: &str = "shard-tests";
const VNODES: u32 = 16;
const GROUPS: u32 = 2;
/// Nothing here takes so long.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits, but not for ever.
pub(super) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("this took too long: {what}"),
    }
}

/// Waits until `holds`, looked at often: for what can't be watched.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Settings under which nothing times out by itself.
pub(super) fn patient() -> Options {
    Options {
        ask_timeout: Duration::from_secs(60),
        ..Options::default()
    }
}

fn replica(group: u32, node: u32) -> u64 {
    u64::from(group * 10 + node)
}

/// Groups 1 and 2 with a replica on each node; even vnodes are of group 1, odd ones of group 2.
fn map(nodes: u32) -> Arc<ClusterMap> {
    let group = |id: u32| caucus_ring::Group {
        id: GroupId(id),
        state: GroupState::Bootstrapping,
        replicas: (1..=nodes)
            .map(|node| Replica {
                id: ReplicaId(replica(id, node)),
                node: NodeId(node),
                role: ReplicaRole::Voter,
            })
            .collect(),
    };
    let node = |id: u32| caucus_ring::Node {
        id: NodeId(id),
        peer_address: format!("n{id}:1"),
        client_address: format!("n{id}:2"),
        zone: String::new(),
        roles: Roles::ALL,
    };
    let content = MapContent {
        epoch: Epoch(1),
        cluster_id: ClusterId([7; 16]),
        vnodes: VNODES,
        rules: Rules::default(),
        nodes: (1..=nodes).map(node).collect(),
        groups: (1..=GROUPS).map(group).collect(),
        placement: caucus_ring::Group {
            id: GroupId::PLACEMENT,
            replicas: Vec::new(),
            ..group(1)
        },
        owners: (0..VNODES).map(|v| GroupId(1 + v % GROUPS)).collect(),
    };
    Arc::new(ClusterMap::new(content).unwrap())
}

#[derive(Default)]
struct Addrs(Mutex<BTreeMap<u32, String>>);

impl Directory for Addrs {
    fn peer_addr(&self, node: u32) -> Option<String> {
        self.0.lock().unwrap().get(&node).cloned()
    }
}

/// Frames by service, as a node hands them on.
struct Desk {
    inbox: Arc<Inbox>,
    server: Arc<Server>,
}

impl Handler for Desk {
    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        match Service::from_number(frame.service) {
            Some(Service::Shard) => self.server.frame(link, frame),
            Some(_) | None => self.inbox.frame(link, frame),
        }
    }
}

/// Reports of new groups, for the test.
struct Begun(mpsc::UnboundedSender<u32>);

impl Activations for Begun {
    fn activate(&self, group: u32) -> BoxFuture<'static, bool> {
        let told = self.0.send(group).is_ok();
        Box::pin(async move { told })
    }
}

pub(super) struct Node {
    pub(super) addr: String,
    pub(super) engine: MemoryEngine,
    pub(super) shard: Shard,
    pub(super) host: Arc<Host>,
    peers: Arc<Peers>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<u32, Node>,
    pub(super) oracle: Oracle,
    pub(super) asks: mpsc::UnboundedReceiver<Held>,
    options: Options,
    map: watch::Sender<Option<Arc<ClusterMap>>>,
    addrs: Arc<Addrs>,
    begun: mpsc::UnboundedSender<u32>,
    sequence: AtomicU64,
    /// By which names are forgotten, in milliseconds.
    clock: Arc<AtomicU64>,
    pub(super) reach: Arc<Reach>,
}

pub(super) fn peers(node: u32) -> Arc<Peers> {
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        cluster_name: NAME.to_owned(),
        node,
        ..Hello::default()
    };
    Peers::new(Arc::new(TcpNet::default()), hello, PeersOptions::default())
}

impl Cluster {
    /// Nodes 1 to `nodes`, whose groups have begun and have leaders.
    pub(super) async fn start(nodes: u32, options: Options) -> Cluster {
        let (oracle, asks) = Oracle::new();
        let (begun, mut reports) = mpsc::unbounded_channel();
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            oracle,
            asks,
            options,
            map: watch::Sender::new(Some(map(nodes))),
            addrs: Arc::default(),
            begun,
            sequence: AtomicU64::new(0),
            clock: Arc::new(AtomicU64::new(1_000_000)),
            reach: Arc::default(),
        };
        for node in 1..=nodes {
            cluster.start_node(node, MemoryEngine::new()).await;
        }
        let mut waiting: Vec<u32> = (1..=GROUPS).collect();
        while !waiting.is_empty() {
            let group = within("a group's begin", reports.recv()).await.unwrap();
            waiting.retain(|other| *other != group);
        }
        for group in 1..=GROUPS {
            cluster.leader(group).await;
        }
        cluster
    }

    /// One node, which leads both groups.
    pub(super) async fn one() -> Cluster {
        Cluster::start(1, patient()).await
    }

    pub(super) async fn start_node(&mut self, node: u32, engine: MemoryEngine) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        self.addrs.0.lock().unwrap().insert(node, addr.clone());
        let (peers, stop) = (peers(node), CancellationToken::new());
        let host = Host::open(HostParts {
            engine: Arc::new(engine.clone()),
            peers: peers.clone(),
            directory: self.addrs.clone(),
            options: caucus_raft::Options::default(),
            marks: None,
        })
        .unwrap();
        let shard = Shard::start(ShardParts {
            node: NodeId(node),
            host: host.clone(),
            engine: Arc::new(engine.clone()),
            revisions: Arc::new(self.oracle.clone()),
            others: self.reach.clone(),
            activations: Arc::new(Begun(self.begun.clone())),
            clock: {
                let clock = self.clock.clone();
                Arc::new(move || Duration::from_millis(clock.load(Ordering::Relaxed)))
            },
            maps: self.map.subscribe(),
            options: self.options.clone(),
            shutdown: stop.clone(),
        });
        self.reach.add(node, shard.clone());
        let desk = Desk {
            inbox: host.inbox(),
            server: Server::new(Arc::new(shard.clone())),
        };
        let options = ServerOptions {
            cluster_name: NAME.to_owned(),
            links_max: 64,
        };
        let started = Node {
            addr,
            engine,
            shard,
            host,
            peers,
            serving: tokio::spawn(serve(listener, options, Arc::new(desk), stop.clone())),
            stop,
        };
        self.nodes.insert(node, started);
    }

    /// Time goes by, as far as names are concerned.
    pub(super) fn pass(&self, time: Duration) {
        self.clock
            .fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// Ends all of a node but its engine.
    pub(super) async fn stop_node(&mut self, node: u32) -> MemoryEngine {
        let stopped = self.nodes.remove(&node).unwrap();
        self.reach.remove(node);
        self.addrs.0.lock().unwrap().remove(&node);
        stopped.stop.cancel();
        within("a shard's end", stopped.shard.ended()).await;
        within("a server's end", stopped.serving).await.unwrap();
        within("a host's end", stopped.host.shutdown()).await;
        stopped.peers.close().await;
        stopped.engine
    }

    pub(super) async fn end(mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.stop_node(node).await;
        }
    }

    pub(super) fn group(&self, group: u32, node: u32) -> Group {
        let host = &self.nodes[&node].host;
        host.group(group, replica(group, node)).unwrap()
    }

    /// The node that leads a group, once all running nodes agree on it.
    pub(super) async fn leader(&self, group: u32) -> u32 {
        let agreed = || {
            let seen = self.nodes.keys().map(|node| {
                let running = self.nodes[node].host.group(group, replica(group, *node))?;
                Some((*node, running.leadership()))
            });
            let seen = seen.collect::<Option<Vec<_>>>()?;
            let (leader, led) = seen.iter().find(|(_, led)| led.here).copied()?;
            let agrees = |other: &caucus_raft::Leadership| {
                (other.term, other.leader) == (led.term, Some(leader))
            };
            seen.iter()
                .all(|(_, other)| agrees(other))
                .then_some(leader)
        };
        let mut leader = None;
        until("an election", || {
            leader = agreed();
            leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    pub(super) fn map(&self) -> Arc<ClusterMap> {
        self.map.borrow().clone().unwrap()
    }

    /// A key that belongs to a group, a different one for each number.
    pub(super) fn key(&self, group: u32, number: usize) -> Bytes {
        let map = self.map();
        let keys = (0..).map(|n| Bytes::from(format!("/dir/{n}/key")));
        let mut mine = keys.filter(|key| map.locate(key).1 == GroupId(group));
        mine.nth(number).unwrap()
    }

    pub(super) fn vnodes(&self, group: u32) -> VnodeSet {
        let map = self.map();
        let all = map.ring().iter();
        all.filter(|vnode| map.owner(*vnode) == GroupId(group))
            .collect()
    }

    /// A write with an id of its own.
    pub(super) fn write(&self, key: &Bytes, action: Action) -> Write {
        Write {
            id: Some(RequestId {
                session: 1,
                sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
                stamp: self.oracle.last(),
            }),
            key: key.clone(),
            action: Some(action),
            ..Write::default()
        }
    }

    pub(super) fn put(&self, key: &Bytes, value: &'static str) -> Request {
        let put = Put {
            value: Bytes::from_static(value.as_bytes()),
            ..Put::default()
        };
        self.request(Body::Write(
            self.write(key, Action::Put(put)).encode_to_vec().into(),
        ))
    }

    pub(super) fn delete(&self, key: &Bytes) -> Request {
        let write = self.write(key, Action::Delete(Delete {}));
        self.request(Body::Write(write.encode_to_vec().into()))
    }

    pub(super) fn get(&self, key: &Bytes) -> Request {
        self.request(Body::Get(Get {
            key: key.clone(),
            head: false,
            revision: 0,
        }))
    }

    /// The keys from `start` to before `end` that group 1 has.
    pub(super) fn list(&self, start: &[u8], end: &[u8]) -> Request {
        self.request(Body::List(List {
            start: Bytes::copy_from_slice(start),
            end: Bytes::copy_from_slice(end),
            vnodes: self.vnodes(1).to_packed().into(),
            limit: 1000,
            ..List::default()
        }))
    }

    /// To group 1, with time enough.
    pub(super) fn request(&self, body: Body) -> Request {
        Request {
            call: 5,
            group: 1,
            epoch: 1,
            deadline_ms: 60_000,
            body: Some(body),
            ..Request::default()
        }
    }

    /// Sends a request to a node, at once; the answer comes later.
    pub(super) fn send(&self, node: u32, request: Request) -> Pending {
        let (reply, answer) = oneshot::channel();
        let call = request.call;
        self.nodes[&node].shard.submit(
            request,
            Box::new(move |answered| {
                assert_eq!(answered.call, call);
                // A test may have ended meanwhile.
                let _ = reply.send(answered);
            }),
        );
        Pending(answer)
    }

    /// Sends to the node that leads group 1 and waits.
    pub(super) async fn ask(&self, request: Request) -> Reply {
        let leader = self.leader(1).await;
        self.send(leader, request).reply().await
    }
}

/// An answer that is to come.
pub(super) struct Pending(oneshot::Receiver<Reply>);

impl Pending {
    pub(super) async fn reply(self) -> Reply {
        let reply = within("a reply", self.0).await;
        reply.expect("every request is answered")
    }

    pub(super) fn is_open(&mut self) -> bool {
        matches!(self.0.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }
}

#[track_caller]
pub(super) fn outcome(reply: Reply) -> Outcome {
    match reply.body {
        Some(Answer::Outcome(outcome)) => outcome,
        other => panic!("{other:?}"),
    }
}

/// The value that was found.
#[track_caller]
pub(super) fn value(reply: Reply) -> Option<Bytes> {
    match reply.body {
        Some(Answer::Found(found)) => found.record.map(|record| record.value),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(super) fn keys(reply: Reply) -> Vec<Bytes> {
    match reply.body {
        Some(Answer::Listed(listed)) => listed.items.into_iter().map(|item| item.key).collect(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(super) fn failure(reply: Reply) -> Failure {
    match reply.body {
        Some(Answer::Error(error)) => error.into(),
        other => panic!("{other:?}"),
    }
}
