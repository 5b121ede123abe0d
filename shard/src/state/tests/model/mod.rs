//! What a group must do, in the plainest form: a map of keys, one of what each key was, a list of what was
//! executed. Written from the protocol, not from the product; of the product it uses the messages and where
//! a key is, nothing that decides.

mod ids;
mod locks;
mod ops;
mod sight;
mod steps;

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::shard::condition::Kind as Condition;
use caucus_api::shard::outcome::Kind;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Attempt, Batch, Condition as Must, Lease, Outcome, Problem, Record, RequestId, Write,
};
use caucus_ring::{Ring, Rules, Vnode, VnodeSet, parse_lease_key};
use prost::Message;

use super::super::{Refusal, Verdict};
use ids::Ids;
pub(super) use locks::reads_wait;
use ops::World;

/// A mistake that the model makes when it is told to: who compares with it must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A deleted key stays.
    ForgetsDelete,
    /// An id executes as often as it comes.
    ExecutesTwice,
    /// A name is remembered for ever.
    NeverForgetsNames,
    /// A name that a leader of yesterday's time brings is as old as that.
    TimeGoesBack,
    /// The request floor doesn't rise.
    NoFloor,
    /// What is locked is written all the same.
    IgnoresLocks,
    /// Who only reads is in nobody's way.
    NoSharedLocks,
    /// A commit is of the highest revision instead of its own.
    CommitsLate,
    /// An abort leaves its locks.
    AbortKeepsLocks,
    /// A revision at or below the highest is as good as any.
    TakesOldRevisions,
    /// The past is read as it is now.
    NoPast,
    /// A lease that ends takes keys still.
    AttachesToEnding,
    /// A lease that has keys may go.
    DropsWithKeys,
    /// A transaction that can't be executed leaves what it did before.
    HalfDone,
    /// A nested transaction goes the other way.
    TurnsNested,
    /// Nothing is too old to be read.
    NeverCompacted,
}

impl Fault {
    pub(super) const ALL: [Fault; 16] = [
        Fault::ForgetsDelete,
        Fault::ExecutesTwice,
        Fault::NeverForgetsNames,
        Fault::TimeGoesBack,
        Fault::NoFloor,
        Fault::IgnoresLocks,
        Fault::NoSharedLocks,
        Fault::CommitsLate,
        Fault::AbortKeepsLocks,
        Fault::TakesOldRevisions,
        Fault::NoPast,
        Fault::AttachesToEnding,
        Fault::DropsWithKeys,
        Fault::HalfDone,
        Fault::TurnsNested,
        Fault::NeverCompacted,
    ];
}

/// One change of a key, as a watcher is told of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Changed {
    pub(super) revision: u64,
    pub(super) key: Bytes,
    pub(super) record: Option<Record>,
    pub(super) previous: Option<Record>,
}

pub(super) struct Model {
    pub(super) ring: Ring,
    pub(super) rules: Rules,
    pub(super) group: u32,
    pub(super) owned: VnodeSet,
    pub(super) keys: BTreeMap<Bytes, Record>,
    /// What each key was from a revision on.
    pub(super) past: BTreeMap<Bytes, BTreeMap<u64, Option<Record>>>,
    pub(super) leases: BTreeMap<u64, Lease>,
    pub(super) open: BTreeMap<u64, u64>,
    pub(super) attempts: BTreeMap<u64, Attempt>,
    /// In the order of the log.
    pub(super) changes: Vec<Changed>,
    pub(super) highest: u64,
    pub(super) compacted: u64,
    /// No change at or below it follows.
    pub(super) frontier: u64,
    pub(super) ids: Ids,
    pub(super) fault: Option<Fault>,
}

impl Model {
    pub(super) fn new(
        ring: Ring,
        rules: Rules,
        (group, owned): (u32, VnodeSet),
        items_max: usize,
    ) -> Model {
        Model {
            ring,
            rules,
            group,
            owned,
            keys: BTreeMap::new(),
            past: BTreeMap::new(),
            leases: BTreeMap::new(),
            open: BTreeMap::new(),
            attempts: BTreeMap::new(),
            changes: Vec::new(),
            highest: 0,
            compacted: 0,
            frontier: 0,
            ids: Ids::new(items_max),
            fault: None,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn vnode(&self, key: &[u8]) -> Vnode {
        self.ring.vnode(self.rules.routing_key(key))
    }

    /// Where a request with this key is at home.
    fn home(&self, key: &[u8]) -> Vnode {
        match parse_lease_key(key) {
            Some(lease) => self.ring.lease_vnode(lease),
            None => self.vnode(key),
        }
    }

    /// What a key was at a revision.
    pub(super) fn at(&self, key: &[u8], revision: u64) -> Option<Record> {
        let was = self.past.get(key)?.range(..=revision).next_back();
        was.and_then(|(_, record)| record.clone())
    }

    pub(super) fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision);
    }

    /// The verdicts of a batch.
    pub(super) fn batch(&mut self, index: u64, batch: &Batch) -> Vec<Verdict> {
        let fault = self.fault;
        self.ids.begin(batch, fault);
        let mut verdicts = Vec::new();
        for (offset, bytes) in batch.writes.iter().enumerate() {
            let revision = batch.first_revision.saturating_add(offset as u64);
            verdicts.push(match Write::decode(bytes.clone()) {
                Ok(write) => self.write(&write, revision),
                Err(_) => Verdict::Refused(Refusal::Malformed),
            });
        }
        self.ids.end(index, fault);
        let standing = self.attempts.values().filter(|a| a.revision == 0);
        let oldest = standing.map(|attempt| attempt.floor).min();
        let frontier = oldest.map_or(self.highest, |floor| floor.min(self.highest));
        self.frontier = self.frontier.max(frontier);
        verdicts
    }

