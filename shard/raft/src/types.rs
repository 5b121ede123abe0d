//! The types that openraft is instantiated with.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std;

/// A command of the layer above, as it stands in the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a state machine answers to the proposer of a command. Never leaves the process, so it is
/// passed as it is, without an encoding.
#[derive(Default)]
pub struct Reply(Option<Box<dyn Any + Send + Sync>>);

impl Reply {
    /// Nothing to say.
    pub fn none() -> Reply {
        Reply(None)
    }

    /// An answer of the layer above.
    pub fn new<T: Any + Send + Sync>(value: T) -> Reply {
        Reply(Some(Box::new(value)))
    }

    /// The answer, if it is a `T`.
    pub fn take<T: Any + Send + Sync>(self) -> Option<T> {
        let value = self.0?.downcast::<T>().ok()?;
        Some(*value)
    }
}

/// The node that a replica lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Default))]
pub struct Member {
    /// The node's id.
    pub node: u32,
}

openraft::declare_raft_types!(
    /// One leader a term, replica ids that are never reused as openraft's node ids.
    pub(crate) TypeConfig:
        D = Payload,
        R = Reply,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type LeaderId = leader_id_std::LeaderId<u64, u64>;
pub(crate) type CommittedLeaderId = <LeaderId as openraft::vote::RaftLeaderId>::Committed;
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, u64, Member>;
pub(crate) type Entry = openraft::Entry<CommittedLeaderId, EntryPayload>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Member>;
pub(crate) type SnapshotMeta = openraft::storage::SnapshotMeta<CommittedLeaderId, u64, Member>;
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::state::Adapter>;

/// The leader of a term, as log ids name it.
pub(crate) fn committed(term: u64) -> CommittedLeaderId {
    use openraft::vote::RaftLeaderId;
    LeaderId::new(term, 0).to_committed()
}
