//! The bytes of a command.

use caucus_ring::{GroupId, Node, NodeId, Revision, VnodeSet, wire};
use prost::{Message, Oneof};

use super::super::{Command, GroupRecord, InitCluster, RegisterNode, SetRules};
use super::{DecodeError, Settings, all, storage};

/// One entry of the log.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(oneof = "Verb", tags = "1, 2, 3, 4, 5, 6")]
    verb: Option<Verb>,
    // Reserved: 7 change of the placement group, 8 change of a node (drain, forget),
    // 9 change of a group's replicas, 10 to 15 moves (begin, target owns, flip, end,
    // abort; with id, source, target, vnodes, state), 16 pending rules, 17 compaction.
    // Reserved: 100 principal, 101 auth_version, for rights that `apply` will check.
}

#[derive(Clone, PartialEq, Oneof)]
enum Verb {
    #[prost(message, tag = "1")]
    InitCluster(Init),
    #[prost(message, tag = "2")]
    RegisterNode(Register),
    #[prost(message, tag = "3")]
    CreateGroups(Create),
    /// The group's id.
    #[prost(uint32, tag = "4")]
    ActivateGroup(u32),
    #[prost(message, tag = "5")]
    SetRules(Set),
    /// The ceiling.
    #[prost(uint64, tag = "6")]
    RaiseCeiling(u64),
}

#[derive(Clone, PartialEq, Message)]
struct Init {
    #[prost(message, optional, tag = "1")]
    settings: Option<Settings>,
    #[prost(message, repeated, tag = "2")]
    placement: Vec<wire::Replica>,
    #[prost(message, repeated, tag = "3")]
    rules: Vec<wire::RuleEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct Register {
    /// Id 0: to be assigned.
    #[prost(message, optional, tag = "1")]
    node: Option<wire::Node>,
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    storage: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Create {
    #[prost(message, repeated, tag = "1")]
    groups: Vec<NewGroup>,
}

#[derive(Clone, PartialEq, Message)]
struct NewGroup {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(message, repeated, tag = "2")]
    replicas: Vec<wire::Replica>,
    /// Packed.
    #[prost(bytes = "vec", tag = "3")]
    vnodes: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Set {
    #[prost(uint64, tag = "1")]
    expected_version: u64,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<wire::RuleEntry>,
}

impl Command {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let verb = match self {
            Command::InitCluster(init) => Verb::InitCluster(Init {
                settings: Some((&init.settings).into()),
                placement: init.placement.iter().map(Into::into).collect(),
                rules: init.rules.iter().map(Into::into).collect(),
            }),
            Command::RegisterNode(register) => Verb::RegisterNode(register.into()),
            Command::CreateGroups(records) => Verb::CreateGroups(Create {
                groups: records.iter().map(Into::into).collect(),
            }),
            Command::ActivateGroup(id) => Verb::ActivateGroup(id.0),
            Command::SetRules(set) => Verb::SetRules(Set {
                expected_version: set.expected_version,
                entries: set.entries.iter().map(Into::into).collect(),
            }),
            Command::RaiseCeiling(to) => Verb::RaiseCeiling(to.0),
        };
        Entry { verb: Some(verb) }.encode_to_vec()
    }

    /// Reads a command.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        let verb = Entry::decode(bytes)?
            .verb
            .ok_or(DecodeError::Missing("the verb"))?;
        Ok(match verb {
            Verb::InitCluster(init) => Command::InitCluster(InitCluster {
                settings: init
                    .settings
                    .ok_or(DecodeError::Missing("the settings"))?
                    .try_into()?,
                placement: all(init.placement)?,
                rules: all(init.rules)?,
            }),
            Verb::RegisterNode(register) => Command::RegisterNode(register.try_into()?),
            Verb::CreateGroups(create) => Command::CreateGroups(all(create.groups)?),
            Verb::ActivateGroup(id) => Command::ActivateGroup(GroupId(id)),
            Verb::SetRules(set) => Command::SetRules(SetRules {
                expected_version: set.expected_version,
                entries: all(set.entries)?,
            }),
            Verb::RaiseCeiling(to) => Command::RaiseCeiling(Revision(to)),
        })
    }
}

impl From<&RegisterNode> for Register {
    fn from(register: &RegisterNode) -> Register {
        let node = wire::Node {
            id: register.id.0,
            peer_address: register.peer_address.clone(),
            client_address: register.client_address.clone(),
            zone: register.zone.clone(),
            roles: wire::role_bits(register.roles),
        };
        Register {
            node: Some(node),
            storage: register.storage.0.to_vec(),
        }
    }
}

impl TryFrom<Register> for RegisterNode {
    type Error = DecodeError;

    fn try_from(register: Register) -> Result<RegisterNode, DecodeError> {
        let node: Node = register
            .node
            .ok_or(DecodeError::Missing("the node"))?
            .into();
        Ok(RegisterNode {
            id: NodeId(node.id.0),
            storage: storage(&register.storage)?,
            peer_address: node.peer_address,
            client_address: node.client_address,
            zone: node.zone,
            roles: node.roles,
        })
    }
}

impl From<&GroupRecord> for NewGroup {
    fn from(record: &GroupRecord) -> NewGroup {
        NewGroup {
            id: record.id.0,
            replicas: record.replicas.iter().map(Into::into).collect(),
            vnodes: record.vnodes.to_packed(),
        }
    }
}

impl TryFrom<NewGroup> for GroupRecord {
    type Error = DecodeError;

    fn try_from(group: NewGroup) -> Result<GroupRecord, DecodeError> {
        Ok(GroupRecord {
            id: GroupId(group.id),
            replicas: all(group.replicas)?,
            vnodes: VnodeSet::from_packed(&group.vnodes)?,
        })
    }
}
