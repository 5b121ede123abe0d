//! The layout of every key on disk. Bytes are for ever: pinned by golden tests, and a number once
//! used is reserved when it retires.
//!
//! ```text
//! every key    storage id u32 | kind u8 | rest                          integers are big endian
//!
//! Space::State, storage id > 0
//!   1 META     record u8                                     applied index, membership, ...
//!   2 CURRENT  vnode u16 | key                               current value of a key
//!   3 HISTORY  vnode u16 | escaped key | until u64           past values, by when they ended
//!   4 DEDUP    log index u64                                 answers by request id
//!   5 LEASE    vnode u16 | lease u64                         leases that are at home here
//!   6 TXN      attempt u64                                   prepared transactions
//!   7 VNODE    vnode u16                                     one record a vnode
//!   8 SESSION  session u64                                   how far a client has got
//!   9 JOURNAL  log index u64                                 changes of vnode records
//!  10 IDEMPOTENT  time u64 | session u64 | sequence u64      requests that clients named
//!  11 CHANGES  revision u64                                  which keys changed from there on
//!  12 ATTACHED lease u64 | key                               keys that are attached to a lease
//!  13 OPEN     lease u64                                     leases that may be attached to here
//! Space::Log, storage id > 0
//!   1 LOG_META record u8                                     vote, purged, ...
//!   2 ENTRY    index u64                                     one log entry
//! Space::State, storage id 0: the node itself
//!   1 NODE     record u8                                     identity, ...
//!   2 POINTER  group u64 | replica u64                       storage id of a replica
//! ```
//!
//! A storage id is local to the node and never used twice: to install, wipe or swap a replica is
//! to write one pointer; the old id's range is deleted later. [`STORAGE_ID_MAX`] bounds it so that
//! every range has an end.
//!
//! A key of a user may hold any byte. It stands raw and last in CURRENT. In HISTORY a revision
//! follows, so the key is escaped ([`escape`]): otherwise key `a` at one revision could sort
//! between two revisions of `a\0`.

use bytes::Bytes;
use std::ops::Range;

/// Local number of a replica's storage on this node.
pub type StorageId = u32;

/// Storage id of the node's own records.
pub const NODE_STORAGE: StorageId = 0;
/// Largest storage id given out.
pub const STORAGE_ID_MAX: StorageId = u32::MAX - 1;

/// First bytes of the rest of a key in [`Space::State`](crate::Space::State).
pub mod state_kind {
    /// Records of the replica as a whole.
    pub const META: u8 = 1;
    /// Current values.
    pub const CURRENT: u8 = 2;
    /// Past values, by the revision that replaced them.
    pub const HISTORY: u8 = 3;
    /// Answers by request id.
    pub const DEDUP: u8 = 4;
    /// Leases.
    pub const LEASE: u8 = 5;
    /// Prepared transactions.
    pub const TXN: u8 = 6;
    /// Records of vnodes.
    pub const VNODE: u8 = 7;
    /// Progress of clients.
    pub const SESSION: u8 = 8;
    /// Changes of vnode records since these were written.
    pub const JOURNAL: u8 = 9;
    /// Requests that clients named, with what they did.
    pub const IDEMPOTENT: u8 = 10;
    /// Which keys changed, by revision.
    pub const CHANGES: u8 = 11;
    /// Which keys are attached to a lease.
    pub const ATTACHED: u8 = 12;
    /// Leases of other groups that keys may be attached to.
    pub const OPEN: u8 = 13;
}

/// Kinds in [`Space::Log`](crate::Space::Log).
pub mod log_kind {
    /// Vote, purged and such.
    pub const META: u8 = 1;
    /// Entries.
    pub const ENTRY: u8 = 2;
}

/// Kinds under [`NODE_STORAGE`] in [`Space::State`](crate::Space::State).
pub mod node_kind {
    /// Records of the node.
    pub const NODE: u8 = 1;
    /// Where the storage of a replica is.
    pub const POINTER: u8 = 2;
}

fn key(storage: StorageId, kind: u8, parts: &[&[u8]]) -> Bytes {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut key = Vec::with_capacity(5 + len);
    key.extend_from_slice(&storage.to_be_bytes());
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
    key.into()
}

/// A record of the node: identity and such, one byte tells which.
pub fn node(record: u8) -> Bytes {
    key(NODE_STORAGE, node_kind::NODE, &[&[record]])
}

/// The pointer from a replica to its storage id.
pub fn pointer(group: u64, replica: u64) -> Bytes {
    let (group, replica) = (group.to_be_bytes(), replica.to_be_bytes());
    key(NODE_STORAGE, node_kind::POINTER, &[&group, &replica])
}

/// Group and replica of a [`pointer()`] key; `None` if it is no such key.
pub fn parse_pointer(key: &[u8]) -> Option<(u64, u64)> {
    let rest = rest(key, NODE_STORAGE, node_kind::POINTER)?;
    let (group, replica) = rest.split_first_chunk::<8>()?;
    let replica: &[u8; 8] = replica.try_into().ok()?;
    Some((u64::from_be_bytes(*group), u64::from_be_bytes(*replica)))
}

