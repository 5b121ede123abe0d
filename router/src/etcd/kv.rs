//! The KV service.

use bytes::Bytes;
use caucus_api::shard;
use caucus_api::shard::outcome::Kind;
use caucus_api::shard::write::Action;
use caucus_etcd::Error as Refusal;
use caucus_etcd::check;
use caucus_etcd::etcdserverpb::kv_server::Kv;
use caucus_etcd::etcdserverpb::request_op::Request as Op;
use caucus_etcd::etcdserverpb::response_op::Response as Did;
use caucus_etcd::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};
use caucus_ring::Revision;
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::lease::not_leased;
use super::reply::{self, refused};
use super::{Etcd, range, tree};
use crate::metrics::EtcdCall;

#[tonic::async_trait]
impl Kv for Etcd {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.read_range(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::Range, work).await
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.put_key(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::Put, work).await
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.delete(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::DeleteRange, work).await
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.transact(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::Txn, work).await
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.compact_to(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::Compact, work).await
    }
}

impl Etcd {
    async fn read_range(
        &self,
        request: RangeRequest,
        deadline: Instant,
    ) -> Result<RangeResponse, Status> {
        check::range(&request)?;
        let current = self.current(request.serializable, deadline).await;
        let current = current.map_err(refused)?;
        let at = u64::try_from(request.revision).unwrap_or(0);
        if at > current.0 {
            return Err(Refusal::FutureRevision.into());
        }
        let ranged = match request.range_end.is_empty() {
            true => range::one(&self.router, &request, at, current, deadline).await,
            false => range::many(&self.router, &request, at, current, deadline).await,
        };
        let (ranged, revision) = ranged?;
        let mut response = reply::range(ranged);
        response.header = Some(self.header(revision));
        Ok(response)
    }

    async fn put_key(&self, request: PutRequest, deadline: Instant) -> Result<PutResponse, Status> {
        check::put(&request)?;
        fits(&request)?;
        if request.ignore_value && request.lease != 0 {
            // A put alone that has neither its lease nor its key is refused for the lease, in a transaction for
            // the key.
            let lease = self.router.lease(request.lease as u64, deadline).await;
            lease.map_err(not_leased)?;
        }
        if request.prev_kv || request.ignore_value || request.ignore_lease {
            let done = self.single(Op::RequestPut(request), deadline).await?;
            return match done {
                Did::ResponsePut(response) => Ok(response),
                _ => Err(reply::nonsense()),
            };
        }
        let put = shard::Put {
            value: request.value,
            content_type: String::new(),
            lease: request.lease as u64,
            ..shard::Put::default()
        };
        let outcome = self.write(request.key, Action::Put(put), deadline).await?;
        Ok(PutResponse {
            header: Some(self.header(Revision(outcome.revision))),
            prev_kv: None,
        })
    }

    async fn delete(
        &self,
        request: DeleteRangeRequest,
        deadline: Instant,
    ) -> Result<DeleteRangeResponse, Status> {
        check::delete_range(&request)?;
        fits(&request)?;
        if request.prev_kv || !request.range_end.is_empty() {
            let done = self.single(Op::RequestDeleteRange(request), deadline);
            return match done.await? {
                Did::ResponseDeleteRange(response) => Ok(response),
                _ => Err(reply::nonsense()),
            };
        }
        let delete = Action::Delete(shard::Delete {});
        let outcome = self.write(request.key, delete, deadline).await?;
        Ok(DeleteRangeResponse {
            header: Some(self.header(Revision(outcome.revision))),
            deleted: i64::from(outcome.kind() == Kind::Deleted),
            prev_kvs: Vec::new(),
        })
    }

    async fn transact(
        &self,
        request: TxnRequest,
        deadline: Instant,
    ) -> Result<TxnResponse, Status> {
        check::txn(&request, self.options.txn_operations_max)?;
        fits(&request)?;
        self.learn_term(deadline).await?;
        let transacted = self
            .router
            .txn(tree::txn(&request), deadline)
            .await
            .map_err(refused)?;
        if let Some(problem) = &transacted.done.problem {
            return Err(reply::problem(problem));
        }
        let header = self.header(Revision(transacted.done.revision));
        let mut response = reply::txn(&request, transacted.done);
        response.header = Some(header);
        Ok(response)
    }

    /// Headers hold the placement group's term, which reads learn by the way.
    pub(super) async fn learn_term(&self, deadline: Instant) -> Result<(), Status> {
        if self.router.placement_facts().term == 0 {
            self.router.granted(deadline).await.map_err(refused)?;
        }
        Ok(())
    }

    /// One operation as a transaction.
    async fn single(&self, op: Op, deadline: Instant) -> Result<Did, Status> {
        let request = TxnRequest {
            success: vec![RequestOp { request: Some(op) }],
            ..TxnRequest::default()
        };
        let response = self.transact(request, deadline).await?;
        let header = response.header;
        let did = response.responses.into_iter().next();
        let mut did = did.and_then(|op| op.response).ok_or_else(reply::nonsense)?;
        match &mut did {
            Did::ResponseRange(response) => response.header = header,
            Did::ResponsePut(response) => response.header = header,
            Did::ResponseDeleteRange(response) => response.header = header,
            Did::ResponseTxn(response) => response.header = header,
        }
        Ok(did)
    }

    async fn write(
        &self,
        key: Bytes,
        action: Action,
        deadline: Instant,
    ) -> Result<shard::Outcome, Status> {
        let write = shard::Write {
            key,
            action: Some(action),
            ..shard::Write::default()
        };
        self.learn_term(deadline).await?;
        let written = self.router.write(write, deadline).await;
        Ok(written.map_err(refused)?.outcome)
    }

    async fn compact_to(
        &self,
        request: CompactionRequest,
        deadline: Instant,
    ) -> Result<CompactionResponse, Status> {
        let current = self.current(false, deadline).await.map_err(refused)?;
        // A store that was never compacted stands at 0, and etcd's at -1.
        let revision = match u64::try_from(request.revision) {
            Ok(revision) => Revision(revision),
            Err(_) => return Err(Refusal::Compacted.into()),
        };
        if revision > current {
            return Err(Refusal::FutureRevision.into());
        }
        let compacted = self.router.compact(revision, deadline).await;
        compacted.map_err(refused)?;
        Ok(CompactionResponse {
            header: Some(self.header(current)),
        })
    }
}

/// A request is as large as etcd would write it to its log.
fn fits(request: &impl Message) -> Result<(), Status> {
    match request.encoded_len() > check::MAX_REQUEST_BYTES {
        true => Err(Refusal::RequestTooLarge.into()),
        false => Ok(()),
    }
}
