//! `GET /v1/kv/{key}/history`: the changes of one key that are not compacted, newest first.

use caucus_api::shard::Changes;
use http::StatusCode;
use http::request::Parts;
use tokio::time::Instant;

use super::json::{self, Object};
use super::params::Params;
use super::problem::Problem;
use super::reply::{self, Answer};
use super::{key, kv};
use crate::Router;

/// Changes of a page.
const LIMIT_MAX: usize = 1000;
const LIMIT_DEFAULT: usize = 100;
const PARAMS: &[&str] = &["limit", "below", "timeout"];

/// The key's part of a path that ends in `/history`.
pub(super) fn of(path: &str) -> Option<&str> {
    path.strip_suffix("/history").filter(|key| !key.is_empty())
}

/// Answers with a page; `below` is where the next one goes on.
pub(super) async fn handle(router: &Router, parts: &Parts, path: &str) -> Result<Answer, Problem> {
    let params = Params::parse(parts.uri.query(), PARAMS)?;
    let key = key::from_path(path)?;
    let limit = params.number("limit", 1..=LIMIT_MAX)?;
    let below = params.number("below", 1..=usize::MAX >> 1)?;
    let deadline = Instant::now() + params.timeout(parts, router.options())?;
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    let below = below.map_or(0, |below| below as u64);
    let (changes, revision) = router.history(key.clone(), below, limit, deadline).await?;
    let mut answer = reply::json(StatusCode::OK, page(&key, &changes));
    reply::set_revision(answer.headers_mut(), revision);
    Ok(answer)
}

fn page(key: &[u8], changes: &Changes) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(
        object.field("changes"),
        &changes.changes,
        |out, change| match &change.record {
            Some(record) => kv::write_record(out, key, record),
            None => {
                let mut gone = Object::begin(out);
                gone.key(key);
                gone.boolean("deleted", true);
                gone.number("revision", change.revision);
                gone.end();
            }
        },
    );
    if let (true, Some(last)) = (changes.more, changes.changes.last()) {
        object.number("below", last.revision);
    }
    object.end();
    out
}
