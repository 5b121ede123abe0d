//! The bytes of a cluster map: protobuf messages, derived by hand.
//!
//! **Tags are for ever.** A retired tag is listed as reserved and never used
//! again; new fields take new tags. Unknown fields are skipped by readers, so an
//! older process can follow a newer map as long as the meaning of the known fields
//! stands. The ring isn't sent: the number of its vnodes and the version of the
//! seed determine it.
//!
//! The messages are public because the catalog's own encoding embeds them.

use std::sync::Arc;

use prost::Message;

use crate::{
    ClusterId, ClusterMap, Epoch, GroupId, MapContent, MapError, NodeId, ReplicaId, Ring,
    RulesError, hash,
};

/// The whole map.
#[derive(Clone, PartialEq, Message)]
pub struct Map {
    /// See [`MapContent::epoch`].
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub cluster_id: Vec<u8>,
    /// [`hash::SEED_VERSION`] of the writer.
    #[prost(uint32, tag = "3")]
    pub seed_version: u32,
    /// How many vnodes the ring has.
    #[prost(uint32, tag = "4")]
    pub vnodes: u32,
    /// The routing rules in force.
    #[prost(message, optional, tag = "5")]
    pub rules: Option<Rules>,
    /// All nodes.
    #[prost(message, repeated, tag = "6")]
    pub nodes: Vec<Node>,
    /// All data groups.
    #[prost(message, repeated, tag = "7")]
    pub groups: Vec<Group>,
    /// The placement group.
    #[prost(message, optional, tag = "8")]
    pub placement: Option<Group>,
    /// The owner of each vnode, by its number.
    #[prost(uint32, repeated, packed = "true", tag = "9")]
    pub owners: Vec<u32>,
    // Reserved: 10 moves under way, 11 pending rules, 12 compaction revision.
}

/// A table of routing rules.
#[derive(Clone, PartialEq, Message)]
pub struct Rules {
    /// See [`crate::Rules::version`].
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Sorted by prefix.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<RuleEntry>,
}

/// One routing rule.
#[derive(Clone, PartialEq, Message)]
pub struct RuleEntry {
    /// See [`crate::RuleEntry::prefix`].
    #[prost(bytes = "vec", tag = "1")]
    pub prefix: Vec<u8>,
    /// 1 segments, 2 directory, 3 whole key, 4 tag.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// How many, for kind 1.
    #[prost(uint32, tag = "3")]
    pub segments: u32,
}

/// A node.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Its id.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// `host:port` for nodes.
    #[prost(string, tag = "2")]
    pub peer_address: String,
    /// `host:port` for clients.
    #[prost(string, tag = "3")]
    pub client_address: String,
    /// Its zone, may be empty.
    #[prost(string, tag = "4")]
    pub zone: String,
    /// Bits: 1 router, 2 shard, 4 placement. Others are skipped by readers.
    #[prost(uint32, tag = "5")]
    pub roles: u32,
    // Reserved: 6 version of the software, 7 draining, 8 weight.
}

/// A group.
#[derive(Clone, PartialEq, Message)]
pub struct Group {
    /// Its id.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// 1 bootstrapping, 2 active. Reserved: 3 retired.
    #[prost(uint32, tag = "2")]
    pub state: u32,
    /// Its members, preferred leader first.
    #[prost(message, repeated, tag = "3")]
    pub replicas: Vec<Replica>,
}

/// A member of a group.
#[derive(Clone, PartialEq, Message)]
pub struct Replica {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its node.
    #[prost(uint32, tag = "2")]
    pub node: u32,
    /// 1 voter, 2 learner.
    #[prost(uint32, tag = "3")]
    pub role: u32,
}

/// Bytes that aren't a cluster map, or not one for this process.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// They aren't protobuf.
    #[error("not a protobuf message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A field is missing or has a value that this process doesn't know.
    #[error("field {field} has the unknown value {value}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it had.
        value: u64,
    },
    /// The writer hashes differently.
    #[error("the ring was made with hash seed {0}, this process has seed {seed}", seed = hash::SEED_VERSION)]
    SeedVersion(u32),
    /// The routing rules aren't valid.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The parts don't fit together.
    #[error(transparent)]
    Map(#[from] MapError),
}

impl ClusterMap {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let content = self.content();
        let map = Map {
            epoch: content.epoch.0,
            cluster_id: content.cluster_id.0.to_vec(),
            seed_version: hash::SEED_VERSION,
            vnodes: content.vnodes,
            rules: Some((&content.rules).into()),
            nodes: content.nodes.iter().map(Node::from).collect(),
            groups: content.groups.iter().map(Group::from).collect(),
            placement: Some((&content.placement).into()),
            owners: content.owners.iter().map(|group| group.0).collect(),
        };
        map.encode_to_vec()
    }

    /// Reads a map and makes its ring.
    pub fn decode(bytes: &[u8]) -> Result<ClusterMap, DecodeError> {
        Ok(ClusterMap::new(content(bytes)?)?)
    }

    /// Reads a map onto the ring of an earlier one, which saves making it anew.
    pub fn decode_onto(bytes: &[u8], ring: &Arc<Ring>) -> Result<ClusterMap, DecodeError> {
        Ok(ClusterMap::with_ring(content(bytes)?, Arc::clone(ring))?)
    }
}

