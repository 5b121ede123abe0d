//! The router's metrics: names, units, and handles that are looked up once.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use tokio::time::Instant;
use tonic::{Code, Response, Status};

/// Requests answered, by route, method and status code.
pub const HTTP_REQUESTS_TOTAL: &str = "caucus_http_requests_total";
/// From the request's head to its answer.
pub const HTTP_REQUEST_DURATION_SECONDS: &str = "caucus_http_request_duration_seconds";
/// Calls of etcd's API, by call and code.
pub const ETCD_REQUESTS_TOTAL: &str = "caucus_etcd_requests_total";
/// From a decoded call to its answer.
pub const ETCD_REQUEST_DURATION_SECONDS: &str = "caucus_etcd_request_duration_seconds";
/// Client connections.
pub const HTTP_CONNECTIONS: &str = "caucus_http_connections";
/// Attempts that failed, by how.
pub const ROUTER_RETRIES_TOTAL: &str = "caucus_router_retries_total";
/// Operations that wait for a data group.
pub const ROUTER_OPEN_REQUESTS: &str = "caucus_router_open_requests";
/// The epoch of the cluster map in use.
pub const ROUTER_MAP_EPOCH: &str = "caucus_router_map_epoch";
/// Watches that are open.
pub const ROUTER_WATCHES: &str = "caucus_router_watches";
/// Times that a watch was too slow to be told as things happen, and read on by itself.
pub const ROUTER_WATCHES_DEMOTED_TOTAL: &str = "caucus_router_watches_demoted_total";

/// A place in the HTTP API: a label of bounded number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Key,
    Listing,
    Batch,
    Compact,
    Txn,
    Watch,
    Leases,
    Locks,
    Elections,
    Barriers,
    Members,
    Services,
    Config,
    Topics,
    Counters,
    Cluster,
    Ring,
    Healthz,
    Readyz,
    Metrics,
    Grpc,
    Gateway,
    Other,
}

const ROUTES: usize = Route::Other as usize + 1;
const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "HEAD", "other"];
/// Codes that are answered; all others are counted under the first.
const CODES: [u16; 20] = [
    500, 200, 201, 304, 400, 404, 405, 408, 409, 410, 412, 413, 415, 422, 429, 501, 502, 503, 504,
    507,
];

impl Route {
    fn name(self) -> &'static str {
        match self {
            Route::Key => "/v1/kv/{key}",
            Route::Listing => "/v1/kv",
            Route::Batch => "/v1/batch",
            Route::Compact => "/v1/compact",
            Route::Txn => "/v1/txn",
            Route::Watch => "/v1/watch",
            Route::Leases => "/v1/leases",
            Route::Locks => "/v1/locks",
            Route::Elections => "/v1/elections",
            Route::Barriers => "/v1/barriers",
            Route::Members => "/v1/members",
            Route::Services => "/v1/services",
            Route::Config => "/v1/config",
            Route::Topics => "/v1/topics",
            Route::Counters => "/v1/counters",
            Route::Cluster => "/v1/cluster",
            Route::Ring => "/v1/ring",
            Route::Healthz => "/healthz",
            Route::Readyz => "/readyz",
            Route::Metrics => "/metrics",
            Route::Grpc => "grpc",
            Route::Gateway => "/v3",
            Route::Other => "other",
        }
    }
}

/// Handles of the HTTP server's metrics.
#[derive(Default)]
pub(crate) struct HttpMetrics {
    routes: [[PerMethod; METHODS.len()]; ROUTES],
}

#[derive(Default)]
struct PerMethod {
    duration: OnceLock<Histogram>,
    codes: [OnceLock<Counter>; CODES.len()],
}

impl HttpMetrics {
    pub(crate) fn record(&self, route: Route, method: &Method, code: StatusCode, took: Duration) {
        let method = method_index(method);
        let handles = &self.routes[route as usize][method];
        let code_index = CODES
            .iter()
            .position(|known| *known == code.as_u16())
            .unwrap_or(0);
        handles.codes[code_index]
            .get_or_init(|| {
                counter!(
                    HTTP_REQUESTS_TOTAL,
                    "route" => route.name(),
                    "method" => METHODS[method],
                    "code" => CODES[code_index].to_string(),
                )
            })
            .increment(1);
        handles
            .duration
            .get_or_init(|| {
                histogram!(
                    HTTP_REQUEST_DURATION_SECONDS,
                    "route" => route.name(),
                    "method" => METHODS[method],
                )
            })
            .record(took.as_secs_f64());
    }
}

fn method_index(method: &Method) -> usize {
    let known = METHODS.iter().position(|known| *known == method.as_str());
    known.unwrap_or(METHODS.len() - 1)
}

/// A call of etcd's API: a label of bounded number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EtcdCall {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
    MemberList,
    Alarm,
    Status,
    Defragment,
    Hash,
    HashKv,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseLeases,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Resign,
}

