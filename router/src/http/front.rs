//! From a request to its handler.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::payload::Payload;
use super::problem::{Code, Problem};
use super::recipes::{self, Call};
use super::reply::Answer;
use super::{Here, MetricsText, batch, compact, kv, listing, operator, probes, stream, txn, watch};
use crate::Router;
use crate::etcd::{EtcdOptions, Mount, mount};
use crate::metrics::{HttpMetrics, Route};

/// The body of an answer: nearly always one buffer.
pub(super) type Body = Either<Full<Bytes>, axum::body::Body>;

const KEY_PREFIX: &str = "/v1/kv/";

/// Answers all requests of all connections.
pub(super) struct Front {
    router: Router,
    etcd: Mount,
    cold: TowerToHyperService<axum::Router>,
    metrics: HttpMetrics,
    body_timeout: Duration,
    shutdown: CancellationToken,
}

/// What the handlers behind axum see.
#[derive(Clone)]
pub(super) struct Cold {
    pub(super) router: Router,
    pub(super) metrics_text: MetricsText,
}

impl Front {
    pub(super) fn new(
        router: Router,
        here: Here,
        body_timeout: Duration,
        etcd: EtcdOptions,
        shutdown: CancellationToken,
    ) -> Arc<Front> {
        let cold = Cold {
            router: router.clone(),
            metrics_text: here.metrics_text,
        };
        Arc::new(Front {
            etcd: Mount::new(router.clone(), here.node, etcd, shutdown.clone()),
            router,
            cold: TowerToHyperService::new(cold_routes(cold)),
            metrics: HttpMetrics::default(),
            body_timeout,
            shutdown,
        })
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let route = route(&parts);
        if let Route::Grpc | Route::Gateway = route {
            return self.answer_etcd(route, parts, body, started).await;
        }
        let mut payload = Payload::new(body, self.body_timeout);
        if let Some((recipe, rest)) = recipes::route(parts.uri.path()) {
            let payload = &mut payload;
            return self
                .answer_recipe(recipe, &parts, rest, payload, started)
                .await;
        }
        let is_stream = match route {
            Route::Watch => true,
            Route::Listing => {
                parts.method == http::Method::GET && stream::is_asked_for(&parts.headers)
            }
            _ => false,
        };
        if is_stream {
            return self.answer_stream(route, &parts, payload, started).await;
        }
        let answered = match route {
            Route::Key => {
                let path_key = parts.uri.path().strip_prefix(KEY_PREFIX);
                kv::handle(&self.router, &parts, path_key, &mut payload).await
            }
            Route::Listing => listing::handle(&self.router, &parts).await,
            Route::Batch => batch::handle(&self.router, &parts, &mut payload).await,
            Route::Compact => compact::handle(&self.router, &parts, &mut payload).await,
            Route::Txn => txn::handle(&self.router, &parts, &mut payload).await,
            Route::Watch
            | Route::Leases
            | Route::Locks
            | Route::Elections
            | Route::Barriers
            | Route::Members
            | Route::Services
            | Route::Config
            | Route::Topics
            | Route::Counters
            | Route::Cluster
            | Route::Ring
            | Route::Healthz
            | Route::Readyz
            | Route::Metrics
            | Route::Grpc
            | Route::Gateway
            | Route::Other => {
                let usable = payload.drain().await;
                return self.answer_cold(route, parts, usable, started).await;
            }
        };
        let usable = payload.drain().await;
        let answer = answered.unwrap_or_else(|mut problem| {
            problem.closes |= !usable;
            problem.into_response()
        });
        self.metrics
            .record(route, &parts.method, answer.status(), started.elapsed());
        answer.map(Either::Left)
    }

