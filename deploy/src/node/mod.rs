//! A node: its data directory, its two ports and the roles of its configuration.
//!
//! ```text
//!  client port ─▶ router ─▶ NodeLinks ─▶ (here) Shard, (elsewhere) peer port
//!  peer port ─▶ Dispatch ─▶ raft Inbox | shard Server | Placement
//!  Host: the replicas of all groups, one engine under them
//! ```
//!
//! Order at start: data directory, ports, engine, placement replica (if it has one), registration, map,
//! data groups, router. The end is the reverse.

mod directory;
mod dispatch;
mod facts;
pub(crate) mod fail_points;
mod others;
mod placement;
mod reports;
mod storage;
mod telemetry;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use caucus_api::Groups;
use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{Register, Registered};
use caucus_client::{
    LinksOptions, MapFollower, MapFollowerOptions, Maps, NodeLinks, PlacementClient,
    PlacementError, PlacementOptions,
};
use caucus_engine::Engine;
use caucus_peer::{Hello, PROTOCOL_VERSION, Peers, PeersOptions, ServerOptions, TcpNet};
use caucus_placement::Placement;
use caucus_raft::{Host, HostError, HostParts};
use caucus_ring::NodeId;
use caucus_router::etcd::EtcdOptions;
use caucus_router::http::{Here, HttpOptions, serve};
use caucus_router::recipes::services;
use caucus_router::{Retention, Router, RouterOptions};
use caucus_shard::{Server, Shard, ShardParts};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::directory::AddressBook;
use self::dispatch::Dispatch;
use self::facts::Facts;
use self::others::Others;
use self::placement::{Oracle, ask_own};
use crate::config::{Checked, Role};
use crate::identity::{self, DataDir};
use crate::listen::{self, listen};

/// Links that other nodes may have open to this one.
const PEER_LINKS_MAX: usize = 4096;
/// One attempt to register; it is repeated until the placement group answers.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a node ended, or didn't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// Its data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] identity::Error),
    /// One of its ports can't be had.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// Its storage can't be opened.
    #[error("cannot open the storage: {0}")]
    Storage(#[from] caucus_engine::Error),
    /// Its replica of the placement group can't run.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The cluster doesn't take it as it is.
    #[error("the cluster refuses this node: {0}")]
    Refused(String),
    /// The system gave no random bytes, or no metrics recorder.
    #[error("cannot start: {0}")]
    System(String),
}

impl NodeError {
    /// Whether the operator has to change something before another start can succeed.
    pub(crate) fn is_setup(&self) -> bool {
        match self {
            NodeError::DataDir(error) => error.is_setup(),
            NodeError::Listen(_) | NodeError::Refused(_) => true,
            NodeError::Storage(error) => matches!(error, caucus_engine::Error::Format { .. }),
            NodeError::Host(_) | NodeError::System(_) => false,
        }
    }
}

/// What all parts of a node share.
struct Base {
    config: Checked,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    engine: Arc<dyn Engine>,
    peers: Arc<Peers>,
    book: Arc<AddressBook>,
    host: Arc<Host>,
    dispatch: Arc<Dispatch>,
    placement: Option<Arc<Placement>>,
    client: PlacementClient,
}

/// Runs the node until `shutdown`.
pub(crate) async fn run(config: Checked, shutdown: CancellationToken) -> Result<(), NodeError> {
    let mut data_dir = DataDir::open(&config)?;
    let client_port = listen("listen.client", config.listen.client).await?;
    let peer_port = listen("listen.peer", config.listen.peer).await?;
    let telemetry = telemetry::install().map_err(NodeError::System)?;
    let base = start_base(config, shutdown, &data_dir, peer_port).await?;
    let joined = tokio::select! {
        joined = register(&base, &mut data_dir) => Some(joined?),
        () = base.shutdown.cancelled() => None,
    };
    if let Some(node) = joined {
        fail_points::arm(node).map_err(NodeError::System)?;
        serve_roles(&base, node, client_port, telemetry).await?;
    }
    base.shutdown.cancel();
    if let Some(placement) = &base.placement {
        placement.stopped().await;
    }
    base.host.shutdown().await;
    base.peers.close().await;
    base.tasks.close();
    base.tasks.wait().await;
    Ok(())
}