/// A record of a replica's log: vote, purged and such, one byte tells which.
pub fn log_meta(storage: StorageId, record: u8) -> Bytes {
    key(storage, log_kind::META, &[&[record]])
}

/// A log entry.
pub fn entry(storage: StorageId, index: u64) -> Bytes {
    key(storage, log_kind::ENTRY, &[&index.to_be_bytes()])
}

/// Entries from `range.start` to before `range.end`.
pub fn entry_range(storage: StorageId, range: Range<u64>) -> Range<Bytes> {
    entry(storage, range.start)..entry(storage, range.end)
}

/// Entries from `index` on.
pub fn entries_from(storage: StorageId, index: u64) -> Range<Bytes> {
    entry(storage, index)..kind_range(storage, log_kind::ENTRY).end
}

/// Index of an [`entry`] key of this storage; `None` if it is no such key.
pub fn parse_entry(storage: StorageId, key: &[u8]) -> Option<u64> {
    let index = rest(key, storage, log_kind::ENTRY)?;
    Some(u64::from_be_bytes(index.try_into().ok()?))
}

/// A record of a replica's state: applied index and such, one byte tells which.
pub fn meta(storage: StorageId, record: u8) -> Bytes {
    key(storage, state_kind::META, &[&[record]])
}

/// The current value of a user's key.
pub fn current(storage: StorageId, vnode: u16, user_key: &[u8]) -> Bytes {
    let vnode = vnode.to_be_bytes();
    key(storage, state_kind::CURRENT, &[&vnode, user_key])
}

/// Vnode and user's key of a [`current`] key; `None` if it is no such key.
pub fn parse_current(storage: StorageId, key: &[u8]) -> Option<(u16, &[u8])> {
    let (vnode, user_key) = rest(key, storage, state_kind::CURRENT)?.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*vnode), user_key))
}

/// What a round of applies that ended at `index` changed in vnode records.
pub fn journal(storage: StorageId, index: u64) -> Bytes {
    key(storage, state_kind::JOURNAL, &[&index.to_be_bytes()])
}

/// A lease at home in a vnode of this group.
pub fn lease(storage: StorageId, vnode: u16, lease: u64) -> Bytes {
    let (vnode, lease) = (vnode.to_be_bytes(), lease.to_be_bytes());
    key(storage, state_kind::LEASE, &[&vnode, &lease])
}

/// Vnode and id of a [`lease`] key; `None` if it is no such key.
pub fn parse_lease(storage: StorageId, key: &[u8]) -> Option<(u16, u64)> {
    let rest = rest(key, storage, state_kind::LEASE)?;
    let (vnode, lease) = rest.split_first_chunk::<2>()?;
    let lease: &[u8; 8] = lease.try_into().ok()?;
    Some((u16::from_be_bytes(*vnode), u64::from_be_bytes(*lease)))
}

/// That a user's key is attached to a lease.
pub fn attached(storage: StorageId, lease: u64, user_key: &[u8]) -> Bytes {
    key(
        storage,
        state_kind::ATTACHED,
        &[&lease.to_be_bytes(), user_key],
    )
}

/// The [`attached`] keys of a lease from a user's key on.
pub fn attached_from(storage: StorageId, lease: u64, user_key: &[u8]) -> Range<Bytes> {
    let end = match lease.checked_add(1) {
        Some(next) => attached(storage, next, b""),
        None => kind_range(storage, state_kind::ATTACHED).end,
    };
    attached(storage, lease, user_key)..end
}

/// Lease and user's key of an [`attached`] key; `None` if it is no such key.
pub fn parse_attached(storage: StorageId, key: &[u8]) -> Option<(u64, &[u8])> {
    let (lease, user_key) = rest(key, storage, state_kind::ATTACHED)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*lease), user_key))
}

/// A lease of another group that keys here may be attached to.
pub fn open_lease(storage: StorageId, lease: u64) -> Bytes {
    key(storage, state_kind::OPEN, &[&lease.to_be_bytes()])
}

/// The id of an [`open_lease`] key; `None` if it is no such key.
pub fn parse_open_lease(storage: StorageId, key: &[u8]) -> Option<u64> {
    let lease = rest(key, storage, state_kind::OPEN)?;
    Some(u64::from_be_bytes(lease.try_into().ok()?))
}

/// How far a client session has got.
pub fn session(storage: StorageId, session: u64) -> Bytes {
    key(storage, state_kind::SESSION, &[&session.to_be_bytes()])
}

/// The value of a user's key that was replaced at a revision. Sorts by vnode, key, revision.
pub fn history(storage: StorageId, vnode: u16, user_key: &[u8], revision: u64) -> Bytes {
    let (vnode, escaped, revision) = (
        vnode.to_be_bytes(),
        escape(user_key),
        revision.to_be_bytes(),
    );
    key(storage, state_kind::HISTORY, &[&vnode, &escaped, &revision])
}

