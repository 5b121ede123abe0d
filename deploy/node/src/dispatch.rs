//! Frames of the peer port to the parts of the node.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use caucus_api::placement::error::Code;
use caucus_api::placement::response::Body as Answer;
use caucus_api::placement::{Error, Response};
use caucus_client::PlacementClient;
use caucus_peer::{Frame, Handler, Link, Peers, Service};
use caucus_placement::Placement;
use caucus_raft::Inbox;
use caucus_shard::Server;
use prost::Message;

/// Knows which part takes which service. Parts come as they start; until then their frames are not
/// answered, and the askers ask again.
pub(crate) struct Dispatch {
    raft: Arc<Inbox>,
    peers: Arc<Peers>,
    client: PlacementClient,
    shard: OnceLock<Arc<Server>>,
    placement: OnceLock<Arc<Placement>>,
}

impl Dispatch {
    pub(crate) fn new(raft: Arc<Inbox>, peers: Arc<Peers>, client: PlacementClient) -> Dispatch {
        Dispatch {
            raft,
            peers,
            client,
            shard: OnceLock::new(),
            placement: OnceLock::new(),
        }
    }

    pub(crate) fn set_shard(&self, shard: Arc<Server>) {
        assert!(self.shard.set(shard).is_ok(), "the groups start once");
    }

    pub(crate) fn set_placement(&self, placement: Arc<Placement>) {
        let set = self.placement.set(placement);
        assert!(set.is_ok(), "the placement replica starts once");
    }
}

impl Dispatch {
    /// A node without a replica of the placement group knows where there are some: any node of a cluster
    /// will do as the seed of one that joins.
    fn point_to_placement(&self, link: &Arc<Link>, question: &Frame) {
        let known = self.client.addrs();
        // Another one for each question: one of them may be down.
        let count = known.len().max(1) as u64;
        let named = known.get((question.id % count) as usize).cloned();
        let error = Error {
            code: Code::NotLeader.into(),
            message: "no replica of the placement group is here".to_owned(),
            leader_addr: named.unwrap_or_default(),
        };
        let answer = Response {
            body: Some(Answer::Error(error)),
        };
        // An asker who is gone has closed the link itself.
        let _ = link.send_now(question.reply(answer.encode_to_vec().into()));
    }
}

impl Handler for Dispatch {
    fn cluster_id(&self) -> Bytes {
        self.peers.cluster_id()
    }

    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        match Service::from_number(frame.service) {
            Some(
                Service::RaftAppend
                | Service::RaftVote
                | Service::RaftTransfer
                | Service::RaftSnapshot
                | Service::RaftHeartbeat
                | Service::RaftStanding
                | Service::RaftBlank,
            ) => self.raft.frame(link, frame),
            Some(Service::Shard) => match self.shard.get() {
                Some(shard) => shard.frame(link, frame),
                // The sender takes a closed link for what it is: a node that isn't there.
                None => link.close(),
            },
            Some(Service::Placement) => match self.placement.get() {
                Some(placement) => placement.frame(link, frame),
                None => self.point_to_placement(link, &frame),
            },
            Some(Service::Hello) | None => {
                tracing::warn!(service = frame.service, "a frame of an unknown service");
                link.close();
            }
        }
    }
}
