//! Messages: to publish them, and pages of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde_json::value::RawValue;

use super::begin;
use crate::http::json::{self, Object};
use crate::http::media;
use crate::http::problem::{Code, Problem};
use crate::http::recipes::call::Call;
use crate::http::recipes::locks::{answered, invalid};
use crate::http::reply::Answer;
use crate::recipes::topics::{self, From as Begin, MESSAGES_MAX, Message, Published, Stored};

/// Messages of a page.
const PAGE_MAX: usize = 10_000;
const PAGE_DEFAULT: usize = 100;
/// Bytes of a message's key.
const KEY_BYTES_MAX: usize = 4096;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishBody<'a> {
    #[serde(borrow)]
    messages: Vec<MessageBody<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageBody<'a> {
    #[serde(borrow, default)]
    key: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value64: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    content_type: Option<std::borrow::Cow<'a, str>>,
}

impl MessageBody<'_> {
    fn message(self) -> Result<Message, Problem> {
        let (value, by_itself): (Bytes, &str) = match (self.value, self.value64) {
            (Some(raw), None) if raw.get().starts_with('"') => {
                let text: String = serde_json::from_str(raw.get())
                    .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
                (text.into(), media::TEXT)
            }
            (Some(raw), None) => (raw.get().to_owned().into(), media::JSON),
            (None, Some(encoded)) => {
                let bytes = STANDARD.decode(encoded.as_bytes());
                let bytes = bytes.map_err(|error| {
                    Problem::new(Code::MalformedJson, format!("`value64`: {error}"))
                })?;
                (bytes.into(), media::BYTES)
            }
            (_, _) => return Err(invalid("a message has either a `value` or a `value64`")),
        };
        let content_type = self.content_type.as_deref().unwrap_or(by_itself);
        media::check(content_type, &value)?;
        let key = Bytes::from(self.key.into_owned());
        check_key(&key)?;
        Ok(Message {
            key,
            value,
            content_type: content_type.to_owned(),
        })
    }
}

fn check_key(key: &[u8]) -> Result<(), Problem> {
    match key.len() > KEY_BYTES_MAX {
        true => Err(invalid(format!(
            "a `key` has at most {KEY_BYTES_MAX} bytes"
        ))),
        false => Ok(()),
    }
}

pub(super) async fn publish_many(call: Call<'_>, topic: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "GET, POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let body = call.payload.read().await?;
    let asked: PublishBody<'_> = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
    if !(1..=MESSAGES_MAX).contains(&asked.messages.len()) {
        return Err(invalid(format!(
            "1 to {MESSAGES_MAX} messages are published at a time"
        )));
    }
    let messages = asked.messages.into_iter().map(MessageBody::message);
    let messages: Result<Vec<Message>, Problem> = messages.collect();
    let name = call.request_name(&body)?;
    let published = topics::publish(call.router, topic, messages?, name, deadline).await?;
    Ok(published_answer(&published))
}

pub(super) async fn publish_one(call: Call<'_>, topic: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let params = call.params(&["timeout", "key"])?;
    let deadline = call.deadline(&params)?;
    let content_type = match call.parts.headers.get(CONTENT_TYPE) {
        None => media::BYTES,
        Some(given) => given
            .to_str()
            .map_err(|_| Problem::new(Code::BadContentType, "a content type is ASCII text"))?,
    };
    let value = call.payload.read().await?;
    media::check(content_type, &value)?;
    let key = Bytes::copy_from_slice(params.get("key").unwrap_or_default());
    check_key(&key)?;
    let name = call.request_name(&[&value[..], &[0], &key].concat())?;
    let message = Message {
        key,
        value,
        content_type: content_type.to_owned(),
    };
    let published = topics::publish(call.router, topic, vec![message], name, deadline).await?;
    Ok(published_answer(&published))
}

fn published_answer(published: &Published) -> Answer {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.number("first", published.first);
    object.number("last", published.last);
    object.number("revision", published.revision.0);
    object.end();
    let mut answer = answered(out, published.revision);
    *answer.status_mut() = StatusCode::CREATED;
    answer
}

pub(super) async fn page(call: Call<'_>, topic: &str) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "from", "limit", "key"])?;
    let deadline = call.deadline(&params)?;
    let from = begin(&params)?.unwrap_or(Begin::First);
    let limit = params.number("limit", 1..=PAGE_MAX)?;
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let key = params.get("key");
    let read = topics::page(call.router, topic, from, limit, deadline).await?;
    let (mut messages, after, next) = read;
    messages.retain(|stored| key.is_none_or(|key| stored.message.key == *key));
    Ok(page_answer(&messages, after, next, call.router.highest()))
}

/// `after`: where the next page begins; `next`: the next offset that will be published.
pub(super) fn page_answer(
    messages: &[Stored],
    after: u64,
    next: u64,
    revision: caucus_ring::Revision,
) -> Answer {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(object.field("messages"), messages, write_message);
    object.number("after", after);
    object.number("next", next);
    object.end();
    answered(out, revision)
}

pub(super) fn write_message(out: &mut Vec<u8>, stored: &Stored) {
    let mut object = Object::begin(out);
    write_fields(&mut object, stored);
    object.end();
}

pub(super) fn write_fields(object: &mut Object<'_>, stored: &Stored) {
    object.number("offset", stored.offset);
    if !stored.message.key.is_empty() {
        object.bytes("key", "key64", &stored.message.key);
    }
    object.typed(&stored.message.content_type, &stored.message.value);
    object.number("time_ms", stored.time_ms);
}
