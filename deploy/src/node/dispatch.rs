//! Frames of the peer port to the parts of the node.

use std::sync::{Arc, OnceLock};

use caucus_peer::{Frame, Handler, Link, Service};
use caucus_placement::Placement;
use caucus_raft::Inbox;
use caucus_shard::Server;

/// Knows which part takes which service. Parts come as they start; until then their frames are not
/// answered, and the askers ask again.
pub(super) struct Dispatch {
    raft: Arc<Inbox>,
    shard: OnceLock<Arc<Server>>,
    placement: OnceLock<Arc<Placement>>,
}

impl Dispatch {
    pub(super) fn new(raft: Arc<Inbox>) -> Dispatch {
        Dispatch {
            raft,
            shard: OnceLock::new(),
            placement: OnceLock::new(),
        }
    }

    pub(super) fn set_shard(&self, shard: Arc<Server>) {
        assert!(self.shard.set(shard).is_ok(), "the groups start once");
    }

    pub(super) fn set_placement(&self, placement: Arc<Placement>) {
        let set = self.placement.set(placement);
        assert!(set.is_ok(), "the placement replica starts once");
    }
}

impl Handler for Dispatch {
    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        match Service::from_number(frame.service) {
            Some(
                Service::RaftAppend
                | Service::RaftVote
                | Service::RaftTransfer
                | Service::RaftSnapshot
                | Service::RaftHeartbeat,
            ) => self.raft.frame(link, frame),
            Some(Service::Shard) => match self.shard.get() {
                Some(shard) => shard.frame(link, frame),
                // The sender takes a closed link for what it is: a node that isn't there.
                None => link.close(),
            },
            Some(Service::Placement) => match self.placement.get() {
                Some(placement) => placement.frame(link, frame),
                None => link.close(),
            },
            Some(Service::Hello) | None => {
                tracing::warn!(service = frame.service, "a frame of an unknown service");
                link.close();
            }
        }
    }
}
