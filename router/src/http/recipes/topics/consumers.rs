//! Durable consumers.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::begin_of;
use super::messages::{page_answer, write_message};
use crate::http::json::{self, Object};
use crate::http::problem::Problem;
use crate::http::recipes::call::{self, Call};
use crate::http::recipes::locks::{answered, invalid, wait};
use crate::http::reply::{self, Answer};
use crate::recipes::topics::{self, Consumer, Error, From as Begin, MESSAGES_MAX};

/// Seconds that messages may be with a member.
const VISIBLE_S_MAX: f64 = 43_200.0;
const VISIBLE_S_DEFAULT: f64 = 30.0;
/// Messages of a page.
const PAGE_MAX: usize = 10_000;
const PAGE_DEFAULT: usize = 100;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsumerBody {
    #[serde(default)]
    from: Value,
    #[serde(default)]
    shared: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AckBody {
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    from: Option<u64>,
    #[serde(default)]
    to: Option<u64>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SeekBody {
    offset: u64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FetchBody {
    member: String,
    #[serde(default = "one_message")]
    count: usize,
    #[serde(default = "visible_default")]
    visible: f64,
    #[serde(default)]
    wait: f64,
}

fn one_message() -> usize {
    1
}

fn visible_default() -> f64 {
    VISIBLE_S_DEFAULT
}

pub(super) async fn list(call: Call<'_>, topic: &str) -> Result<Answer, Problem> {
    call.only(&Method::GET, "GET")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (consumers, next) = topics::consumers(call.router, topic, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(
        object.field("consumers"),
        &consumers,
        |out, (name, consumer)| {
            write_consumer(out, name, consumer, next);
        },
    );
    object.end();
    Ok(answered(out, call.router.highest()))
}

fn write_consumer(out: &mut Vec<u8>, name: &str, consumer: &Consumer, next: u64) {
    let mut object = Object::begin(out);
    object.text("consumer", name);
    object.boolean("shared", consumer.shared);
    object.number("acked", consumer.acked);
    object.number("lag", consumer.lag(next));
    if consumer.shared {
        object.number("pending", consumer.pending());
    }
    object.end();
}

pub(super) async fn one(mut call: Call<'_>, topic: &str, name: &str) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let router = call.router;
    match *call.method() {
        Method::GET => {
            let (consumer, next) = topics::consumer(router, topic, name, deadline).await?;
            Ok(shown(&call, name, &consumer, next))
        }
        Method::PUT => {
            let (asked, _) = call.json::<ConsumerBody>().await?;
            let from = match &asked.from {
                Value::Null => Begin::First,
                Value::String(text) => begin_of(text.as_bytes())?,
                other => begin_of(other.to_string().as_bytes())?,
            };
            let made = topics::create_consumer(router, topic, name, from, asked.shared, deadline);
            let consumer = made.await?;
            let mut answer = shown(&call, name, &consumer, consumer.acked);
            *answer.status_mut() = StatusCode::CREATED;
            Ok(answer)
        }
        Method::DELETE => {
            topics::remove_consumer(router, topic, name, deadline).await?;
            Ok(reply::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Problem::method_not_allowed("GET, PUT, DELETE")),
    }
}

fn shown(call: &Call<'_>, name: &str, consumer: &Consumer, next: u64) -> Answer {
    let mut out = Vec::new();
    write_consumer(&mut out, name, consumer, next);
    answered(out, call.router.highest())
}

/// What a consumer does.
pub(super) async fn work(
    call: Call<'_>,
    topic: &str,
    name: &str,
    what: &str,
) -> Result<Answer, Problem> {
    match what {
        "messages" => messages(call, topic, name).await,
        "ack" => ack(call, topic, name).await,
        "seek" => seek(call, topic, name).await,
        "fetch" => fetch(call, topic, name).await,
        _ => Err(call.no_route()),
    }
}

async fn messages(call: Call<'_>, topic: &str, name: &str) -> Result<Answer, Problem> {
    call.only(&Method::GET, "GET")?;
    let params = call.params(&["timeout", "limit"])?;
    let deadline = call.deadline(&params)?;
    let limit = params.number("limit", 1..=PAGE_MAX)?;
    let (consumer, _) = topics::consumer(call.router, topic, name, deadline).await?;
    if consumer.shared {
        return Err(Error::Kind("a shared consumer's messages are fetched").into());
    }
    let from = Begin::Offset(consumer.acked);
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let (messages, after, next) = topics::page(call.router, topic, from, limit, deadline).await?;
    Ok(page_answer(&messages, after, next, call.router.highest()))
}

async fn ack(mut call: Call<'_>, topic: &str, name: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, _) = call.json::<AckBody>().await?;
    let range = match (asked.offset, asked.from, asked.to) {
        (Some(offset), None, None) => (offset, offset.saturating_add(1)),
        (None, Some(from), Some(to)) if from <= to => (from, to.saturating_add(1)),
        _ => {
            return Err(invalid(
                "either an `offset` or the first and the last offset, `from` and `to`, are acknowledged",
            ));
        }
    };
    let consumer = topics::ack(call.router, topic, name, range, deadline).await?;
    Ok(acked(&call, &consumer))
}

async fn seek(mut call: Call<'_>, topic: &str, name: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, _) = call.json::<SeekBody>().await?;
    let consumer = topics::seek(call.router, topic, name, asked.offset, deadline).await?;
    Ok(acked(&call, &consumer))
}

fn acked(call: &Call<'_>, consumer: &Consumer) -> Answer {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.number("acked", consumer.acked);
    object.end();
    answered(out, call.router.highest())
}

async fn fetch(mut call: Call<'_>, topic: &str, name: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    call.params(&["timeout"])?;
    let (asked, _) = call.json::<FetchBody>().await?;
    call::check_name(&asked.member)?;
    if !(1..=MESSAGES_MAX).contains(&asked.count) {
        return Err(invalid(format!(
            "`count` is a number from 1 to {MESSAGES_MAX}"
        )));
    }
    let visible = Duration::try_from_secs_f64(asked.visible).ok();
    let visible = visible.filter(|_| (0.1..=VISIBLE_S_MAX).contains(&asked.visible));
    let visible = visible.ok_or_else(|| {
        invalid(format!(
            "`visible` is a number of seconds from 0.1 to {VISIBLE_S_MAX}"
        ))
    })?;
    let until = Instant::now() + wait(asked.wait)?;
    let ask = (&asked.member[..], asked.count as u64, visible);
    let fetched = topics::fetch(call.router, topic, name, ask, until).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(object.field("messages"), &fetched.messages, write_message);
    object.number("times", u64::from(fetched.times));
    object.end();
    Ok(answered(out, call.router.highest()))
}
