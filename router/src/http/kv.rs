//! One key: `/v1/kv/{key}` and `/v1/kv?key64=`.

use bytes::Bytes;
use caucus_api::limits::VALUE_BYTES_MAX;
use caucus_api::shard::outcome::Kind;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Delete, Outcome, Put, Record, Write};
use caucus_ring::Revision;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::condition::{self, OfRead, Verdict};
use super::json::Object;
use super::params::Params;
use super::payload::Payload;
use super::problem::{Code, Problem};
use super::reply::{self, Answer};
use super::{change, history, idempotency, key, media};
use crate::{Router, Written};

pub(super) const METHODS: &str = "GET, HEAD, PUT, DELETE";
const READ_PARAMS: &[&str] = &["raw", "consistency", "revision", "timeout", "key64"];
const DELETE_PARAMS: &[&str] = &["timeout", "key64"];
const PUT_PARAMS: &[&str] = &["timeout", "lease", "key64"];

/// Answers a request for one key. `path_key` is what follows `/v1/kv/`; `None`: the key is in `key64`.
pub(super) async fn handle(
    router: &Router,
    parts: &Parts,
    path_key: Option<&str>,
    payload: &mut Payload,
) -> Result<Answer, Problem> {
    match parts.method {
        Method::GET => match path_key.and_then(history::of) {
            Some(key) => history::handle(router, parts, key).await,
            None => get(router, parts, path_key, false).await,
        },
        Method::POST => change::handle(router, parts, path_key, payload).await,
        Method::HEAD => get(router, parts, path_key, true).await,
        Method::PUT => put(router, parts, path_key, payload)
            .await
            .map_err(Problem::of_write),
        Method::DELETE => delete(router, parts, path_key)
            .await
            .map_err(Problem::of_write),
        _ => Err(Problem::method_not_allowed(METHODS)),
    }
}

fn key_of(
    path_key: Option<&str>,
    params: &Params<'_>,
    allowed: &[&'static str],
) -> Result<Bytes, Problem> {
    match (path_key, params.get("key64")) {
        (Some(path_key), None) => key::from_path(path_key),
        (None, Some(encoded)) => key::from_base64(encoded),
        (None, None) => Err(Problem::new(Code::KeyEmpty, "no key is given")),
        (Some(_), Some(_)) => Err(Problem::new(
            Code::UnknownQueryParameter,
            format!(
                "`key64` is not known where the path has the key; allowed are: {}",
                allowed[..allowed.len() - 1].join(", ")
            ),
        )),
    }
}

async fn get(
    router: &Router,
    parts: &Parts,
    path_key: Option<&str>,
    head: bool,
) -> Result<Answer, Problem> {
    let params = Params::parse(parts.uri.query(), READ_PARAMS)?;
    let key = key_of(path_key, &params, READ_PARAMS)?;
    let condition = OfRead::parse(&parts.headers)?;
    let raw = params.flag("raw")?;
    let deadline = Instant::now() + params.timeout(parts, router.options())?;
    let at_least = if params.wants_global()? {
        router.granted(deadline).await?
    } else {
        Revision(0)
    };
    let at = params.revision()?;
    let read = router
        .get_at(key.clone(), head, at, at_least, deadline)
        .await?;
    let found = read.record.as_ref().map(|record| record.mod_revision);
    let mut answer = match (condition.judge(found), read.record) {
        (Verdict::Failed, _) => return Err(Problem::condition_failed(found.unwrap_or(0))),
        (_, None) => {
            let mut missing = Problem::new(Code::KeyNotFound, "no such key").into_response();
            reply::set_revision(missing.headers_mut(), read.revision);
            return Ok(missing);
        }
        (Verdict::NotModified, Some(_)) => reply::empty(StatusCode::NOT_MODIFIED),
        (Verdict::Answer, Some(record)) if raw || head => raw_record(record),
        (Verdict::Answer, Some(record)) => reply::json(StatusCode::OK, record_json(&key, &record)),
    };
    let headers = answer.headers_mut();
    reply::set_revision(headers, read.revision);
    if let Some(found) = found {
        reply::set_etag(headers, found);
    }
    Ok(answer)
}

fn raw_record(record: Record) -> Answer {
    let content_type = HeaderValue::try_from(media::name(&record.content_type))
        .unwrap_or_else(|_| HeaderValue::from_static(media::BYTES));
    reply::typed(StatusCode::OK, content_type, record.value)
}

fn record_json(key: &[u8], record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + record.value.len() + 192);
    write_record(&mut out, key, record);
    out
}

/// A key with its record; used by listings and batches too.
pub(super) fn write_record(out: &mut Vec<u8>, key: &[u8], record: &Record) {
    let mut object = Object::begin(out);
    object.record(key, record, false);
    object.end();
}

