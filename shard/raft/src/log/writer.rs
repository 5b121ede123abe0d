//! The one log writer of a node: group commit over all of its groups.
//!
//! Appends, votes, truncations and purges of all groups wait in one queue. The writer takes all that
//! waits, makes one engine batch of it, writes it, asks for one sync and then runs the callbacks.
//! While a sync runs the next batch gathers; so N groups cost one fsync, not N.

use std::io;
use std::sync::Arc;
use tokio::time::Instant;

use caucus_engine::{Engine, WriteBatch};
use caucus_planted as planted;
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::Log;
use crate::metrics;
use crate::types::TypeConfig;
use crate::wire;

/// Operations that may wait for the writer.
const QUEUE_OPS_MAX: usize = 8192;
/// Operations of one batch.
const BATCH_OPS_MAX: usize = 1024;

/// One request to the writer. The batch holds no more than the request's own keys.
pub(crate) enum Op {
    /// Entries: readable already, durable when `done` runs.
    Append {
        log: Arc<Log>,
        batch: WriteBatch,
        last: wire::LogId,
        truncations: u64,
        done: IOFlushed<TypeConfig>,
    },
    /// A vote: answered when durable.
    Vote {
        log: Arc<Log>,
        batch: WriteBatch,
        vote: wire::Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// A truncation or purge: answered when written. The write-ahead log orders it before all that
    /// is written later.
    Written {
        log: Arc<Log>,
        batch: WriteBatch,
        done: oneshot::Sender<io::Result<()>>,
    },
}

/// The queue into the writer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Op>,
}

impl Writer {
    /// Starts the writer; it ends when the last clone is dropped and the queue is empty.
    pub(crate) fn start(engine: Arc<dyn Engine>) -> (Writer, tokio::task::JoinHandle<()>) {
        let (queue, ops) = mpsc::channel(QUEUE_OPS_MAX);
        let task = tokio::spawn(run(engine, ops));
        (Writer { queue }, task)
    }

    pub(crate) async fn push(&self, op: Op) -> io::Result<()> {
        self.queue.send(op).await.map_err(|_| stopped())
    }
}

pub(crate) fn stopped() -> io::Error {
    io::Error::other("the log writer has stopped")
}

async fn run(engine: Arc<dyn Engine>, mut queue: mpsc::Receiver<Op>) {
    let meters = metrics::LogWriter::new();
    let mut ops = Vec::with_capacity(BATCH_OPS_MAX);
    while queue.recv_many(&mut ops, BATCH_OPS_MAX).await > 0 {
        // Whoever is ready to run now may have something for this batch too.
        tokio::task::yield_now().await;
        while ops.len() < BATCH_OPS_MAX
            && let Ok(op) = queue.try_recv()
        {
            ops.push(op);
        }
        refuse_broken(&mut ops);
        if ops.is_empty() {
            continue;
        }
        let started = Instant::now();
        let mut batch = WriteBatch::new();
        for op in &mut ops {
            batch.append(op.take_batch());
        }
        meters.batch(ops.len(), batch.size_bytes());
        let wrote = match planted::fails(planted::LOG_WRITING) {
            true => Err(caucus_engine::Error::Closed),
            false => engine.write(batch.essential()),
        };
        if let Err(error) = wrote {
            tracing::error!(%error, "the Raft log cannot be written");
            // None of these logs may go on: what comes next would stand after a hole.
            ops.iter().for_each(|op| op.log().set_broken(&error));
            ops.drain(..).for_each(|op| op.fail(&error));
            continue;
        }
        let waiting = written(ops.drain(..));
        if waiting.is_empty() {
            continue;
        }
        planted::at(planted::LOG_WRITTEN);
        let (sender, synced) = oneshot::channel();
        engine.sync(Box::new(move |result| {
            // The writer waits below; it is gone only if the whole process ends.
            let _ = sender.send(result);
        }));
        let result = synced.await.unwrap_or(Err(caucus_engine::Error::Closed));
        meters.synced(started.elapsed());
        planted::at(planted::LOG_SYNCED);
        match result {
            Ok(()) => waiting.into_iter().for_each(Op::succeed),
            Err(error) => {
                tracing::error!(%error, "the Raft log cannot be synced");
                waiting.into_iter().for_each(|op| op.fail(&error));
            }
        }
    }
}

/// Fails what belongs to a log that has lost a write.
fn refuse_broken(ops: &mut Vec<Op>) {
    if ops.iter().all(|op| op.log().broken().is_none()) {
        return;
    }
    for op in std::mem::take(ops) {
        match op.log().broken().cloned() {
            Some(error) => op.fail(&error),
            None => ops.push(op),
        }
    }
}

/// Answers those that need no sync; gives back the others.
fn written(ops: impl Iterator<Item = Op>) -> Vec<Op> {
    let mut waiting = Vec::new();
    for op in ops {
        match op {
            Op::Append { ref log, last, .. } => {
                log.set_written(last.index);
                match planted::is(planted::APPEND_NOT_SYNCED) {
                    true => op.answer_unsynced(),
                    false => waiting.push(op),
                }
            }
            Op::Vote { .. } if planted::is(planted::VOTE_NOT_SYNCED) => op.answer_unsynced(),
            Op::Vote { .. } => waiting.push(op),
            Op::Written { done, .. } => {
                // The asker may be gone with its group.
                let _ = done.send(Ok(()));
            }
        }
    }
    waiting
}

impl Op {
    fn log(&self) -> &Arc<Log> {
        match self {
            Op::Append { log, .. } | Op::Vote { log, .. } | Op::Written { log, .. } => log,
        }
    }

    fn take_batch(&mut self) -> WriteBatch {
        match self {
            Op::Append { batch, .. } | Op::Vote { batch, .. } | Op::Written { batch, .. } => {
                std::mem::take(batch)
            }
        }
    }

    fn succeed(self) {
        match self {
            Op::Append {
                log,
                last,
                truncations,
                done,
                ..
            } => {
                log.set_durable(last, truncations);
                done.io_completed(Ok(()));
            }
            Op::Vote {
                log, vote, done, ..
            } => {
                log.set_durable_vote(vote);
                let _ = done.send(Ok(()));
            }
            Op::Written { done, .. } => {
                let _ = done.send(Ok(()));
            }
        }
    }

    /// For planted bugs: as if it were durable, which the synced mark doesn't hear of.
    fn answer_unsynced(self) {
        match self {
            Op::Append { done, .. } => done.io_completed(Ok(())),
            Op::Vote { done, .. } | Op::Written { done, .. } => _ = done.send(Ok(())),
        }
    }

    fn fail(self, error: &caucus_engine::Error) {
        let error = io::Error::other(error.clone());
        match self {
            Op::Append { done, .. } => done.io_completed(Err(error)),
            Op::Vote { done, .. } | Op::Written { done, .. } => {
                let _ = done.send(Err(error));
            }
        }
    }
}
