//! The bytes of commands and of the whole catalog: protobuf messages, derived by
//! hand.
//!
//! **Tags are for ever**: they are in the placement group's log and on its disks.
//! A retired tag is listed as reserved and never used again. Nodes, groups,
//! replicas and rules are the messages of the cluster map (`caucus_ring::wire`).

mod command;
mod state;

use caucus_ring::{InvalidVnodeSet, wire};

use super::{StorageUuid, Violation};

/// Bytes that aren't what they should be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// They aren't protobuf.
    #[error("not a protobuf message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A part is missing, or this process doesn't know its kind.
    #[error("{0} is missing or of an unknown kind")]
    Missing(&'static str),
    /// A part that the cluster map has too.
    #[error(transparent)]
    Map(#[from] wire::DecodeError),
    /// A set of vnodes.
    #[error(transparent)]
    Vnodes(#[from] InvalidVnodeSet),
    /// A stored catalog whose parts contradict each other.
    #[error(transparent)]
    Broken(#[from] Violation),
}

/// See [`super::Settings`].
#[derive(Clone, PartialEq, prost::Message)]
struct Settings {
    #[prost(bytes = "vec", tag = "1")]
    cluster_id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    vnodes: u32,
    #[prost(uint32, tag = "3")]
    groups_wanted: u32,
    #[prost(uint32, tag = "4")]
    replication: u32,
    #[prost(uint64, tag = "5")]
    created_at_ms: u64,
}

impl From<&super::Settings> for Settings {
    fn from(settings: &super::Settings) -> Settings {
        Settings {
            cluster_id: settings.cluster_id.0.to_vec(),
            vnodes: settings.vnodes,
            groups_wanted: settings.groups_wanted,
            replication: settings.replication,
            created_at_ms: settings.created_at_ms,
        }
    }
}

impl TryFrom<Settings> for super::Settings {
    type Error = DecodeError;

    fn try_from(settings: Settings) -> Result<super::Settings, DecodeError> {
        Ok(super::Settings {
            cluster_id: wire::cluster_id(&settings.cluster_id)?,
            vnodes: settings.vnodes,
            groups_wanted: settings.groups_wanted,
            replication: settings.replication,
            created_at_ms: settings.created_at_ms,
        })
    }
}

fn storage(bytes: &[u8]) -> Result<StorageUuid, DecodeError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| DecodeError::Missing("the storage uuid"))?;
    Ok(StorageUuid(bytes))
}

/// Converts each, stops at the first that can't be.
fn all<A, B, E>(items: Vec<A>) -> Result<Vec<B>, DecodeError>
where
    B: TryFrom<A, Error = E>,
    DecodeError: From<E>,
{
    let converted = items.into_iter().map(|item| Ok(B::try_from(item)?));
    converted.collect()
}
