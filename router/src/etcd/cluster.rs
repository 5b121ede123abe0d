//! The Cluster service: who the members are. Changing them is the operator's, not a client's.

use caucus_etcd::etcdserverpb::cluster_server::Cluster;
use caucus_etcd::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use tonic::{Request, Response, Status};

use super::reply::refused;
use super::{Etcd, unimplemented};
use crate::metrics::EtcdCall;

const CHANGES: &str = "changing members through etcd's API";

#[tonic::async_trait]
impl Cluster for Etcd {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let deadline = self.deadline(request.metadata());
        let work = async {
            let serializable = !request.get_ref().linearizable;
            let revision = self.current(serializable, deadline).await;
            let revision = revision.map_err(refused)?;
            Ok(MemberListResponse {
                header: Some(self.header(revision)),
                members: self.members(),
            })
        };
        self.metrics.measured(EtcdCall::MemberList, work).await
    }

    async fn member_add(
        &self,
        _: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        Err(unimplemented(CHANGES))
    }

    async fn member_remove(
        &self,
        _: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(unimplemented(CHANGES))
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(unimplemented(CHANGES))
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(unimplemented(CHANGES))
    }
}

impl Etcd {
    /// The nodes, as the newest map has them.
    fn members(&self) -> Vec<Member> {
        let map = self.router.map();
        let nodes = map.as_ref().map_or(&[][..], |map| map.nodes());
        let members = nodes.iter().map(|node| Member {
            id: u64::from(node.id.0),
            name: format!("node-{}", node.id.0),
            peer_ur_ls: vec![format!("http://{}", node.peer_address)],
            client_ur_ls: match node.roles.router {
                true => vec![format!("http://{}", node.client_address)],
                false => Vec::new(),
            },
            is_learner: false,
        });
        members.collect()
    }
}
