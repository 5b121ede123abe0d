//! What people coordinate with, as JSON: `/v1/{recipe}/{name}/…`. The logic is in
//! [`recipes`](crate::recipes); here are only its forms.

mod barriers;
mod call;
mod config;
mod counters;
mod elections;
pub(super) mod leases;
mod listing;
mod locks;
mod members;
mod services;
mod topics;

use axum::body::Body as Streamed;
use http::Response;
use http_body_util::Either;

pub(super) use self::call::Call;
use super::front::Body;
use super::problem::Problem;
use super::reply::Answer;
use crate::metrics::Route;

/// The recipe of a path, and what follows its name there.
pub(super) fn route(path: &str) -> Option<(Route, &str)> {
    let rest = path.strip_prefix("/v1/")?;
    let (recipe, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let route = match recipe {
        "leases" => Route::Leases,
        "barriers" => Route::Barriers,
        "services" => Route::Services,
        "config" => Route::Config,
        "topics" => Route::Topics,
        "members" => Route::Members,
        "elections" => Route::Elections,
        "locks" => Route::Locks,
        "counters" => Route::Counters,
        _ => return None,
    };
    Some((route, rest))
}

/// Answers a call of a recipe.
pub(super) async fn handle(route: Route, call: Call<'_>) -> Result<Response<Body>, Problem> {
    match route {
        Route::Leases => leases::handle(call).await.map(whole),
        Route::Elections => elections::handle(call).await,
        Route::Barriers => barriers::handle(call).await.map(whole),
        Route::Members => members::handle(call).await,
        Route::Services => services::handle(call).await,
        Route::Config => config::handle(call).await,
        Route::Topics => topics::handle(call).await,
        Route::Locks => locks::handle(call).await.map(whole),
        Route::Counters => counters::handle(call).await.map(whole),
        _ => Err(call.no_route()),
    }
}

/// An answer of one piece.
fn whole(answer: Answer) -> Response<Body> {
    answer.map(Either::Left)
}

/// An answer that goes on.
fn streamed(answer: Response<Streamed>) -> Response<Body> {
    answer.map(Either::Right)
}
