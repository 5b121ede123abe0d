//! Many operations in one request: `POST /v1/batch`. Each is answered on its own.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use caucus_api::limits::BATCH_OPERATIONS_MAX;
use caucus_api::shard::condition::Kind;
use caucus_api::shard::{Condition, Revisions, Unit};
use caucus_ring::Revision;
use http::request::Parts;
use http::{Method, StatusCode};
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::json::{self, Object};
use super::params::Params;
use super::payload::Payload;
use super::problem::{Code, Problem};
use super::reply::{self, Answer};
use super::{idempotency, key, kv, media};
use crate::{Op, OpAnswer, Router};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody<'a> {
    #[serde(borrow)]
    operations: Vec<OpBody<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum OpBody<'a> {
    Put(#[serde(borrow)] PutBody<'a>),
    Get(#[serde(borrow)] GetBody<'a>),
    Delete(#[serde(borrow)] DeleteBody<'a>),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key64: Option<Text<'a>>,
    /// `null` is a value too.
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value64: Option<Text<'a>>,
    #[serde(borrow, default)]
    content_type: Option<Text<'a>>,
    #[serde(default)]
    if_revision: Option<u64>,
    #[serde(default)]
    if_absent: Option<bool>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct GetBody<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key64: Option<Text<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteBody<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key64: Option<Text<'a>>,
    #[serde(default)]
    if_revision: Option<u64>,
}

/// A string that stays in the request's buffer unless it has escapes. (`Option<Cow<str>>` always
/// copies.)
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsIs;
        impl<'de> Visitor<'de> for AsIs {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(AsIs)
    }
}

impl Text<'_> {
    /// Shares `body`, which this was read from, unless it was copied.
    pub(super) fn bytes(self, body: &Bytes) -> Bytes {
        match self.0 {
            Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text.into_bytes()),
        }
    }
}

pub(super) fn given<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer)
        .map(Some)
        .map_err(D::Error::custom)
}

/// What was asked, to answer in its words.
struct Asked {
    key: Bytes,
    is_put: bool,
}

/// Answers a batch.
pub(super) async fn handle(
    router: &Router,
    parts: &Parts,
    payload: &mut Payload,
) -> Result<Answer, Problem> {
    if parts.method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    idempotency::refuse(parts, "/v1/batch").map_err(Problem::of_write)?;
    let timeout = timeout(router, parts).map_err(Problem::of_write)?;
    let body = payload.read().await.map_err(Problem::of_write)?;
    let operations = parse(&body).map_err(Problem::of_write)?;

    let mut plan: Vec<Result<Asked, Problem>> = Vec::with_capacity(operations.len());
    let mut ops = Vec::with_capacity(operations.len());
    for operation in operations {
        plan.push(op_of(operation, &body).map(|(asked, op)| {
            ops.push(op);
            asked
        }));
    }
    let mut answers = router
        .batch(ops, Instant::now() + timeout)
        .await
        .into_iter();

    let mut out = Vec::with_capacity(64 + plan.len() * 96);
    let mut highest = Revision(0);
    let mut object = Object::begin(&mut out);
    json::array(object.field("results"), plan, |out, asked| {
        let written = asked.and_then(|asked| match answers.next() {
            Some(answer) => write_answer(out, &asked, answer?, &mut highest),
            None => Err(Problem::new(Code::Unavailable, "the answer is missing")),
        });
        if let Err(problem) = written {
            let mut result = Object::begin(out);
            problem.write_json(result.field("error"));
            result.end();
        }
    });
    object.number("revision", highest.max(router.highest()).0);
    object.end();
    Ok(reply::json(StatusCode::OK, out))
}

fn timeout(router: &Router, parts: &Parts) -> Result<Duration, Problem> {
    let params = Params::parse(parts.uri.query(), &["timeout"])?;
    params.timeout(parts, router.options())
}

fn parse(body: &Bytes) -> Result<Vec<OpBody<'_>>, Problem> {
    let parsed: BatchBody<'_> = serde_json::from_slice(body)
        .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    if parsed.operations.len() > BATCH_OPERATIONS_MAX {
        return Err(Problem::new(
            Code::TooManyOperations,
            format!("a batch has at most {BATCH_OPERATIONS_MAX} operations"),
        ));
    }
    Ok(parsed.operations)
}

