//! Listings: `GET /v1/kv`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use caucus_api::limits::{PAGE_KEYS_DEFAULT, PAGE_KEYS_MAX};
use caucus_api::shard::{Item, Record};
use caucus_ring::Revision;
use http::request::Parts;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::json::{self, Object};
use super::params::{Params, impossible};
use super::problem::{Code, Problem};
use super::reply::{self, Answer};
use crate::{Listing, Page, Router};
use caucus_api::range::prefix_end;

pub(super) const PARAMS: &[&str] = &[
    "prefix",
    "start",
    "end",
    "limit",
    "cursor",
    "keys_only",
    "delimiter",
    "revision",
    "consistency",
    "timeout",
];
/// The first byte of a cursor: before the revision of the pages, 0 for none, and the key at which the
/// next one starts.
const CURSOR_FORM: u8 = 1;

/// Answers a listing.
pub(super) async fn handle(router: &Router, parts: &Parts) -> Result<Answer, Problem> {
    if parts.method != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    let params = Params::parse(parts.uri.query(), PARAMS)?;
    let mut listing = listing(&params, PAGE_KEYS_MAX)?;
    let deadline = Instant::now() + params.timeout(parts, router.options())?;
    // All groups at one revision, and so are the pages that follow.
    if params.wants_global()? && listing.revision.is_none() {
        listing.revision = Some(router.granted(deadline).await?);
    }
    let page = router.list(&listing, Revision(0), deadline).await?;
    let mut answer = reply::json(StatusCode::OK, page_json(&page, &listing));
    reply::set_revision(answer.headers_mut(), page.revision);
    Ok(answer)
}

/// What is asked for, up to the limit of one page.
pub(super) fn listing(params: &Params<'_>, limit_max: usize) -> Result<Listing, Problem> {
    let bytes = |name| Bytes::copy_from_slice(params.get(name).unwrap_or(b""));
    let prefix = bytes("prefix");
    let delimiter = bytes("delimiter");
    if params.get("delimiter").is_some() && delimiter.is_empty() {
        return Err(impossible("delimiter", "at least one byte"));
    }
    let mut start = bytes("start").max(prefix.clone());
    let prefix_end = prefix_end(&prefix).unwrap_or_default();
    let end = match (params.get("end"), prefix_end.is_empty()) {
        (None | Some(b""), _) => prefix_end,
        (Some(end), true) => Bytes::copy_from_slice(end),
        (Some(end), false) => Bytes::copy_from_slice(end).min(prefix_end),
    };
    let mut revision = params.revision()?;
    if let Some(cursor) = params.get("cursor") {
        let inside = |key: &Bytes| *key >= start && (end.is_empty() || *key < end);
        let same = |before: Option<Revision>| revision.is_none() || revision == before;
        let position = position(cursor);
        let position = position.filter(|(before, key)| inside(key) && same(*before));
        (revision, start) = position.ok_or_else(|| {
            Problem::new(
                Code::InvalidCursor,
                "a cursor comes from the page before, of the same listing",
            )
        })?;
    }
    Ok(Listing {
        start,
        end,
        limit: params
            .number("limit", 1..=limit_max)?
            .unwrap_or(PAGE_KEYS_DEFAULT),
        keys_only: params.flag("keys_only")?,
        delimiter,
        prefix_length: prefix.len(),
        revision,
        ..Listing::default()
    })
}

/// The revision of the pages, and where the page of a cursor starts.
fn position(cursor: &[u8]) -> Option<(Option<Revision>, Bytes)> {
    let decoded = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (form, rest) = decoded.split_first()?;
    let (revision, key) = rest.split_first_chunk()?;
    let revision = match u64::from_be_bytes(*revision) {
        0 => None,
        revision => Some(Revision(revision)),
    };
    (*form == CURSOR_FORM).then(|| (revision, Bytes::copy_from_slice(key)))
}