    async fn answer_etcd(
        &self,
        route: Route,
        parts: Parts,
        body: Incoming,
        started: Instant,
    ) -> Response<Body> {
        let method = parts.method.clone();
        let request = Request::from_parts(parts, body);
        let answer = match route {
            Route::Grpc => self.etcd.grpc(request).await,
            _ => {
                let limit = self.body_timeout + self.router.options().timeout_max;
                self.etcd.json(request, limit).await
            }
        };
        self.metrics
            .record(route, &method, answer.status(), started.elapsed());
        answer.map(Either::Right)
    }

    async fn answer_recipe(
        &self,
        route: Route,
        parts: &Parts,
        rest: &str,
        payload: &mut Payload,
        started: Instant,
    ) -> Response<Body> {
        let call = Call {
            router: &self.router,
            parts,
            payload,
            rest,
            shutdown: &self.shutdown,
        };
        let answered = recipes::handle(route, call).await;
        let usable = payload.drain().await;
        let answer = answered.unwrap_or_else(|mut problem| {
            problem.closes |= !usable;
            problem.into_response().map(Either::Left)
        });
        self.metrics
            .record(route, &parts.method, answer.status(), started.elapsed());
        answer
    }

    async fn answer_stream(
        &self,
        route: Route,
        parts: &Parts,
        mut payload: Payload,
        started: Instant,
    ) -> Response<Body> {
        let begun = match route {
            Route::Watch => watch::begin(&self.router, parts, &self.shutdown).await,
            _ => stream::begin(&self.router, parts).await,
        };
        let usable = payload.drain().await;
        let answer = match begun {
            Ok(answer) => answer.map(Either::Right),
            Err(mut problem) => {
                problem.closes |= !usable;
                problem.into_response().map(Either::Left)
            }
        };
        self.metrics
            .record(route, &parts.method, answer.status(), started.elapsed());
        answer
    }

    async fn answer_cold(
        &self,
        route: Route,
        parts: Parts,
        usable: bool,
        started: Instant,
    ) -> Response<Body> {
        let method = parts.method.clone();
        let answer = if usable {
            let request = Request::from_parts(parts, axum::body::Body::empty());
            let Ok(answer): Result<_, Infallible> = self.cold.call(request).await;
            answer.map(Either::Right)
        } else {
            let mut problem = Problem::new(Code::BodyTooLarge, "this route takes no body");
            problem.closes = true;
            problem.into_response().map(Either::Left)
        };
        self.metrics
            .record(route, &method, answer.status(), started.elapsed());
        answer
    }
}

fn route(parts: &Parts) -> Route {
    let path = parts.uri.path();
    if path.starts_with(KEY_PREFIX) {
        return Route::Key;
    }
    if mount::is_grpc(parts) {
        return Route::Grpc;
    }
    if mount::is_gateway(path) {
        return Route::Gateway;
    }
    match path {
        "/v1/kv" => {
            let names_key = parts
                .uri
                .query()
                .is_some_and(|query| query.split('&').any(|pair| pair.starts_with("key64=")));
            if names_key
                || parts.method == http::Method::PUT
                || parts.method == http::Method::DELETE
            {
                Route::Key
            } else {
                Route::Listing
            }
        }
        "/v1/batch" => Route::Batch,
        "/v1/compact" => Route::Compact,
        "/v1/txn" => Route::Txn,
        "/v1/watch" => Route::Watch,
        "/v1/cluster" => Route::Cluster,
        "/v1/ring" => Route::Ring,
        "/healthz" => Route::Healthz,
        "/readyz" => Route::Readyz,
        "/metrics" => Route::Metrics,
        _ => Route::Other,
    }
}

fn cold_routes(cold: Cold) -> axum::Router {
    axum::Router::new()
        .route("/v1/cluster", get(operator::cluster))
        .route("/v1/ring", get(operator::ring))
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(cold)
}

async fn method_not_allowed() -> Answer {
    Problem::method_not_allowed("GET, HEAD").into_response()
}

async fn not_found(uri: http::Uri) -> Answer {
    let path: String = uri.path().chars().take(128).collect();
    Problem::new(Code::NotFound, format!("there is no route `{path}`")).into_response()
}
