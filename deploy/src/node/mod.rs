//! A node's process: its data directory, its two ports, its metrics, and the node itself
//! ([`caucus_node`]) with the roles of its configuration.
//!
//! Order at start: data directory, ports, engine, registration, roles. The end is the reverse.

mod facts;
mod storage;
mod telemetry;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use caucus_node::{Node, Parts, Roles, Serving, Settings, Surroundings};
use caucus_peer::TcpNet;
use caucus_placement::{Bootstrap, Voter};
use caucus_ring::NodeId;
use caucus_router::etcd::EtcdOptions;
use caucus_router::http::{Here, HttpOptions, serve};
use caucus_router::recipes::services;
use caucus_router::{Retention, RouterOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::facts::Facts;
use crate::config::{Checked, Role};
use crate::identity::{self, DataDir};
use crate::listen::{self, listen};

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
    /// The node itself.
    #[error(transparent)]
    Node(#[from] caucus_node::Error),
    /// No metrics recorder, or a fail point that isn't there.
    #[error("cannot start: {0}")]
    System(String),
}

impl NodeError {
    /// Whether the operator has to change something before another start can succeed.
    pub(crate) fn is_setup(&self) -> bool {
        match self {
            NodeError::DataDir(error) => error.is_setup(),
            NodeError::Listen(_) | NodeError::Node(caucus_node::Error::Refused(_)) => true,
            NodeError::Storage(error) => matches!(error, caucus_engine::Error::Format { .. }),
            NodeError::Node(_) | NodeError::System(_) => false,
        }
    }
}

/// Runs the node until `shutdown`.
pub(crate) async fn run(config: Checked, shutdown: CancellationToken) -> Result<(), NodeError> {
    let mut data_dir = DataDir::open(&config)?;
    let client_port = listen("listen.client", config.listen.client).await?;
    let peer_port = listen("listen.peer", config.listen.peer).await?;
    let telemetry = telemetry::install().map_err(NodeError::System)?;
    let engine = storage::open(&config, &data_dir)?;
    let bind = config.listen.peer.ip();
    let net = TcpNet {
        bind: (!bind.is_unspecified()).then_some(bind),
    };
    let known = data_dir.node().or_else(|| config.node_id());
    let node = Node::start(Parts {
        settings: settings(&config, known),
        engine: engine.clone(),
        marks: storage::marks(&config),
        cluster_id: data_dir.cluster_id().map(Into::into),
        storage_id: data_dir.storage_id().into(),
        net: Arc::new(net),
        listener: Box::new(peer_port),
        surroundings: surroundings(),
        shutdown: shutdown.clone(),
    })
    .await?;
    let joined = tokio::select! {
        joined = node.register() => Some(joined?),
        () = shutdown.cancelled() => None,
    };
    let mut serving = None;
    if let Some((number, cluster_id)) = joined {
        let number = NonZeroU32::new(number.0).expect("a node has a number");
        data_dir.remember(number, &cluster_id)?;
        let number = NodeId(number.get());
        #[cfg(feature = "planted")]
        caucus_planted::arm_from_environment(number.0).map_err(NodeError::System)?;
        let roles = node.serve(number)?;
        let here = Here {
            metrics_text: telemetry.text(),
            node: Arc::new(Facts::new(number, engine)),
        };
        take_clients(&config, &roles, client_port, here, &shutdown).await;
        serving = Some(roles);
    }
    node.stop(serving).await;
    Ok(())
}

/// Serves the client port, if the node is a router, until the shutdown.
async fn take_clients(
    config: &Checked,
    roles: &Serving,
    client_port: TcpListener,
    here: Here,
    shutdown: &CancellationToken,
) {
    if !config.has(Role::Router) {
        return shutdown.cancelled().await;
    }
    let router = roles.router.clone();
    let checks = tokio::spawn(services::check::run(router.clone(), shutdown.clone()));
    let options = HttpOptions {
        connections_max: config.http.connections_max,
        header_read_timeout: Duration::from_millis(config.http.header_timeout_ms),
        body_timeout: Duration::from_millis(config.http.body_timeout_ms),
        shutdown_grace: config.shutdown_timeout(),
        etcd: EtcdOptions {
            txn_operations_max: config.etcd.txn_operations_max,
            ..EtcdOptions::default()
        },
        ..HttpOptions::default()
    };
    serve(client_port, router, options, here, shutdown.clone()).await;
    if let Err(error) = checks.await {
        tracing::warn!(%error, "the health checks did not end cleanly");
    }
}

fn settings(config: &Checked, node: Option<NonZeroU32>) -> Settings {
    let members = config.cluster.initial_placement.iter();
    let voter = |member: &crate::config::PlacementMember| Voter {
        replica: u64::from(member.id),
        node: member.id,
        peer_addr: member.peer.clone(),
    };
    Settings {
        cluster_name: config.cluster.name.clone(),
        node,
        roles: Roles {
            shard: config.has(Role::Shard),
            router: config.has(Role::Router),
            placement: config.has(Role::Placement),
        },
        peer_addr: config.advertise_peer(),
        client_addr: config.advertise_client(),
        zone: config.node.zone.clone(),
        voters: members.map(voter).collect(),
        seeds: config.placement_addresses(),
        bootstrap: Bootstrap {
            vnodes: config.cluster.vnodes,
            groups: config.groups(),
            replication: config.cluster.replication,
            initial_nodes: config.cluster.initial_nodes,
            created_at_ms: unix_ms(),
        },
        raft: storage::raft_options(config),
        shard: caucus_shard::Options {
            idempotency_window: Duration::from_secs(config.idempotency.window_seconds),
            idempotency_keys_max: config.idempotency.keys_max,
            ..caucus_shard::Options::default()
        },
        router: RouterOptions {
            timeout: config.request_timeout(),
            unix_ms,
            ..RouterOptions::default()
        },
        keeps: Retention {
            revisions: config.history.keep_revisions,
            age: Duration::from_secs(config.history.keep_seconds),
        },
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        random: Arc::new(fill_random),
        on_stats: Arc::new(telemetry::gauge),
    }
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

fn fill_random(bytes: &mut [u8]) -> Result<(), String> {
    let flags = rustix::rand::GetRandomFlags::empty();
    match rustix::rand::getrandom(&mut *bytes, flags) {
        Ok(drawn) if drawn == bytes.len() => Ok(()),
        Ok(_) => Err("too few random bytes".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
