//! Many operations in one call: each is answered on its own.
//!
//! What is independent goes out at once, the operations for one node together. Operations on one key
//! keep their order: the second waits for the answer to the first, because a group takes what
//! arrives at the same time in any order.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use caucus_api::shard::Request;
use caucus_api::shard::request::Body;
use caucus_api::shard::{self, Write};
use caucus_client::Pending;
use caucus_ring::NodeId;
use futures::future::join_all;
use prost::Message;
use tokio::time::{Instant, timeout_at};

use crate::attempt::{Sent, Stop, Target};
use crate::retry::{Retry, Stumble};
use crate::route::Table;
use crate::router::{Op, OpAnswer, Ticket, read, written};
use crate::{Error, Router};

/// An operation ready to be sent.
struct Prepared {
    key: Bytes,
    body: Body,
    is_write: bool,
    /// How many operations of the batch on the same key come before it.
    turn: usize,
}

/// The first attempt of an operation.
enum First {
    Pending(Sent, Pending),
    Failed(Option<Sent>, Stumble),
}

impl Router {
    /// Runs all operations; the answers are in their order.
    pub async fn batch(&self, ops: Vec<Op>, deadline: Instant) -> Vec<Result<OpAnswer, Error>> {
        let count = ops.len();
        let ticket = self.begin(count as u64);
        let ops = prepare(ops, &ticket);
        self.shared.metrics.open.increment(count as f64);
        let _open = OpenMany(self, count);
        let turns = ops.iter().map(|op| op.turn + 1).max().unwrap_or(0);
        let mut answers: Vec<Option<Result<OpAnswer, Error>>> = Vec::new();
        answers.resize_with(count, || None);
        for turn in 0..turns {
            let now_due: Vec<usize> = (0..count).filter(|at| ops[*at].turn == turn).collect();
            self.run_turn(&ops, now_due, &ticket, deadline, &mut answers)
                .await;
        }
        answers
            .into_iter()
            .map(|answer| answer.expect("each operation has one turn"))
            .collect()
    }

    async fn run_turn(
        &self,
        ops: &[Prepared],
        due: Vec<usize>,
        ticket: &Ticket<'_>,
        deadline: Instant,
        answers: &mut [Option<Result<OpAnswer, Error>>],
    ) {
        let now = Instant::now();
        let ends = deadline.min(now + self.shared.options.attempt_timeout);
        let firsts = self.send_first(ops, &due, now, deadline);
        let mut again = Vec::new();
        // Awaited one after the other: they run all the same, and an answer wakes this task only if
        // it is the one that is waited for.
        for (at, first) in firsts {
            let (sent, stumble) = match first {
                First::Failed(sent, stumble) => (sent, stumble),
                First::Pending(sent, pending) => {
                    let answer = timeout_at(ends, pending).await;
                    match self.judge(&sent, answer, now) {
                        Ok(reply) => {
                            answers[at] = Some(answer_of(&ops[at], Ok(reply)));
                            continue;
                        }
                        Err(stumble) => (Some(sent), stumble),
                    }
                }
            };
            again.push((at, sent, stumble));
        }
        let retried = again.into_iter().map(|(at, sent, stumble)| async move {
            let op = &ops[at];
            let retry = Retry::new(op.is_write, ticket.first + at as u64);
            let failed = Some((sent, stumble));
            let target = Target::Key(&op.key);
            let done = self.run_target(target, &op.body, 0, retry, deadline, failed);
            let reply = done.await.map_err(|stop| match stop {
                Stop::Failed(error) => error,
                Stop::Stale => unreachable!("only for a fixed map"),
            });
            let answer = match (&reply, &op.body) {
                (Err(error), Body::Write(encoded)) if error.is_stale_id() => {
                    self.write_anew(encoded, deadline).await
                }
                _ => answer_of(op, reply),
            };
            (at, answer)
        });
        for (at, answer) in join_all(retried).await {
            answers[at] = Some(answer);
        }
    }

