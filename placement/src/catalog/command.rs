//! What can be asked of the catalog. Their bytes are in `wire/command.rs`.

use caucus_ring::{GroupId, NodeId, Replica, Revision, Roles, RuleEntry};

use super::{GroupRecord, Settings, StorageUuid};

/// One entry of the placement group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Create the cluster; the same again is a no-op.
    InitCluster(InitCluster),
    /// A node starts, for the first time or again.
    RegisterNode(RegisterNode),
    /// Create data groups. The first ones must own all vnodes, later ones none.
    CreateGroups(Vec<GroupRecord>),
    /// A group reports that it runs.
    ActivateGroup(GroupId),
    /// Replace the routing rules.
    SetRules(SetRules),
    /// The oracle wants to grant revisions up to here.
    RaiseCeiling(Revision),
}

/// See [`Command::InitCluster`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitCluster {
    /// What stays as it is for ever.
    pub settings: Settings,
    /// The members of the placement group, preferred leader first. Their nodes may
    /// register later.
    pub placement: Vec<Replica>,
    /// Routing rules to begin with.
    pub rules: Vec<RuleEntry>,
}

/// See [`Command::RegisterNode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterNode {
    /// The id that it claims. 0: the one that its storage was registered with, or
    /// else the next free one.
    pub id: NodeId,
    /// Its data directory.
    pub storage: StorageUuid,
    /// `host:port` where other nodes reach it.
    pub peer_address: String,
    /// `host:port` where clients reach it.
    pub client_address: String,
    /// What may fail together with it; empty if unknown.
    pub zone: String,
    /// What it runs.
    pub roles: Roles,
}

/// See [`Command::SetRules`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRules {
    /// The version of the table that these replace, so that two operators don't
    /// overwrite each other.
    pub expected_version: u64,
    /// The whole new table.
    pub entries: Vec<RuleEntry>,
}
