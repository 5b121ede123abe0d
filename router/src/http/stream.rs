//! A whole listing as a stream: `GET /v1/kv` with `Accept: application/x-ndjson`.
//!
//! One line of JSON for each item, all at one revision, and a last line that says so: without it the
//! stream was cut. A page is asked for when the one before has been sent, so however many keys there are,
//! one page of them is in memory.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use caucus_api::limits::PAGE_KEYS_MAX;
use caucus_ring::Revision;
use futures::stream::{Stream, unfold};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use tokio::time::Instant;

use super::json::Object;
use super::listing;
use super::params::Params;
use super::problem::Problem;
use super::reply;
use crate::{Error, Listing, Page, Router};

/// The media type of lines of JSON.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// Whether a listing is asked for as a stream.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|accept| accept == NDJSON)
}

/// Begins a stream; what is wrong with the request, or with its first page, is told before it.
pub(super) async fn begin(router: &Router, parts: &Parts) -> Result<Response<Body>, Problem> {
    let params = Params::parse(parts.uri.query(), listing::PARAMS)?;
    let limit_max = usize::MAX >> 1;
    let limit = params.number("limit", 1..=limit_max)?;
    let mut listing = listing::listing(&params, limit_max)?;
    let timeout = params.timeout(parts, router.options())?;
    let deadline = Instant::now() + timeout;
    let revision = match listing.revision {
        Some(revision) => revision,
        None => router.granted(deadline).await?,
    };
    listing.revision = Some(revision);
    let mut rest = Rest {
        router: router.clone(),
        timeout,
        listing,
        left: limit.unwrap_or(usize::MAX),
        sent: 0,
    };
    let first = rest.page(deadline).await?;
    let stream = unfold(Next::Page(first, rest), next);
    let mut response = Response::new(Body::from_stream(lines(stream)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    reply::set_revision(headers, revision);
    Ok(response)
}

fn lines(chunks: impl Stream<Item = Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures::StreamExt::map(chunks, Ok)
}

/// What is still to be listed.
struct Rest {
    router: Router,
    /// Of each page.
    timeout: std::time::Duration,
    listing: Listing,
    left: usize,
    sent: usize,
}

enum Next {
    Page(Page, Rest),
    Ask(Rest),
    Nothing,
}

impl Rest {
    async fn page(&mut self, deadline: Instant) -> Result<Page, Error> {
        self.listing.limit = self.left.min(PAGE_KEYS_MAX);
        let page = self.router.list(&self.listing, Revision(0), deadline);
        page.await
    }
}

async fn next(state: Next) -> Option<(Bytes, Next)> {
    let (page, mut rest) = match state {
        Next::Nothing => return None,
        Next::Page(page, rest) => (page, rest),
        Next::Ask(mut rest) => {
            let deadline = Instant::now() + rest.timeout;
            match rest.page(deadline).await {
                Ok(page) => (page, rest),
                Err(error) => {
                    let mut line = Vec::new();
                    Problem::from(error).write_json(&mut line);
                    line.push(b'\n');
                    return Some((line.into(), Next::Nothing));
                }
            }
        }
    };
    let mut out = Vec::with_capacity(page.items.len() * 128 + 64);
    for item in &page.items {
        listing::write_item(&mut out, item, rest.listing.keys_only);
        out.push(b'\n');
    }
    rest.sent += page.items.len();
    rest.left -= page.items.len();
    match page.next {
        Some(start) if rest.left > 0 => {
            rest.listing.start = start;
            Some((out.into(), Next::Ask(rest)))
        }
        cut => {
            let mut end = Object::begin(&mut out);
            end.boolean("end", true);
            end.number("items", rest.sent as u64);
            end.number("revision", page.revision.0);
            if let Some(start) = cut {
                end.text("cursor", &listing::cursor(rest.listing.revision, &start));
            }
            end.end();
            out.push(b'\n');
            Some((out.into(), Next::Nothing))
        }
    }
}
