//! What a group must do, in the plainest form: a map of keys, and a list of what was executed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use caucus_api::shard::condition::Kind as Condition;
use caucus_api::shard::outcome::Kind;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Batch, Outcome, Record, Write};
use caucus_ring::{Ring, Rules, Vnode, VnodeSet};
use prost::Message;

use super::super::{Refusal, Verdict};

type Id = (u64, u64);

/// What an entry executed, as long as some of it is remembered.
struct Executed {
    /// The highest of all, forgotten ones included.
    revision: u64,
    remembered: BTreeMap<Id, Outcome>,
}

pub(super) struct Model {
    pub(super) ring: Ring,
    pub(super) rules: Rules,
    pub(super) owned: VnodeSet,
    pub(super) keys: BTreeMap<Bytes, Record>,
    pub(super) highest: u64,
    pub(super) floor: u64,
    entries: BTreeMap<u64, Executed>,
    finished: BTreeMap<u64, u64>,
    /// All ids that ever were executed.
    ever: BTreeSet<Id>,
    items_max: usize,
}

impl Model {
    pub(super) fn new(ring: Ring, rules: Rules, owned: VnodeSet, items_max: usize) -> Model {
        Model {
            ring,
            rules,
            owned,
            keys: BTreeMap::new(),
            highest: 0,
            floor: 0,
            entries: BTreeMap::new(),
            finished: BTreeMap::new(),
            ever: BTreeSet::new(),
            items_max,
        }
    }

    pub(super) fn vnode(&self, key: &[u8]) -> Vnode {
        self.ring.vnode(self.rules.routing_key(key))
    }

    /// The verdicts of a batch.
    pub(super) fn batch(&mut self, index: u64, batch: &Batch) -> Vec<Verdict> {
        for progress in &batch.progress {
            let below = self.finished.entry(progress.session).or_default();
            *below = progress.finished_below.max(*below);
            for entry in self.entries.values_mut() {
                let gone = |id: &Id| id.0 == progress.session && id.1 < *below;
                entry.remembered.retain(|id, _| !gone(id));
            }
        }
        let mut executed = Executed {
            revision: 0,
            remembered: BTreeMap::new(),
        };
        let mut verdicts = Vec::new();
        for (offset, bytes) in batch.writes.iter().enumerate() {
            let revision = batch.first_revision.saturating_add(offset as u64);
            let verdict = self.write(bytes, revision, &executed);
            if let Verdict::Done(outcome) = verdict
                && outcome.revision == revision
                && revision > self.highest
            {
                self.highest = revision;
                executed.revision = revision;
                let id = id(&Write::decode(bytes.clone()).unwrap());
                executed.remembered.insert(id, outcome);
                assert!(self.ever.insert(id), "{id:?} is executed twice");
            }
            verdicts.push(verdict);
        }
        self.entries.insert(index, executed);
        self.entries.retain(|_, entry| !entry.remembered.is_empty());
        while self.remembered() > self.items_max
            && let Some((_, oldest)) = self.entries.pop_first()
        {
            self.floor = self.floor.max(oldest.revision);
        }
        verdicts
    }

    fn remembered(&self) -> usize {
        let counts = self.entries.values().map(|entry| entry.remembered.len());
        counts.sum()
    }

    fn write(&mut self, bytes: &Bytes, revision: u64, now: &Executed) -> Verdict {
        let Ok(write) = Write::decode(bytes.clone()) else {
            return Verdict::Refused(Refusal::Malformed);
        };
        if write.rules_version != self.rules.version() {
            return Verdict::Refused(Refusal::Rules);
        }
        if !self.owned.contains(self.vnode(&write.key)) {
            return Verdict::Refused(Refusal::Moved);
        }
        let id = id(&write);
        let before = self.entries.values().chain([now]);
        if let Some(outcome) = before.filter_map(|entry| entry.remembered.get(&id)).next() {
            return Verdict::Done(*outcome);
        }
        let finished = self.finished.get(&id.0).is_some_and(|below| id.1 < *below);
        let stamp = write.id.map_or(0, |id| id.stamp);
        if finished || stamp < self.floor {
            return Verdict::Refused(Refusal::Expired);
        }
        if revision <= self.highest {
            return Verdict::Refused(Refusal::Overtaken);
        }
        Verdict::Done(self.execute(write, revision))
    }

    fn execute(&mut self, write: Write, revision: u64) -> Outcome {
        let old = self.keys.get(&write.key).cloned();
        let found_revision = old.as_ref().map_or(0, |old| old.mod_revision);
        let condition = write.condition.and_then(|condition| condition.kind);
        let holds = match condition {
            None => true,
            Some(Condition::Absent(_)) => old.is_none(),
            Some(Condition::Present(_)) => old.is_some(),
            Some(Condition::RevisionIs(of)) => {
                old.is_some() && of.revisions.contains(&found_revision)
            }
            Some(Condition::RevisionIsNot(of)) => {
                old.is_none() || !of.revisions.contains(&found_revision)
            }
        };
        let mut outcome = Outcome {
            kind: Kind::ConditionFailed as i32,
            revision,
            found_revision,
            ..Outcome::default()
        };
        if !holds {
            return outcome;
        }
        let before = old.unwrap_or(Record {
            create_revision: revision,
            ..Record::default()
        });
        match write.action {
            Some(Action::Put(put)) => {
                outcome.kind = Kind::Put as i32;
                outcome.create_revision = before.create_revision;
                outcome.version = before.version + 1;
                let record = Record {
                    create_revision: before.create_revision,
                    mod_revision: revision,
                    version: before.version + 1,
                    lease: put.lease,
                    content_type: put.content_type,
                    value: put.value,
                    lease_grant: 0,
                };
                self.keys.insert(write.key, record);
            }
            Some(Action::Delete(_)) if found_revision > 0 => {
                outcome.kind = Kind::Deleted as i32;
                outcome.create_revision = before.create_revision;
                outcome.version = before.version;
                self.keys.remove(&write.key);
            }
            Some(_) | None => outcome.kind = Kind::Absent as i32,
        }
        outcome
    }
}

fn id(write: &Write) -> Id {
    let id = write.id.unwrap_or_default();
    (id.session, id.sequence)
}
