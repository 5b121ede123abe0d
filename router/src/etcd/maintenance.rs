//! The Maintenance service.

use std::pin::Pin;

use caucus_etcd::Error as Refusal;
use caucus_etcd::etcdserverpb::alarm_request::AlarmAction;
use caucus_etcd::etcdserverpb::maintenance_server::Maintenance;
use caucus_etcd::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest,
    StatusResponse,
};
use caucus_ring::Revision;
use futures::Stream;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::reply::refused;
use super::{Etcd, unimplemented};
use crate::Listing;
use crate::metrics::EtcdCall;

/// Whose API this is. Clients decide by it what they may ask for.
pub(super) const VERSION: &str = "3.4.23";

#[tonic::async_trait]
impl Maintenance for Etcd {
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.alarms(request.into_inner(), deadline);
        self.metrics.measured(EtcdCall::Alarm, work).await
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = self.node_status(deadline);
        self.metrics.measured(EtcdCall::Status, work).await
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = async {
            let done = self.node.defragment().await;
            done.map_err(|why| Status::internal(format!("caucus: {why}")))?;
            let current = self.current(true, deadline).await.map_err(refused)?;
            Ok(DefragmentResponse {
                header: Some(self.header(current)),
            })
        };
        self.metrics.measured(EtcdCall::Defragment, work).await
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = async {
            let current = self.current(false, deadline).await.map_err(refused)?;
            let (hash, _) = self.hash_at(current, current, deadline).await?;
            Ok(HashResponse {
                header: Some(self.header(current)),
                hash,
            })
        };
        self.metrics.measured(EtcdCall::Hash, work).await
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let asked = u64::try_from(request.get_ref().revision).unwrap_or(0);
        let work = async {
            let current = self.current(false, deadline).await.map_err(refused)?;
            let at = match asked {
                0 => current,
                at => Revision(at),
            };
            if at > current {
                return Err(Refusal::FutureRevision.into());
            }
            let (hash, compacted) = self.hash_at(at, current, deadline).await?;
            Ok(HashKvResponse {
                header: Some(self.header(current)),
                hash,
                compact_revision: compacted.0 as i64,
            })
        };
        self.metrics.measured(EtcdCall::HashKv, work).await
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(unimplemented("a snapshot in etcd's file format"))
    }

    async fn move_leader(
        &self,
        _: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(unimplemented("moving leadership through etcd's API"))
    }

    async fn downgrade(
        &self,
        _: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        Err(unimplemented("a downgrade"))
    }
}

impl Etcd {
    /// An alarm stands as long as its cause does: there is nothing to switch off, and nothing to switch on.
    async fn alarms(
        &self,
        request: AlarmRequest,
        deadline: Instant,
    ) -> Result<AlarmResponse, Status> {
        let current = self.current(true, deadline).await.map_err(refused)?;
        let own = u64::from(self.node.node().0);
        let all = [AlarmMember {
            member_id: own,
            alarm: AlarmType::Nospace.into(),
        }];
        let stands = self.node.database().is_full;
        let asked = |alarm: &AlarmMember| {
            let member = request.member_id == 0 || request.member_id == alarm.member_id;
            let kind = request.alarm() == AlarmType::None || request.alarm == alarm.alarm;
            member && kind
        };
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => all.into_iter().filter(|a| stands && asked(a)).collect(),
            Ok(AlarmAction::Deactivate) => Vec::new(),
            Ok(AlarmAction::Activate) => return Err(unimplemented("raising an alarm by hand")),
            Err(_) => Vec::new(),
        };
        Ok(AlarmResponse {
            header: Some(self.header(current)),
            alarms,
        })
    }

    async fn node_status(&self, deadline: Instant) -> Result<StatusResponse, Status> {
        // A node that can't reach the others still says what it is.
        let asked = self.router.granted(deadline).await;
        let current = match &asked {
            Ok(current) => *current,
            Err(_) => self.router.highest(),
        };
        let placement = self.router.placement_facts();
        let database = self.node.database();
        let mut errors = Vec::new();
        if let Err(error) = asked {
            errors.push(error.to_string());
        }
        if database.is_full {
            errors.push("NOSPACE".to_owned());
        }
        Ok(StatusResponse {
            header: Some(self.header(current)),
            version: VERSION.to_owned(),
            db_size: database.bytes as i64,
            leader: placement.leader,
            raft_index: placement.index,
            raft_term: placement.term,
            raft_applied_index: placement.index,
            errors,
            db_size_in_use: database.data_bytes as i64,
            is_learner: false,
        })
    }

    /// The sum over all keys as of a revision: the same from every node, wherever vnodes are.
    async fn hash_at(
        &self,
        at: Revision,
        current: Revision,
        deadline: Instant,
    ) -> Result<(u32, Revision), Status> {
        let all = Listing {
            revision: Some(at),
            count_only: true,
            hash: true,
            ..Listing::default()
        };
        let page = self.router.list(&all, current, deadline).await;
        let page = page.map_err(refused)?;
        let hash = (page.hash ^ (page.hash >> 32)) as u32;
        Ok((hash, page.compacted))
    }
}
