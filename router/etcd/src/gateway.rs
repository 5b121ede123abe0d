//! JSON over HTTP, translated the way etcd's gateway does it.
//!
//! ```text
//!  POST /v3/kv/range ─▶ body, read up to a limit ─▶ message ─▶ the trait's method ─▶ message ─▶ JSON
//! ```
//!
//! The implementation is called directly, as tonic's server calls it: no second hop through gRPC.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::check::{MAX_REQUEST_BYTES, MESSAGE_OVERHEAD_BYTES};
use crate::etcdserverpb::cluster_server::Cluster;
use crate::etcdserverpb::kv_server::Kv;
use crate::etcdserverpb::maintenance_server::Maintenance;
use crate::json;

/// How large a message may be, as JSON or not.
pub const MAX_MESSAGE_BYTES: usize = MAX_REQUEST_BYTES + MESSAGE_OVERHEAD_BYTES;

/// Base64 makes three bytes four, and names need room too.
const MAX_BODY_BYTES: usize = MAX_MESSAGE_BYTES / 3 * 4 + MESSAGE_OVERHEAD_BYTES;

/// Paths over an implementation: `post!(router, implementation, path => Trait::method, …)`.
macro_rules! post {
    ($router:expr, $server:expr, $($path:literal => $service:ident :: $method:ident,)+) => {{
        let router = $router;
        $(
            let server = Arc::clone(&$server);
            let router = router.route($path, on(MethodFilter::POST, move |request: Request| {
                let server = Arc::clone(&server);
                unary(request, move |message| async move {
                    $service::$method(server.as_ref(), message).await
                })
            }).fallback(wrong_method));
        )+
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
    let snapshot = on(MethodFilter::POST, move |request: Request| {
        let server = Arc::clone(&server);
        streamed(request, move |message| async move {
            Maintenance::snapshot(server.as_ref(), message).await
        })
    });
    router.route("/v3/maintenance/snapshot", snapshot.fallback(wrong_method))
}

/// All paths of this gateway; what else is below `/v3/` isn't found.
pub fn router<T: Kv + Cluster + Maintenance>(server: Arc<T>) -> Router {
    kv(Arc::clone(&server))
        .merge(cluster(Arc::clone(&server)))
        .merge(maintenance(server))
        .fallback(not_found)
}

/// What etcd's gateway answers on a path it doesn't have.
pub async fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "Not Found\n")
}

async fn wrong_method() -> Response {
    plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

/// A call with one message each way.
async fn unary<I, O, F>(request: Request, call: impl FnOnce(tonic::Request<I>) -> F) -> Response
where
    I: DeserializeOwned + Default,
    O: Serialize,
    F: Future<Output = Result<tonic::Response<O>, Status>>,
{
    let called = async { call(message(request).await?).await };
    match called.await {
        Ok(answer) => success(answer.get_ref()),
        Err(status) => failure(&status),
    }
}

/// A call with many answers: a line for each, and one for the error they end with.
async fn streamed<I, O, S, F>(
    request: Request,
    call: impl FnOnce(tonic::Request<I>) -> F,
) -> Response
where
    I: DeserializeOwned + Default,
    O: Serialize,
    S: futures::Stream<Item = Result<O, Status>> + Send + 'static,
    F: Future<Output = Result<tonic::Response<S>, Status>>,
{
    let called = async { call(message(request).await?).await };
    let answers = match called.await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return failure(&status),
    };
    let lines = answers.map(|answer| Ok::<Bytes, Infallible>(line(answer)));
    let mut response = Response::new(Body::from_stream(lines));
    set_json(response.headers_mut());
    response
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<T> {
    Result(T),
    Error(StreamError),
}

fn line<T: Serialize>(answer: Result<T, Status>) -> Bytes {
    let line = match answer {
        Ok(answer) => Line::Result(answer),
        Err(status) => Line::Error(StreamError::from(&status)),
    };
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

async fn message<I: DeserializeOwned + Default>(
    request: Request,
) -> Result<tonic::Request<I>, Status> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            let text = format!("grpc: received message larger than max (max {MAX_MESSAGE_BYTES})");
            return Status::resource_exhausted(text);
        }
        Status::invalid_argument(error.to_string())
    })?;
    let message = json::parse(&body.to_bytes()).map_err(Status::invalid_argument)?;
    let metadata = metadata(&head.headers);
    let extensions = head.extensions;
    Ok(tonic::Request::from_parts(metadata, extensions, message))
}

/// As gateways do, the token goes on, and other headers only where their names ask for it.
fn metadata(headers: &HeaderMap) -> MetadataMap {
    const PREFIX: &str = "grpc-metadata-";
    let mut passed = HeaderMap::new();
    for (name, value) in headers {
        if name == AUTHORIZATION {
            passed.append(name.clone(), value.clone());
        } else if let Some(name) = name.as_str().strip_prefix(PREFIX)
            && let Ok(name) = name.parse::<http::HeaderName>()
        {
            passed.append(name, value.clone());
        }
    }
    MetadataMap::from_headers(passed)
}

/// An error as the gateway writes it: the text twice, as clients of either age expect it.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
    code: i32,
}

/// An error in the middle of a stream has the HTTP status too.
#[derive(Serialize)]
struct StreamError {
    grpc_code: i32,
    http_code: u16,
    message: String,
    http_status: &'static str,
}

impl From<&Status> for StreamError {
    fn from(status: &Status) -> Self {
        let http = http_status(status.code());
        Self {
            grpc_code: status.code().into(),
            http_code: http.as_u16(),
            message: status.message().to_owned(),
            http_status: http.canonical_reason().unwrap_or_default(),
        }
    }
}

fn success(answer: &impl Serialize) -> Response {
    match serde_json::to_vec(answer) {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            set_json(response.headers_mut());
            response
        }
        Err(error) => failure(&Status::internal(error.to_string())),
    }
}

fn failure(status: &Status) -> Response {
    let body = ErrorBody {
        error: status.message(),
        message: status.message(),
        code: status.code().into(),
    };
    let text = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = http_status(status.code());
    set_json(response.headers_mut());
    response
}

fn set_json(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The table of etcd 3.4's gateway; later ones have 400 for what failed on a precondition.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
