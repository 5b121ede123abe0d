//! What comes out of the catalog.

use caucus_ring::{ClusterId, Epoch, GroupId, NodeId, ReplicaId, Revision, RingError, RulesError};

use super::StorageUuid;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For whoever proposed it.
    pub answer: Result<Answer, Refusal>,
    /// What has to be written.
    pub changed: Changed,
    /// What the leader is to do about it; followers drop them.
    pub effects: Vec<Effect>,
}

/// Which of the two stored values a command changed. They are stored apart because
/// the ceiling rises all the time and the catalog is large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// [`Catalog::encode`](super::Catalog::encode) gives other bytes.
    pub catalog: bool,
    /// [`Catalog::ceiling`](super::Catalog::ceiling) is greater.
    pub ceiling: bool,
}

/// What follows from a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Routers and nodes are to be told.
    MapChanged {
        /// The new epoch.
        epoch: Epoch,
    },
    /// The oracle may grant revisions up to here, if its own term proposed it.
    CeilingRaised {
        /// The new ceiling.
        ceiling: Revision,
    },
}

/// What a command that wasn't refused answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The cluster exists.
    Initialized {
        /// Its id.
        cluster_id: ClusterId,
    },
    /// The node is known as this.
    Registered {
        /// Its id, for ever.
        node: NodeId,
    },
    /// The groups are decided.
    GroupsCreated,
    /// The group counts as running.
    GroupActivated,
    /// The rules are in force.
    RulesSet {
        /// Their version.
        version: u64,
    },
    /// The ceiling is at least what was asked for.
    Ceiling {
        /// Where it is.
        ceiling: Revision,
    },
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing goes before [`Command::InitCluster`](super::Command::InitCluster).
    #[error("the cluster is not initialized yet")]
    NotInitialized,
    /// It exists, with another id or other settings.
    #[error("the cluster exists already, with id {cluster_id} and other settings")]
    AlreadyInitialized {
        /// The id of the one that exists.
        cluster_id: ClusterId,
    },
    /// No such ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A number out of its bounds.
    #[error("{what} must be {min} to {max}, not {got}")]
    OutOfBounds {
        /// Of what.
        what: &'static str,
        /// What was asked for.
        got: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// An address or zone that is empty, too long or has blanks in it.
    #[error("{what} {value:?} is not usable: it must be {min} to {max} bytes without blanks")]
    BadText {
        /// Of what.
        what: &'static str,
        /// What it was.
        value: String,
        /// The shortest.
        min: usize,
        /// The longest.
        max: usize,
    },
    /// The node has another data directory than it registered with.
    #[error(
        "node {node} is registered with storage {registered}, not {offered}: a node that lost \
         its data directory must join under a new id, one that got another's must not start"
    )]
    OtherStorage {
        /// The node.
        node: NodeId,
        /// The directory that the catalog knows.
        registered: StorageUuid,
        /// The one that it came with.
        offered: StorageUuid,
    },
    /// The data directory belongs to another node.
    #[error("storage {storage} belongs to node {owner}, not to node {node}")]
    StorageTaken {
        /// The directory.
        storage: StorageUuid,
        /// Whose it is.
        owner: NodeId,
        /// Who came with it.
        node: NodeId,
    },
    /// A node came without a role, or without one that its replicas need.
    #[error("node {node} needs the role {role}")]
    RoleMissing {
        /// The node.
        node: NodeId,
        /// What it needs.
        role: &'static str,
    },
    /// No such group.
    #[error("there is no group {0}")]
    UnknownGroup(GroupId),
    /// A group that can't be.
    #[error("group {group}: {fault}")]
    Group {
        /// Which.
        group: GroupId,
        /// Why.
        fault: GroupFault,
    },
    /// The first groups left some vnodes without an owner.
    #[error("the first groups must own all vnodes, these leave {missing} without an owner")]
    VnodesMissing {
        /// How many.
        missing: usize,
    },
    /// The rules aren't valid.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Someone else changed the rules.
    #[error("the routing rules are at version {current}, not {expected}")]
    RulesVersion {
        /// Where they are.
        current: u64,
        /// Where the command thought they were.
        expected: u64,
    },
    /// Keys may lie where the old rules put them.
    #[error("the routing rules can't be changed any more once data groups exist")]
    RulesInUse,
}

/// Why a group can't be as a command wants it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupFault {
    /// Its id is or was in use: the command was made from an older catalog.
    #[error("its id is not free, the next free one is {next}")]
    IdTaken {
        /// Ids from here on are free.
        next: GroupId,
    },
    /// A replica id is or was in use, or stands there twice.
    #[error("replica id {id} is not free, the next free one is {next}")]
    ReplicaIdTaken {
        /// The id.
        id: ReplicaId,
        /// Ids from here on are free.
        next: ReplicaId,
    },
    /// Two replicas on one node.
    #[error("two replicas on node {0}")]
    NodeTwice(NodeId),
    /// A replica on a node that can't have it.
    #[error("node {0} is not registered with the role shard")]
    NoShardNode(NodeId),
    /// No replica could vote.
    #[error("no replica is a voter")]
    NoVoter,
    /// Too few or too many replicas.
    #[error("{0} replicas")]
    ReplicaCount(usize),
    /// A vnode that another group owns, or that the ring doesn't have.
    #[error("it can't own some of its vnodes: they belong to another group or don't exist")]
    Vnodes,
}