async fn put(
    router: &Router,
    parts: &Parts,
    path_key: Option<&str>,
    payload: &mut Payload,
) -> Result<Answer, Problem> {
    let params = Params::parse(parts.uri.query(), PUT_PARAMS)?;
    let key = key_of(path_key, &params, PUT_PARAMS)?;
    let condition = condition::of_write(&parts.headers)?;
    let timeout = params.timeout(parts, router.options())?;
    let content_type = match parts.headers.get(CONTENT_TYPE) {
        None => media::BYTES,
        Some(content_type) => content_type
            .to_str()
            .map_err(|_| Problem::new(Code::BadContentType, "a content type is ASCII text"))?,
    };
    let value = payload.read().await?;
    let name = idempotency::name(
        parts,
        &[b"put", &key],
        &[&value, params.get("lease").unwrap_or(b"")],
    )?;
    let mut write = put_of(key.clone(), value, content_type, condition)?;
    if let Some(Action::Put(put)) = &mut write.action {
        put.lease = params.lease()?.unwrap_or(0);
    }
    let deadline = Instant::now() + timeout;
    let written = router.write_named(write, name, deadline).await?;
    let mut body = Vec::with_capacity(key.len() + 96);
    write_put(&mut body, &key, &written.outcome)?;
    let status = if written.outcome.version == 1 {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut answer = reply::json(status, body);
    reply::set_etag(answer.headers_mut(), written.outcome.revision);
    reply::set_revision(answer.headers_mut(), written.revision);
    Ok(answer)
}

/// A put, if its value is small enough and of its type.
pub(super) fn put_of(
    key: Bytes,
    value: Bytes,
    content_type: &str,
    condition: Option<caucus_api::shard::Condition>,
) -> Result<Write, Problem> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Problem::new(
            Code::ValueTooLarge,
            format!("a value has at most {VALUE_BYTES_MAX} bytes"),
        ));
    }
    media::check(content_type, &value)?;
    let put = Put {
        value,
        content_type: content_type.to_owned(),
        ..Put::default()
    };
    Ok(write_of(key, condition, Action::Put(put)))
}

/// A delete.
pub(super) fn delete_of(key: Bytes, condition: Option<caucus_api::shard::Condition>) -> Write {
    write_of(key, condition, Action::Delete(Delete {}))
}

fn write_of(key: Bytes, condition: Option<caucus_api::shard::Condition>, action: Action) -> Write {
    Write {
        key,
        condition,
        action: Some(action),
        ..Write::default()
    }
}

/// The answer to a put: what it did, or that its condition failed.
pub(super) fn write_put(out: &mut Vec<u8>, key: &[u8], outcome: &Outcome) -> Result<(), Problem> {
    match outcome.kind() {
        Kind::Put => {
            let mut object = Object::begin(out);
            object.key(key);
            object.revisions(outcome.revision, outcome.create_revision, outcome.version);
            object.end();
            Ok(())
        }
        Kind::ConditionFailed => Err(Problem::condition_failed(outcome.found_revision)),
        Kind::None | Kind::Deleted | Kind::Absent | Kind::Txn => Err(nonsense()),
    }
}

async fn delete(router: &Router, parts: &Parts, path_key: Option<&str>) -> Result<Answer, Problem> {
    let params = Params::parse(parts.uri.query(), DELETE_PARAMS)?;
    let key = key_of(path_key, &params, DELETE_PARAMS)?;
    let condition = condition::of_write(&parts.headers)?;
    let deadline = Instant::now() + params.timeout(parts, router.options())?;
    let name = idempotency::name(parts, &[b"delete", &key], &[])?;
    let delete = delete_of(key, condition);
    let Written { outcome, revision } = router.write_named(delete, name, deadline).await?;
    let mut body = Vec::with_capacity(48);
    write_deleted(&mut body, &outcome)?;
    let mut answer = reply::json(StatusCode::OK, body);
    reply::set_revision(answer.headers_mut(), revision);
    Ok(answer)
}

/// The answer to a delete: whether there was something, or that its condition failed.
pub(super) fn write_deleted(out: &mut Vec<u8>, outcome: &Outcome) -> Result<(), Problem> {
    let deleted = match outcome.kind() {
        Kind::Deleted => 1,
        Kind::Absent => 0,
        Kind::ConditionFailed => return Err(Problem::condition_failed(outcome.found_revision)),
        Kind::None | Kind::Put | Kind::Txn => return Err(nonsense()),
    };
    let mut object = Object::begin(out);
    object.number("deleted", deleted);
    object.number("revision", outcome.revision);
    object.end();
    Ok(())
}

fn nonsense() -> Problem {
    crate::router::nonsense(crate::Outcome::Unknown).into()
}
