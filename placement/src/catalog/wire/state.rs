//! The bytes of the whole catalog, as it is stored and sent in snapshots. The
//! ceiling is stored beside it.

use caucus_ring::{Epoch, Group, GroupId, Node, NodeId, ReplicaId, Revision, wire};
use prost::Message;

use super::super::state::Cluster;
use super::super::{Catalog, NodeRecord};
use super::{DecodeError, Settings, all, storage};

#[derive(Clone, PartialEq, Message)]
struct State {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    /// Missing before the cluster is initialized, and then all below too.
    #[prost(message, optional, tag = "2")]
    settings: Option<Settings>,
    #[prost(message, optional, tag = "3")]
    rules: Option<wire::Rules>,
    #[prost(message, repeated, tag = "4")]
    nodes: Vec<StoredNode>,
    #[prost(message, repeated, tag = "5")]
    groups: Vec<wire::Group>,
    #[prost(message, repeated, tag = "6")]
    placement: Vec<wire::Replica>,
    /// By vnode.
    #[prost(uint32, repeated, packed = "true", tag = "7")]
    owners: Vec<u32>,
    #[prost(uint32, tag = "8")]
    next_node: u32,
    #[prost(uint32, tag = "9")]
    next_group: u32,
    #[prost(uint64, tag = "10")]
    next_replica: u64,
    // Reserved: 11 next move id, 12 moves (id, source, target, vnodes, state),
    // 13 pending rules, 14 compaction revision, 15 changes of replicas under way.
}

#[derive(Clone, PartialEq, Message)]
struct StoredNode {
    #[prost(message, optional, tag = "1")]
    node: Option<wire::Node>,
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    storage: Vec<u8>,
}

impl Catalog {
    /// The bytes of everything but the ceiling.
    pub fn encode(&self) -> Vec<u8> {
        let mut state = self.cluster.as_ref().map(State::from).unwrap_or_default();
        state.epoch = self.epoch.0;
        state.encode_to_vec()
    }

    /// Reads what [`encode`](Self::encode) wrote, with the ceiling that was stored
    /// beside it, and checks all invariants.
    pub fn decode(bytes: &[u8], ceiling: Revision) -> Result<Catalog, DecodeError> {
        let state = State::decode(bytes)?;
        let epoch = Epoch(state.epoch);
        let cluster = match state.settings {
            Some(_) => Some(state.try_into()?),
            None => None,
        };
        let catalog = Catalog {
            epoch,
            cluster,
            ceiling,
        };
        catalog.check()?;
        Ok(catalog)
    }
}

impl From<&Cluster> for State {
    fn from(cluster: &Cluster) -> State {
        State {
            epoch: 0,
            settings: Some((&cluster.settings).into()),
            rules: Some((&cluster.rules).into()),
            nodes: cluster.nodes.values().map(StoredNode::from).collect(),
            groups: cluster.groups.values().map(Into::into).collect(),
            placement: cluster.placement.iter().map(Into::into).collect(),
            owners: cluster.owners.iter().map(|group| group.0).collect(),
            next_node: cluster.next_node.0,
            next_group: cluster.next_group.0,
            next_replica: cluster.next_replica.0,
        }
    }
}

impl TryFrom<State> for Cluster {
    type Error = DecodeError;

    fn try_from(state: State) -> Result<Cluster, DecodeError> {
        let nodes: Vec<NodeRecord> = all(state.nodes)?;
        let groups: Vec<Group> = all(state.groups)?;
        Ok(Cluster {
            settings: state
                .settings
                .ok_or(DecodeError::Missing("the settings"))?
                .try_into()?,
            rules: state.rules.unwrap_or_default().try_into()?,
            nodes: nodes
                .into_iter()
                .map(|record| (record.node.id, record))
                .collect(),
            groups: groups.into_iter().map(|group| (group.id, group)).collect(),
            placement: all(state.placement)?,
            owners: state.owners.into_iter().map(GroupId).collect(),
            next_node: NodeId(state.next_node),
            next_group: GroupId(state.next_group),
            next_replica: ReplicaId(state.next_replica),
        })
    }
}

impl From<&NodeRecord> for StoredNode {
    fn from(record: &NodeRecord) -> StoredNode {
        let node = wire::Node::from(&record.node);
        StoredNode {
            node: Some(node),
            storage: record.storage.0.to_vec(),
        }
    }
}

impl TryFrom<StoredNode> for NodeRecord {
    type Error = DecodeError;

    fn try_from(stored: StoredNode) -> Result<NodeRecord, DecodeError> {
        let node: Node = stored.node.ok_or(DecodeError::Missing("the node"))?.into();
        Ok(NodeRecord {
            node,
            storage: storage(&stored.storage)?,
        })
    }
}
