//! The memory engine loses power.

use crate::life::{Coverage, Plan, Subject, Then};
use crate::model::{self, Contents, Model, Told};
use caucus_engine::Engine;
use caucus_engine::memory::MemoryEngine;
use caucus_power::random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Memory {
    engine: MemoryEngine,
    /// Planted: it says that it is synced and isn't.
    forgets: bool,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory {
            engine: MemoryEngine::new(),
            forgets: false,
        }
    }

    pub(crate) fn forgetful() -> Memory {
        Memory {
            forgets: true,
            ..Memory::new()
        }
    }

    fn sync(&self, number: u64, synced: &Arc<AtomicU64>) {
        if self.forgets {
            synced.fetch_max(number, Ordering::Relaxed);
            return;
        }
        let synced = Arc::clone(synced);
        self.engine.sync(Box::new(move |outcome| {
            outcome.expect("no fault is planned");
            synced.fetch_max(number, Ordering::Relaxed);
        }));
    }
}

impl Subject for Memory {
    fn run(&mut self, model: &Model, plan: &Plan, _: &mut Coverage) -> Told {
        let synced = Arc::new(AtomicU64::new(0));
        let mut number = model.count;
        self.engine.hold_syncs();
        for then in &plan.steps {
            let batch = model::batch(model.seed, number);
            self.engine.write(batch).expect("no fault is planned");
            number += 1;
            match then {
                Then::Nothing => {}
                Then::Sync => self.sync(number, &synced),
                Then::SyncAndWait => {
                    self.sync(number, &synced);
                    self.engine.complete_syncs();
                }
                Then::Compact => self.engine.compact().expect("compact"),
            }
        }
        let mut random = Random::nth(model.seed ^ 0x6d65_6d6f, model.count);
        let kept = match random.below(2) {
            0 => 0,
            _ => random.below(self.engine.unsynced_batches() + 1),
        };
        self.engine = self.engine.crash_with(kept);
        Told {
            synced: synced.load(Ordering::Relaxed),
            written: number,
        }
    }

    fn contents(&mut self) -> Result<Contents, String> {
        model::contents(&self.engine).map_err(|error| error.to_string())
    }
}