async fn start_base(
    config: Checked,
    shutdown: CancellationToken,
    data_dir: &DataDir,
    peer_port: TcpListener,
) -> Result<Base, NodeError> {
    let engine = storage::open(&config, data_dir)?;
    let known = data_dir.node().or_else(|| config.node_id());
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        cluster_name: config.cluster.name.clone(),
        node: known.map_or(0, NonZeroU32::get),
        ..Hello::default()
    };
    let bind = config.listen.peer.ip();
    let net = TcpNet {
        bind: (!bind.is_unspecified()).then_some(bind),
    };
    let peers = Peers::new(Arc::new(net), hello, PeersOptions::default());
    if let Some(id) = data_dir.cluster_id() {
        peers.set_cluster_id(id.into());
    }
    let book = Arc::new(AddressBook::new(&config.cluster.initial_placement));
    let host = Host::open(HostParts {
        engine: engine.clone(),
        peers: peers.clone(),
        directory: book.clone(),
        options: storage::raft_options(&config),
        marks: storage::marks(&config),
    })?;
    let client = PlacementClient::new(
        peers.clone(),
        PlacementOptions::default(),
        config.placement_addresses(),
    );
    let dispatch = Arc::new(Dispatch::new(host.inbox(), peers.clone(), client.clone()));
    let tasks = TaskTracker::new();
    let options = ServerOptions {
        cluster_name: config.cluster.name.clone(),
        links_max: PEER_LINKS_MAX,
    };
    tasks.spawn(caucus_peer::serve(
        peer_port,
        options,
        dispatch.clone(),
        shutdown.clone(),
    ));
    let placement = match (config.has(Role::Placement), known) {
        (true, Some(node)) => Some(placement::start(&config, node.get(), &host, &shutdown).await?),
        (true, None) | (false, _) => None,
    };
    if let Some(placement) = &placement {
        dispatch.set_placement(placement.clone());
    }
    Ok(Base {
        config,
        shutdown,
        tasks,
        engine,
        peers,
        book,
        host,
        dispatch,
        placement,
        client,
    })
}

/// Makes this node known to the cluster; tries until the placement group answers.
async fn register(base: &Base, data_dir: &mut DataDir) -> Result<NodeId, NodeError> {
    let config = &base.config;
    let known = data_dir.node().or_else(|| config.node_id());
    let question = Register {
        node: known.map_or(0, NonZeroU32::get),
        storage_id: data_dir.storage_id().into(),
        peer_addr: config.advertise_peer(),
        client_addr: config.advertise_client(),
        zone: config.node.zone.clone(),
        shard: config.has(Role::Shard),
        router: config.has(Role::Router),
        placement: config.has(Role::Placement),
    };
    loop {
        let deadline = Instant::now() + REGISTER_TIMEOUT;
        match base
            .client
            .ask(Ask::Register(question.clone()), deadline)
            .await
        {
            Ok(Answer::Registered(registered)) => {
                let node = remember(data_dir, &registered)?;
                base.peers.set_cluster_id(registered.cluster_id);
                return Ok(node);
            }
            Ok(_) => tracing::warn!("the placement group answered another question"),
            Err(PlacementError::Refused(reason)) => return Err(NodeError::Refused(reason)),
            Err(error) => tracing::info!(%error, "waiting for the placement group"),
        }
    }
}

fn remember(data_dir: &mut DataDir, registered: &Registered) -> Result<NodeId, NodeError> {
    let node = NonZeroU32::new(registered.node)
        .ok_or_else(|| NodeError::Refused("it was given no number".to_owned()))?;
    data_dir.remember(node, &registered.cluster_id)?;
    Ok(NodeId(node.get()))
}

