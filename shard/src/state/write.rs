//! What a write changes: a record, the history behind it, its vnode.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::shard::condition::Kind as Condition;
use caucus_api::shard::outcome::Kind;
use caucus_api::shard::{self, Outcome, Put, Record, Write, write::Action};
use caucus_engine::keys;
use caucus_raft::Txn;
use caucus_ring::Vnode;
use prost::Message;

use super::Published;
use super::heads::{Head, Heads, Known};
use super::leases::LeaseChanges;
use super::ownership::Ownership;
use super::published::Routing;
use super::record;
use crate::watch::Change;

/// What a write changes.
pub(super) struct Effects<'a> {
    pub(super) txn: &'a mut Txn,
    pub(super) vnodes: &'a mut Ownership,
    pub(super) heads: &'a mut Heads,
    pub(super) published: &'a Published,
    /// What this round of applies has changed.
    pub(super) changes: &'a mut Vec<Change>,
}

impl Effects<'_> {
    /// Executes a write at `revision`. `lease_grant`: when the lease was granted that it names.
    pub(super) fn execute(
        &mut self,
        vnode: Vnode,
        write: &Write,
        revision: u64,
        lease_grant: u64,
    ) -> Result<Outcome, caucus_engine::Error> {
        let at = keys::current(self.txn.storage(), vnode.0, &write.key);
        let old = self.old(&write.key, &at)?;
        let head = old.as_ref().map(|old| old.head);
        let found_revision = head.map_or(0, |head| head.mod_revision);
        if !holds(write.condition.as_ref(), head) {
            return Ok(Outcome {
                kind: Kind::ConditionFailed as i32,
                revision,
                found_revision,
                ..Outcome::default()
            });
        }
        match (&write.action, head) {
            (Some(Action::Put(put)), _) => {
                let new = successor(put, head, revision, lease_grant);
                let (create_revision, version) = (new.create_revision, new.version);
                self.install((vnode, &write.key, at), old, Some(&new), revision)?;
                Ok(Outcome {
                    kind: Kind::Put as i32,
                    revision,
                    create_revision,
                    version,
                    found_revision,
                })
            }
            (Some(Action::Delete(_)), Some(head)) => {
                self.install((vnode, &write.key, at), old, None, revision)?;
                Ok(Outcome {
                    kind: Kind::Deleted as i32,
                    revision,
                    create_revision: head.create_revision,
                    version: head.version,
                    found_revision,
                })
            }
            (_, _) => Ok(Outcome {
                kind: Kind::Absent as i32,
                revision,
                ..Outcome::default()
            }),
        }
    }

    /// Puts what a transaction has written in the place of what was there.
    pub(super) fn install_all(
        &mut self,
        routing: &Routing,
        written: BTreeMap<Bytes, Option<Record>>,
        revision: u64,
    ) -> Result<(), caucus_engine::Error> {
        for (key, record) in written {
            let vnode = routing.vnode(&key);
            let at = keys::current(self.txn.storage(), vnode.0, &key);
            let old = self.old(&key, &at)?;
            if old.is_some() || record.is_some() {
                self.install((vnode, &key, at), old, record.as_ref(), revision)?;
            }
        }
        Ok(())
    }

    /// Replaces the record of a key at its place; the old one goes into the history.
    fn install(
        &mut self,
        (vnode, key, at): (Vnode, &Bytes, Bytes),
        old: Option<Known>,
        new: Option<&Record>,
        revision: u64,
    ) -> Result<(), caucus_engine::Error> {
        let old_hash = old.as_ref().map_or(0, |old| old.head.hash);
        let came = i64::from(old.is_none());
        let lease = new.map_or(0, |new| new.lease);
        self.attach(key, old.as_ref().map_or(0, |old| old.head.lease), lease);
        let previous = match old {
            Some(Known { stored: None, .. }) => self.txn.get(&at)?,
            Some(old) => old.stored,
            None => None,
        };
        if let Some(stored) = &previous {
            let past = keys::history(self.txn.storage(), vnode.0, key, revision);
            self.txn.put(past, stored.clone());
        }
        let mut change = Change {
            revision,
            // A copy: the request's buffer is much larger and would be held with it.
            key: Bytes::copy_from_slice(key),
            record: None,
            previous,
        };
        let Some(new) = new else {
            self.changes.push(change);
            self.vnodes.changed(vnode, -1, old_hash, 0);
            self.heads.set(key, None);
            self.txn.delete(at);
            return Ok(());
        };
        let bytes = Bytes::from(new.encode_to_vec());
        change.record = Some(bytes.clone());
        self.changes.push(change);
        let head = head(new, record::hash(key, &bytes));
        if self.vnodes.changed(vnode, came, old_hash, head.hash) {
            self.published.occupy(vnode);
        }
        let known = Known {
            head,
            stored: Some(bytes.clone()),
        };
        self.heads.set(key, Some(known));
        self.txn.put(at, bytes);
        Ok(())
    }

    /// Keeps the index of the keys of leases.
    fn attach(&mut self, key: &[u8], old: u64, new: u64) {
        if old == new {
            return;
        }
        let storage = self.txn.storage();
        if old != 0 {
            self.txn.delete(keys::attached(storage, old, key));
        }
        if new != 0 {
            self.txn
                .put(keys::attached(storage, new, key), Bytes::new());
        }
    }

    /// Makes true what a transaction has done to leases.
    pub(super) fn install_leases(&mut self, routing: &Routing, changes: LeaseChanges) {
        let storage = self.txn.storage();
        let table = self.published.leases();
        for (id, lease) in changes.home {
            let vnode = routing.ring.lease_vnode(id);
            let at = keys::lease(storage, vnode.0, id);
            let stored = lease
                .as_ref()
                .map(|lease| Bytes::from(lease.encode_to_vec()));
            // Without the storage id: that is this node's own, and the hash is the same on all.
            let name = &at[size_of_val(&storage)..];
            let share = |stored: &Bytes| record::hash(name, stored);
            let new = stored.as_ref().map_or(0, share);
            let old = table.set(id, lease);
            let old = old.map_or(0, |old| share(&old.encode_to_vec().into()));
            self.vnodes.changed(vnode, 0, old, new);
            match stored {
                Some(stored) => self.txn.put(at, stored),
                None => self.txn.delete(at),
            }
        }
        for (id, open) in changes.open {
            table.set_open(id, open);
            let at = keys::open_lease(storage, id);
            match open {
                Some(open) => self
                    .txn
                    .put(at, Bytes::copy_from_slice(&open.to_be_bytes())),
                None => self.txn.delete(at),
            }
        }
    }

    fn old(&mut self, key: &[u8], at: &[u8]) -> Result<Option<Known>, caucus_engine::Error> {
        if let Some(known) = self.heads.get(key) {
            return Ok(known);
        }
        let found = match self.txn.get(at)? {
            Some(stored) => {
                let hash = record::hash(key, &stored);
                Some(Known {
                    head: head(&record::decode(stored.clone())?, hash),
                    stored: Some(stored),
                })
            }
            None => None,
        };
        self.heads.set(key, found.clone());
        Ok(found)
    }
}

fn head(record: &Record, hash: u128) -> Head {
    Head {
        create_revision: record.create_revision,
        mod_revision: record.mod_revision,
        version: record.version,
        lease: record.lease,
        hash,
    }
}

fn successor(put: &Put, old: Option<Head>, revision: u64, lease_grant: u64) -> Record {
    let created = record::created(revision, put.lease);
    Record {
        create_revision: old.map_or(created, |old| old.create_revision),
        mod_revision: revision,
        version: old.map_or(1, |old| old.version.saturating_add(1)),
        lease: put.lease,
        content_type: put.content_type.clone(),
        value: put.value.clone(),
        lease_grant,
    }
}

fn holds(condition: Option<&shard::Condition>, old: Option<Head>) -> bool {
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
