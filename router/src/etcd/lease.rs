//! The Lease service.

use std::pin::Pin;

use caucus_etcd::etcdserverpb::lease_server::Lease;
use caucus_etcd::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use caucus_etcd::{Error as Refusal, check};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::Etcd;
use super::reply::refused;
use crate::LeaseError;
use crate::metrics::EtcdCall;

/// Keepalives of one stream that are under way at the same time; they are answered in order.
const KEEPALIVES_MAX: usize = 128;

type KeepAlives = Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Lease for Etcd {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.grant_lease(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::LeaseGrant, work).await
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.revoke_lease(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::LeaseRevoke, work).await
    }

    type LeaseKeepAliveStream = KeepAlives;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<KeepAlives>, Status> {
        let this = self.clone();
        let shutdown = self.shutdown.clone();
        let answers = request
            .into_inner()
            .map_ok(move |asked| {
                let this = this.clone();
                async move { this.keep_lease_alive(asked).await }
            })
            .try_buffered(KEEPALIVES_MAX)
            .take_until(async move { shutdown.cancelled().await });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.time_to_live(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::LeaseTimeToLive, work).await
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.list_leases(deadline);
        self.metrics.measured(EtcdCall::LeaseLeases, work).await
    }
}

impl Etcd {
    async fn grant_lease(
        &self,
        request: LeaseGrantRequest,
        deadline: Instant,
    ) -> Result<LeaseGrantResponse, Status> {
        check::lease_grant(&request)?;
        // etcd, too, gives a lease that would live for less than its minimum the minimum.
        let ttl = u64::try_from(request.ttl).unwrap_or(0).max(1);
        let id = Some(request.id as u64).filter(|id| *id != 0);
        self.learn_term(deadline).await?;
        let granted = self.router.grant(id, ttl, deadline).await;
        let granted = granted.map_err(not_leased)?;
        Ok(LeaseGrantResponse {
            header: Some(self.header(granted.revision)),
            id: granted.id as i64,
            ttl: granted.ttl.as_secs() as i64,
            error: String::new(),
        })
    }

    async fn revoke_lease(
        &self,
        request: LeaseRevokeRequest,
        deadline: Instant,
    ) -> Result<LeaseRevokeResponse, Status> {
        self.learn_term(deadline).await?;
        let revoked = self.router.revoke(request.id as u64, deadline).await;
        revoked.map_err(not_leased)?;
        Ok(LeaseRevokeResponse {
            header: Some(self.header(self.router.highest())),
        })
    }

    async fn keep_lease_alive(
        &self,
        request: LeaseKeepAliveRequest,
    ) -> Result<LeaseKeepAliveResponse, Status> {
        let deadline = Instant::now() + self.router.options().timeout;
        let kept = match request.id {
            0 => Err(LeaseError::NotFound),
            id => self.router.keep_alive(id as u64, deadline).await,
        };
        let ttl = match kept {
            Ok(ttl) => ttl.as_secs() as i64,
            // Not an error: other leases go on over this stream.
            Err(LeaseError::NotFound) => 0,
            Err(error) => return Err(not_leased(error)),
        };
        Ok(LeaseKeepAliveResponse {
            header: Some(self.header(self.router.highest())),
            id: request.id,
            ttl,
        })
    }

    async fn time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
        deadline: Instant,
    ) -> Result<LeaseTimeToLiveResponse, Status> {
        let current = self.current(false, deadline).await.map_err(refused)?;
        let header = Some(self.header(current));
        let found = self.router.lease(request.id as u64, deadline).await;
        let lease = match found {
            Ok(lease) => lease,
            Err(LeaseError::NotFound) => {
                return Ok(LeaseTimeToLiveResponse {
                    header,
                    id: request.id,
                    ttl: -1,
                    ..LeaseTimeToLiveResponse::default()
                });
            }
            Err(error) => return Err(not_leased(error)),
        };
        let keys = match request.keys {
            true => self.router.lease_keys(&lease, deadline).await,
            false => Ok(Vec::new()),
        };
        Ok(LeaseTimeToLiveResponse {
            header,
            id: request.id,
            ttl: lease.rest.as_secs() as i64,
            granted_ttl: lease.ttl.as_secs() as i64,
            keys: keys.map_err(not_leased)?,
        })
    }

    async fn list_leases(&self, deadline: Instant) -> Result<LeaseLeasesResponse, Status> {
        let current = self.current(false, deadline).await.map_err(refused)?;
        let leases = self.router.leases(deadline).await.map_err(not_leased)?;
        let leases = leases.into_iter();
        Ok(LeaseLeasesResponse {
            header: Some(self.header(current)),
            leases: leases
                .map(|lease| LeaseStatus {
                    id: lease.id as i64,
                })
                .collect(),
        })
    }
}

/// What was asked of a lease wasn't done.
pub(super) fn not_leased(error: LeaseError) -> Status {
    match error {
        LeaseError::Store(error) => refused(error),
        LeaseError::NotFound => Refusal::LeaseNotFound.into(),
        LeaseError::Exists => Refusal::LeaseExists.into(),
    }
}