fn content(bytes: &[u8]) -> Result<MapContent, DecodeError> {
    let map = Map::decode(bytes)?;
    if map.seed_version != hash::SEED_VERSION {
        return Err(DecodeError::SeedVersion(map.seed_version));
    }
    Ok(MapContent {
        epoch: Epoch(map.epoch),
        cluster_id: cluster_id(&map.cluster_id)?,
        vnodes: map.vnodes,
        rules: map.rules.unwrap_or_default().try_into()?,
        nodes: map.nodes.into_iter().map(Into::into).collect(),
        groups: map
            .groups
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, _>>()?,
        placement: map.placement.ok_or(unknown("placement", 0))?.try_into()?,
        owners: map.owners.into_iter().map(GroupId).collect(),
    })
}

/// A cluster id from its 16 bytes.
pub fn cluster_id(bytes: &[u8]) -> Result<ClusterId, DecodeError> {
    let id = bytes
        .try_into()
        .map_err(|_| unknown("cluster_id length", bytes.len() as u64))?;
    Ok(ClusterId(id))
}

fn unknown(field: &'static str, value: u64) -> DecodeError {
    DecodeError::Field { field, value }
}

impl From<&crate::Rules> for Rules {
    fn from(rules: &crate::Rules) -> Rules {
        let entries = rules.entries().iter().map(RuleEntry::from).collect();
        Rules {
            version: rules.version(),
            entries,
        }
    }
}

impl TryFrom<Rules> for crate::Rules {
    type Error = DecodeError;

    fn try_from(rules: Rules) -> Result<crate::Rules, DecodeError> {
        let entries = rules
            .entries
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, _>>()?;
        Ok(crate::Rules::new(rules.version, entries)?)
    }
}

impl From<&crate::RuleEntry> for RuleEntry {
    fn from(entry: &crate::RuleEntry) -> RuleEntry {
        let (kind, segments) = match entry.rule {
            crate::Rule::Segments(segments) => (1, segments),
            crate::Rule::Directory => (2, 0),
            crate::Rule::WholeKey => (3, 0),
            crate::Rule::Tag => (4, 0),
        };
        RuleEntry {
            prefix: entry.prefix.clone(),
            kind,
            segments,
        }
    }
}

impl TryFrom<RuleEntry> for crate::RuleEntry {
    type Error = DecodeError;

    fn try_from(entry: RuleEntry) -> Result<crate::RuleEntry, DecodeError> {
        let rule = match entry.kind {
            1 => crate::Rule::Segments(entry.segments),
            2 => crate::Rule::Directory,
            3 => crate::Rule::WholeKey,
            4 => crate::Rule::Tag,
            other => return Err(unknown("rule.kind", other.into())),
        };
        Ok(crate::RuleEntry {
            prefix: entry.prefix,
            rule,
        })
    }
}

impl From<&crate::Node> for Node {
    fn from(node: &crate::Node) -> Node {
        Node {
            id: node.id.0,
            peer_address: node.peer_address.clone(),
            client_address: node.client_address.clone(),
            zone: node.zone.clone(),
            roles: role_bits(node.roles),
        }
    }
}

impl From<Node> for crate::Node {
    fn from(node: Node) -> crate::Node {
        crate::Node {
            id: NodeId(node.id),
            peer_address: node.peer_address,
            client_address: node.client_address,
            zone: node.zone,
            roles: roles(node.roles),
        }
    }
}

/// The bits of [`Node::roles`].
pub fn role_bits(roles: crate::Roles) -> u32 {
    u32::from(roles.router) | u32::from(roles.shard) << 1 | u32::from(roles.placement) << 2
}

/// The roles behind the bits of [`Node::roles`].
pub fn roles(bits: u32) -> crate::Roles {
    crate::Roles {
        router: bits & 1 != 0,
        shard: bits & 2 != 0,
        placement: bits & 4 != 0,
    }
}

impl From<&crate::Group> for Group {
    fn from(group: &crate::Group) -> Group {
        let state = match group.state {
            crate::GroupState::Bootstrapping => 1,
            crate::GroupState::Active => 2,
        };
        let replicas = group.replicas.iter().map(Replica::from).collect();
        Group {
            id: group.id.0,
            state,
            replicas,
        }
    }
}

impl TryFrom<Group> for crate::Group {
    type Error = DecodeError;

    fn try_from(group: Group) -> Result<crate::Group, DecodeError> {
        let state = match group.state {
            1 => crate::GroupState::Bootstrapping,
            2 => crate::GroupState::Active,
            other => return Err(unknown("group.state", other.into())),
        };
        let replicas = group
            .replicas
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, _>>()?;
        Ok(crate::Group {
            id: GroupId(group.id),
            state,
            replicas,
        })
    }
}

impl From<&crate::Replica> for Replica {
    fn from(replica: &crate::Replica) -> Replica {
        let role = match replica.role {
            crate::ReplicaRole::Voter => 1,
            crate::ReplicaRole::Learner => 2,
        };
        Replica {
            id: replica.id.0,
            node: replica.node.0,
            role,
        }
    }
}

impl TryFrom<Replica> for crate::Replica {
    type Error = DecodeError;

    fn try_from(replica: Replica) -> Result<crate::Replica, DecodeError> {
        let role = match replica.role {
            1 => crate::ReplicaRole::Voter,
            2 => crate::ReplicaRole::Learner,
            other => return Err(unknown("replica.role", other.into())),
        };
        Ok(crate::Replica {
            id: ReplicaId(replica.id),
            node: NodeId(replica.node),
            role,
        })
    }
}