/// Vnode, user's key and revision of a [`history`] key; `None` if it is no such key.
pub fn parse_history(storage: StorageId, key: &[u8]) -> Option<(u16, Vec<u8>, u64)> {
    let (vnode, rest) = rest(key, storage, state_kind::HISTORY)?.split_first_chunk::<2>()?;
    let (user_key, rest) = unescape(rest)?;
    let revision: &[u8; 8] = rest.try_into().ok()?;
    Some((
        u16::from_be_bytes(*vnode),
        user_key,
        u64::from_be_bytes(*revision),
    ))
}

/// A request that a client named, by the time at which it was executed.
pub fn idempotent(storage: StorageId, time: u64, session: u64, sequence: u64) -> Bytes {
    let (time, session, sequence) = (
        time.to_be_bytes(),
        session.to_be_bytes(),
        sequence.to_be_bytes(),
    );
    key(
        storage,
        state_kind::IDEMPOTENT,
        &[&time, &session, &sequence],
    )
}

/// The keys that one log entry changed, by the first revision of it.
pub fn changes(storage: StorageId, revision: u64) -> Bytes {
    key(storage, state_kind::CHANGES, &[&revision.to_be_bytes()])
}

/// Revision of a [`changes`] key; `None` if it is no such key.
pub fn parse_changes(storage: StorageId, key: &[u8]) -> Option<u64> {
    let revision = rest(key, storage, state_kind::CHANGES)?;
    Some(u64::from_be_bytes(revision.try_into().ok()?))
}

/// Time, session and sequence of an [`idempotent`] key; `None` if it is no such key.
pub fn parse_idempotent(storage: StorageId, key: &[u8]) -> Option<(u64, u64, u64)> {
    let (time, rest) = rest(key, storage, state_kind::IDEMPOTENT)?.split_first_chunk()?;
    let (session, sequence) = rest.split_first_chunk()?;
    Some((
        u64::from_be_bytes(*time),
        u64::from_be_bytes(*session),
        u64::from_be_bytes(sequence.try_into().ok()?),
    ))
}

/// All revisions of one user's key, oldest first.
pub fn history_range(storage: StorageId, vnode: u16, user_key: &[u8]) -> Range<Bytes> {
    let (vnode, escaped) = (vnode.to_be_bytes(), escape(user_key));
    between_prefix(key(storage, state_kind::HISTORY, &[&vnode, &escaped]))
}

/// The de-duplication record that the entry at `index` left.
pub fn dedup(storage: StorageId, index: u64) -> Bytes {
    key(storage, state_kind::DEDUP, &[&index.to_be_bytes()])
}

/// A transaction over groups, by the name of its attempt.
pub fn attempt(storage: StorageId, attempt: u64) -> Bytes {
    key(storage, state_kind::TXN, &[&attempt.to_be_bytes()])
}

/// The record of a vnode.
pub fn vnode(storage: StorageId, vnode: u16) -> Bytes {
    key(storage, state_kind::VNODE, &[&vnode.to_be_bytes()])
}

/// All keys of a storage id, in either space.
pub fn prefix_range(storage: StorageId) -> Range<Bytes> {
    between_prefix(Bytes::copy_from_slice(&storage.to_be_bytes()))
}

/// All keys of one kind of a storage id.
pub fn kind_range(storage: StorageId, kind: u8) -> Range<Bytes> {
    between_prefix(key(storage, kind, &[]))
}

/// All keys of one vnode, for the kinds where the vnode comes first: CURRENT, HISTORY, VNODE.
pub fn vnode_range(storage: StorageId, kind: u8, vnode: u16) -> Range<Bytes> {
    between_prefix(key(storage, kind, &[&vnode.to_be_bytes()]))
}

/// The end of the range of all keys that begin with `prefix`: the smallest key above them all.
/// Empty, an open end, if there is none (`prefix` is empty or all `0xFF`).
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xFF);
    kept.map_or(Bytes::new(), |last| {
        let mut end = prefix[..=last].to_vec();
        end[last] += 1;
        end.into()
    })
}

fn between_prefix(prefix: Bytes) -> Range<Bytes> {
    let end = prefix_end(&prefix);
    prefix..end
}

/// What follows storage id and kind, if the key has these.
fn rest(key: &[u8], storage: StorageId, kind: u8) -> Option<&[u8]> {
    key.strip_prefix(&storage.to_be_bytes()[..])?
        .strip_prefix(&[kind])
}

/// Encode bytes so that something can follow and the order stays: `00` becomes `00 FF`, the end
/// is `00 01`. A key sorts before its extensions, because the end is below everything else.
pub fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(bytes.len() + 2);
    for byte in bytes {
        escaped.push(*byte);
        if *byte == 0 {
            escaped.push(0xFF);
        }
    }
    escaped.extend_from_slice(&[0x00, 0x01]);
    escaped
}

/// Undo [`escape`]: the bytes and what follows them. `None` if the encoding is broken.
pub fn unescape(escaped: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        if *byte != 0 {
            bytes.push(*byte);
            continue;
        }
        let (mark, after) = rest.split_first()?;
        rest = after;
        match mark {
            0xFF => bytes.push(0),
            0x01 => return Some((bytes, rest)),
            _ => return None,
        }
    }
}
