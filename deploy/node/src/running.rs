//! The node as it starts, serves and ends.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caucus_api::Groups;
use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_client::{
    LinksOptions, MapFollower, MapFollowerOptions, Maps, NodeLinks, PlacementClient,
    PlacementError, PlacementOptions,
};
use caucus_engine::Engine;
use caucus_peer::{Hello, PROTOCOL_VERSION, Peers, PeersOptions, ServerOptions};
use caucus_placement::Placement;
use caucus_raft::{Host, HostParts};
use caucus_ring::NodeId;
use caucus_router::Router;
use caucus_shard::{Server, Shard, ShardParts};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directory::AddressBook;
use crate::dispatch::Dispatch;
use crate::others::Others;
use crate::placement::{self, Oracle, ask_own};
use crate::registration::Registration;
use crate::reports::Reporter;
use crate::{Error, Parts, Settings, Surroundings};

/// Links that other nodes may have open to this one.
const PEER_LINKS_MAX: usize = 4096;

/// A node whose peer port is open. Its placement replica runs, if it has one.
pub struct Node {
    settings: Settings,
    surroundings: Surroundings,
    registration: Registration,
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

/// The roles of a node that is known to its cluster.
pub struct Serving {
    /// Takes requests.
    pub router: Router,
    /// The data groups that are here.
    pub shard: Option<Shard>,
    others: Arc<Others>,
}

impl Node {
    /// Opens what is stored and the peer port, and starts the placement replica; a first member with nothing stored waits
    /// until it is known that it lost nothing.
    ///
    /// # Errors
    ///
    /// What is stored can't be used, or the system gives no random bytes; [`Error::Refused`] as [`Node::register`].
    pub async fn start(parts: Parts) -> Result<Node, Error> {
        let Parts {
            settings,
            surroundings,
            shutdown,
            engine,
            ..
        } = parts;
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            cluster_name: settings.cluster_name.clone(),
            node: settings.node.map_or(0, NonZeroU32::get),
            ..Hello::default()
        };
        let peers = Peers::new(parts.net, hello, PeersOptions::default());
        if let Some(id) = parts.cluster_id {
            peers.set_cluster_id(id);
        }
        let book = Arc::new(AddressBook::new(&settings.voters));
        let host = Host::open(HostParts {
            engine: engine.clone(),
            peers: peers.clone(),
            directory: book.clone(),
            options: settings.raft.clone(),
            marks: parts.marks,
        })?;
        let seeds = settings.seeds.clone();
        let client = PlacementClient::new(peers.clone(), PlacementOptions::default(), seeds);
        let dispatch = Arc::new(Dispatch::new(host.inbox(), peers.clone(), client.clone()));
        let tasks = TaskTracker::new();
        let options = ServerOptions {
            cluster_name: settings.cluster_name.clone(),
            links_max: PEER_LINKS_MAX,
        };
        tasks.spawn(caucus_peer::serve(
            parts.listener,
            options,
            dispatch.clone(),
            shutdown.clone(),
        ));
        let registration =
            Registration::new(&settings, parts.storage_id, client.clone(), peers.clone());
        let place = (&host, &registration);
        let placement = take_place(&settings, &surroundings, place, &shutdown).await?;
        if let Some(placement) = &placement {
            dispatch.set_placement(placement.clone());
        }
        Ok(Node {
            settings,
            surroundings,
            registration,
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

    /// Makes this node known to the cluster; tries until the placement group answers. The number that the
    /// node has from now on, and the id of the cluster, are to be remembered.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: another storage has the number, or the like.
    pub async fn register(&self) -> Result<(NodeId, Bytes), Error> {
        self.registration.register().await
    }

    /// Starts the roles of the node.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub fn serve(&self, node: NodeId) -> Result<Serving, Error> {
        let maps = Maps::default();
        let options = MapFollowerOptions::default();
        let follower = MapFollower::new(self.client.clone(), options, maps.clone());
        self.tasks.spawn(follower.run(self.shutdown.clone()));
        let book = self.book.clone();
        self.tasks
            .spawn(book.follow(maps.subscribe(), self.shutdown.clone()));
        let others = Arc::new(Others::default());
        let with_shard = self.settings.roles.shard;
        let shard = with_shard.then(|| self.start_shard(node, &maps, others.clone()));
        let reporter = Reporter {
            node,
            client: self.client.clone(),
            own: self.placement.clone(),
            shard: shard.clone(),
            engine: self.engine.clone(),
            on_stats: self.surroundings.on_stats.clone(),
        };
        self.tasks.spawn(reporter.run(self.shutdown.clone()));
        let router = self.start_router(node, maps, shard.clone())?;
        others.set(Some(router.clone()));
        self.compact_by_itself(node, &router);
        Ok(Serving {
            router,
            shard,
            others,
        })
    }

    /// Ends everything in good order, and makes what was written durable.
    pub async fn stop(self, serving: Option<Serving>) {
        if let Some(serving) = serving {
            serving.others.set(None);
            if let Some(shard) = serving.shard {
                shard.ended().await;
            }
        }
        self.shutdown.cancel();
        if let Some(placement) = &self.placement {
            placement.stopped().await;
        }
        self.host.shutdown().await;
        self.peers.close().await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The replicas that run here.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Compacts as the settings say.
    fn compact_by_itself(&self, node: NodeId, router: &Router) {
        let keeps = self.settings.keeps;
        if keeps.is_on() {
            let (router, shutdown) = (router.clone(), self.shutdown.clone());
            self.tasks.spawn(async move {
                shutdown
                    .run_until_cancelled(router.compact_by(keeps, node))
                    .await;
            });
        }
    }

    fn start_shard(&self, node: NodeId, maps: &Maps, others: Arc<Others>) -> Shard {
        let oracle = Arc::new(Oracle {
            own: self.placement.clone(),
            client: self.client.clone(),
        });
        let shard = Shard::start(ShardParts {
            node,
            host: self.host.clone(),
            engine: self.engine.clone(),
            revisions: oracle.clone(),
            others,
            activations: oracle,
            clock: placement::monotonic(),
            maps: maps.subscribe(),
            options: self.settings.shard.clone(),
            shutdown: self.shutdown.clone(),
        });
        self.dispatch
            .set_shard(Server::new(Arc::new(shard.clone())));
        shard
    }

    fn start_router(
        &self,
        node: NodeId,
        maps: Maps,
        shard: Option<Shard>,
    ) -> Result<Router, Error> {
        let mut session = [0; 8];
        (self.surroundings.random)(&mut session).map_err(Error::System)?;
        let local = shard.map(|shard| (node, Arc::new(shard) as Arc<dyn Groups>));
        let links = NodeLinks::new(
            self.peers.clone(),
            LinksOptions::default(),
            u64::from_le_bytes(session),
            local,
        );
        let options = self.settings.router.clone();
        Ok(Router::new(options, links, self.client.clone(), maps))
    }
}

/// Starts the node's replica of the placement group, if it has one and may; none also if the shutdown comes first.
async fn take_place(
    settings: &Settings,
    surroundings: &Surroundings,
    (host, registration): (&Arc<Host>, &Registration),
    shutdown: &CancellationToken,
) -> Result<Option<Arc<Placement>>, Error> {
    let (true, Some(node)) = (settings.roles.placement, settings.node) else {
        return Ok(None);
    };
    let admitted = registration.admit(settings, host, u64::from(node.get()));
    let Some(admitted) = shutdown.run_until_cancelled(admitted).await else {
        return Ok(None);
    };
    admitted?;
    let started = placement::start(settings, surroundings, node.get(), host, shutdown);
    Ok(Some(started.await?))
}

/// Asks the placement group: this node's own replica first, which answers at once if it leads.
pub(crate) async fn ask_placement(
    own: Option<&Placement>,
    client: &PlacementClient,
    question: Ask,
    limit: Duration,
) -> Result<Answer, PlacementError> {
    let deadline = Instant::now() + limit;
    if let Ok(Some(answer)) = timeout_at(deadline, ask_own(own, &question)).await {
        return Ok(answer);
    }
    client.ask(question, deadline).await
}
