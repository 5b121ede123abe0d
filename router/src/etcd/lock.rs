//! The Lock service: `etcdctl lock`, and clients without a recipe of their own.

use bytes::Bytes;
use caucus_api::shard::Put;
use caucus_etcd::check::SESSION_TTL_S;
use caucus_etcd::v3lockpb::lock_server::Lock;
use caucus_etcd::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use caucus_etcd::{Error as Refusal, check};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::Etcd;
use super::lease::not_leased;
use super::reply::refused;
use crate::metrics::EtcdCall;
use crate::recipes::Steps;
use crate::recipes::queue::{Attempt, Ended, Entry, Queue, Share};

#[tonic::async_trait]
impl Lock for Etcd {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let deadlines = self.deadlines(request.metadata());
        let work = self.take_lock(request.into_inner(), deadlines);
        self.metrics.measured(EtcdCall::Lock, work).await
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.give_lock(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::Unlock, work).await
    }
}

impl Etcd {
    async fn take_lock(
        &self,
        request: LockRequest,
        (deadline, until): (Instant, Option<Instant>),
    ) -> Result<LockResponse, Status> {
        let put = Put::default();
        let queue = queue(&request.name, |_| Share::Alone);
        let entered = self.enter(&queue, request.lease, put, deadline).await?;
        let (mut attempt, seen) = entered;
        let revision = attempt.wait(&queue, seen, until).await.map_err(ended)?;
        let key = attempt.key.clone();
        attempt.keep();
        Ok(LockResponse {
            header: Some(self.header(revision)),
            key,
        })
    }

    async fn give_lock(
        &self,
        request: UnlockRequest,
        deadline: Instant,
    ) -> Result<UnlockResponse, Status> {
        check::unlock(&request).map_err(Refusal::relayed)?;
        self.learn_term(deadline).await?;
        let steps = Steps::new().remove(&request.key);
        let done = steps.run(&self.router, None, deadline).await;
        Ok(UnlockResponse {
            header: Some(self.header(done.map_err(refused)?.revision)),
        })
    }

    /// Puts a key of a lease into a queue; lease 0 is a new one.
    pub(super) async fn enter(
        &self,
        queue: &Queue,
        lease: i64,
        mut put: Put,
        deadline: Instant,
    ) -> Result<(Attempt, crate::recipes::queue::Seen), Status> {
        self.learn_term(deadline).await?;
        put.lease = match lease {
            0 => {
                let granted = self.router.grant(None, SESSION_TTL_S as u64, deadline);
                granted.await.map_err(not_leased)?.id
            }
            lease => lease as u64,
        };
        let mut key = queue.prefix.to_vec();
        key.extend_from_slice(hex(put.lease as i64).as_bytes());
        let entry = Entry {
            key: key.into(),
            put,
            grant_s: None,
        };
        let entered = Attempt::enter(&self.router, queue, entry, false, None, deadline);
        entered.await.map_err(ended)
    }

    /// Of a step, and of a wait; without the client's own it waits as long as the client does.
    pub(super) fn deadlines(&self, metadata: &MetadataMap) -> (Instant, Option<Instant>) {
        let step = Instant::now() + self.router.options().timeout;
        let limited = metadata.contains_key("grpc-timeout");
        (step, limited.then(|| self.deadline(metadata)))
    }
}

/// The queue of a name: all keys below it.
pub(super) fn queue(name: &[u8], share: fn(&caucus_api::shard::Record) -> Share) -> Queue {
    Queue {
        prefix: Bytes::from([name, b"/"].concat()),
        share,
    }
}

/// As Go writes a signed number.
fn hex(lease: i64) -> String {
    match lease < 0 {
        true => format!("-{:x}", lease.unsigned_abs()),
        false => format!("{lease:x}"),
    }
}

/// Why there was no turn. Like etcd's, these services pass on the texts of others without their codes.
pub(super) fn ended(ended: Ended) -> Status {
    match ended {
        Ended::Store(error) => refused(error),
        Ended::LeaseNotFound => Refusal::LeaseNotFound.relayed(),
        Ended::Lost => Refusal::SessionExpired.relayed(),
        Ended::Late { .. } => Status::deadline_exceeded("context deadline exceeded"),
    }
}
