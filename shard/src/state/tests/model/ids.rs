//! Which requests were executed, and what of that may be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use caucus_api::shard::{Batch, Outcome, RequestId};

use super::super::super::{Refusal, Verdict};
use super::Fault;

type Id = (u64, u64);

/// What an entry executed, as long as some of it is remembered.
#[derive(Default)]
struct Executed {
    /// The highest of all, forgotten ones included.
    revision: u64,
    remembered: BTreeMap<Id, Outcome>,
}

struct Name {
    time: u64,
    fingerprint: u64,
    outcome: Outcome,
}

pub(in super::super) struct Ids {
    pub(in super::super) floor: u64,
    entries: BTreeMap<u64, Executed>,
    /// Of the entry that is being applied.
    now: Executed,
    finished: BTreeMap<u64, u64>,
    /// All ids that ever were executed.
    ever: BTreeSet<Id>,
    names: BTreeMap<Id, Name>,
    time: u64,
    items_max: usize,
}

impl Ids {
    pub(super) fn new(items_max: usize) -> Ids {
        Ids {
            floor: 0,
            entries: BTreeMap::new(),
            now: Executed::default(),
            finished: BTreeMap::new(),
            ever: BTreeSet::new(),
            names: BTreeMap::new(),
            time: 0,
            items_max,
        }
    }

    /// How many names are kept.
    pub(in super::super) fn names(&self) -> usize {
        self.names.len()
    }

    pub(super) fn begin(&mut self, batch: &Batch, fault: Option<Fault>) {
        for progress in &batch.progress {
            let below = self.finished.entry(progress.session).or_default();
            *below = progress.finished_below.max(*below);
            for entry in self.entries.values_mut() {
                let gone = |id: &Id| id.0 == progress.session && id.1 < *below;
                entry.remembered.retain(|id, _| !gone(id));
            }
        }
        let newest = self.names.values().map(|name| name.time).max();
        self.time = match fault {
            Some(Fault::TimeGoesBack) => batch.time_ms,
            _ => batch.time_ms.max(newest.unwrap_or(0)),
        };
        if fault != Some(Fault::NeverForgetsNames) {
            self.names
                .retain(|_, name| name.time >= batch.forget_before_ms);
        }
    }

    pub(super) fn end(&mut self, index: u64, fault: Option<Fault>) {
        self.entries.insert(index, std::mem::take(&mut self.now));
        self.entries.retain(|_, entry| !entry.remembered.is_empty());
        while self.remembered() > self.items_max
            && let Some((_, oldest)) = self.entries.pop_first()
        {
            if fault != Some(Fault::NoFloor) {
                self.floor = self.floor.max(oldest.revision);
            }
        }
    }

    fn remembered(&self) -> usize {
        let counts = self.entries.values().map(|entry| entry.remembered.len());
        counts.sum()
    }

    /// What is to be said of an id without executing it.
    pub(super) fn seen(
        &self,
        id: &RequestId,
        fingerprint: u64,
        fault: Option<Fault>,
    ) -> Option<Verdict> {
        let name = (id.session, id.sequence);
        if fault == Some(Fault::ExecutesTwice) {
            return None;
        }
        if fingerprint != 0 {
            let known = self.names.get(&name)?;
            return Some(match known.fingerprint == fingerprint {
                true => Verdict::Done(known.outcome),
                false => Verdict::Refused(Refusal::NameTaken),
            });
        }
        let mut entries = self.entries.values().chain([&self.now]);
        if let Some(outcome) = entries.find_map(|entry| entry.remembered.get(&name)) {
            return Some(Verdict::Done(*outcome));
        }
        let finished = self.finished.get(&id.session);
        let expired = finished.is_some_and(|below| id.sequence < *below) || id.stamp < self.floor;
        expired.then_some(Verdict::Refused(Refusal::Expired))
    }

    pub(super) fn executed(&mut self, id: &RequestId, fingerprint: u64, outcome: Outcome) {
        let name = (id.session, id.sequence);
        if fingerprint != 0 {
            let kept = Name {
                time: self.time,
                fingerprint,
                outcome,
            };
            self.names.insert(name, kept);
            return;
        }
        self.ever.insert(name);
        self.now.revision = self.now.revision.max(outcome.revision);
        self.now.remembered.insert(name, outcome);
    }
}
