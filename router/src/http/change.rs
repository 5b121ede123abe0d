//! `POST /v1/kv/{key}/increment` and `/append`: a key's next value made of its old one, at one revision.

use bytes::Bytes;
use caucus_api::shard::answer::Answer as Did;
use caucus_api::shard::change::By;
use caucus_api::shard::operation::Operation as Kind;
use caucus_api::shard::{Change, Operation, Record, Txn};
use http::StatusCode;
use http::request::Parts;
use tokio::time::Instant;

use super::params::Params;
use super::payload::Payload;
use super::problem::{Code, Problem};
use super::reply::{self, Answer};
use super::{idempotency, key, kv, txn};
use crate::Router;

/// How a value is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Increment,
    Append,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct IncrementBody {
    by: i64,
}

/// Answers a change of one key. `path` is what follows `/v1/kv/`.
pub(super) async fn handle(
    router: &Router,
    parts: &Parts,
    path: Option<&str>,
    payload: &mut Payload,
) -> Result<Answer, Problem> {
    let (path, how) = split(path.unwrap_or_default())?;
    let changed = change(router, parts, path, how, payload);
    changed.await.map_err(Problem::of_write)
}

async fn change(
    router: &Router,
    parts: &Parts,
    path: &str,
    how: How,
    payload: &mut Payload,
) -> Result<Answer, Problem> {
    let params = Params::parse(parts.uri.query(), &["timeout"])?;
    let key = key::from_path(path)?;
    let timeout = params.timeout(parts, router.options())?;
    let body = payload.read().await?;
    let scope: [&[u8]; 2] = [how.word().as_bytes(), &key];
    let name = idempotency::name(parts, &scope, &[&body])?;
    let change = Change {
        key: key.clone(),
        previous: false,
        by: Some(by(how, body)?),
    };
    let txn = Txn {
        then: vec![Operation {
            operation: Some(Kind::Change(change)),
        }],
        ..Txn::default()
    };
    let deadline = Instant::now() + timeout;
    let transacted = router.txn_named(txn, name, deadline).await?;
    let done = transacted.done;
    if let Some(problem) = &done.problem {
        return Err(txn::impossible(problem));
    }
    let changed = match done.answers.into_iter().next().and_then(|did| did.answer) {
        Some(Did::Changed(changed)) => changed.record,
        Some(_) | None => None,
    };
    // Asked again so late that what it made is compacted: it was done all the same.
    let record = changed.unwrap_or_else(|| Record {
        mod_revision: done.revision,
        ..Record::default()
    });
    let mut out = Vec::new();
    kv::write_record(&mut out, &key, &record);
    let mut answer = reply::json(StatusCode::OK, out);
    reply::set_etag(answer.headers_mut(), record.mod_revision);
    reply::set_revision(answer.headers_mut(), transacted.revision);
    Ok(answer)
}

impl How {
    fn word(self) -> &'static str {
        match self {
            How::Increment => "increment",
            How::Append => "append",
        }
    }
}

fn split(path: &str) -> Result<(&str, How), Problem> {
    for how in [How::Increment, How::Append] {
        let key = path.strip_suffix(how.word());
        if let Some(key) = key.and_then(|key| key.strip_suffix('/')) {
            return Ok((key, how));
        }
    }
    Err(Problem::method_not_allowed(kv::METHODS))
}

fn by(how: How, body: Bytes) -> Result<By, Problem> {
    match how {
        How::Append => Ok(By::Append(body)),
        How::Increment if body.is_empty() => Ok(By::Add(1)),
        How::Increment => {
            let body: IncrementBody = serde_json::from_slice(&body)
                .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
            Ok(By::Add(body.by))
        }
    }
}
