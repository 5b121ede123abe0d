//! Drives a [`StateMachine`] for openraft.
//!
//! Order of durability: an entry's effects are written to the engine only after the entry itself is
//! (`Log::wait_written`), both without a sync; the engine's one write-ahead log keeps that order over
//! a crash. So a state is never ahead of its log, a purge never ahead of the state that makes it
//! right, and none of them needs a sync of its own. The price: after a crash a state may be older
//! than it was; every read waits for a leadership confirmation, which covers that.

use std::io;
use std::sync::Arc;

use caucus_engine::{Space, WriteBatch, keys};
use caucus_planted as planted;
use futures::{Stream, StreamExt};
use openraft::RaftSnapshotBuilder;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use prost::Message;
use tokio::sync::oneshot;

use super::places::Place;
use super::{Places, Position, Staged, StateMachine, StateView, Txn};
use crate::log::Log;
use crate::metrics;
use crate::types::{
    CommittedLeaderId, Entry, EntryPayload, LogId, Member, Reply, SnapshotMeta, StoredMembership,
    TypeConfig,
};
use crate::wire;

/// `record` of [`keys::meta`]: the applied position. Numbers from 16 on are the state machine's.
const META_APPLIED: u8 = 1;
/// Entries of one round of applies.
const ROUND_ENTRIES_MAX: usize = 256;

pub(crate) type OpenraftSnapshot = Snapshot<CommittedLeaderId, u64, Member, StateSnapshot>;

/// A state as openraft hands it around: never the bytes, only where they are.
pub(crate) enum StateSnapshot {
    /// A view of a state here, to be sent.
    View(SnapshotSource),
    /// A state that arrived under a storage id of its own, to be installed.
    Staged(Staged),
}

/// A consistent view of one replica's state.
#[derive(Clone)]
pub(crate) struct SnapshotSource {
    pub(crate) engine: Arc<dyn caucus_engine::Snapshot>,
    pub(crate) storage: keys::StorageId,
    pub(crate) applied: wire::Applied,
}

/// One replica's state machine under openraft.
pub(crate) struct Adapter {
    machine: Box<dyn StateMachine>,
    view: StateView,
    log: Arc<Log>,
    places: Arc<Places>,
    applied: wire::Applied,
    meters: metrics::Apply,
}

impl Adapter {
    pub(crate) fn open(
        mut machine: Box<dyn StateMachine>,
        view: StateView,
        log: Arc<Log>,
        places: Arc<Places>,
    ) -> Result<Adapter, caucus_engine::Error> {
        machine.open(&view)?;
        let applied = read_applied(view.engine().as_ref(), view.storage())?;
        if let Some(last) = applied.last {
            machine.published(position(last));
        }
        Ok(Adapter {
            machine,
            view,
            log,
            places,
            applied,
            meters: metrics::Apply::new(),
        })
    }

    fn snapshot(&self) -> Result<OpenraftSnapshot, caucus_engine::Error> {
        planted::at(planted::SNAPSHOT_BUILDING);
        let engine = self.view.engine().snapshot();
        let storage = self.view.storage();
        let applied = read_applied(engine.as_ref(), storage)?;
        Ok(Snapshot {
            meta: applied.meta(),
            snapshot: StateSnapshot::View(SnapshotSource {
                engine,
                storage,
                applied,
            }),
        })
    }

