//! Sending a state: scanned from an engine snapshot chunk by chunk, never whole in memory.

use std::time::Duration;

use bytes::Bytes;
use caucus_engine::{Direction, Space, keys};
use caucus_peer::{CallError, Lane, Service};
use caucus_planted as planted;
use futures::stream::{self, StreamExt, TryStreamExt};
use openraft::errors::{NetworkError, RPCError, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use super::send::{Dialer, rpc_error};
use crate::aside::aside;
use crate::metrics;
use crate::state::SnapshotSource;
use crate::types::{TypeConfig, Vote};
use crate::wire;

/// Chunks that may be unanswered.
const CHUNKS_UNDER_WAY_MAX: usize = 4;
/// The receiver writes a chunk, or installs the whole, within this.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);

type Failure = StreamingError<TypeConfig>;

pub(super) async fn send(
    dialer: &Dialer,
    vote: Vote,
    source: SnapshotSource,
    chunk_bytes: usize,
) -> Result<SnapshotResponse<TypeConfig>, Failure> {
    let peer = dialer.peer().map_err(StreamingError::Unreachable)?;
    let lane = peer.own_lane().await.map_err(failure)?;
    let sent = send_chunks(dialer.to, vote, source, chunk_bytes, &lane).await;
    lane.link().close();
    metrics::snapshot("sent", if sent.is_ok() { "ok" } else { "error" });
    sent
}

async fn send_chunks(
    to: wire::To,
    vote: Vote,
    source: SnapshotSource,
    chunk_bytes: usize,
    lane: &Lane,
) -> Result<SnapshotResponse<TypeConfig>, Failure> {
    let reader = ChunkReader::new(to, vote.into(), source, chunk_bytes);
    let chunks = stream::try_unfold(reader, |mut reader| async move {
        // The scan reads the disk, so it gets a thread that may block.
        let engine = reader.source.engine.clone();
        let read = aside(engine.as_ref(), move || {
            let chunk = reader.next();
            (reader, chunk)
        });
        let (reader, chunk) = read.await.map_err(|error| other(&error))?;
        Ok::<_, Failure>(chunk.map_err(|error| other(&error))?.map(|c| (c, reader)))
    });
    let answers = chunks
        .map(|chunk| {
            let asked = chunk
                .map(|chunk| lane.ask(Service::RaftSnapshot, Bytes::from(chunk.encode_to_vec())));
            async move {
                let answer = asked?.map_err(failure)?;
                let answer = tokio::time::timeout(CHUNK_TIMEOUT, answer).await;
                let body = answer.map_err(|error| other(&error))?.map_err(failure)?;
                wire::SnapshotResponse::decode(body).map_err(|error| other(&error))
            }
        })
        .buffered(CHUNKS_UNDER_WAY_MAX);
    let last = answers
        .try_fold(None, |_, response| async move {
            match response.accepted {
                true => Ok(Some(response)),
                false => Err(StreamingError::Network(NetworkError::from_string(
                    response.reason,
                ))),
            }
        })
        .await?;
    let vote = last.and_then(|last| last.vote).ok_or_else(|| {
        StreamingError::Network(NetworkError::from_string("the snapshot was not installed"))
    })?;
    Ok(SnapshotResponse::new(vote.into()))
}

fn failure(error: CallError) -> Failure {
    match rpc_error(error) {
        RPCError::Unreachable(error) => StreamingError::Unreachable(error),
        RPCError::Network(error) => StreamingError::Network(error),
        RPCError::Timeout(error) => StreamingError::Timeout(error),
        RPCError::RemoteError(error) => StreamingError::Unreachable(Unreachable::new(&error)),
    }
}

fn other<E: std::error::Error + 'static>(error: &E) -> Failure {
    StreamingError::Network(NetworkError::new(error))
}

/// Cuts a state into chunks.
pub(super) struct ChunkReader {
    to: wire::To,
    vote: wire::Vote,
    source: SnapshotSource,
    next: Bytes,
    chunk_bytes: usize,
    sequence: u64,
    pairs: u64,
    hash: Xxh3,
    ended: bool,
}

impl ChunkReader {
    pub(super) fn new(
        to: wire::To,
        vote: wire::Vote,
        source: SnapshotSource,
        chunk_bytes: usize,
    ) -> ChunkReader {
        ChunkReader {
            to,
            vote,
            next: keys::prefix_range(source.storage).start,
            source,
            chunk_bytes,
            sequence: 0,
            pairs: 0,
            hash: Xxh3::new(),
            ended: false,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<wire::SnapshotChunk>, caucus_engine::Error> {
        if self.ended {
            return Ok(None);
        }
        if planted::fails(planted::SNAPSHOT_SENDING) {
            return Err(caucus_engine::Error::Closed);
        }
        let range = keys::prefix_range(self.source.storage);
        let prefix = range.start.len();
        let mut scan =
            self.source
                .engine
                .scan(Space::State, &self.next, &range.end, Direction::Forward)?;
        let mut pairs = Vec::new();
        let mut bytes = 0;
        while bytes < self.chunk_bytes {
            let Some((key, value)) = scan.next()? else {
                self.ended = true;
                break;
            };
            let mut after = key.to_vec();
            after.push(0);
            self.next = after.into();
            let is_dedup = key.get(prefix) == Some(&keys::state_kind::DEDUP);
            if is_dedup && planted::is(planted::DEDUP_NOT_IN_SNAPSHOT) {
                continue;
            }
            bytes += key.len() + value.len();
            let pair = wire::Pair {
                key: key.slice(prefix..),
                value,
            };
            add_to_hash(&mut self.hash, &pair);
            pairs.push(pair);
        }
        self.pairs += pairs.len() as u64;
        let end = self.ended.then(|| wire::SnapshotEnd {
            applied: self.source.applied.clone(),
            pairs: self.pairs,
            hash: self.hash.digest(),
        });
        let chunk = wire::SnapshotChunk {
            to: self.to,
            vote: self.vote,
            sequence: self.sequence,
            pairs,
            end,
        };
        self.sequence += 1;
        Ok(Some(chunk))
    }
}

/// Adds a pair to the hash of a transfer, lengths first, so that no other cut hashes the same.
pub(super) fn add_to_hash(hash: &mut Xxh3, pair: &wire::Pair) {
    hash.update(&(pair.key.len() as u64).to_le_bytes());
    hash.update(&pair.key);
    hash.update(&(pair.value.len() as u64).to_le_bytes());
    hash.update(&pair.value);
}
