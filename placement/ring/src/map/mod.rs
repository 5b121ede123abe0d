//! The cluster map: what routers and nodes know of a cluster.

mod cluster_map;
mod content;
pub mod wire;

pub use cluster_map::{ClusterMap, MapError};
pub use content::{Group, GroupState, MapContent, Node, Replica, ReplicaRole, Roles};
pub use wire::DecodeError;
