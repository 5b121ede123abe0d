//! A host: a process of the product on a machine with a disk and clocks of its own.
//!
//! Each process has a runtime of one thread whose clock stands still until the world lets it run a step. So
//! a host can be paused, and its clock jumps when it goes on, as with SIGSTOP; its clock can be fast or slow;
//! and when it dies, its runtime is dropped in the middle of whatever it did. (Simulators that step all of their
//! hosts at once, as turmoil does, have no pauses and no clocks that differ.)

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use caucus_engine::keys::{self, log_kind};
use caucus_engine::memory::MemoryEngine;
use caucus_engine::{Direction, Reader as _, Space};
use caucus_node::{Error, Node, Parts, Settings, Surroundings};
use caucus_router::Router;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::entropy;
use crate::wire::{HostId, Wire};

/// When the simulations begin, in ms of Unix time.
const EPOCH_MS: u64 = 1_790_000_000_000;

/// So far from its end a log rots at most, in entries.
const ENDS: usize = 30;

/// The wall clock of the host that runs.
static WALL_MS: AtomicU64 = AtomicU64::new(EPOCH_MS);

/// What the host that runs takes for the time of day, in ms of Unix time.
pub(crate) fn unix_ms() -> u64 {
    WALL_MS.load(Ordering::Relaxed)
}

/// What a process shows of itself while it serves.
#[derive(Clone)]
pub(crate) struct Alive {
    pub(crate) router: Router,
    pub(crate) replicas: Arc<caucus_raft::Host>,
}

/// What a machine remembers of its process beside the engine.
#[derive(Default)]
struct Identity {
    node: Option<NonZeroU32>,
    cluster_id: Option<Bytes>,
}

/// What can become of a disk, so that its node may end by itself, or stop some of its replicas; for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// There is nothing on it any more.
    Wiped,
    /// Some of it isn't what was written.
    Rotten,
}

/// Runs in a process as soon as it serves.
pub(crate) type Program = Arc<dyn Fn(&Router) + Send + Sync>;

pub(crate) struct Host {
    id: HostId,
    wire: Wire,
    settings: Settings,
    program: Program,
    runtime: Option<Runtime>,
    pub(crate) engine: MemoryEngine,
    identity: Arc<Mutex<Identity>>,
    storage_id: Bytes,
    /// What became of its disk.
    damage: Option<Damage>,
    alive: Arc<Mutex<Option<Alive>>>,
    /// Why the process ended by itself.
    ended: Arc<Mutex<Option<Error>>>,
    /// The longest sync, in ms.
    pub(crate) sync_max: u64,
    sync_due: Option<u64>,
    random: fastrand::Rng,
    pub(crate) is_paused: bool,
    /// What its clock has to jump.
    owed: u64,
    /// Thousandths of the world's.
    rate: u64,
    rest: u64,
    /// Of its wall clock, in ms.
    pub(crate) wall_ahead: i64,
}

