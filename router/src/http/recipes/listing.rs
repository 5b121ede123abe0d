//! The names of all things of a kind.

use bytes::Bytes;
use caucus_api::range::prefix_end;
use caucus_ring::Revision;
use http::StatusCode;

use super::call::Call;
use crate::Listing;
use crate::http::json::{self, Object};
use crate::http::key::percent_decode;
use crate::http::problem::Problem;
use crate::http::reply::{self, Answer};

/// Names of one page.
const NAMES_MAX: usize = 10_000;
const NAMES_DEFAULT: usize = 1_000;

/// `GET /v1/{kinds}`: the names of those that have keys, in the order of their keys; a page of them, after the
/// name `after`.
pub(super) async fn names(call: Call<'_>, kind: &str, field: &str) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "limit", "after"])?;
    let deadline = call.deadline(&params)?;
    let limit = params.number("limit", 1..=NAMES_MAX)?;
    let all: Bytes = format!("/@{kind}/").into();
    let start = match params.get("after") {
        Some(after) => {
            let after = String::from_utf8_lossy(after);
            let last = crate::recipes::directory(kind, &after);
            prefix_end(&last).unwrap_or_default()
        }
        None => all.clone(),
    };
    let listing = Listing {
        start,
        end: prefix_end(&all).unwrap_or_default(),
        limit: limit.unwrap_or(NAMES_DEFAULT),
        keys_only: true,
        delimiter: Bytes::from_static(b"/"),
        prefix_length: all.len(),
        ..Listing::default()
    };
    let page = call.router.list(&listing, Revision(0), deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    let names = page.items.iter().filter_map(|item| {
        let name = item.key.strip_prefix(&all[..])?;
        let name = std::str::from_utf8(name.strip_suffix(b"/")?).ok()?;
        String::from_utf8(percent_decode(name).ok()?.into_owned()).ok()
    });
    json::array(object.field(field), names, |out, name| {
        json::text(out, &name);
    });
    object.boolean("more", page.next.is_some());
    object.end();
    let mut answer = reply::json(StatusCode::OK, out);
    reply::set_revision(answer.headers_mut(), page.revision);
    Ok(answer)
}
