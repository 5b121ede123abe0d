//! Placement groups in this process: memory engines, real sockets on loopback.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{FollowMap, Register};
use caucus_client::{PlacementClient, PlacementOptions};
use caucus_engine::memory::MemoryEngine;
use caucus_peer::{
    Frame, Handler, Hello, Link, PROTOCOL_VERSION, Peers, PeersOptions, ServerOptions, Service,
    TcpNet, serve,
};
use caucus_raft::{Directory, Group, Host, HostParts, Inbox, Options};
use caucus_ring::ClusterMap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Bootstrap, Placement, PlacementParts, Voter, liveness, machine};

const CLUSTER: &str = "test";
/// Nothing here takes so long.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// A node with a replica of the placement group.
pub(super) struct Member {
    pub(super) addr: String,
    pub(super) group: Group,
    pub(super) placement: Arc<Placement>,
    host: Arc<Host>,
    peers: Arc<Peers>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// Frames by service, as a node hands them on.
struct Desk {
    inbox: Arc<Inbox>,
    placement: OnceLock<Arc<Placement>>,
}

impl Handler for Desk {
    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        if Service::from_number(frame.service) != Some(Service::Placement) {
            self.inbox.frame(link, frame);
        } else if let Some(placement) = self.placement.get() {
            placement.frame(link, frame);
        }
    }
}

struct Addresses(BTreeMap<u32, String>);

impl Directory for Addresses {
    fn peer_addr(&self, node: u32) -> Option<String> {
        self.0.get(&node).cloned()
    }
}

/// Not the node's id, so that nobody can take one for the other.
pub(super) fn replica(node: u32) -> u64 {
    u64::from(node) + 10
}

pub(super) fn peers(node: u32) -> Arc<Peers> {
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        cluster_name: CLUSTER.to_owned(),
        node,
        ..Hello::default()
    };
    Peers::new(Arc::new(TcpNet::default()), hello, PeersOptions::default())
}

/// Starts a placement group on these engines, one a node from 1 on.
pub(super) async fn start(engines: &[MemoryEngine], initial_nodes: u32) -> BTreeMap<u32, Member> {
    let mut listeners = BTreeMap::new();
    for node in (1..).take(engines.len()) {
        listeners.insert(node, TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addrs: BTreeMap<u32, String> = listeners
        .iter()
        .map(|(node, listener)| (*node, listener.local_addr().unwrap().to_string()))
        .collect();
    let mut members = BTreeMap::new();
    for ((node, listener), engine) in listeners.into_iter().zip(engines) {
        let member = Member::start(node, listener, engine, &addrs, initial_nodes).await;
        members.insert(node, member);
    }
    let replicas = addrs.keys().map(|node| (replica(*node), *node)).collect();
    members[&1].group.initialize(replicas).await.unwrap();
    members
}

impl Member {
    async fn start(
        node: u32,
        listener: TcpListener,
        engine: &MemoryEngine,
        addrs: &BTreeMap<u32, String>,
        initial_nodes: u32,
    ) -> Member {
        let (stop, peers) = (CancellationToken::new(), peers(node));
        let host = Host::open(HostParts {
            engine: Arc::new(engine.clone()),
            peers: peers.clone(),
            directory: Arc::new(Addresses(addrs.clone())),
            options: Options::default(),
            marks: None,
        })
        .unwrap();
        let (machine, view) = machine();
        let started = host.start(0, replica(node), Box::new(machine)).await;
        let group = started.unwrap();
        let began = Instant::now();
        let voters = addrs.iter().map(|(node, addr)| Voter {
            replica: replica(*node),
            node: *node,
            peer_addr: addr.clone(),
        });
        let placement = Placement::start(PlacementParts {
            group: group.clone(),
            view,
            voters: voters.collect(),
            bootstrap: Bootstrap {
                vnodes: 64,
                groups: 0,
                replication: 3,
                initial_nodes,
                created_at_ms: 1,
            },
            random: [node as u8; 16],
            liveness: liveness::Options::default(),
            clock: Arc::new(move || began.elapsed()),
            shutdown: stop.clone(),
        });
        let desk = Desk {
            inbox: host.inbox(),
            placement: OnceLock::from(placement.clone()),
        };
        let options = ServerOptions {
            cluster_name: CLUSTER.to_owned(),
            links_max: 64,
        };
        Member {
            addr: addrs[&node].clone(),
            group,
            placement,
            host,
            peers,
            serving: tokio::spawn(serve(listener, options, Arc::new(desk), stop.clone())),
            stop,
        }
    }

    /// Ends all of the node but its engine.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.placement.stopped().await;
        self.serving.await.unwrap();
        self.host.shutdown().await;
        self.peers.close().await;
    }
}

/// The member that leads, once one does.
pub(super) async fn leader(members: &BTreeMap<u32, Member>) -> u32 {
    let waiting = members.iter().map(|(node, member)| {
        let (node, mut leadership) = (*node, member.group.watch_leadership());
        tokio::spawn(async move {
            leadership
                .wait_for(|leadership| leadership.here)
                .await
                .ok()?;
            Some(node)
        })
    });
    let mut waiting: tokio::task::JoinSet<_> = waiting.fold(Default::default(), |mut set, task| {
        set.spawn(task);
        set
    });
    let first = tokio::time::timeout(LIMIT, waiting.join_next()).await;
    first
        .expect("a leader in time")
        .unwrap()
        .unwrap()
        .unwrap()
        .expect("a leader")
}

pub(super) fn client(members: &BTreeMap<u32, Member>) -> PlacementClient {
    let seeds = members.values().map(|member| member.addr.clone());
    PlacementClient::new(peers(0), PlacementOptions::default(), seeds.collect())
}

/// Asks whoever leads.
pub(super) async fn ask(client: &PlacementClient, body: Ask) -> Answer {
    client.ask(body, Instant::now() + LIMIT).await.unwrap()
}

/// Registers a shard node; one that is no member has an address where nobody is.
pub(super) async fn register(
    client: &PlacementClient,
    members: &BTreeMap<u32, Member>,
    node: u32,
) -> (u32, Vec<u8>) {
    let addr = members.get(&node).map(|member| member.addr.clone());
    let body = Ask::Register(Register {
        node,
        storage_id: vec![node as u8 + 100; 16].into(),
        peer_addr: addr.unwrap_or_else(|| "127.0.0.1:1".to_owned()),
        client_addr: format!("n{node}:2"),
        zone: String::new(),
        shard: true,
        router: true,
        placement: node <= 3,
    });
    match ask(client, body).await {
        Answer::Registered(registered) => (registered.node, registered.cluster_id.to_vec()),
        other => panic!("{other:?}"),
    }
}

/// Follows the map of one replica until it fits.
pub(super) async fn map_at(
    client: &PlacementClient,
    addr: &str,
    fits: impl Fn(&ClusterMap) -> bool,
) -> ClusterMap {
    let mut known_epoch = 0;
    loop {
        let follow = Ask::FollowMap(FollowMap {
            known_epoch,
            wait_ms: 20_000,
        });
        let answer = client.ask_replica(addr, follow, LIMIT).await.unwrap();
        let Answer::Map(map) = answer else {
            panic!("{answer:?}");
        };
        assert!(
            map.epoch > known_epoch,
            "no news in time after {known_epoch}"
        );
        known_epoch = map.epoch;
        let map = ClusterMap::decode(&map.map).unwrap();
        if fits(&map) {
            return map;
        }
    }
}
