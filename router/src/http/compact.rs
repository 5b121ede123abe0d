//! Compaction: `POST /v1/compact` with `{"revision": R}`.

use caucus_ring::Revision;
use http::request::Parts;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::json::Object;
use super::params::Params;
use super::payload::Payload;
use super::problem::{Code, Problem};
use super::reply::{self, Answer};
use crate::Router;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CompactBody {
    revision: u64,
}

/// Answers when every group has it in its log: no read below the revision succeeds any more.
pub(super) async fn handle(
    router: &Router,
    parts: &Parts,
    payload: &mut Payload,
) -> Result<Answer, Problem> {
    if parts.method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    let params = Params::parse(parts.uri.query(), &["timeout"])?;
    let deadline = Instant::now() + params.timeout(parts, router.options())?;
    let body = payload.read().await?;
    let asked: CompactBody = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    if asked.revision == 0 {
        let detail = "the revision is 1 or above";
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    router.compact(Revision(asked.revision), deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.number("compacted", asked.revision);
    object.end();
    Ok(reply::json(StatusCode::OK, out))
}