/// Where a page goes on.
pub(super) fn cursor(revision: Option<Revision>, start: &[u8]) -> String {
    let revision = revision.map_or(0, |revision| revision.0);
    let mut bytes = Vec::with_capacity(9 + start.len());
    bytes.push(CURSOR_FORM);
    bytes.extend_from_slice(&revision.to_be_bytes());
    bytes.extend_from_slice(start);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn page_json(page: &Page, listing: &Listing) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + page.items.len() * 128);
    let mut object = Object::begin(&mut out);
    let records = page
        .items
        .iter()
        .filter_map(|item| item.record.as_ref().map(|record| (&item.key, record)));
    json::array(object.field("items"), records, |out, (key, record)| {
        write_record(out, key, record, listing.keys_only);
    });
    let folded = || page.items.iter().filter(|item| item.record.is_none());
    let text = |item: &Item| std::str::from_utf8(&item.key).is_ok();
    let texts = folded().filter(|item| text(item));
    json::array(object.field("prefixes"), texts, |out, item| {
        json::text(out, std::str::from_utf8(&item.key).unwrap_or_default());
    });
    if folded().any(|item| !text(item)) {
        let others = folded().filter(|item| !text(item));
        json::array(object.field("prefixes64"), others, |out, item| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(&item.key);
            json::text(out, &encoded);
        });
    }
    if let Some(next) = &page.next {
        object.text("cursor", &cursor(listing.revision, next));
    }
    object.number("revision", page.revision.0);
    object.end();
    out
}

/// One item by itself: a record, or a folded prefix.
pub(super) fn write_item(out: &mut Vec<u8>, item: &Item, keys_only: bool) {
    match &item.record {
        Some(record) => write_record(out, &item.key, record, keys_only),
        None => {
            let mut object = Object::begin(out);
            object.bytes("prefix", "prefix64", &item.key);
            object.end();
        }
    }
}

fn write_record(out: &mut Vec<u8>, key: &[u8], record: &Record, keys_only: bool) {
    let mut object = Object::begin(out);
    object.record(key, record, keys_only);
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(query: &str) -> Result<(String, String), Code> {
        let params = Params::parse(Some(query), PARAMS).unwrap();
        let text = |bytes: Bytes| bytes.escape_ascii().to_string();
        listing(&params, PAGE_KEYS_MAX)
            .map(|listing| (text(listing.start), text(listing.end)))
            .map_err(|problem| problem.code)
    }

    #[test]
    fn ranges() {
        let ok = |start: &str, end: &str| Ok((start.to_owned(), end.to_owned()));
        assert_eq!(range(""), ok("", ""));
        assert_eq!(range("prefix=/a/"), ok("/a/", "/a0"));
        assert_eq!(range("prefix=/a/&start=/a/c"), ok("/a/c", "/a0"));
        assert_eq!(range("prefix=/a/&start=/"), ok("/a/", "/a0"));
        assert_eq!(range("prefix=/a/&end=/a/c"), ok("/a/", "/a/c"));
        assert_eq!(range("start=b&end=d"), ok("b", "d"));
        assert_eq!(range("limit=0"), Err(Code::BadQueryValue));
        assert_eq!(range("limit=10001"), Err(Code::BadQueryValue));
        assert_eq!(range("delimiter="), Err(Code::BadQueryValue));
    }

    #[test]
    fn a_cursor_belongs_to_its_listing() {
        let here = cursor(None, b"/a/c");
        let with = |query: &str, cursor: &str| range(&format!("{query}&cursor={cursor}"));
        assert_eq!(with("prefix=/a/", &here).unwrap().0, "/a/c");
        assert_eq!(with("prefix=/b/", &here), Err(Code::InvalidCursor));
        assert_eq!(with("prefix=/a/", "!"), Err(Code::InvalidCursor));
        assert_eq!(with("prefix=/a/", ""), Err(Code::InvalidCursor));
        assert_eq!(with("prefix=/a/", "AmE"), Err(Code::InvalidCursor));
        let then = cursor(Some(Revision(7)), b"/a/c");
        assert_eq!(with("prefix=/a/&revision=7", &then).unwrap().0, "/a/c");
        assert_eq!(
            with("prefix=/a/&revision=8", &then),
            Err(Code::InvalidCursor)
        );
        assert_eq!(
            with("prefix=/a/&revision=7", &here),
            Err(Code::InvalidCursor)
        );
        let query = format!("prefix=/a/&cursor={then}");
        let params = Params::parse(Some(&query), PARAMS).unwrap();
        let listing = listing(&params, PAGE_KEYS_MAX).unwrap();
        assert_eq!(listing.revision, Some(Revision(7)));
    }
}
