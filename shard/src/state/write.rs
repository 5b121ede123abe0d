//! The verbs of one key: put and delete, under a condition.

use bytes::Bytes;
use caucus_api::shard::condition::Kind as Condition;
use caucus_api::shard::outcome::Kind;
use caucus_api::shard::{self, Outcome, Put, Record, Write, write::Action};
use caucus_engine::keys;
use caucus_raft::Txn;
use caucus_ring::Vnode;
use prost::Message;

use super::Published;
use super::ownership::Ownership;
use super::record;

/// Executes a write at `revision`.
pub(super) fn execute(
    txn: &mut Txn,
    vnodes: &mut Ownership,
    published: &Published,
    vnode: Vnode,
    write: &Write,
    revision: u64,
) -> Result<Outcome, caucus_engine::Error> {
    let at = keys::current(txn.storage(), vnode.0, &write.key);
    let stored = txn.get(&at)?;
    let old_hash = stored
        .as_deref()
        .map_or(0, |old| record::hash(&write.key, old));
    let old = stored.map(record::decode).transpose()?;
    let found_revision = old.as_ref().map_or(0, |old| old.mod_revision);
    if !holds(write.condition.as_ref(), old.as_ref()) {
        return Ok(Outcome {
            kind: Kind::ConditionFailed as i32,
            revision,
            found_revision,
            ..Outcome::default()
        });
    }
    match (&write.action, old) {
        (Some(Action::Put(put)), old) => {
            let new = successor(put, old.as_ref(), revision);
            let bytes = Bytes::from(new.encode_to_vec());
            let new_hash = record::hash(&write.key, &bytes);
            let came = i64::from(old.is_none());
            if vnodes.changed(vnode, came, old_hash, new_hash) {
                published.occupy(vnode);
            }
            txn.put(at, bytes);
            Ok(Outcome {
                kind: Kind::Put as i32,
                revision,
                create_revision: new.create_revision,
                version: new.version,
                found_revision,
            })
        }
        (Some(Action::Delete(_)), Some(old)) => {
            vnodes.changed(vnode, -1, old_hash, 0);
            txn.delete(at);
            Ok(Outcome {
                kind: Kind::Deleted as i32,
                revision,
                create_revision: old.create_revision,
                version: old.version,
                found_revision,
            })
        }
        (Some(Action::Delete(_)), None) | (None, _) => Ok(Outcome {
            kind: Kind::Absent as i32,
            revision,
            ..Outcome::default()
        }),
    }
}

fn successor(put: &Put, old: Option<&Record>, revision: u64) -> Record {
    Record {
        create_revision: old.map_or(revision, |old| old.create_revision),
        mod_revision: revision,
        version: old.map_or(1, |old| old.version.saturating_add(1)),
        lease: put.lease,
        content_type: put.content_type.clone(),
        value: put.value.clone(),
    }
}

fn holds(condition: Option<&shard::Condition>, old: Option<&Record>) -> bool {
    let Some(condition) = condition.and_then(|condition| condition.kind.as_ref()) else {
        return true;
    };
    let found = |wanted: &shard::Revisions| {
        old.is_some_and(|old| wanted.revisions.contains(&old.mod_revision))
    };
    match condition {
        Condition::Absent(_) => old.is_none(),
        Condition::Present(_) => old.is_some(),
        Condition::RevisionIs(wanted) => found(wanted),
        Condition::RevisionIsNot(wanted) => !found(wanted),
    }
}
