//! Our own encodings of what openraft keeps and sends, so that another openraft can't change bytes.
//!
//! Tags are for ever; the encodings that stand on disk are pinned by tests at the end.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use crate::types::{
    self, EntryPayload, LeaderId, Member, Payload, SnapshotMeta, StoredMembership, committed,
};

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Vote {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) replica: u64,
    #[prost(bool, tag = "3")]
    pub(crate) committed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Message)]
pub(crate) struct LogId {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Membership {
    /// One set of voters, or two while they change.
    #[prost(message, repeated, tag = "1")]
    pub(crate) configs: Vec<Voters>,
    #[prost(btree_map = "uint64, uint32", tag = "2")]
    pub(crate) nodes: BTreeMap<u64, u32>,
    /// The log entry that it came from, where it stands outside of one.
    #[prost(message, optional, tag = "3")]
    pub(crate) log_id: Option<LogId>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Voters {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) replicas: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Entry {
    #[prost(message, required, tag = "1")]
    pub(crate) log_id: LogId,
    /// Neither of the two: a blank entry.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) command: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    pub(crate) membership: Option<Membership>,
}

/// The applied position of a state, stored beside it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Applied {
    #[prost(message, optional, tag = "1")]
    pub(crate) last: Option<LogId>,
    #[prost(message, required, tag = "2")]
    pub(crate) membership: Membership,
}

/// Who a Raft message is for.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct To {
    #[prost(uint32, tag = "1")]
    pub(crate) group: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) replica: u64,
}

/// A leader and a voter who is asked whether it still upholds it.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Standing {
    /// The voter.
    #[prost(message, required, tag = "1")]
    pub(crate) to: To,
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
    /// The leader's replica id.
    #[prost(uint64, tag = "3")]
    pub(crate) leader: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StandingQuestion {
    #[prost(message, repeated, tag = "1")]
    pub(crate) leaders: Vec<Standing>,
}

/// One answer a question, in their order.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StandingAnswer {
    #[prost(bool, repeated, tag = "1")]
    pub(crate) stands: Vec<bool>,
}

