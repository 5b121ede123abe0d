//! From key to group: everything that decides who holds a key.
//!
//! ```text
//!  key ──Rules──▶ routing key ──Ring──▶ vnode ──ClusterMap──▶ group
//! ```
//!
//! Routers, nodes and placement all use this crate for the three steps, so
//! they can only disagree by holding maps of different epochs, never by
//! computing differently. Nothing here does IO, reads a clock or logs.
//!
//! The first two steps are frozen for the life of a cluster: the hash, its seed
//! and the bytes that go into it are in [`hash`] and pinned by golden vectors.
//! Only the last table (vnode to group) changes, with the epoch.
//!
//! Deliberately absent: which vnode *should* be where (the planner of
//! placement) and whether anyone is alive (liveness of placement).

pub mod hash;
mod ids;
mod lease;
mod map;
mod range;
mod ring;
mod routing;
mod rules;
mod vnode_set;

pub use ids::{ClusterId, Epoch, GroupId, InvalidClusterId, NodeId, ReplicaId, Revision, Vnode};
pub use lease::{lease_key, parse_lease_key};
pub use map::wire;
pub use map::{
    ClusterMap, DecodeError, Group, GroupState, MapContent, MapError, Node, Replica, ReplicaRole,
    Roles,
};
pub use range::route_range;
pub use ring::{Ring, RingError, VNODES_DEFAULT, VNODES_MAX, VNODES_MIN};
pub use routing::RoutingKey;
pub use rules::{
    PREFIX_BYTES_MAX, RULES_MAX, Rule, RuleEntry, Rules, RulesError, SEGMENTS_DEFAULT, SEGMENTS_MAX,
};
pub use vnode_set::{InvalidVnodeSet, VnodeSet};