impl Host {
    pub(crate) fn new(
        id: HostId,
        wire: Wire,
        settings: Settings,
        program: Program,
        (sync_max, rate, seed): (u64, u64, u64),
    ) -> Host {
        let engine = MemoryEngine::new();
        engine.hold_syncs();
        Host {
            id,
            wire,
            program,
            runtime: None,
            engine,
            identity: Arc::new(Mutex::new(Identity {
                node: settings.node,
                cluster_id: None,
            })),
            settings,
            storage_id: Bytes::from(format!("storage of {id:>5}")),
            damage: None,
            alive: Arc::default(),
            ended: Arc::default(),
            sync_max,
            sync_due: None,
            random: fastrand::Rng::with_seed(seed),
            is_paused: false,
            owed: 0,
            rate,
            rest: 0,
            wall_ahead: 0,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.runtime.is_some()
    }

    /// Its parts, as long as it serves.
    pub(crate) fn alive(&self) -> Option<Alive> {
        self.alive.lock().expect("no panic under this lock").clone()
    }

    /// Why its process ended by itself, if it did and hadn't to.
    pub(crate) fn ended(&self) -> Option<String> {
        let ended = self.ended.lock().expect("no panic under this lock");
        let had_to = |error: &&Error| match self.damage {
            Some(Damage::Wiped) => matches!(error, Error::Refused(_)),
            Some(Damage::Rotten) => matches!(error, Error::Host(_)),
            None => false,
        };
        let ended = ended.as_ref().filter(|error| !had_to(error));
        ended.map(ToString::to_string)
    }

    pub(crate) fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// The machine gets an empty disk, and with it everything that its process remembered.
    pub(crate) fn wipe(&mut self) {
        self.crash(true, 0);
        self.engine = self.engine.wipe();
        self.engine.hold_syncs();
        *self.identity.lock().expect("no panic under this lock") = Identity {
            node: self.settings.node,
            cluster_id: None,
        };
        self.storage_id = Bytes::from(format!("another of {:>5}", self.id));
        self.damage = Some(Damage::Wiped);
    }

    /// The end of a log rots: of some logs, one of the last records.
    pub(crate) fn rot_ends(&mut self, random: &mut fastrand::Rng) {
        let mut logs: BTreeMap<Bytes, Vec<Bytes>> = BTreeMap::new();
        let engine = self.engine.clone();
        let scanned = engine.scan(Space::Log, b"", b"", Direction::Forward);
        let mut scan = scanned.expect("memory can be read");
        while let Ok(Some((key, _))) = scan.next() {
            if is_entry(&key) {
                let storage = key.slice(..size_of::<keys::StorageId>());
                logs.entry(storage).or_default().push(key);
            }
        }
        drop(scan);
        for entries in logs.values() {
            if random.bool() {
                continue;
            }
            let back = random.usize(0..ENDS).min(entries.len() - 1);
            let key = &entries[entries.len() - 1 - back];
            assert!(self.engine.rot(Space::Log, key, random.u64(..)));
            self.damage = Some(Damage::Rotten);
        }
    }

    /// A value rots. A record of the log has a checksum of its own, which has to find it; the others have those of the
    /// engine.
    pub(crate) fn rot(&mut self, space: Space, number: u64) {
        let Some(key) = self.engine.pick(space, number) else {
            return;
        };
        let has_rotted = match space == Space::Log && is_entry(&key) {
            true => self.engine.rot(space, &key, number),
            false => self.engine.spoil(space, &key),
        };
        assert!(has_rotted, "it has just been there");
        self.damage = Some(Damage::Rotten);
    }

    /// Starts the process.
    pub(crate) fn boot(&mut self) {
        assert!(self.runtime.is_none(), "one process a host");
        self.wire.boot(self.id);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let runtime = runtime.expect("a runtime needs nothing of the system");
        *self.ended.lock().expect("no panic under this lock") = None;
        (self.owed, self.rest, self.is_paused) = (0, 0, false);
        let net = self.wire.net(self.id);
        let identity = self.identity.lock().expect("no panic under this lock");
        let parts = Parts {
            settings: Settings {
                node: identity.node,
                ..self.settings.clone()
            },
            engine: Arc::new(self.engine.clone()),
            marks: None,
            cluster_id: identity.cluster_id.clone(),
            storage_id: self.storage_id.clone(),
            listener: net.listen(),
            net: Arc::new(net),
            surroundings: surroundings(),
            shutdown: CancellationToken::new(),
        };
        drop(identity);
        let (alive, ended) = (self.alive.clone(), self.ended.clone());
        let (identity, program) = (self.identity.clone(), self.program.clone());
        runtime.spawn(async move {
            if let Err(error) = live(parts, &identity, &alive, &program).await {
                *ended.lock().expect("no panic under this lock") = Some(error);
            }
        });
        self.runtime = Some(runtime);
    }

    /// The process dies. `keep`: of what isn't synced so many batches are on the disk all the same.
    pub(crate) fn crash(&mut self, with_machine: bool, keep: u64) {
        self.wire.crash(self.id, with_machine);
        *self.alive.lock().expect("no panic under this lock") = None;
        self.engine = self.engine.crash_with(keep);
        self.engine.hold_syncs();
        self.sync_due = None;
        self.runtime = None;
    }

    /// Lets a task run in its process.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(task);
        }
    }

    /// Runs for a step of the world.
    pub(crate) fn step(&mut self, now: u64, ms: u64) {
        if self.is_paused {
            self.owed += ms;
            return;
        }
        let Some(runtime) = &self.runtime else { return };
        let local = self.rest + ms * self.rate;
        self.rest = local % 1000;
        let local = Duration::from_millis(local / 1000);
        WALL_MS.store(
            (EPOCH_MS + now).saturating_add_signed(self.wall_ahead),
            Ordering::Relaxed,
        );
        let is_synced = self.sync_due.is_some_and(|due| due <= now);
        let owed = Duration::from_millis(std::mem::take(&mut self.owed));
        let span = tracing::info_span!("host", id = self.id, now);
        let _entered = span.enter();
        runtime.block_on(async {
            if !owed.is_zero() {
                tokio::time::advance(owed).await;
            }
            self.wire.enter();
            if is_synced {
                self.engine.complete_syncs();
            }
            tokio::time::sleep(local).await;
            self.wire.leave();
        });
        if is_synced {
            self.sync_due = None;
        }
        if self.sync_due.is_none() && self.engine.held_syncs() > 0 {
            self.sync_due = Some(now + self.random.u64(0..=self.sync_max));
        }
    }
}

/// Whether a key of the logs is that of an entry.
fn is_entry(key: &[u8]) -> bool {
    key[size_of::<keys::StorageId>()] == log_kind::ENTRY
}

/// The life of a process.
async fn live(
    parts: Parts,
    identity: &Mutex<Identity>,
    alive: &Mutex<Option<Alive>>,
    program: &Program,
) -> Result<(), Error> {
    let node = Node::start(parts).await?;
    let (number, cluster_id) = node.register().await?;
    *identity.lock().expect("no panic under this lock") = Identity {
        node: NonZeroU32::new(number.0),
        cluster_id: Some(cluster_id),
    };
    let serving = node.serve(number)?;
    program(&serving.router);
    *alive.lock().expect("no panic under this lock") = Some(Alive {
        router: serving.router.clone(),
        replicas: node.host().clone(),
    });
    // Only a crash ends it.
    std::future::pending::<()>().await;
    node.stop(Some(serving)).await;
    Ok(())
}

fn surroundings() -> Surroundings {
    Surroundings {
        random: Arc::new(|bytes| {
            entropy::fill(bytes);
            Ok(())
        }),
        on_stats: Arc::new(|_| ()),
    }
}