/// Whether a replica has no entry but the one that names the group's first members.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct BlankAnswer {
    #[prost(bool, tag = "1")]
    pub(crate) is_blank: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AppendRequest {
    #[prost(message, required, tag = "1")]
    pub(crate) to: To,
    /// Appends of one stream are handled in order, and after a failed one no more.
    #[prost(uint64, tag = "2")]
    pub(crate) stream: u64,
    #[prost(message, required, tag = "3")]
    pub(crate) vote: Vote,
    #[prost(message, optional, tag = "4")]
    pub(crate) prev: Option<LogId>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) entries: Vec<Entry>,
    #[prost(message, optional, tag = "6")]
    pub(crate) commit: Option<LogId>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AppendResponse {
    #[prost(enumeration = "AppendResult", tag = "1")]
    pub(crate) result: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) log_id: Option<LogId>,
    #[prost(message, optional, tag = "3")]
    pub(crate) higher: Option<Vote>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum AppendResult {
    /// The replica is not here, or has stopped.
    Unavailable = 0,
    /// `log_id` matches.
    Matched = 1,
    /// The log differs at `log_id`.
    Conflict = 2,
    /// A newer leader or candidate: `higher`.
    HigherVote = 3,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct VoteRequest {
    #[prost(message, required, tag = "1")]
    pub(crate) to: To,
    #[prost(message, required, tag = "2")]
    pub(crate) vote: Vote,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<LogId>,
    #[prost(bool, tag = "4")]
    pub(crate) transfer: bool,
    #[prost(bool, tag = "5")]
    pub(crate) pre_vote: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct VoteResponse {
    /// Absent: the replica is not here, or has stopped.
    #[prost(message, optional, tag = "1")]
    pub(crate) vote: Option<Vote>,
    #[prost(bool, tag = "2")]
    pub(crate) granted: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) last: Option<LogId>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TransferRequest {
    #[prost(message, required, tag = "1")]
    pub(crate) to: To,
    #[prost(message, required, tag = "2")]
    pub(crate) from: Vote,
    #[prost(uint64, tag = "3")]
    pub(crate) target: u64,
    #[prost(message, optional, tag = "4")]
    pub(crate) last: Option<LogId>,
}

/// One frame of a snapshot's stream.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SnapshotChunk {
    #[prost(message, required, tag = "1")]
    pub(crate) to: To,
    #[prost(message, required, tag = "2")]
    pub(crate) vote: Vote,
    /// Counts from 0 within one transfer.
    #[prost(uint64, tag = "3")]
    pub(crate) sequence: u64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) pairs: Vec<Pair>,
    /// In the last chunk: what has been sent.
    #[prost(message, optional, tag = "5")]
    pub(crate) end: Option<SnapshotEnd>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Pair {
    /// Without the storage id.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SnapshotEnd {
    #[prost(message, required, tag = "1")]
    pub(crate) applied: Applied,
    #[prost(uint64, tag = "2")]
    pub(crate) pairs: u64,
    /// xxh3 over all keys and values in order.
    #[prost(fixed64, tag = "3")]
    pub(crate) hash: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SnapshotResponse {
    #[prost(bool, tag = "1")]
    pub(crate) accepted: bool,
    #[prost(message, optional, tag = "2")]
    pub(crate) vote: Option<Vote>,
    #[prost(string, tag = "3")]
    pub(crate) reason: String,
}

impl From<types::Vote> for Vote {
    fn from(vote: types::Vote) -> Vote {
        Vote {
            term: vote.leader_id.term,
            replica: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}

impl From<Vote> for types::Vote {
    fn from(vote: Vote) -> types::Vote {
        types::Vote {
            leader_id: LeaderId {
                term: vote.term,
                voted_for: vote.replica,
            },
            committed: vote.committed,
        }
    }
}

impl From<types::LogId> for LogId {
    fn from(id: types::LogId) -> LogId {
        LogId {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

impl From<LogId> for types::LogId {
    fn from(id: LogId) -> types::LogId {
        types::LogId {
            leader_id: committed(id.term),
            index: id.index,
        }
    }
}

impl From<&types::Membership> for Membership {
    fn from(membership: &types::Membership) -> Membership {
        Membership {
            configs: membership
                .get_joint_config()
                .iter()
                .map(|voters| Voters {
                    replicas: voters.iter().copied().collect(),
                })
                .collect(),
            nodes: membership.nodes().map(|(id, m)| (*id, m.node)).collect(),
            log_id: None,
        }
    }
}

impl From<Membership> for types::Membership {
    fn from(membership: Membership) -> types::Membership {
        let configs: Vec<BTreeSet<u64>> = membership
            .configs
            .into_iter()
            .map(|voters| voters.replicas.into_iter().collect())
            .collect();
        let nodes: BTreeMap<u64, Member> = membership
            .nodes
            .into_iter()
            .map(|(id, node)| (id, Member { node }))
            .collect();
        // Only a membership that openraft accepted was ever encoded; one that it refuses now is
        // read as the empty one, with which a replica can neither vote nor lead.
        types::Membership::new(configs, nodes).unwrap_or_default()
    }
}

impl From<&StoredMembership> for Membership {
    fn from(stored: &StoredMembership) -> Membership {
        Membership {
            log_id: stored.log_id().map(LogId::from),
            ..Membership::from(stored.membership())
        }
    }
}

impl From<Membership> for StoredMembership {
    fn from(membership: Membership) -> StoredMembership {
        let log_id = membership.log_id.map(types::LogId::from);
        StoredMembership::new(log_id, membership.into())
    }
}

impl Applied {
    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last.map(Into::into),
            last_membership: self.membership.clone().into(),
        }
    }
}

impl From<&types::Entry> for Entry {
    fn from(entry: &types::Entry) -> Entry {
        let (command, membership) = match &entry.payload {
            EntryPayload::Blank => (None, None),
            EntryPayload::Normal(payload) => (Some(payload.0.clone()), None),
            EntryPayload::Membership(membership) => (None, Some(membership.into())),
        };
        Entry {
            log_id: entry.log_id.into(),
            command,
            membership,
        }
    }
}

impl From<Entry> for types::Entry {
    fn from(entry: Entry) -> types::Entry {
        let payload = match (entry.command, entry.membership) {
            (_, Some(membership)) => EntryPayload::Membership(membership.into()),
            (Some(command), None) => EntryPayload::Normal(Payload(command)),
            (None, None) => EntryPayload::Blank,
        };
        types::Entry {
            log_id: entry.log_id.into(),
            payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_on_disk_is_frozen() {
        let vote = Vote {
            term: 3,
            replica: 7,
            committed: true,
        };
        assert_eq!(vote.encode_to_vec(), [8, 3, 16, 7, 24, 1]);
        let entry = Entry {
            log_id: LogId { term: 2, index: 9 },
            command: Some(Bytes::from_static(b"ab")),
            membership: None,
        };
        assert_eq!(
            entry.encode_to_vec(),
            [10, 4, 8, 2, 16, 9, 18, 2, b'a', b'b']
        );
        let membership = Membership {
            configs: vec![Voters {
                replicas: vec![1, 2],
            }],
            nodes: BTreeMap::from([(1, 10), (2, 20)]),
            log_id: Some(LogId { term: 1, index: 1 }),
        };
        let applied = Applied {
            last: Some(LogId { term: 2, index: 9 }),
            membership,
        };
        assert_eq!(
            applied.encode_to_vec(),
            [
                10, 4, 8, 2, 16, 9, 18, 24, 10, 4, 10, 2, 1, 2, 18, 4, 8, 1, 16, 10, 18, 4, 8, 2,
                16, 20, 26, 4, 8, 1, 16, 1
            ]
        );
    }

    #[test]
    fn entries_survive_the_encoding() {
        let members = types::Membership::new(
            vec![BTreeSet::from([1, 2])],
            BTreeMap::from([
                (1, Member { node: 4 }),
                (2, Member { node: 5 }),
                (3, Member { node: 6 }),
            ]),
        )
        .unwrap();
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Payload(Bytes::from_static(b"x"))),
            EntryPayload::Normal(Payload(Bytes::new())),
            EntryPayload::Membership(members),
        ] {
            let entry = types::Entry {
                log_id: LogId { term: 1, index: 5 }.into(),
                payload,
            };
            let bytes = Entry::from(&entry).encode_to_vec();
            let back: types::Entry = Entry::decode(&bytes[..]).unwrap().into();
            assert_eq!(back, entry);
        }
    }
}