/// Runs the roles of the node until the shutdown, and ends them in order.
async fn serve_roles(
    base: &Base,
    node: NodeId,
    client_port: TcpListener,
    telemetry: telemetry::Telemetry,
) -> Result<(), NodeError> {
    let maps = Maps::default();
    let follower = MapFollower::new(
        base.client.clone(),
        MapFollowerOptions::default(),
        maps.clone(),
    );
    base.tasks.spawn(follower.run(base.shutdown.clone()));
    base.tasks.spawn(
        base.book
            .clone()
            .follow(maps.subscribe(), base.shutdown.clone()),
    );
    let others = Arc::new(Others::default());
    let shard = base
        .config
        .has(Role::Shard)
        .then(|| start_shard(base, node, &maps, others.clone()));
    let reporter = reports::Reporter {
        node,
        client: base.client.clone(),
        own: base.placement.clone(),
        shard: shard.clone(),
        engine: base.engine.clone(),
    };
    base.tasks.spawn(reporter.run(base.shutdown.clone()));
    let router = start_router(base, node, maps, shard.clone())?;
    others.set(Some(router.clone()));
    compact_by_itself(base, node, &router);
    if base.config.has(Role::Router) {
        let checks = services::check::run(router.clone(), base.shutdown.clone());
        base.tasks.spawn(checks);
        let options = HttpOptions {
            connections_max: base.config.http.connections_max,
            header_read_timeout: Duration::from_millis(base.config.http.header_timeout_ms),
            body_timeout: Duration::from_millis(base.config.http.body_timeout_ms),
            shutdown_grace: base.config.shutdown_timeout(),
            etcd: EtcdOptions {
                txn_operations_max: base.config.etcd.txn_operations_max,
                ..EtcdOptions::default()
            },
            ..HttpOptions::default()
        };
        let here = Here {
            metrics_text: telemetry.text(),
            node: Arc::new(Facts::new(node, base.engine.clone())),
        };
        serve(client_port, router, options, here, base.shutdown.clone()).await;
    } else {
        base.shutdown.cancelled().await;
    }
    others.set(None);
    if let Some(shard) = shard {
        shard.ended().await;
    }
    Ok(())
}

/// Compacts as the configuration says.
fn compact_by_itself(base: &Base, node: NodeId, router: &Router) {
    let keeps = Retention {
        revisions: base.config.history.keep_revisions,
        age: Duration::from_secs(base.config.history.keep_seconds),
    };
    if keeps.is_on() {
        let (router, shutdown) = (router.clone(), base.shutdown.clone());
        base.tasks.spawn(async move {
            shutdown
                .run_until_cancelled(router.compact_by(keeps, node))
                .await;
        });
    }
}

fn start_shard(base: &Base, node: NodeId, maps: &Maps, others: Arc<Others>) -> Shard {
    let oracle = Arc::new(Oracle {
        own: base.placement.clone(),
        client: base.client.clone(),
    });
    let shard = Shard::start(ShardParts {
        node,
        host: base.host.clone(),
        engine: base.engine.clone(),
        revisions: oracle.clone(),
        others,
        activations: oracle,
        clock: Arc::new(unix_ms),
        maps: maps.subscribe(),
        options: caucus_shard::Options {
            idempotency_window: Duration::from_secs(base.config.idempotency.window_seconds),
            idempotency_keys_max: base.config.idempotency.keys_max,
            ..caucus_shard::Options::default()
        },
        shutdown: base.shutdown.clone(),
    });
    base.dispatch
        .set_shard(Server::new(Arc::new(shard.clone())));
    shard
}

/// The clock on the wall.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where time comes in from outside"
)]
fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn start_router(
    base: &Base,
    node: NodeId,
    maps: Maps,
    shard: Option<Shard>,
) -> Result<Router, NodeError> {
    let mut session = [0; 8];
    fill_random(&mut session)?;
    let local = shard.map(|shard| (node, Arc::new(shard) as Arc<dyn Groups>));
    let links = NodeLinks::new(
        base.peers.clone(),
        LinksOptions::default(),
        u64::from_le_bytes(session),
        local,
    );
    let options = RouterOptions {
        timeout: base.config.request_timeout(),
        unix_ms,
        ..RouterOptions::default()
    };
    Ok(Router::new(options, links, base.client.clone(), maps))
}

fn fill_random(bytes: &mut [u8]) -> Result<(), NodeError> {
    let flags = rustix::rand::GetRandomFlags::empty();
    match rustix::rand::getrandom(&mut *bytes, flags) {
        Ok(drawn) if drawn == bytes.len() => Ok(()),
        Ok(_) => Err(NodeError::System("too few random bytes".to_owned())),
        Err(error) => Err(NodeError::System(error.to_string())),
    }
}

/// Asks the placement group: this node's own replica first, which answers at once if it leads.
async fn ask_placement(
    own: Option<&Placement>,
    client: &PlacementClient,
    question: Ask,
    limit: Duration,
) -> Result<Answer, PlacementError> {
    if let Some(answer) = ask_own(own, &question).await {
        return Ok(answer);
    }
    client.ask(question, Instant::now() + limit).await
}
