//! An implementation of the Watch and Lease services with nothing behind it, whose answers tell what
//! reached it.

use std::pin::Pin;

use caucus_etcd::etcdserverpb as pb;
use caucus_etcd::v3electionpb as election;
use election::election_server::Election;
use futures::future;
use futures::stream::{self, Stream, StreamExt as _};
use pb::lease_server::Lease;
use pb::watch_request::RequestUnion;
use pb::watch_server::Watch;
use tokio::sync::mpsc::UnboundedSender;
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The id of a watch whose cancellation is refused with an error.
pub(crate) const REFUSED: i64 = 404;

/// What happens to a stream of watches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A cancellation came that has no answer: that of watch 0.
    Cancelled,
    /// Its answers are dropped.
    Dropped,
}

/// Tells what it sees.
pub(crate) struct Fake {
    pub(crate) seen: UnboundedSender<Seen>,
}

/// Tells when it is dropped.
struct Guard(UnboundedSender<Seen>);

impl Guard {
    fn answer(
        &self,
        request: Result<pb::WatchRequest, Status>,
    ) -> Option<Result<pb::WatchResponse, Status>> {
        let answer = answer(request);
        if matches!(&answer, Ok(answer) if answer.canceled && answer.watch_id == 0) {
            let _ = self.0.send(Seen::Cancelled);
            return None;
        }
        Some(answer)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(Seen::Dropped);
    }
}

fn answer(request: Result<pb::WatchRequest, Status>) -> Result<pb::WatchResponse, Status> {
    let mut answer = pb::WatchResponse::default();
    match request?.request_union {
        Some(RequestUnion::CreateRequest(create)) => {
            answer.watch_id = create.watch_id;
            answer.created = true;
        }
        Some(RequestUnion::CancelRequest(cancel)) if cancel.watch_id == REFUSED => {
            return Err(Status::unavailable("refused"));
        }
        Some(RequestUnion::CancelRequest(cancel)) => {
            answer.watch_id = cancel.watch_id;
            answer.canceled = true;
        }
        Some(RequestUnion::ProgressRequest(_)) => answer.watch_id = -1,
        None => answer.cancel_reason = "nothing".to_owned(),
    }
    Ok(answer)
}

#[tonic::async_trait]
impl Watch for Fake {
    type WatchStream = Answers<pb::WatchResponse>;

    /// An answer to each request, one with an event when the requests have ended, and then no end.
    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let event = pb::WatchResponse {
            events: vec![caucus_etcd::mvccpb::Event::default()],
            ..pb::WatchResponse::default()
        };
        let guard = Guard(self.seen.clone());
        let requests = request.into_inner();
        let answers = requests.filter_map(move |request| future::ready(guard.answer(request)));
        let answers = answers.chain(stream::iter([Ok(event)]));
        let answers = answers.chain(stream::pending());
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl Lease for Fake {
    type LeaseKeepAliveStream = Answers<pb::LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let answers = request.into_inner().map(|request| {
            let id = request?.id;
            Ok(pb::LeaseKeepAliveResponse {
                id,
                ttl: 60,
                ..pb::LeaseKeepAliveResponse::default()
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_grant(
        &self,
        _: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        Err(Status::unimplemented("grant"))
    }

    async fn lease_revoke(
        &self,
        _: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        Err(Status::unimplemented("revoke"))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented("time to live"))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        Err(Status::unimplemented("leases"))
    }
}

#[tonic::async_trait]
impl Election for Fake {
    type ObserveStream = Answers<election::LeaderResponse>;

    /// Two leaders and an error, which is all where the election has no name.
    async fn observe(
        &self,
        request: Request<election::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let leaders = if request.get_ref().name.is_empty() {
            0
        } else {
            2
        };
        let leader = || Ok(election::LeaderResponse::default());
        let answers = stream::iter((0..leaders).map(move |_| leader()));
        let error = stream::iter([Err(Status::unavailable("gone"))]);
        // What follows an error isn't an answer.
        let answers = answers.chain(error).chain(stream::pending());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn campaign(
        &self,
        _: Request<election::CampaignRequest>,
    ) -> Result<Response<election::CampaignResponse>, Status> {
        Err(Status::unimplemented("campaign"))
    }

    async fn proclaim(
        &self,
        _: Request<election::ProclaimRequest>,
    ) -> Result<Response<election::ProclaimResponse>, Status> {
        Err(Status::unimplemented("proclaim"))
    }

    async fn leader(
        &self,
        _: Request<election::LeaderRequest>,
    ) -> Result<Response<election::LeaderResponse>, Status> {
        Err(Status::unimplemented("leader"))
    }

    async fn resign(
        &self,
        _: Request<election::ResignRequest>,
    ) -> Result<Response<election::ResignResponse>, Status> {
        Err(Status::unimplemented("resign"))
    }
}
