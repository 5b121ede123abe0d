//! A whole front door over groups that live in memory, and a client that keeps its connection.

// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod client;
pub mod groups;

use std::sync::Arc;
use std::time::Duration;

use caucus_client::{LinksOptions, Maps, NodeLinks, PlacementClient, PlacementOptions};
use caucus_peer::{Hello, PROTOCOL_VERSION, Peers, PeersOptions, TcpNet};
use caucus_ring::{
    ClusterId, ClusterMap, Epoch, Group, GroupId, GroupState, MapContent, Node, NodeId, Replica,
    ReplicaId, ReplicaRole, Roles, Rules,
};
use caucus_router::etcd::{Database, NodeFacts};
use caucus_router::http::{Here, HttpOptions, serve};
use caucus_router::{Router, RouterOptions};
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use client::Client;
use groups::MemoryGroups;

pub const GROUPS: u32 = 3;
const VNODES: u32 = 64;
const NODE: NodeId = NodeId(1);

pub struct Door {
    pub groups: Arc<MemoryGroups>,
    pub router: Router,
    pub maps: Maps,
    addr: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A node without a database.
struct NoFacts;

impl NodeFacts for NoFacts {
    fn node(&self) -> NodeId {
        NODE
    }

    fn database(&self) -> Database {
        Database::default()
    }

    fn defragment(&self) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

/// Groups `1..=GROUPS`, all on one node, vnodes dealt out in turn.
pub fn map(epoch: u64) -> Arc<ClusterMap> {
    let group = |id: u32| Group {
        id: GroupId(id),
        state: GroupState::Active,
        replicas: vec![Replica {
            id: ReplicaId(u64::from(id)),
            node: NODE,
            role: ReplicaRole::Voter,
        }],
    };
    let content = MapContent {
        epoch: Epoch(epoch),
        cluster_id: ClusterId([7; 16]),
        vnodes: VNODES,
        rules: Rules::default(),
        nodes: vec![Node {
            id: NODE,
            peer_address: "127.0.0.1:1".to_owned(),
            client_address: "127.0.0.1:2".to_owned(),
            zone: "a".to_owned(),
            roles: Roles::ALL,
        }],
        groups: (1..=GROUPS).map(group).collect(),
        placement: Group {
            replicas: Vec::new(),
            ..group(0)
        },
        owners: (0..VNODES).map(|v| GroupId(1 + v % GROUPS)).collect(),
    };
    Arc::new(ClusterMap::new(content).unwrap())
}

fn router(options: RouterOptions, groups: &Arc<MemoryGroups>, maps: &Maps) -> Router {
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        cluster_name: "test".to_owned(),
        node: 0,
        ..Hello::default()
    };
    let net = Arc::new(TcpNet::default());
    let peers = Peers::new(net, hello, PeersOptions::default());
    let local = Some((NODE, groups.clone() as Arc<dyn caucus_api::Groups>));
    let links = NodeLinks::new(peers.clone(), LinksOptions::default(), 42, local);
    let placement = PlacementClient::new(peers, PlacementOptions::default(), Vec::new());
    Router::new(options, links, placement, maps.clone())
}

impl Door {
    /// With a map and all groups at work.
    pub async fn open() -> Door {
        let door = Door::without_map(RouterOptions::default(), HttpOptions::default()).await;
        door.maps.publish(map(1));
        door
    }

    pub async fn without_map(options: RouterOptions, http: HttpOptions) -> Door {
        let groups = Arc::new(MemoryGroups::new(map(1)));
        let maps = Maps::default();
        let router = router(options, &groups, &maps);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let here = Here {
            metrics_text: Arc::new(|| "caucus_test 1\n".to_owned()),
            node: Arc::new(NoFacts),
        };
        let serving = serve(listener, router.clone(), http, here, stop.clone());
        Door {
            groups,
            router,
            maps,
            addr,
            stop,
            task: tokio::spawn(serving),
        }
    }

    /// A router of the same groups that has seen nothing yet.
    pub fn fresh_router(&self) -> Router {
        router(RouterOptions::default(), &self.groups, &self.maps)
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.addr).await
    }

    pub async fn http2_client(&self) -> Client {
        Client::connect_http2(&self.addr).await
    }

    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Ends the server and waits for its last connection.
    pub async fn close(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(20), self.task);
        ended.await.expect("it ends").unwrap();
    }
}