    /// Writes under another id what was refused for its stamp.
    async fn write_anew(&self, encoded: &Bytes, deadline: Instant) -> Result<OpAnswer, Error> {
        let write = Write::decode(encoded.clone()).expect("it was encoded here");
        Ok(OpAnswer::Written(self.write(write, deadline).await?))
    }

    /// Sends each operation once, what is for one node together.
    fn send_first(
        &self,
        ops: &[Prepared],
        due: &[usize],
        now: Instant,
        deadline: Instant,
    ) -> Vec<(usize, First)> {
        let Some(table) = self.table() else {
            let nowhere = |at: &usize| (*at, First::Failed(None, Stumble::NoGroup));
            return due.iter().map(nowhere).collect();
        };
        let mut firsts = Vec::with_capacity(due.len());
        let mut by_node: HashMap<NodeId, Vec<(usize, Sent, Request)>> = HashMap::new();
        for at in due {
            match self.plan(&table, &ops[*at], now, deadline) {
                Some((sent, request)) => {
                    let together = by_node.entry(sent.node).or_default();
                    together.push((*at, sent, request));
                }
                None => firsts.push((*at, First::Failed(None, Stumble::NoGroup))),
            }
        }
        for together in by_node.into_values() {
            let Some((_, handle)) = together
                .first()
                .and_then(|(_, sent, _)| table.node(sent.node))
            else {
                continue;
            };
            let mut sents = Vec::with_capacity(together.len());
            let requests = together.into_iter().map(|(at, sent, request)| {
                sents.push((at, sent));
                request
            });
            let mut submitted = Vec::with_capacity(requests.len());
            handle.submit_many(requests, |pending| submitted.push(pending));
            for ((at, sent), pending) in sents.into_iter().zip(submitted) {
                let first = match pending {
                    Ok(pending) => First::Pending(sent, pending),
                    Err(error) => First::Failed(Some(sent), Stumble::Call(error)),
                };
                firsts.push((at, first));
            }
        }
        firsts
    }

    fn plan(
        &self,
        table: &Arc<Table>,
        op: &Prepared,
        now: Instant,
        deadline: Instant,
    ) -> Option<(Sent, Request)> {
        let group = table.route(&op.key)?;
        let (node, _) = table.pick(group, None)?;
        let request = self.request(table, group.id(), &op.body, 0, now, deadline);
        let sent = Sent {
            table: table.clone(),
            group: group.id(),
            node,
        };
        Some((sent, request))
    }
}

fn prepare(ops: Vec<Op>, ticket: &Ticket<'_>) -> Vec<Prepared> {
    let mut turns: HashMap<Bytes, usize> = HashMap::with_capacity(ops.len());
    ops.into_iter()
        .enumerate()
        .map(|(at, op)| {
            let (key, body, is_write) = match op {
                Op::Write(mut write) => {
                    write.id = Some(ticket.id(at as u64));
                    let encoded = write.encode_to_vec();
                    (write.key, Body::Write(encoded.into()), true)
                }
                Op::Get { key } => {
                    let get = shard::Get {
                        key: key.clone(),
                        head: false,
                        revision: 0,
                    };
                    (key, Body::Get(get), false)
                }
            };
            let before = turns.entry(key.clone()).or_insert(0);
            let turn = *before;
            *before += 1;
            Prepared {
                key,
                body,
                is_write,
                turn,
            }
        })
        .collect()
}

fn answer_of(op: &Prepared, reply: Result<shard::Reply, Error>) -> Result<OpAnswer, Error> {
    let reply = reply?;
    Ok(if op.is_write {
        OpAnswer::Written(written(reply)?)
    } else {
        OpAnswer::Read(read(reply)?)
    })
}

/// Counts open operations out again.
struct OpenMany<'a>(&'a Router, usize);

impl Drop for OpenMany<'_> {
    fn drop(&mut self) {
        self.0.shared.metrics.open.decrement(self.1 as f64);
    }
}
