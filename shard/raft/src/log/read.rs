//! Reading a log: from its tail cache, else from the engine; and opening it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};

use bytes::Bytes;
use caucus_engine::record::{CHAIN_START, Record, decode_record};
use caucus_engine::{Direction, Engine, Space, keys};
use openraft::storage::RaftLogReader;
use prost::Message;

use super::store::{Bytecount, Durable, Inner, META_PURGED, META_VOTE, Purged};
use super::tail::Tail;
use super::{Log, LogHandle, LogPlace};
use crate::types::{Entry, TypeConfig, Vote};
use crate::wire;

/// Why a log can't be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Engine(#[from] caucus_engine::Error),
    /// It isn't the log that it was.
    #[error("{0}")]
    InDoubt(String),
}

/// Reads all of a log once: every record must be whole and follow the one before.
pub(super) fn load(place: &LogPlace, engine: &dyn Engine) -> Result<Inner, OpenError> {
    let vote = match engine.get(Space::Log, &keys::log_meta(place.storage, META_VOTE))? {
        Some(bytes) => Some(wire::Vote::decode(bytes).map_err(damaged("its vote"))?),
        None => None,
    };
    let purged = match engine.get(Space::Log, &keys::log_meta(place.storage, META_PURGED))? {
        Some(bytes) => Some(Purged::decode(bytes).map_err(damaged("its purge position"))?),
        None => None,
    };
    let chain = purged.map_or(CHAIN_START, |purged| purged.chain);
    let mut inner = Inner {
        vote,
        promised: vote,
        purged: purged.map(|purged| purged.log_id),
        purged_chain: chain,
        last: purged.map(|purged| purged.log_id),
        last_chain: chain,
        tail: Tail::new(place.tail_bytes_max),
        durable: Durable::default(),
        truncations: 0,
        bytes: Bytecount::default(),
    };
    let all = keys::entries_from(place.storage, 0);
    let mut scan = engine.scan(Space::Log, &all.start, &all.end, Direction::Forward)?;
    while let Some((key, frame)) = scan.next()? {
        let bytes = frame.len();
        let (record, entry) = decode(place, &key, &frame)?;
        let index = entry.log_id.index;
        let expected = inner
            .last
            .map_or(Some(index), |last| last.index.checked_add(1));
        if Some(index) != expected || !record.follows(inner.last_chain) {
            return Err(OpenError::InDoubt(format!(
                "the log record at {index} does not follow the one before"
            )));
        }
        inner.last = Some(entry.log_id.into());
        inner.last_chain = record.chain;
        inner.bytes.add(index, bytes as u64);
        inner.tail.push(entry, record.chain, bytes);
        inner.tail.shrink(index);
    }
    // What recovery found is on disk: it was read from there.
    inner.durable = Durable {
        vote,
        last: inner.last,
    };
    Ok(inner)
}

fn damaged<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> OpenError {
    move |error| OpenError::InDoubt(format!("{what} cannot be read: {error}"))
}

fn decode(place: &LogPlace, key: &[u8], frame: &Bytes) -> Result<(Record, Entry), OpenError> {
    let index = keys::parse_entry(place.storage, key)
        .ok_or_else(|| OpenError::InDoubt("a foreign key stands in the log".to_owned()))?;
    let record = decode_record(frame).map_err(damaged("a log record"))?;
    let entry =
        wire::Entry::decode(record.payload.clone()).map_err(damaged("a log record's content"))?;
    if entry.log_id.index != index {
        return Err(OpenError::InDoubt(format!(
            "the log record at {index} says that it is {}",
            entry.log_id.index
        )));
    }
    Ok((record, entry.into()))
}

impl Log {
    /// The hash chain up to and with the entry at `index`.
    pub(super) fn chain_at(&self, index: u64) -> io::Result<u64> {
        {
            let inner = self.lock();
            if inner.purged.is_some_and(|purged| purged.index == index) {
                return Ok(inner.purged_chain);
            }
            if let Some(chain) = inner.tail.chain(index) {
                return Ok(chain);
            }
        }
        let key = keys::entry(self.place.storage, index);
        let frame = self
            .engine
            .get(Space::Log, &key)
            .map_err(io::Error::other)?
            .ok_or_else(|| io::Error::other(format!("log entry {index} is missing")))?;
        let (record, _) = decode(&self.place, &key, &frame).map_err(io::Error::other)?;
        Ok(record.chain)
    }

    /// Whether there is an entry with an index in `range`.
    pub(super) fn holds(&self, range: Range<u64>) -> io::Result<bool> {
        let cached = self.lock().tail.first();
        if cached.is_some_and(|first| range.contains(&first)) {
            return Ok(true);
        }
        let range = keys::entry_range(self.place.storage, range);
        let scan = self
            .engine
            .scan(Space::Log, &range.start, &range.end, Direction::Forward);
        let first = scan.and_then(|mut scan| scan.next());
        Ok(first.map_err(io::Error::other)?.is_some())
    }

    /// Entries of `start..end` in order, as many as fit into `bytes`, the first in any case.
    fn read(&self, start: u64, end: u64, mut bytes: usize) -> io::Result<Vec<Entry>> {
        let mut out: Vec<Entry> = Vec::new();
        // Before the purge position there is nothing, neither in the engine nor in the cache.
        let purged = self.lock().purged.map_or(0, |purged| purged.index + 1);
        let mut next = start.max(purged);
        while next < end {
            let cached_from = {
                let inner = self.lock();
                let first = inner.tail.first().unwrap_or(u64::MAX);
                if first <= next {
                    inner.tail.read(next, end, &mut bytes, &mut out);
                    return Ok(out);
                }
                first
            };
            // What is not in the cache is written: the cache lets go of nothing else. It may let go
            // of more while the engine is read, so look again afterwards.
            let range = keys::entry_range(self.place.storage, next..end.min(cached_from));
            let mut scan = self
                .engine
                .scan(Space::Log, &range.start, &range.end, Direction::Forward)
                .map_err(io::Error::other)?;
            let before = out.len();
            while let Some((key, frame)) = scan.next().map_err(io::Error::other)? {
                if frame.len() > bytes && !out.is_empty() {
                    return Ok(out);
                }
                bytes = bytes.saturating_sub(frame.len());
                let (_, entry) = decode(&self.place, &key, &frame).map_err(io::Error::other)?;
                next = entry.log_id.index + 1;
                out.push(entry);
            }
            if out.len() == before {
                if cached_from >= end {
                    return Ok(out);
                }
                // The log begins with the cache.
                next = cached_from;
            }
        }
        Ok(out)
    }
}

impl RaftLogReader<TypeConfig> for LogHandle {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.0.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.lock().vote.map(Into::into))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.0.read(start, end, self.0.place.read_bytes_max)
    }
}
