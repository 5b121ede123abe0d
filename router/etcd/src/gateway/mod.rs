//! JSON over HTTP, translated the way etcd's gateway does it.
//!
//! ```text
//!  POST /v3/kv/range ─▶ body, read up to a limit ─▶ message ─▶ the trait's method ─▶ message ─▶ JSON
//!  POST /v3/watch ─▶ body, as it arrives ─▶ messages ─▶ the trait's method ─▶ messages ─▶ lines of JSON
//! ```
//!
//! The implementation is called directly, as tonic's server calls it: no second hop through gRPC.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::StatusCode;

use crate::check::{MAX_REQUEST_BYTES, MESSAGE_OVERHEAD_BYTES};
use crate::etcdserverpb::cluster_server::Cluster;
use crate::etcdserverpb::kv_server::Kv;
use crate::etcdserverpb::lease_server::Lease;
use crate::etcdserverpb::maintenance_server::Maintenance;
use crate::etcdserverpb::watch_server::Watch;
use crate::v3electionpb::election_server::Election;
use crate::v3lockpb::lock_server::Lock;
use answer::plain;
use call::{bidirectional, streamed, unary};

mod answer;
mod call;
mod messages;

/// How large a message may be, as JSON or not.
pub const MAX_MESSAGE_BYTES: usize = MAX_REQUEST_BYTES + MESSAGE_OVERHEAD_BYTES;

/// Base64 makes three bytes four, and names need room too.
const MAX_BODY_BYTES: usize = MAX_MESSAGE_BYTES / 3 * 4 + MESSAGE_OVERHEAD_BYTES;

/// A path's method over an implementation, by the shape of its call:
/// `method!(implementation, unary, Trait::method)`.
macro_rules! method {
    ($server:expr, $shape:ident, $service:ident :: $method:ident) => {{
        let server = Arc::clone(&$server);
        let method: MethodRouter = on(MethodFilter::POST, move |request: Request| {
            let server = Arc::clone(&server);
            $shape(request, move |message| async move {
                $service::$method(server.as_ref(), message).await
            })
        });
        method.fallback(wrong_method)
    }};
}

/// Paths of calls with one message each way: `post!(router, implementation, path => Trait::method, …)`.
macro_rules! post {
    ($router:expr, $server:expr, $($path:literal => $service:ident :: $method:ident,)+) => {{
        let router = $router;
        $(let router = router.route($path, method!($server, unary, $service::$method));)+
        router
    }};
}

/// The paths of the KV service.
pub fn kv<T: Kv>(server: Arc<T>) -> Router {
    post!(Router::new(), server,
        "/v3/kv/range" => Kv::range,
        "/v3/kv/put" => Kv::put,
        "/v3/kv/deleterange" => Kv::delete_range,
        "/v3/kv/txn" => Kv::txn,
        "/v3/kv/compaction" => Kv::compact,
    )
}

/// The paths of the Cluster service.
pub fn cluster<T: Cluster>(server: Arc<T>) -> Router {
    post!(Router::new(), server,
        "/v3/cluster/member/add" => Cluster::member_add,
        "/v3/cluster/member/remove" => Cluster::member_remove,
        "/v3/cluster/member/update" => Cluster::member_update,
        "/v3/cluster/member/list" => Cluster::member_list,
        "/v3/cluster/member/promote" => Cluster::member_promote,
    )
}

/// The paths of the Maintenance service; `hashkv` and `downgrade` came with etcd 3.5.
pub fn maintenance<T: Maintenance>(server: Arc<T>) -> Router {
    let router = post!(Router::new(), server,
        "/v3/maintenance/alarm" => Maintenance::alarm,
        "/v3/maintenance/status" => Maintenance::status,
        "/v3/maintenance/defragment" => Maintenance::defragment,
        "/v3/maintenance/hash" => Maintenance::hash,
        "/v3/maintenance/hashkv" => Maintenance::hash_kv,
        "/v3/maintenance/transfer-leadership" => Maintenance::move_leader,
        "/v3/maintenance/downgrade" => Maintenance::downgrade,
    );
    let snapshot = method!(server, streamed, Maintenance::snapshot);
    router.route("/v3/maintenance/snapshot", snapshot)
}

/// The path of the Watch service: messages and answers are lines, both ways at once.
///
/// Unlike etcd's own, whose HTTP server answers when the body has ended, this answers while it is open.
/// When it has ended the requests do, as over gRPC where a client closes its side; watches go on then
/// until the client is gone, so an implementation has to go on. A request that is too large comes to it
/// as an error, as over gRPC, and it has to end with that.
pub fn watch<T: Watch>(server: Arc<T>) -> Router {
    let watch = method!(server, bidirectional, Watch::watch);
    Router::new().route("/v3/watch", watch)
}

/// The paths of the Lease service, some of which have an older name too.
///
/// `keepalive` takes many messages, and ends when they have ended and are answered.
pub fn lease<T: Lease>(server: Arc<T>) -> Router {
    let router = post!(Router::new(), server,
        "/v3/lease/grant" => Lease::lease_grant,
        "/v3/lease/revoke" => Lease::lease_revoke,
        "/v3/kv/lease/revoke" => Lease::lease_revoke,
        "/v3/lease/timetolive" => Lease::lease_time_to_live,
        "/v3/kv/lease/timetolive" => Lease::lease_time_to_live,
        "/v3/lease/leases" => Lease::lease_leases,
        "/v3/kv/lease/leases" => Lease::lease_leases,
    );
    let keepalive = method!(server, bidirectional, Lease::lease_keep_alive);
    router.route("/v3/lease/keepalive", keepalive)
}

/// The paths of the Lock service.
pub fn lock<T: Lock>(server: Arc<T>) -> Router {
    post!(Router::new(), server,
        "/v3/lock/lock" => Lock::lock,
        "/v3/lock/unlock" => Lock::unlock,
    )
}

/// The paths of the Election service.
pub fn election<T: Election>(server: Arc<T>) -> Router {
    let router = post!(Router::new(), server,
        "/v3/election/campaign" => Election::campaign,
        "/v3/election/proclaim" => Election::proclaim,
        "/v3/election/leader" => Election::leader,
        "/v3/election/resign" => Election::resign,
    );
    let observe = method!(server, streamed, Election::observe);
    router.route("/v3/election/observe", observe)
}

/// All paths of this gateway; what else is below `/v3/` isn't found.
pub fn router<T>(server: Arc<T>) -> Router
where
    T: Kv + Watch + Lease + Cluster + Maintenance + Lock + Election,
{
    kv(Arc::clone(&server))
        .merge(watch(Arc::clone(&server)))
        .merge(lease(Arc::clone(&server)))
        .merge(cluster(Arc::clone(&server)))
        .merge(maintenance(Arc::clone(&server)))
        .merge(lock(Arc::clone(&server)))
        .merge(election(server))
        .fallback(not_found)
}

/// What etcd's gateway answers on a path it doesn't have.
pub async fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "Not Found\n")
}

async fn wrong_method() -> Response {
    plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}
