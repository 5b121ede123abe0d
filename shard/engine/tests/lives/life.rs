//! From death to death.

use crate::model::{Contents, Model, Told};
use caucus_power::random::Random;

const BATCHES_MAX: u64 = 300;
/// The calls of a life in which the disk matters, roughly; a compaction alone has some dozens.
const MOMENTS_MAX: u64 = 300;
/// Those of an open.
const EARLY_MOMENTS_MAX: u64 = 40;

/// What to do after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// Ask for a sync and go on.
    Sync,
    /// Ask for a sync and wait for it.
    SyncAndWait,
    Compact,
}

/// What an engine does until it dies.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// A batch each.
    pub(crate) steps: Vec<Then>,
    /// It dies at this call of the system at the latest, if it has a disk.
    pub(crate) dies_at: Option<u64>,
}

impl Plan {
    pub(crate) fn new(seed: u64, life: u64) -> Plan {
        let mut random = Random::nth(seed ^ 0x706c_616e, life);
        let batches = 1 + random.below(BATCHES_MAX);
        // Some sync all the time, some hardly ever.
        let pace = 2 + random.below(30);
        let step = |random: &mut Random| match random.below(pace) {
            0 => Then::SyncAndWait,
            1 => Then::Sync,
            _ if random.below(100) == 0 => Then::Compact,
            _ => Then::Nothing,
        };
        let steps = (0..batches).map(|_| step(&mut random)).collect();
        let dies_at = match random.below(4) {
            0 => None,
            1 => Some(1 + random.below(EARLY_MOMENTS_MAX)),
            _ => Some(1 + random.below(MOMENTS_MAX)),
        };
        Plan { steps, dies_at }
    }
}

/// An engine that can lose power.
pub(crate) trait Subject {
    /// Opens it, goes on from what is there, and loses power.
    fn run(&mut self, model: &Model, plan: &Plan, coverage: &mut Coverage) -> Told;

    /// What the next one to open it finds; in words if that fails.
    fn contents(&mut self) -> Result<Contents, String>;
}

/// What has happened, in numbers of deaths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) deaths: u64,
    /// Un-synced batches were lost.
    pub(crate) lost: u64,
    /// Un-synced batches were kept.
    pub(crate) kept: u64,
    /// Nothing was written: it died while it was opened.
    pub(crate) deaths_in_recovery: u64,
    /// Names of files were lost.
    pub(crate) names_lost: u64,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Coverage) {
        self.deaths += other.deaths;
        self.lost += other.lost;
        self.kept += other.kept;
        self.deaths_in_recovery += other.deaths_in_recovery;
        self.names_lost += other.names_lost;
    }

    /// A fault that hasn't happened proves nothing.
    pub(crate) fn must_be_wide(&self) {
        assert!(
            self.lost > self.deaths / 10 && self.kept > self.deaths / 20,
            "{self:?}"
        );
    }
}

/// Lives so often as it dies; what broke the promise, if anything did.
pub(crate) fn live(subject: &mut dyn Subject, seed: u64, deaths: u64) -> Result<Coverage, String> {
    let mut model = Model::new(seed);
    let mut coverage = Coverage::default();
    for life in 0..deaths {
        let before = model.count;
        let told = subject.run(&model, &Plan::new(seed, life), &mut coverage);
        let found = subject.contents();
        let gone_on = found.and_then(|found| model.go_on(told, &found));
        gone_on.map_err(|why| format!("after death {life}: {why}"))?;
        coverage.deaths += 1;
        coverage.lost += u64::from(model.count < told.written);
        coverage.kept += u64::from(model.count > told.synced.max(before));
        coverage.deaths_in_recovery += u64::from(told.written == before);
    }
    Ok(coverage)
}
