//! A power cut at any point, keeping any prefix of what was not synced: what was acknowledged is
//! there, and what is there is a state that the log was in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use caucus_engine::memory::MemoryEngine;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use proptest::prelude::*;

use super::support::{Rig, append, contents, entry, settle, vote};
use crate::log::{LogHandle, Marks};
use crate::wire::{self, LogId};

/// What openraft may do with a log, and a disk with what it is given.
#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    Vote,
    /// A new leader's log differs before the last entries of this one: vote, truncate, append.
    Overwrite(u8),
    Purge(i8),
    /// The housekeeping: writes the synced mark.
    Mark,
    /// The writer gets a turn.
    Yield,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..4u8).prop_map(Step::Append),
        1 => Just(Step::Vote),
        3 => (0..6u8).prop_map(Step::Overwrite),
        1 => (-2..6i8).prop_map(Step::Purge),
        3 => Just(Step::Mark),
        3 => Just(Step::Yield),
    ]
}

/// A log as it should be.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    term: u64,
    purged: Option<LogId>,
    entries: BTreeMap<u64, (u64, Bytes)>,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        let last = self.entries.last_key_value();
        last.map(|(index, (term, _))| LogId {
            term: *term,
            index: *index,
        })
        .or(self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }
}

/// Performs steps and notes all states that the log was asked to be in.
struct Driver {
    log: LogHandle,
    marks: Arc<Marks>,
    model: Model,
    states: Arc<Mutex<Vec<Model>>>,
    /// The last of the states that was acknowledged as durable.
    durable: Arc<AtomicUsize>,
}

impl Driver {
    fn note(&self) -> usize {
        let mut states = self.states.lock().unwrap();
        states.push(self.model.clone());
        states.len() - 1
    }

    async fn append(&mut self, count: u8) {
        let mut entries = Vec::new();
        for _ in 0..count {
            let (term, index) = (self.model.term, self.model.next());
            let command = Bytes::from(format!("{term} {index}"));
            entries.push(entry(term, index, &command));
            self.model.entries.insert(index, (term, command));
        }
        let state = self.note();
        let flushed = append(&mut self.log, entries).await;
        let durable = self.durable.clone();
        tokio::spawn(async move {
            if flushed.await.is_ok() {
                durable.fetch_max(state, Ordering::Relaxed);
            }
        });
    }

    async fn vote(&mut self) {
        self.model.term += 1;
        let state = self.note();
        self.log.save_vote(&vote(self.model.term)).await.unwrap();
        self.durable.fetch_max(state, Ordering::Relaxed);
    }

    async fn overwrite(&mut self, back: u8) {
        self.vote().await;
        let purged = self.model.purged.map_or(0, |purged| purged.index + 1);
        let from = self
            .model
            .next()
            .saturating_sub(u64::from(back))
            .max(purged);
        self.model.entries.split_off(&from);
        self.note();
        let kept = self.model.last().map(Into::into);
        self.log.truncate_after(kept).await.unwrap();
        self.append(1).await;
    }

    async fn purge(&mut self, back: i8) {
        let upto = self.model.next().saturating_add_signed(-i64::from(back));
        let Some(index) = upto.checked_sub(1) else {
            return;
        };
        if self
            .model
            .purged
            .is_some_and(|purged| purged.index >= index)
        {
            return;
        }
        let term = match self.model.entries.get(&index) {
            Some((term, _)) => *term,
            // Beyond the end, as after a snapshot.
            None => self.model.term,
        };
        let upto = LogId { term, index };
        self.model.purged = Some(upto);
        self.model.entries = self.model.entries.split_off(&(index + 1));
        self.note();
        self.log.purge(upto.into()).await.unwrap();
    }

    async fn run(mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Append(count) => self.append(count).await,
                Step::Vote => self.vote().await,
                Step::Overwrite(back) => self.overwrite(back).await,
                Step::Purge(back) => self.purge(back).await,
                Step::Mark => {
                    self.log.0.mark();
                    self.marks.write().unwrap();
                }
                Step::Yield => settle().await,
            }
        }
    }
}

async fn found(log: &mut LogHandle) -> Model {
    let vote = log.read_vote().await.unwrap().map(wire::Vote::from);
    let state = log.get_log_state().await.unwrap();
    let entries = contents(log).await;
    Model {
        term: vote.map_or(0, |vote| vote.term),
        purged: state.last_purged_log_id.map(Into::into),
        entries: entries
            .into_iter()
            .map(|(term, index, command)| (index, (term, command)))
            .collect(),
    }
}

/// Runs steps until the device has done `syncs` syncs; then the power is gone.
async fn cut(steps: Vec<Step>, syncs: usize, marks: &Path) {
    let engine = MemoryEngine::new();
    let rig = Rig::new(Arc::new(engine.clone()), Some(marks.to_owned()));
    let states = Arc::new(Mutex::new(vec![Model::default()]));
    let durable = Arc::new(AtomicUsize::new(0));
    engine.hold_syncs();
    let driver = Driver {
        log: rig.log(1),
        marks: rig.marks.clone(),
        model: Model::default(),
        states: states.clone(),
        durable: durable.clone(),
    };
    let driving = tokio::spawn(driver.run(steps));
    let mut left = syncs;
    loop {
        if engine.held_syncs() > 0 {
            if left == 0 {
                break;
            }
            left -= 1;
            engine.complete_syncs();
        } else if driving.is_finished() {
            settle().await;
            if engine.held_syncs() == 0 {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    settle().await;
    let acknowledged = durable.load(Ordering::Relaxed);
    driving.abort();
    let unsynced = engine.unsynced_batches();
    let states = states.lock().unwrap().clone();
    for keep in 0..=unsynced {
        let engine = engine.crash_with(keep);
        let rig = Rig::new(Arc::new(engine), Some(marks.to_owned()));
        let log = rig.try_log(1).unwrap_or_else(|error| {
            panic!("keeping {keep} of {unsynced}: the log is not opened: {error}")
        });
        let found = found(&mut LogHandle(log)).await;
        assert!(
            states[acknowledged..].contains(&found),
            "keeping {keep} of {unsynced}: {found:?} is not in {:?}",
            &states[acknowledged..]
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_acknowledged_survives(
        steps in prop::collection::vec(step(), 1..25),
        syncs in 0..20usize,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(cut(steps, syncs, &directory.path().join("SYNCED")));
    }
}
