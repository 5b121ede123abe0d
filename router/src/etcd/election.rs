//! The Election service: `etcdctl elect`, and clients without a recipe of their own.

use std::pin::Pin;

use bytes::Bytes;
use caucus_api::shard::Put;
use caucus_etcd::check::SESSION_TTL_S;
use caucus_etcd::v3electionpb::election_server::Election;
use caucus_etcd::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use caucus_etcd::{Error as Refusal, check};
use futures::Stream;
use futures::stream::unfold;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::Etcd;
use super::lease::not_leased;
use super::lock::{ended, queue};
use super::reply::{self, refused};
use crate::metrics::EtcdCall;
use crate::recipes::Steps;
use crate::recipes::elections::{self, Observer};
use crate::recipes::queue::{Queue, Share};

type Leaders = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Election for Etcd {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let deadlines = self.deadlines(request.metadata());
        let work = self.run_for(request.into_inner(), deadlines);
        self.metrics.measured(EtcdCall::Campaign, work).await
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.say(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::Proclaim, work).await
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.who_leads(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::Leader, work).await
    }

    type ObserveStream = Leaders;

    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Leaders>, Status> {
        let deadline = self.deadline(request.metadata());
        let queue = candidates(&request.into_inner().name);
        let observer = Observer::begin(&self.router, &queue, deadline);
        let observer = observer.await.map_err(refused)?;
        let this = self.clone();
        let leaders = unfold(Some((this, observer)), |watching| async {
            let (this, mut observer) = watching?;
            loop {
                let told = tokio::select! {
                    told = observer.next() => told,
                    () = this.shutdown.cancelled() => return None,
                };
                match told {
                    // etcd, too, says nothing while nobody leads.
                    Ok((_, None)) => {}
                    Ok((revision, Some(leader))) => {
                        let response = LeaderResponse {
                            header: Some(this.header(revision)),
                            kv: Some(reply::key_value(leader.key, leader.record)),
                        };
                        return Some((Ok(response), Some((this, observer))));
                    }
                    Err(error) => return Some((Err(refused(error)), None)),
                }
            }
        });
        Ok(Response::new(Box::pin(leaders)))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.give_up(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::Resign, work).await
    }
}

impl Etcd {
    async fn run_for(
        &self,
        request: CampaignRequest,
        (deadline, until): (Instant, Option<Instant>),
    ) -> Result<CampaignResponse, Status> {
        let queue = candidates(&request.name);
        let put = put_of(request.value.clone());
        let entered = self.enter(&queue, request.lease, put, deadline).await?;
        let (mut attempt, seen) = entered;
        if attempt.value != request.value {
            // It was a candidate already, with something else to proclaim.
            let steps = Steps::new()
                .if_created(&attempt.key, attempt.created)
                .put_under_same_lease(&attempt.key, put_of(request.value));
            let done = steps.run(&self.router, None, deadline).await;
            done.map_err(refused)?;
        }
        let revision = attempt.wait(&queue, seen, until).await.map_err(ended)?;
        let leader = LeaderKey {
            name: request.name,
            key: attempt.key.clone(),
            rev: attempt.created as i64,
            lease: attempt.lease as i64,
        };
        attempt.keep();
        Ok(CampaignResponse {
            header: Some(self.header(revision)),
            leader: Some(leader),
        })
    }

    async fn say(
        &self,
        request: ProclaimRequest,
        deadline: Instant,
    ) -> Result<ProclaimResponse, Status> {
        check::proclaim(&request).map_err(Refusal::relayed)?;
        self.learn_term(deadline).await?;
        let leader = request.leader.unwrap_or_default();
        let mut put = put_of(request.value);
        put.lease = match leader.lease {
            0 => {
                let granted = self.router.grant(None, SESSION_TTL_S as u64, deadline);
                granted.await.map_err(not_leased)?.id
            }
            lease => lease as u64,
        };
        let steps = Steps::new().if_created(&leader.key, created(&leader)?);
        let done = steps
            .put(&leader.key, put)
            .run(&self.router, None, deadline);
        let done = done.await.map_err(|error| match error.reason {
            crate::Reason::LeaseNotFound => Refusal::LeaseNotFound.relayed(),
            _ => refused(error),
        })?;
        match (done.held, done.problem) {
            (_, Some(_)) => Err(Refusal::LeaseNotFound.relayed()),
            (false, None) => Err(Refusal::ElectionNotLeader.relayed()),
            (true, None) => Ok(ProclaimResponse {
                header: Some(self.header(done.revision)),
            }),
        }
    }

    async fn who_leads(
        &self,
        request: LeaderRequest,
        deadline: Instant,
    ) -> Result<LeaderResponse, Status> {
        self.learn_term(deadline).await?;
        let queue = candidates(&request.name);
        let found = elections::leader(&self.router, &queue, deadline).await;
        let (leader, revision) = found.map_err(refused)?;
        let leader = leader.ok_or_else(|| Refusal::ElectionNoLeader.relayed())?;
        Ok(LeaderResponse {
            header: Some(self.header(revision)),
            kv: Some(reply::key_value(leader.key, leader.record)),
        })
    }

    async fn give_up(
        &self,
        request: ResignRequest,
        deadline: Instant,
    ) -> Result<ResignResponse, Status> {
        check::resign(&request).map_err(Refusal::relayed)?;
        self.learn_term(deadline).await?;
        let leader = request.leader.unwrap_or_default();
        // From what one isn't, one can always resign.
        let created = created(&leader).unwrap_or(u64::MAX);
        let steps = Steps::new().if_created(&leader.key, created);
        let done = steps.remove(&leader.key).run(&self.router, None, deadline);
        let done = done.await.map_err(refused)?;
        Ok(ResignResponse {
            header: Some(self.header(done.revision)),
        })
    }
}

fn candidates(name: &[u8]) -> Queue {
    queue(name, |_| Share::Alone)
}

fn put_of(value: Bytes) -> Put {
    Put {
        value,
        ..Put::default()
    }
}

/// No key was created at 0: that would mean that there is none.
fn created(leader: &LeaderKey) -> Result<u64, Status> {
    let created = u64::try_from(leader.rev).ok().filter(|rev| *rev > 0);
    created.ok_or_else(|| Refusal::ElectionNotLeader.relayed())
}
