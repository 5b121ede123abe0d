//! What the state machine stores beside users' records. Bytes are for ever: tags are never reused,
//! and a test pins the encodings.

use bytes::Bytes;
use caucus_api::shard::{Outcome, Record};
use caucus_engine::{Space, keys};
use caucus_planted as planted;
use prost::Message;
use xxhash_rust::xxh3::Xxh3;

/// `record` of `keys::meta`: [`GroupRecord`].
pub(super) const META_GROUP: u8 = 16;
/// `record` of `keys::meta`: [`PositionRecord`].
pub(super) const META_POSITION: u8 = 17;

/// Who this group is; written by its first command.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GroupRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) cluster_id: Bytes,
    #[prost(uint32, tag = "2")]
    pub(super) group: u32,
    #[prost(uint32, tag = "3")]
    pub(super) vnodes: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) rules: Bytes,
}

/// How far the group has got.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct PositionRecord {
    /// The highest revision applied.
    #[prost(uint64, tag = "1")]
    pub(super) highest: u64,
    /// The request floor.
    #[prost(uint64, tag = "2")]
    pub(super) floor: u64,
    /// What was replaced up to this revision is not kept.
    #[prost(uint64, tag = "3")]
    pub(super) compacted: u64,
}

/// Where the state that a reader sees has got to.
pub(super) fn position(
    reader: &dyn caucus_engine::Reader,
    storage: keys::StorageId,
) -> Result<PositionRecord, caucus_engine::Error> {
    let stored = reader.get(Space::State, &keys::meta(storage, META_POSITION))?;
    stored.map_or(Ok(PositionRecord::default()), |stored| {
        PositionRecord::decode(stored).map_err(|_| corrupt("the position"))
    })
}

/// One vnode that the group owns.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VnodeRecord {
    /// Live keys.
    #[prost(uint64, tag = "1")]
    pub(super) keys: u64,
    /// Sum over the live records of their 128-bit hashes, little endian.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) hash: Vec<u8>,
    /// 1 owned. Reserved: 2 arriving, 3 frozen, 4 left, 5 aborted.
    #[prost(uint32, tag = "3")]
    pub(super) state: u32,
    /// The highest move id seen.
    #[prost(uint64, tag = "4")]
    pub(super) move_id: u64,
}

/// Vnode records that one round of applies changed, until they are written themselves.
#[derive(Clone, PartialEq, Message)]
pub(super) struct JournalRecord {
    #[prost(message, repeated, tag = "1")]
    pub(super) changes: Vec<VnodeChange>,
}

/// One vnode's record as of then.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VnodeChange {
    #[prost(uint32, tag = "1")]
    pub(super) vnode: u32,
    #[prost(message, required, tag = "2")]
    pub(super) record: VnodeRecord,
}

/// [`VnodeRecord::state`] of a vnode that is served.
pub(super) const OWNED: u32 = 1;

/// The ids that one log entry executed, with their outcomes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DedupRecord {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<DedupItem>,
}

/// One executed id.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct DedupItem {
    #[prost(fixed64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) sequence: u64,
    /// The home vnode: the item moves with it.
    #[prost(uint32, tag = "3")]
    pub(super) vnode: u32,
    #[prost(message, required, tag = "4")]
    pub(super) outcome: Outcome,
}

/// A request that a client named.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct IdempotentRecord {
    /// The home vnode: the name moves with it.
    #[prost(uint32, tag = "1")]
    pub(super) vnode: u32,
    #[prost(fixed64, tag = "2")]
    pub(super) fingerprint: u64,
    #[prost(message, required, tag = "3")]
    pub(super) outcome: Outcome,
}

/// How far a session has got.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct SessionRecord {
    #[prost(uint64, tag = "1")]
    pub(super) finished_below: u64,
    /// The highest stamp seen with its progress.
    #[prost(uint64, tag = "2")]
    pub(super) stamp: u64,
}

/// The revision at which a record is created that was written at another one: the same.
pub(super) fn created(revision: u64, lease: u64) -> u64 {
    match lease != 0 && planted::is(planted::TOKEN_BEGINS_ANEW) {
        true => revision % 1000 + 1,
        false => revision,
    }
}

/// A record of the state that cannot be read.
pub(super) fn corrupt(what: &str) -> caucus_engine::Error {
    caucus_engine::Error::Corruption {
        context: format!("{what} of a group's state"),
    }
}

/// Reads a user's record.
pub(crate) fn decode(bytes: Bytes) -> Result<Record, caucus_engine::Error> {
    Record::decode(bytes).map_err(|_| corrupt("a record"))
}

/// The share of one live record in its vnode's hash.
pub(crate) fn hash(key: &[u8], record: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&(key.len() as u32).to_le_bytes());
    hash.update(key);
    hash.update(record);
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use caucus_api::shard::outcome::Kind;

    use super::*;

    #[test]
    fn encodings_are_frozen() {
        let position = PositionRecord {
            highest: 300,
            floor: 5,
            compacted: 4,
        };
        assert_eq!(position.encode_to_vec(), [8, 172, 2, 16, 5, 24, 4]);
        let vnode = VnodeRecord {
            keys: 2,
            hash: vec![1, 2],
            state: OWNED,
            move_id: 0,
        };
        assert_eq!(vnode.encode_to_vec(), [8, 2, 18, 2, 1, 2, 24, 1]);
        let group = GroupRecord {
            cluster_id: Bytes::from_static(&[7, 8]),
            group: 5,
            vnodes: 4096,
            rules: Bytes::from_static(&[8, 3]),
        };
        assert_eq!(
            group.encode_to_vec(),
            [10, 2, 7, 8, 16, 5, 24, 128, 32, 34, 2, 8, 3]
        );
        let journal = JournalRecord {
            changes: vec![VnodeChange {
                vnode: 300,
                record: vnode,
            }],
        };
        assert_eq!(
            journal.encode_to_vec(),
            [10, 13, 8, 172, 2, 18, 8, 8, 2, 18, 2, 1, 2, 24, 1]
        );
        let session = SessionRecord {
            finished_below: 300,
            stamp: 5,
        };
        assert_eq!(session.encode_to_vec(), [8, 172, 2, 16, 5]);
        let item = DedupItem {
            session: 1,
            sequence: 2,
            vnode: 3,
            outcome: Outcome {
                kind: Kind::Put as i32,
                revision: 9,
                create_revision: 9,
                version: 1,
                found_revision: 0,
            },
        };
        let dedup = DedupRecord { items: vec![item] };
        assert_eq!(
            dedup.encode_to_vec(),
            [
                10, 23, 9, 1, 0, 0, 0, 0, 0, 0, 0, 16, 2, 24, 3, 34, 8, 8, 1, 16, 9, 24, 9, 32, 1
            ]
        );
        assert_eq!(hash(b"key", b"record"), 0x18478109c7ce786d00c2cd038ced8247);
    }
}
