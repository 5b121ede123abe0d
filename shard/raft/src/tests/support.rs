//! What the tests share: a log with nothing around it, a state machine that records, bounded waits.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caucus_engine::memory::MemoryEngine;
use caucus_engine::rocks::{Options as RocksOptions, RocksEngine};
use caucus_engine::{Engine, keys};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Reply;
use crate::log::{Log, LogHandle, LogPlace, Marks, OpenError, Writer};
use crate::state::{Places, Position, StateMachine, StateView, Txn};
use crate::types::{Entry, EntryPayload, Payload, TypeConfig, Vote};
use crate::wire::LogId;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

// openraft's suite wants this.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// Waits, but not for ever.
pub(super) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("this took too long: {what}"),
    }
}

/// Waits until `holds`, looked at often: for what can't be watched.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Lets the tasks of a single-threaded runtime run until they wait for something.
pub(super) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn entry(term: u64, index: u64, command: &[u8]) -> Entry {
    Entry {
        log_id: LogId { term, index }.into(),
        payload: EntryPayload::Normal(Payload(Bytes::copy_from_slice(command))),
    }
}

pub(super) fn vote(term: u64) -> Vote {
    crate::wire::Vote {
        term,
        replica: 1,
        committed: false,
    }
    .into()
}

pub(super) fn rocks(path: &Path) -> Arc<dyn Engine> {
    let options = RocksOptions {
        write_buffer_bytes: 1 << 20,
        reserve_bytes: 0,
        ..RocksOptions::default()
    };
    Arc::new(RocksEngine::open(path, options).unwrap())
}

/// Logs over one engine, as a host has them.
pub(super) struct Rig {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) writer: Writer,
    pub(super) marks: Arc<Marks>,
    pub(super) places: Arc<Places>,
    pub(super) tail_bytes_max: usize,
}

impl Rig {
    pub(super) fn new(engine: Arc<dyn Engine>, marks: Option<PathBuf>) -> Rig {
        Rig {
            writer: Writer::start(engine.clone()).0,
            marks: Arc::new(Marks::open(marks).unwrap()),
            places: Arc::new(Places::open(engine.clone()).unwrap()),
            engine,
            tail_bytes_max: 1 << 20,
        }
    }

    pub(super) fn memory(engine: &MemoryEngine) -> Rig {
        Rig::new(Arc::new(engine.clone()), None)
    }

    pub(super) fn try_log(&self, group: u32) -> Result<Arc<Log>, OpenError> {
        let place = LogPlace {
            group,
            replica: 1,
            storage: self.storage(group),
            tail_bytes_max: self.tail_bytes_max,
            read_bytes_max: 1 << 20,
        };
        let (writer, marks) = (self.writer.clone(), self.marks.clone());
        Log::open(place, self.engine.clone(), writer, marks)
    }

    pub(super) fn log(&self, group: u32) -> LogHandle {
        LogHandle(self.try_log(group).unwrap())
    }

    /// Where the log of a group is.
    pub(super) fn storage(&self, group: u32) -> keys::StorageId {
        self.places.of(group, 1).unwrap().log
    }

    /// The reason why a log is not opened.
    pub(super) fn doubt(&self, group: u32) -> String {
        match self.try_log(group) {
            Err(OpenError::InDoubt(reason)) => reason,
            Err(OpenError::Engine(error)) => panic!("not in doubt but broken: {error}"),
            Ok(_) => panic!("the damage was not noticed"),
        }
    }
}

/// The answer to an append: when it is durable.
pub(super) type Flushed = std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

pub(super) async fn append(log: &mut LogHandle, entries: Vec<Entry>) -> Flushed {
    let (sender, done) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(sender))
        .await
        .unwrap();
    Box::pin(async move { done.await.unwrap_or_else(|_| Err(crate::log::stopped())) })
}

/// All entries of a log, as (term, index, command).
pub(super) async fn contents(log: &mut LogHandle) -> Vec<(u64, u64, Bytes)> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(described).collect()
}

pub(super) fn described(entry: &Entry) -> (u64, u64, Bytes) {
    let id = LogId::from(entry.log_id);
    let command = match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.clone(),
        EntryPayload::Blank | EntryPayload::Membership(_) => Bytes::new(),
    };
    (id.term, id.index, command)
}

/// What a [`Tape`] has recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taped {
    pub(super) index: u64,
    pub(super) count: u64,
    /// Over all commands, in order.
    pub(super) hash: u64,
}

/// `record` of [`keys::meta`]: count and hash.
const META_TAPED: u8 = 16;

/// A state machine that keeps each command, their number and a hash of them all.
pub(super) struct Tape {
    taped: Taped,
    published: watch::Sender<Taped>,
}

impl Tape {
    pub(super) fn new() -> (Tape, watch::Receiver<Taped>) {
        let (published, seen) = watch::channel(Taped::default());
        let taped = Taped::default();
        (Tape { taped, published }, seen)
    }
}

impl StateMachine for Tape {
    fn open(&mut self, state: &StateView) -> Result<(), caucus_engine::Error> {
        self.taped = Taped::default();
        if let Some(bytes) = state.get(&keys::meta(state.storage(), META_TAPED))? {
            self.taped.count = u64::from_be_bytes(bytes[..8].try_into().unwrap());
            self.taped.hash = u64::from_be_bytes(bytes[8..].try_into().unwrap());
        }
        Ok(())
    }

    fn apply(
        &mut self,
        txn: &mut Txn,
        at: Position,
        command: Bytes,
        wanted: bool,
    ) -> Result<Reply, caucus_engine::Error> {
        self.taped.count += 1;
        self.taped.hash = xxh3_64_with_seed(&command, self.taped.hash);
        let key = keys::current(txn.storage(), 0, &at.index.to_be_bytes());
        txn.put(key, command);
        Ok(match wanted {
            true => Reply::new(self.taped.count),
            false => Reply::none(),
        })
    }

    fn finish(&mut self, txn: &mut Txn) -> Result<(), caucus_engine::Error> {
        let record = [
            self.taped.count.to_be_bytes(),
            self.taped.hash.to_be_bytes(),
        ];
        txn.put(keys::meta(txn.storage(), META_TAPED), record.concat());
        Ok(())
    }

    fn published(&mut self, at: Position) {
        self.taped.index = at.index;
        self.published.send_replace(self.taped);
    }
}