fn op_of(operation: OpBody<'_>, body: &Bytes) -> Result<(Asked, Op), Problem> {
    match operation {
        OpBody::Put(put) => put_of(put, body).map_err(Problem::of_write),
        OpBody::Get(get) => {
            let key = key_of(get.key, get.key64, body)?;
            let asked = Asked {
                key: key.clone(),
                is_put: false,
            };
            Ok((asked, Op::Get { key }))
        }
        OpBody::Delete(delete) => {
            let key = key_of(delete.key, delete.key64, body).map_err(Problem::of_write)?;
            let asked = Asked {
                key: key.clone(),
                is_put: false,
            };
            let condition = delete.if_revision.map(at_revision);
            Ok((asked, Op::Write(kv::delete_of(key, condition))))
        }
    }
}

fn put_of(put: PutBody<'_>, body: &Bytes) -> Result<(Asked, Op), Problem> {
    let key = key_of(put.key, put.key64, body)?;
    let condition = match (put.if_revision, put.if_absent.unwrap_or(false)) {
        (None, false) => None,
        (Some(revision), false) => Some(at_revision(revision)),
        (None, true) => Some(Condition {
            kind: Some(Kind::Absent(Unit {})),
        }),
        (Some(_), true) => {
            return Err(Problem::new(
                Code::MalformedIfMatch,
                "a put has if_revision or if_absent, not both",
            ));
        }
    };
    let named = put.content_type.as_ref().map(|text| &*text.0);
    let (value, content_type) = match (put.value, put.value64) {
        (Some(value), None) => json_value(value, named, body)?,
        (None, Some(value)) => (
            key::base64(value.0.as_bytes())?,
            named.unwrap_or(media::BYTES),
        ),
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::new(
                Code::MalformedJson,
                "a put has one of value and value64",
            ));
        }
    };
    let write = kv::put_of(key.clone(), value, content_type, condition)?;
    Ok((Asked { key, is_put: true }, Op::Write(write)))
}

/// A string is text unless its type says JSON; everything else is JSON as it stands.
pub(super) fn json_value<'a>(
    value: &'a RawValue,
    named: Option<&'a str>,
    body: &Bytes,
) -> Result<(Bytes, &'a str), Problem> {
    let raw = value.get();
    let stays_json = named.is_some_and(|named| media::kind(named) == media::Kind::Json);
    if !raw.starts_with('"') || stays_json {
        let bytes = body.slice_ref(raw.as_bytes());
        return Ok((bytes, named.unwrap_or(media::JSON)));
    }
    let text: Text<'_> = serde_json::from_str(raw)
        .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    Ok((text.bytes(body), named.unwrap_or(media::TEXT)))
}

pub(super) fn key_of(
    key: Option<Text<'_>>,
    key64: Option<Text<'_>>,
    body: &Bytes,
) -> Result<Bytes, Problem> {
    match (key, key64) {
        (Some(key), None) => key::checked(key.bytes(body)),
        (None, Some(key64)) => key::from_base64(key64.0.as_bytes()),
        (Some(_), Some(_)) | (None, None) => Err(Problem::new(
            Code::KeyEmpty,
            "an operation has one of key and key64",
        )),
    }
}

fn at_revision(revision: u64) -> Condition {
    Condition {
        kind: Some(Kind::RevisionIs(Revisions {
            revisions: vec![revision],
        })),
    }
}

fn write_answer(
    out: &mut Vec<u8>,
    asked: &Asked,
    answer: OpAnswer,
    highest: &mut Revision,
) -> Result<(), Problem> {
    let start = out.len();
    let mut result = Object::begin(out);
    let wrote = match answer {
        OpAnswer::Written(written) => {
            *highest = (*highest).max(written.revision);
            if asked.is_put {
                kv::write_put(result.field("put"), &asked.key, &written.outcome)
            } else {
                kv::write_deleted(result.field("delete"), &written.outcome)
            }
        }
        OpAnswer::Read(read) => {
            *highest = (*highest).max(read.revision);
            match &read.record {
                Some(record) => {
                    kv::write_record(result.field("get"), &asked.key, record);
                    Ok(())
                }
                None => Err(Problem::new(Code::KeyNotFound, "no such key")),
            }
        }
    };
    match wrote {
        Ok(()) => {
            result.end();
            Ok(())
        }
        Err(problem) => {
            out.truncate(start);
            Err(problem)
        }
    }
}
