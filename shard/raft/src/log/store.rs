//! The log of one replica, as openraft wants it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use caucus_engine::record::{CHAIN_START, encode_record};
use caucus_engine::{Engine, Space, WriteBatch, keys};
use caucus_planted as planted;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use prost::Message;
use tokio::sync::{oneshot, watch};

use super::tail::Tail;
use super::writer::stopped;
use super::{Mark, Marks, Op, Writer};
use crate::types::{Entry, LogId, TypeConfig, Vote};
use crate::wire;

/// `record` of [`keys::log_meta`]: the vote.
pub(super) const META_VOTE: u8 = 1;
/// `record` of [`keys::log_meta`]: how far the log is purged, and the chain up to there.
pub(super) const META_PURGED: u8 = 2;
/// Log bytes between two notes of the index, for a purge by bytes.
const MILESTONE_BYTES: u64 = 64 << 10;

/// Where a replica's log is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogPlace {
    pub(crate) group: u32,
    pub(crate) replica: u64,
    pub(crate) storage: keys::StorageId,
    /// Bytes of recent entries kept in memory.
    pub(crate) tail_bytes_max: usize,
    /// Bytes of entries in one read.
    pub(crate) read_bytes_max: usize,
}

/// The log of one replica. Shared by openraft's core, its readers, the writer and the state machine.
pub(crate) struct Log {
    pub(crate) place: LogPlace,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) inner: Mutex<Inner>,
    writer: Writer,
    marks: Arc<Marks>,
    /// All before this index is in the engine; nothing from it on is applied.
    written: watch::Sender<u64>,
    /// The last index, in the engine or not.
    pub(crate) appended: watch::Sender<u64>,
    /// Why the engine refused a write. What follows that write must not be written either: it would
    /// leave a hole.
    broken: OnceLock<caucus_engine::Error>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) vote: Option<wire::Vote>,
    /// The vote that may have left this node, or will once it is durable: at or above `vote`.
    pub(super) promised: Option<wire::Vote>,
    pub(super) purged: Option<wire::LogId>,
    pub(super) purged_chain: u64,
    pub(super) last: Option<wire::LogId>,
    pub(super) last_chain: u64,
    pub(super) tail: Tail,
    pub(super) durable: Durable,
    /// How often the log was truncated since it was opened.
    pub(super) truncations: u64,
    pub(super) bytes: Bytecount,
}

/// What is known to be durable.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Durable {
    pub(super) vote: Option<wire::Vote>,
    pub(super) last: Option<wire::LogId>,
}

/// How many bytes of log stand before which index, roughly.
#[derive(Debug, Default)]
pub(super) struct Bytecount {
    total: u64,
    milestones: VecDeque<(u64, u64)>,
}

impl Bytecount {
    pub(super) fn add(&mut self, index: u64, bytes: u64) {
        self.total += bytes;
        let far = |last: &(u64, u64)| self.total >= last.1 + MILESTONE_BYTES;
        if self.milestones.back().is_none_or(far) {
            self.milestones.push_back((index, self.total));
        }
    }

    fn purge(&mut self, index: u64) {
        while self.milestones.len() > 1 && self.milestones[1].0 <= index {
            self.milestones.pop_front();
        }
    }

    fn truncate_after(&mut self, index: u64) {
        while self.milestones.back().is_some_and(|last| last.0 > index) {
            self.milestones.pop_back();
        }
    }

    fn length(&self) -> u64 {
        self.milestones
            .front()
            .map_or(0, |first| self.total - first.1)
    }

    /// The index before which no more than `kept` bytes of log follow.
    fn before(&self, kept: u64) -> Option<u64> {
        let mut cut = None;
        for (index, bytes) in &self.milestones {
            if self.total - bytes >= kept {
                cut = Some(*index);
            }
        }
        cut
    }
}

