//! What machines look at: liveness, readiness, metrics.

use std::time::Duration;

use axum::extract::State;
use http::{HeaderValue, StatusCode, Uri};
use tokio::time::Instant;

use super::front::Cold;
use super::json::{self, Object};
use super::params::Params;
use super::problem::Problem;
use super::reply::{self, Answer};
use crate::Readiness;

/// How long a probe for readiness may take.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// `GET /healthz`: the process lives.
pub(super) async fn healthz() -> Answer {
    plain("ok\n".to_owned())
}

/// `GET /metrics`, in Prometheus's text format.
pub(super) async fn metrics(State(cold): State<Cold>) -> Answer {
    plain((cold.metrics_text)())
}

fn plain(text: String) -> Answer {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    reply::typed(StatusCode::OK, content_type, text)
}

/// `GET /readyz`: whether every group answers.
pub(super) async fn readyz(State(cold): State<Cold>, uri: Uri) -> Answer {
    if let Err(problem) = Params::parse(uri.query(), &[]) {
        return Problem::into_response(problem);
    }
    let readiness = cold.router.readiness(Instant::now() + READY_TIMEOUT).await;
    let (reason, silent) = match readiness {
        Readiness::Ready => return reply::json(StatusCode::OK, br#"{"ready":true}"#.to_vec()),
        Readiness::NoMap => ("there is no cluster map yet", Vec::new()),
        Readiness::NoGroups => ("there are no data groups yet", Vec::new()),
        Readiness::Silent(groups) => ("some groups do not answer", groups),
    };
    let mut body = Vec::new();
    let mut object = Object::begin(&mut body);
    object.boolean("ready", false);
    object.text("reason", reason);
    json::array(object.field("groups"), silent, |out, group| {
        out.extend_from_slice(group.to_string().as_bytes());
    });
    object.end();
    reply::json(StatusCode::SERVICE_UNAVAILABLE, body)
}
