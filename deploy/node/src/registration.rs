//! How a node becomes known to its cluster, and when a first member of the placement group may begin with nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{Register, Registered};
use caucus_client::{PlacementClient, PlacementError};
use caucus_peer::Peers;
use caucus_planted as planted;
use caucus_raft::Host;
use caucus_ring::{GroupId, NodeId};
use tokio::time::{Instant, sleep};

use crate::{Error, Settings};

/// One attempt; it is repeated until the placement group answers.
const TIMEOUT: Duration = Duration::from_secs(5);
/// One attempt of a node that may have to begin the group itself.
const FIRST_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(50);

/// What a node says of itself, and to whom.
pub(crate) struct Registration {
    question: Register,
    client: PlacementClient,
    peers: Arc<Peers>,
}

impl Registration {
    pub(crate) fn new(
        settings: &Settings,
        storage_id: Bytes,
        client: PlacementClient,
        peers: Arc<Peers>,
    ) -> Registration {
        let question = Register {
            node: settings.node.map_or(0, NonZeroU32::get),
            storage_id,
            peer_addr: settings.peer_addr.clone(),
            client_addr: settings.client_addr.clone(),
            zone: settings.zone.clone(),
            shard: settings.roles.shard,
            router: settings.roles.router,
            placement: settings.roles.placement,
        };
        Registration {
            question,
            client,
            peers,
        }
    }

    /// Tries until the placement group answers; see [`crate::Node::register`].
    pub(crate) async fn register(&self) -> Result<(NodeId, Bytes), Error> {
        loop {
            if let Some(known) = self.attempt(TIMEOUT).await? {
                return Ok(known);
            }
            // Some errors come at once.
            sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, limit: Duration) -> Result<Option<(NodeId, Bytes)>, Error> {
        let question = Ask::Register(self.question.clone());
        match self.client.ask(question, Instant::now() + limit).await {
            Ok(Answer::Registered(Registered { node: 0, .. })) => {
                Err(Error::Refused("it was given no number".to_owned()))
            }
            Ok(Answer::Registered(registered)) => {
                self.peers.set_cluster_id(registered.cluster_id.clone());
                Ok(Some((NodeId(registered.node), registered.cluster_id)))
            }
            Ok(_) => {
                tracing::warn!("the placement group answered another question");
                Ok(None)
            }
            Err(PlacementError::Refused(reason)) => Err(Error::Refused(reason)),
            Err(error) => {
                tracing::info!(%error, "waiting for the placement group");
                Ok(None)
            }
        }
    }

    /// Waits until this node may hold a replica of the placement group. One that has nothing stored is new, or it lost
    /// its disk, and then it must not vote. It is new if the others say that nothing was committed yet, or if the group
    /// takes it with the storage that it has.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: the group knows this node with another storage.
    pub(crate) async fn admit(
        &self,
        settings: &Settings,
        host: &Host,
        replica: u64,
    ) -> Result<(), Error> {
        let group = GroupId::PLACEMENT.0;
        let is_voter = settings.voters.iter().any(|v| v.replica == replica);
        if planted::is(planted::LOST_DISK_VOTES)
            || !is_voter
            || host.stored().contains(&(group, replica))
        {
            return Ok(());
        }
        let others = settings.voters.iter().filter(|v| v.replica != replica);
        let others: Vec<(u64, String)> = others.map(|v| (v.replica, v.peer_addr.clone())).collect();
        let mut is_said = false;
        loop {
            if host.is_first_start(group, &others, FIRST_TIMEOUT).await {
                return Ok(());
            }
            if self.attempt(FIRST_TIMEOUT).await?.is_some() {
                return Ok(());
            }
            if !std::mem::replace(&mut is_said, true) {
                tracing::warn!(
                    "nothing is stored here: it can't be known that no vote and no write was lost until more of the \
                     other members of the placement group are up"
                );
            }
            sleep(PAUSE).await;
        }
    }
}