impl Log {
    /// Opens the log of a replica, checking it against its own chain and the synced mark.
    pub(crate) fn open(
        place: LogPlace,
        engine: Arc<dyn Engine>,
        writer: Writer,
        marks: Arc<Marks>,
    ) -> Result<Arc<Log>, super::read::OpenError> {
        let inner = super::read::load(&place, engine.as_ref())?;
        if let Some(mark) = marks.get(place.group, place.replica)
            && let Some(missing) = mark.missing(inner.vote, inner.last)
            && !planted::is(planted::LOST_TAIL_ACCEPTED)
        {
            return Err(super::read::OpenError::InDoubt(missing));
        }
        let written = inner.last.map_or(0, |last| last.index + 1);
        let appended = inner.last.map_or(0, |last| last.index);
        Ok(Arc::new(Log {
            place,
            engine,
            inner: Mutex::new(inner),
            writer,
            marks,
            written: watch::Sender::new(written),
            appended: watch::Sender::new(appended),
            broken: OnceLock::new(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic under this lock")
    }

    /// Whether this replica has promised its vote to nobody but `leader` since `term` began, and to
    /// nobody in a later term. See `net::standing`.
    pub(crate) fn upholds(&self, term: u64, leader: u64) -> bool {
        let inner = self.lock();
        let vote = match planted::is(planted::UPHELD_BY_SAVED_VOTE) {
            true => inner.vote,
            false => inner.promised,
        };
        vote.is_none_or(|vote| vote.term < term || (vote.term == term && vote.replica == leader))
    }

    /// Whether there never was an entry but the first, which names the group's members. See `net::blank`.
    pub(crate) fn is_blank(&self) -> bool {
        self.lock().last.is_none_or(|last| last.index == 0)
    }

    /// Waits until the entry at `index` is in the engine.
    pub(crate) async fn wait_written(&self, index: u64) -> io::Result<()> {
        if *self.written.borrow() > index {
            return Ok(());
        }
        let mut written = self.written.subscribe();
        let seen = written.wait_for(|written| *written > index).await;
        seen.map(|_| ()).map_err(|_| stopped())
    }

    /// The last entry, written or not.
    #[cfg(test)]
    pub(crate) fn last(&self) -> Option<wire::LogId> {
        self.lock().last
    }

    /// For a suite that applies entries which were never in a log.
    #[cfg(test)]
    pub(crate) fn pretend_written(&self) {
        self.written.send_replace(u64::MAX);
    }

    pub(super) fn set_written(&self, index: u64) {
        self.written.send_if_modified(|written| {
            let rises = index >= *written;
            *written = (index + 1).max(*written);
            rises
        });
        self.lock().tail.shrink(index);
    }

    /// `truncations`: how often the log had been truncated when the entry was appended. An entry
    /// that is durable but truncated meanwhile says nothing about the log as it is now.
    pub(super) fn set_durable(&self, last: wire::LogId, truncations: u64) {
        let mut inner = self.lock();
        if inner.truncations == truncations {
            inner.durable.last = Some(last);
        }
    }

    pub(super) fn broken(&self) -> Option<&caucus_engine::Error> {
        self.broken.get()
    }

    pub(super) fn set_broken(&self, error: &caucus_engine::Error) {
        // The first error is the cause, the others follow from it.
        let _ = self.broken.set(error.clone());
    }

    pub(super) fn set_durable_vote(&self, vote: wire::Vote) {
        self.lock().durable.vote = Some(vote);
    }

    /// Bytes of entries since the last purge, and the index up to which a purge leaves about `kept`.
    pub(crate) fn purgeable(&self, kept: u64) -> (u64, Option<u64>) {
        let inner = self.lock();
        (inner.bytes.length(), inner.bytes.before(kept))
    }

    /// Notes in the synced marks what is durable now.
    pub(crate) fn mark(&self) {
        let inner = self.lock();
        self.marks.note(self.mark_of(&inner, inner.durable.last));
    }

    fn mark_of(&self, inner: &Inner, last: Option<wire::LogId>) -> Mark {
        Mark {
            group: self.place.group,
            replica: self.place.replica,
            vote: inner.durable.vote,
            last,
            purged: inner.purged,
        }
    }

    /// Makes readable and encodes what openraft appends.
    fn take_in(
        &self,
        entries: impl IntoIterator<Item = Entry>,
    ) -> (WriteBatch, Option<wire::LogId>, u64) {
        let mut inner = self.lock();
        let mut batch = WriteBatch::new();
        for entry in entries {
            let id = wire::LogId::from(entry.log_id);
            let encoded = wire::Entry::from(&entry).encode_to_vec();
            let (record, chain) = encode_record(inner.last_chain, &[&encoded]);
            let bytes = record.len();
            batch.put(
                Space::Log,
                keys::entry(self.place.storage, id.index),
                record,
            );
            inner.tail.push(entry, chain, bytes);
            inner.bytes.add(id.index, bytes as u64);
            inner.last = Some(id);
            inner.last_chain = chain;
        }
        (batch, inner.last, inner.truncations)
    }

    async fn write(self: &Arc<Self>, batch: WriteBatch) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let log = self.clone();
        self.writer.push(Op::Written { log, batch, done }).await?;
        written.await.map_err(|_| stopped())?
    }

    async fn truncate(self: &Arc<Self>, kept: Option<wire::LogId>) -> io::Result<()> {
        let storage = self.place.storage;
        let from = kept.map_or(0, |kept| kept.index + 1);
        if self.lock().last.is_none_or(|last| last.index < from) {
            return Ok(());
        }
        let chain = match kept {
            Some(kept) => self.chain_at(kept.index)?,
            None => CHAIN_START,
        };
        let mark = {
            let mut inner = self.lock();
            inner.tail.truncate_after(kept.map(|kept| kept.index));
            inner
                .bytes
                .truncate_after(kept.map_or(0, |kept| kept.index));
            inner.last = kept;
            inner.last_chain = chain;
            inner.truncations += 1;
            if inner.durable.last.is_some_and(|last| last.index >= from) {
                inner.durable.last = kept;
            }
            self.mark_of(&inner, inner.durable.last)
        };
        // The mark goes down before the log does: see `mark`.
        self.marks.note(mark);
        self.marks.clone().flush().await?;
        let mut batch = WriteBatch::new();
        batch.delete_range(Space::Log, keys::entries_from(storage, from));
        self.write(batch).await?;
        self.written
            .send_modify(|written| *written = from.min(*written));
        Ok(())
    }

    async fn purge(self: &Arc<Self>, upto: wire::LogId) -> io::Result<()> {
        let storage = self.place.storage;
        let (purged, last, chain) = {
            let inner = self.lock();
            (inner.purged, inner.last, inner.purged_chain)
        };
        if purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        let known = last.is_some_and(|last| last.index > upto.index);
        let chain = match known {
            true if self.holds(0..upto.index + 1)? => self.chain_at(upto.index)?,
            // The log begins later: its first entry follows what was before.
            true => chain,
            // Beyond the end of the log (after a snapshot) the chain starts anew.
            false => CHAIN_START,
        };
        {
            let mut inner = self.lock();
            inner.purged = Some(upto);
            inner.purged_chain = chain;
            inner.tail.purge(upto.index);
            inner.bytes.purge(upto.index);
            if !known {
                inner.last = Some(upto);
                inner.last_chain = chain;
            }
        }
        let mut batch = WriteBatch::new();
        let purged = Purged {
            log_id: upto,
            chain,
        };
        batch.put(
            Space::Log,
            keys::log_meta(storage, META_PURGED),
            purged.encode_to_vec(),
        );
        batch.delete_range(Space::Log, keys::entry_range(storage, 0..upto.index + 1));
        planted::at(planted::LOG_PURGING);
        self.write(batch).await?;
        planted::at(planted::LOG_PURGED);
        if !known {
            self.set_written(upto.index);
        }
        Ok(())
    }
}

/// The purge position of a log, as stored.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Purged {
    #[prost(message, required, tag = "1")]
    pub(super) log_id: wire::LogId,
    #[prost(fixed64, tag = "2")]
    pub(super) chain: u64,
}

/// openraft's handle on a [`Log`].
#[derive(Clone)]
pub(crate) struct LogHandle(pub(crate) Arc<Log>);

impl RaftLogStorage<TypeConfig> for LogHandle {
    type LogReader = LogHandle;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let inner = self.0.lock();
        Ok(LogState {
            last_purged_log_id: inner.purged.map(Into::into),
            last_log_id: inner.last.map(Into::into),
        })
    }

    async fn get_log_reader(&mut self) -> LogHandle {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = wire::Vote::from(*vote);
        // Before anything is done with it: see `upholds`.
        self.0.lock().promised = Some(vote);
        planted::at(planted::VOTE_SAVING);
        let mut batch = WriteBatch::new();
        batch.put(
            Space::Log,
            keys::log_meta(self.0.place.storage, META_VOTE),
            Bytes::from(vote.encode_to_vec()),
        );
        let (done, durable) = oneshot::channel();
        self.0
            .writer
            .push(Op::Vote {
                log: self.0.clone(),
                batch,
                vote,
                done,
            })
            .await?;
        durable.await.map_err(|_| stopped())??;
        self.0.lock().vote = Some(vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let (batch, last, truncations) = self.0.take_in(entries);
        let Some(last) = last else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        self.0.appended.send_replace(last.index);
        self.0
            .writer
            .push(Op::Append {
                log: self.0.clone(),
                batch,
                last,
                truncations,
                done: callback,
            })
            .await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.0.truncate(last.map(Into::into)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.0.purge(upto.into()).await
    }
}
