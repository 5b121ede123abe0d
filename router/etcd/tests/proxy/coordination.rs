//! The services of watches, leases, locks and elections.

use caucus_etcd::etcdserverpb as pb;
use caucus_etcd::v3electionpb as election;
use caucus_etcd::v3lockpb as lock;
use election::election_server::Election;
use futures::{Stream, StreamExt as _, future};
use lock::lock_server::Lock;
use pb::lease_server::Lease;
use pb::watch_server::Watch;
use tonic::{Request, Response, Status, Streaming};

use super::Proxy;

/// Requests up to an error: a client has none to send.
fn whole<T: Send + 'static>(requests: Streaming<T>) -> impl Stream<Item = T> + Send {
    let known = requests.map(Result::ok);
    known
        .take_while(|request| future::ready(request.is_some()))
        .filter_map(future::ready)
}

#[tonic::async_trait]
impl Watch for Proxy {
    type WatchStream = Streaming<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let requests = whole(request.into_inner());
        self.watch.clone().watch(requests).await
    }
}

#[tonic::async_trait]
impl Lease for Proxy {
    type LeaseKeepAliveStream = Streaming<pb::LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let requests = whole(request.into_inner());
        self.lease.clone().lease_keep_alive(requests).await
    }

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        self.lease.clone().lease_grant(request).await
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.lease.clone().lease_revoke(request).await
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        self.lease.clone().lease_time_to_live(request).await
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        self.lease.clone().lease_leases(request).await
    }
}

#[tonic::async_trait]
impl Lock for Proxy {
    async fn lock(
        &self,
        request: Request<lock::LockRequest>,
    ) -> Result<Response<lock::LockResponse>, Status> {
        self.lock.clone().lock(request).await
    }

    async fn unlock(
        &self,
        request: Request<lock::UnlockRequest>,
    ) -> Result<Response<lock::UnlockResponse>, Status> {
        self.lock.clone().unlock(request).await
    }
}

#[tonic::async_trait]
impl Election for Proxy {
    type ObserveStream = Streaming<election::LeaderResponse>;

    async fn observe(
        &self,
        request: Request<election::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        self.election.clone().observe(request).await
    }

    async fn campaign(
        &self,
        request: Request<election::CampaignRequest>,
    ) -> Result<Response<election::CampaignResponse>, Status> {
        self.election.clone().campaign(request).await
    }

    async fn proclaim(
        &self,
        request: Request<election::ProclaimRequest>,
    ) -> Result<Response<election::ProclaimResponse>, Status> {
        self.election.clone().proclaim(request).await
    }

    async fn leader(
        &self,
        request: Request<election::LeaderRequest>,
    ) -> Result<Response<election::LeaderResponse>, Status> {
        self.election.clone().leader(request).await
    }

    async fn resign(
        &self,
        request: Request<election::ResignRequest>,
    ) -> Result<Response<election::ResignResponse>, Status> {
        self.election.clone().resign(request).await
    }
}