    /// Applies what is there as one engine batch, then answers.
    async fn round(&mut self, items: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let Some((last, _)) = items.last() else {
            return Ok(());
        };
        let last = wire::LogId::from(last.log_id);
        self.log.wait_written(last.index).await?;
        let entries = items.len();
        let mut txn = Txn::new(self.view.clone());
        let mut replies = Vec::with_capacity(items.len());
        for (entry, responder) in items {
            let reply = self.apply_one(&mut txn, entry, responder.is_some())?;
            if let Some(responder) = responder {
                replies.push((responder, reply));
            }
        }
        self.machine.finish(&mut txn).map_err(io::Error::other)?;
        self.applied.last = Some(last);
        let mut batch = txn.into_batch();
        put_applied(&mut batch, self.view.storage(), &self.applied);
        if planted::is(planted::APPLIED_BEFORE_STATE) {
            let mut first = WriteBatch::new();
            put_applied(&mut first, self.view.storage(), &self.applied);
            let written = self.view.engine().write(first.essential());
            written.map_err(io::Error::other)?;
        }
        let bytes = batch.size_bytes();
        if planted::fails(planted::STATE_APPLYING) {
            return Err(io::Error::other(caucus_engine::Error::Closed));
        }
        self.view
            .engine()
            .write(batch.essential())
            .map_err(io::Error::other)?;
        self.machine.published(position(last));
        self.meters.round(entries, bytes);
        planted::at(planted::STATE_APPLIED);
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    fn apply_one(&mut self, txn: &mut Txn, entry: Entry, wanted: bool) -> io::Result<Reply> {
        let id = wire::LogId::from(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Ok(Reply::none()),
            EntryPayload::Normal(payload) => self
                .machine
                .apply(txn, position(id), payload.0, wanted)
                .map_err(io::Error::other),
            EntryPayload::Membership(membership) => {
                let stored = StoredMembership::new(Some(entry.log_id), membership);
                self.applied.membership = (&stored).into();
                Ok(Reply::none())
            }
        }
    }

    async fn install(&mut self, staged: Staged) -> Result<(), caucus_engine::Error> {
        let storage = staged.keep();
        let (group, replica) = (self.log.place.group, self.log.place.replica);
        let old = self.view.storage();
        let place = Place {
            log: self.log.place.storage,
            state: storage,
        };
        let mut batch = WriteBatch::new();
        self.places.point(group, replica, place, &mut batch);
        let engine = self.view.engine().clone();
        planted::at(planted::SNAPSHOT_INSTALLING);
        engine.write(batch.essential())?;
        self.places.moved(group, replica, place);
        self.view.swap(storage);
        // Only now: a reader that finds the old state going must also find that it isn't the state any
        // more. After a crash in between the sweep at the next start removes it.
        let mut batch = WriteBatch::new();
        batch.delete_range(Space::State, keys::prefix_range(old));
        engine.write(batch.essential())?;
        let (sender, synced) = oneshot::channel();
        engine.sync(Box::new(move |result| {
            // Gone only with the whole replica.
            let _ = sender.send(result);
        }));
        synced.await.unwrap_or(Err(caucus_engine::Error::Closed))?;
        self.machine.open(&self.view)?;
        self.applied = read_applied(engine.as_ref(), storage)?;
        if let Some(last) = self.applied.last {
            self.machine.published(position(last));
        }
        planted::at(planted::SNAPSHOT_INSTALLED);
        Ok(())
    }
}

fn position(id: wire::LogId) -> Position {
    Position {
        term: id.term,
        index: id.index,
    }
}

pub(crate) fn put_applied(
    batch: &mut WriteBatch,
    storage: keys::StorageId,
    applied: &wire::Applied,
) {
    batch.put(
        Space::State,
        keys::meta(storage, META_APPLIED),
        applied.encode_to_vec(),
    );
}

fn read_applied<R: caucus_engine::Reader + ?Sized>(
    reader: &R,
    storage: keys::StorageId,
) -> Result<wire::Applied, caucus_engine::Error> {
    match reader.get(Space::State, &keys::meta(storage, META_APPLIED))? {
        Some(bytes) => {
            wire::Applied::decode(bytes).map_err(|error| caucus_engine::Error::Corruption {
                context: format!("the applied position: {error}"),
            })
        }
        None => Ok(wire::Applied::default()),
    }
}

/// "Building" a snapshot is to name the state as it is: it is in the engine already.
pub(crate) struct Builder(Option<Result<OpenraftSnapshot, caucus_engine::Error>>);

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = StateSnapshot;

    async fn build_snapshot(&mut self) -> io::Result<OpenraftSnapshot> {
        let built = self.0.take();
        let built = built.ok_or_else(|| io::Error::other("this builder has built"))?;
        built.map_err(io::Error::other)
    }
}

impl RaftStateMachine<TypeConfig> for Adapter {
    type SnapshotData = StateSnapshot;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((
            self.applied.last.map(Into::into),
            self.applied.membership.clone().into(),
        ))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut rounds = entries.ready_chunks(ROUND_ENTRIES_MAX);
        while let Some(round) = rounds.next().await {
            let items = round.into_iter().collect::<io::Result<Vec<_>>>()?;
            self.round(items).await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(Builder(Some(self.snapshot())))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(Some(self.snapshot()))
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: StateSnapshot,
    ) -> io::Result<()> {
        match snapshot {
            StateSnapshot::Staged(staged) => self.install(staged).await.map_err(io::Error::other),
            StateSnapshot::View(_) => Err(io::Error::other("a view cannot be installed")),
        }
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<OpenraftSnapshot>> {
        let snapshot = self.snapshot().map_err(io::Error::other)?;
        Ok(Some(snapshot).filter(|snapshot| snapshot.meta.last_log_id.is_some()))
    }
}
