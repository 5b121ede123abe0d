//! Where requests of etcd's clients are told from others.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::get;
use caucus_etcd::etcdserverpb::cluster_server::ClusterServer;
use caucus_etcd::etcdserverpb::kv_server::KvServer;
use caucus_etcd::etcdserverpb::lease_server::LeaseServer;
use caucus_etcd::etcdserverpb::maintenance_server::MaintenanceServer;
use caucus_etcd::etcdserverpb::watch_server::WatchServer;
use caucus_etcd::gateway;
use caucus_etcd::v3electionpb::election_server::ElectionServer;
use caucus_etcd::v3lockpb::lock_server::LockServer;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::Service;

use super::maintenance::VERSION;
use super::{Etcd, EtcdOptions, NodeFacts};
use crate::Router;

const BETA: &str = "/v3beta/";
/// Calls that are answered when others have gone.
const WAITS: [&str; 3] = [
    "/v3/lock/lock",
    "/v3/election/campaign",
    "/v3/election/observe",
];
/// The longest of these.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// All of the API, ready to be called.
pub(crate) struct Mount {
    kv: KvServer<Etcd>,
    cluster: ClusterServer<Etcd>,
    maintenance: MaintenanceServer<Etcd>,
    watch: WatchServer<Etcd>,
    lease: LeaseServer<Etcd>,
    lock: LockServer<Etcd>,
    election: ElectionServer<Etcd>,
    gateway: TowerToHyperService<axum::Router>,
}

impl Mount {
    pub(crate) fn new(
        router: Router,
        node: Arc<dyn NodeFacts>,
        options: EtcdOptions,
        shutdown: CancellationToken,
    ) -> Mount {
        let etcd = Arc::new(Etcd {
            router,
            node,
            options,
            metrics: Arc::default(),
            shutdown,
        });
        let limit = gateway::MAX_MESSAGE_BYTES;
        let kv = KvServer::from_arc(etcd.clone()).max_decoding_message_size(limit);
        let kv = kv.max_encoding_message_size(usize::MAX);
        let cluster = ClusterServer::from_arc(etcd.clone());
        let maintenance = MaintenanceServer::from_arc(etcd.clone());
        let watch = WatchServer::from_arc(etcd.clone()).max_encoding_message_size(usize::MAX);
        let lease = LeaseServer::from_arc(etcd.clone()).max_encoding_message_size(usize::MAX);
        let lock = LockServer::from_arc(etcd.clone());
        let election = ElectionServer::from_arc(etcd.clone());
        let gateway = gateway::router(etcd).route("/version", get(version));
        Mount {
            kv,
            cluster,
            maintenance,
            watch,
            lease,
            lock,
            election,
            gateway: TowerToHyperService::new(gateway),
        }
    }

    /// Answers a gRPC call.
    pub(crate) async fn grpc(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let service = path.split('/').nth(1).unwrap_or_default();
        match service {
            "etcdserverpb.KV" => called(self.kv.clone(), request).await,
            "etcdserverpb.Watch" => called(self.watch.clone(), request).await,
            "etcdserverpb.Lease" => called(self.lease.clone(), request).await,
            "v3lockpb.Lock" => called(self.lock.clone(), request).await,
            "v3electionpb.Election" => called(self.election.clone(), request).await,
            "etcdserverpb.Cluster" => called(self.cluster.clone(), request).await,
            "etcdserverpb.Maintenance" => called(self.maintenance.clone(), request).await,
            unknown => {
                let unknown: String = unknown.chars().take(64).collect();
                let status = Status::unimplemented(format!("unknown service {unknown}"));
                status.into_http::<tonic::body::Body>().map(Body::new)
            }
        }
    }

    /// Answers a request of the JSON gateway; one whose body doesn't end within the limit is given up, unless
    /// it is of those that wait for others.
    pub(crate) async fn json(
        &self,
        mut request: Request<Incoming>,
        limit: Duration,
    ) -> Response<Body> {
        // The name of the same paths before they were stable; etcd 3.4 has it still.
        if let Some(rest) = request.uri().path().strip_prefix(BETA)
            && let Ok(stable) = ["/v3/", rest].concat().parse()
        {
            *request.uri_mut() = stable;
        }
        let limit = match WAITS.contains(&request.uri().path()) {
            true => WAIT_MAX,
            false => limit,
        };
        let called = timeout(limit, self.gateway.call(request.map(Body::new)));
        match called.await {
            Ok(Ok(answer)) => answer,
            Err(Elapsed { .. }) => {
                (StatusCode::REQUEST_TIMEOUT, "Request Timeout\n").into_response()
            }
        }
    }
}

async fn called<S>(mut service: S, request: Request<Incoming>) -> Response<Body>
where
    S: Service<Request<Incoming>, Response = Response<tonic::body::Body>, Error = Infallible>,
{
    let Ok(answer) = service.call(request).await;
    answer.map(Body::new)
}

/// Whether a request is gRPC.
pub(crate) fn is_grpc(parts: &Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// Whether a path belongs to the gateway.
pub(crate) fn is_gateway(path: &str) -> bool {
    path.starts_with("/v3/") || path.starts_with(BETA) || path == "/version"
}

async fn version() -> impl IntoResponse {
    let text = format!(r#"{{"etcdserver":"{VERSION}","etcdcluster":"{VERSION}"}}"#);
    ([(CONTENT_TYPE, "application/json")], text)
}