const ETCD_CALLS: usize = EtcdCall::Resign as usize + 1;
/// Codes of gRPC, `OK` first.
const GRPC_CODES: usize = 17;

impl EtcdCall {
    fn name(self) -> &'static str {
        match self {
            EtcdCall::Range => "Range",
            EtcdCall::Put => "Put",
            EtcdCall::DeleteRange => "DeleteRange",
            EtcdCall::Txn => "Txn",
            EtcdCall::Compact => "Compact",
            EtcdCall::MemberList => "MemberList",
            EtcdCall::Alarm => "Alarm",
            EtcdCall::Status => "Status",
            EtcdCall::Defragment => "Defragment",
            EtcdCall::Hash => "Hash",
            EtcdCall::HashKv => "HashKV",
            EtcdCall::LeaseGrant => "LeaseGrant",
            EtcdCall::LeaseRevoke => "LeaseRevoke",
            EtcdCall::LeaseTimeToLive => "LeaseTimeToLive",
            EtcdCall::LeaseLeases => "LeaseLeases",
            EtcdCall::Lock => "Lock",
            EtcdCall::Unlock => "Unlock",
            EtcdCall::Campaign => "Campaign",
            EtcdCall::Proclaim => "Proclaim",
            EtcdCall::Leader => "Leader",
            EtcdCall::Resign => "Resign",
        }
    }
}

/// Handles of the metrics of etcd's API, whichever way calls come.
#[derive(Default)]
pub(crate) struct EtcdMetrics {
    calls: [PerCall; ETCD_CALLS],
}

#[derive(Default)]
struct PerCall {
    duration: OnceLock<Histogram>,
    codes: [OnceLock<Counter>; GRPC_CODES],
}

impl EtcdMetrics {
    /// Does what a call asks for, and counts it.
    pub(crate) async fn measured<T>(
        &self,
        call: EtcdCall,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let begun = Instant::now();
        let done = work.await;
        let code = done.as_ref().map_or_else(Status::code, |_| Code::Ok);
        let handles = &self.calls[call as usize];
        let counter = handles.codes[code as usize % GRPC_CODES].get_or_init(|| {
            counter!(
                ETCD_REQUESTS_TOTAL,
                "call" => call.name(),
                "code" => format!("{code:?}"),
            )
        });
        counter.increment(1);
        let duration = handles
            .duration
            .get_or_init(|| histogram!(ETCD_REQUEST_DURATION_SECONDS, "call" => call.name()));
        duration.record(begun.elapsed().as_secs_f64());
        done.map(Response::new)
    }
}

/// Handles of the router's metrics.
pub(crate) struct RouterMetrics {
    pub(crate) open: Gauge,
    pub(crate) epoch: Gauge,
    pub(crate) watches: Gauge,
    pub(crate) watch_demoted: Counter,
}

impl RouterMetrics {
    pub(crate) fn new() -> RouterMetrics {
        RouterMetrics {
            open: gauge!(ROUTER_OPEN_REQUESTS),
            epoch: gauge!(ROUTER_MAP_EPOCH),
            watches: gauge!(ROUTER_WATCHES),
            watch_demoted: counter!(ROUTER_WATCHES_DEMOTED_TOTAL),
        }
    }

    /// Not on the path of a request that goes well.
    pub(crate) fn retry(&self, reason: &'static str) {
        counter!(ROUTER_RETRIES_TOTAL, "reason" => reason).increment(1);
    }
}

/// Describes all metrics of this crate; call once, when the recorder is installed.
pub fn describe() {
    describe_counter!(
        HTTP_REQUESTS_TOTAL,
        "HTTP requests answered, by route, method and status code"
    );
    describe_histogram!(
        HTTP_REQUEST_DURATION_SECONDS,
        Unit::Seconds,
        "Time from a request's head to its answer"
    );
    describe_counter!(
        ETCD_REQUESTS_TOTAL,
        "Calls of etcd's API answered, by call and code"
    );
    describe_histogram!(
        ETCD_REQUEST_DURATION_SECONDS,
        Unit::Seconds,
        "Time from a decoded call of etcd's API to its answer"
    );
    describe_gauge!(HTTP_CONNECTIONS, "Open client connections");
    describe_counter!(
        ROUTER_RETRIES_TOTAL,
        "Attempts at data groups that failed, by reason"
    );
    describe_gauge!(
        ROUTER_OPEN_REQUESTS,
        "Operations that wait for a data group"
    );
    describe_gauge!(ROUTER_MAP_EPOCH, "Epoch of the cluster map in use");
    describe_gauge!(ROUTER_WATCHES, "Watches that are open");
    describe_counter!(
        ROUTER_WATCHES_DEMOTED_TOTAL,
        "Times that a watch was too slow and had to read on by itself"
    );
}