    fn write(&mut self, write: &Write, revision: u64) -> Verdict {
        let verdict = match &write.action {
            Some(Action::Txn(tree)) => self.transact(write, tree, revision, true),
            Some(Action::Own(tree)) => self.transact(write, tree, revision, false),
            Some(Action::Prepare(prepare)) => self.prepare(write, prepare, revision),
            Some(Action::Decide(decide)) => self.decide(decide, revision),
            Some(Action::Commit(commit)) => self.commit(commit),
            Some(Action::Abort(abort)) => Ok(self.abort(abort.attempt)),
            Some(Action::Forget(forget)) => Ok(self.forget(forget.attempt)),
            Some(Action::Put(_) | Action::Delete(_)) | None => self.single(write, revision),
        };
        verdict.unwrap_or_else(Verdict::Refused)
    }

    /// Whether a request came in the right form to the right place.
    fn routed(&self, write: &Write, vnodes: &VnodeSet) -> Result<(), Refusal> {
        if write.rules_version != self.rules.version() {
            return Err(Refusal::Rules);
        }
        match vnodes.iter().all(|vnode| self.owned.contains(vnode)) {
            true => Ok(()),
            false => Err(Refusal::Moved),
        }
    }

    fn rises(&self, revision: u64) -> Result<(), Refusal> {
        match revision > self.highest || self.has(Fault::TakesOldRevisions) {
            true => Ok(()),
            false => Err(Refusal::Overtaken),
        }
    }

    fn single(&mut self, write: &Write, revision: u64) -> Result<Verdict, Refusal> {
        self.routed(write, &VnodeSet::single(self.vnode(&write.key)))?;
        let id = write.id.unwrap_or_default();
        if let Some(verdict) = self.ids.seen(&id, write.fingerprint, self.fault) {
            return Ok(verdict);
        }
        self.rises(revision)?;
        self.unlocked(&locks::of_key(&write.key))?;
        let world = self.world();
        let mut put = match &write.action {
            Some(Action::Put(put)) => Some(put.clone()),
            _ => None,
        };
        if let Some(put) = &mut put {
            put.lease_grant = world.may_attach(put, self.fault).map_err(|kind| {
                let kind = kind as i32;
                Refusal::Problem(Problem { operation: 0, kind })
            })?;
        }
        let mut after = world.clone();
        let old = world.keys.get(&write.key);
        let outcome = match (holds(write.condition.as_ref(), old), put, old) {
            (false, _, _) => Outcome {
                kind: Kind::ConditionFailed as i32,
                ..found(old)
            },
            (true, Some(put), _) => {
                let record = after.put(&write.key, put, revision);
                Outcome {
                    kind: Kind::Put as i32,
                    create_revision: record.create_revision,
                    version: record.version,
                    ..found(old)
                }
            }
            (true, None, Some(old)) if matches!(write.action, Some(Action::Delete(_))) => {
                after.keys.remove(&write.key);
                Outcome {
                    kind: Kind::Deleted as i32,
                    create_revision: old.create_revision,
                    version: old.version,
                    ..found(Some(old))
                }
            }
            (true, None, _) => Outcome {
                kind: Kind::Absent as i32,
                ..Outcome::default()
            },
        };
        let outcome = Outcome {
            revision,
            ..outcome
        };
        self.become_of(after, revision);
        self.highest = self.highest.max(revision);
        self.ids.executed(&id, write.fingerprint, outcome);
        Ok(Verdict::Done(outcome))
    }

    /// All that a transaction may change.
    fn world(&self) -> World {
        World {
            keys: self.keys.clone(),
            leases: self.leases.clone(),
            open: self.open.clone(),
        }
    }

    /// Makes a world true at a revision.
    fn become_of(&mut self, after: World, revision: u64) {
        let mut touched: Vec<Bytes> = self.keys.keys().chain(after.keys.keys()).cloned().collect();
        touched.sort();
        touched.dedup();
        for key in touched {
            let (old, new) = (self.keys.get(&key).cloned(), after.keys.get(&key).cloned());
            if old == new {
                continue;
            }
            if new.is_none() && self.has(Fault::ForgetsDelete) {
                continue;
            }
            let past = self.past.entry(key.clone()).or_default();
            past.insert(revision, new.clone());
            match &new {
                Some(record) => _ = self.keys.insert(key.clone(), record.clone()),
                None => _ = self.keys.remove(&key),
            }
            self.changes.push(Changed {
                revision,
                key,
                record: new,
                previous: old,
            });
        }
        self.leases = after.leases;
        self.open = after.open;
    }

    /// What was executed by whoever has this id.
    fn remember(&mut self, id: Option<RequestId>, fingerprint: u64, revision: u64) {
        let outcome = Outcome {
            kind: Kind::Txn as i32,
            revision,
            ..Outcome::default()
        };
        self.ids
            .executed(&id.unwrap_or_default(), fingerprint, outcome);
    }
}

fn found(old: Option<&Record>) -> Outcome {
    Outcome {
        found_revision: old.map_or(0, |old| old.mod_revision),
        ..Outcome::default()
    }
}

fn holds(must: Option<&Must>, old: Option<&Record>) -> bool {
    match must.and_then(|must| must.kind.as_ref()) {
        None => true,
        Some(Condition::Absent(_)) => old.is_none(),
        Some(Condition::Present(_)) => old.is_some(),
        Some(Condition::RevisionIs(of)) => {
            old.is_some_and(|old| of.revisions.contains(&old.mod_revision))
        }
        Some(Condition::RevisionIsNot(of)) => {
            old.is_none_or(|old| !of.revisions.contains(&old.mod_revision))
        }
    }
}
