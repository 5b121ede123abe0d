//! Answers that went well.

use bytes::Bytes;
use caucus_ring::Revision;
use http::header::{CONTENT_TYPE, ETAG, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;

/// What every handler answers with.
pub(super) type Answer = Response<Full<Bytes>>;

/// The store's revision at which an answer was true.
const REVISION: HeaderName = HeaderName::from_static("caucus-revision");

pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    typed(status, HeaderValue::from_static("application/json"), body)
}

pub(super) fn typed(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

pub(super) fn set_revision(headers: &mut HeaderMap, revision: Revision) {
    headers.insert(REVISION, HeaderValue::from(revision.0));
}

pub(super) fn set_etag(headers: &mut HeaderMap, revision: u64) {
    // Digits and quotes always make a header value.
    if let Ok(tag) = HeaderValue::try_from(format!("\"{revision}\"")) {
        headers.insert(ETAG, tag);
    }
}
