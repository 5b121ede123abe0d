//! The way from one group to another, within the process: as a router's, by asking each node in turn.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use caucus_api::shard::request::Body;
use caucus_api::shard::{Reply, Request, Txn, TxnDone};
use caucus_api::{Failure, Groups};
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::{OtherGroups, Shard};

/// Decides what becomes of a request: `true` lets it pass.
type Gate = Box<dyn Fn(u32, &Body) -> bool + Send + Sync>;

/// All running nodes.
#[derive(Default)]
pub(super) struct Reach {
    shards: Mutex<BTreeMap<u32, Shard>>,
    gate: Mutex<Option<Gate>>,
}

impl Reach {
    pub(super) fn add(&self, node: u32, shard: Shard) {
        self.shards.lock().unwrap().insert(node, shard);
    }

    pub(super) fn remove(&self, node: u32) {
        self.shards.lock().unwrap().remove(&node);
    }

    /// From now on requests pass only if `gate` says so; the others find nobody until their deadline.
    pub(super) fn gate(&self, gate: impl Fn(u32, &Body) -> bool + Send + Sync + 'static) {
        *self.gate.lock().unwrap() = Some(Box::new(gate));
    }

    pub(super) fn open(&self) {
        *self.gate.lock().unwrap() = None;
    }

    fn passes(&self, group: u32, body: &Body) -> bool {
        let gate = self.gate.lock().unwrap();
        gate.as_ref().is_none_or(|gate| gate(group, body))
    }
}

fn nobody() -> Failure {
    Failure::Unavailable {
        reason: "nobody leads".to_owned(),
        unknown: true,
    }
}

impl OtherGroups for Reach {
    /// Takes a router, which there is none here: leases with keys of several groups are tested with real processes.
    fn transact(&self, _: Txn, _: Instant) -> BoxFuture<'static, Result<TxnDone, Failure>> {
        Box::pin(async { Err(nobody()) })
    }

    fn ask(
        &self,
        group: u32,
        body: Body,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Reply, Failure>> {
        let shards: Vec<Shard> = self.shards.lock().unwrap().values().cloned().collect();
        let passes = self.passes(group, &body);
        Box::pin(async move {
            while passes && Instant::now() < deadline {
                for shard in &shards {
                    let (told, answer) = oneshot::channel();
                    let request = Request {
                        group,
                        deadline_ms: 1000,
                        body: Some(body.clone()),
                        ..Request::default()
                    };
                    shard.submit(request, Box::new(move |reply| _ = told.send(reply)));
                    let Ok(reply) = answer.await else { continue };
                    let failure = match &reply.body {
                        Some(caucus_api::shard::reply::Body::Error(error)) => {
                            Failure::from(error.clone())
                        }
                        Some(_) | None => return Ok(reply),
                    };
                    match failure {
                        Failure::NotLeader { .. } | Failure::Unavailable { .. } => {}
                        failure => return Err(failure),
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep_until(deadline).await;
            Err(nobody())
        })
    }
}
