//! `/v1/topics`: messages in one order, by offset.
//!
//! ```text
//!  GET    /v1/topics                            their names
//!  GET    …/{topic}                             its offsets, and what is kept
//!  PUT    …/{topic}                             {"retention": {"messages_max", "bytes_max", "age_seconds_max"}}
//!  DELETE …/{topic}
//!  POST   …/{topic}/messages                    {"messages": [{"key", "value"|"value64", "content_type"}]}
//!  POST   …/{topic}/message                     the body is one; ?key=
//!  GET    …/{topic}/messages                    a page: ?from=first|last|OFFSET, ?limit, ?key
//!  GET    …/{topic}/subscribe                   a stream; Last-Event-ID is the last offset that was read
//!  GET    …/{topic}/consumers                   durable consumers
//!  PUT    …/{topic}/consumers/{name}            {"from", "shared"}
//!  GET, DELETE
//!  GET    …/consumers/{name}/messages           a page from what is acknowledged; and …/subscribe
//!  POST   …/consumers/{name}/ack                {"offset"}; of a shared one also {"from", "to"}
//!  POST   …/consumers/{name}/seek               {"offset"}
//!  POST   …/consumers/{name}/fetch              {"member", "count", "visible", "wait"}
//! ```

mod consumers;
mod messages;
mod stream;

use http::{Method, Response, StatusCode};

use super::call::{self, Call};
use super::locks::{answered, invalid};
use super::{listing, whole};
use crate::http::front::Body;
use crate::http::json::Object;
use crate::http::params::{Params, impossible};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Answer};
use crate::recipes::topics::{self, Error, From as Begin, Policy};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicBody {
    #[serde(default)]
    retention: Policy,
}

pub(super) async fn handle(call: Call<'_>) -> Result<Response<Body>, Problem> {
    let segments = call.segments();
    let topic = match segments.first() {
        Some(topic) => call::name(topic)?,
        None => {
            call.only(&Method::GET, "GET")?;
            return listing::names(call, "topic", "topics").await.map(whole);
        }
    };
    let answer = match segments[1..] {
        [] => one(call, &topic).await,
        ["messages"] if call.method() == Method::GET => messages::page(call, &topic).await,
        ["messages"] => messages::publish_many(call, &topic).await,
        ["message"] => messages::publish_one(call, &topic).await,
        ["subscribe"] => return stream::begin_at(call, &topic).await,
        ["consumers"] => consumers::list(call, &topic).await,
        ["consumers", name] => consumers::one(call, &topic, &call::name(name)?).await,
        ["consumers", name, "subscribe"] => {
            return stream::begin_as(call, &topic, &call::name(name)?).await;
        }
        ["consumers", name, what] => consumers::work(call, &topic, &call::name(name)?, what).await,
        _ => Err(call.no_route()),
    };
    answer.map(whole)
}

async fn one(mut call: Call<'_>, topic: &str) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let router = call.router;
    match *call.method() {
        Method::GET => {}
        Method::PUT => {
            let (asked, _) = call.json::<TopicBody>().await?;
            topics::set_policy(router, topic, &asked.retention, deadline).await?;
        }
        Method::DELETE => {
            let revision = topics::remove(router, topic, deadline).await?;
            let mut answer = reply::empty(StatusCode::NO_CONTENT);
            reply::set_revision(answer.headers_mut(), revision);
            return Ok(answer);
        }
        _ => return Err(Problem::method_not_allowed("GET, PUT, DELETE")),
    }
    let standing = topics::show(router, topic, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("topic", topic);
    object.number("first", standing.first);
    object.number("next", standing.next);
    object.number("bytes", standing.bytes);
    let mut kept = Object::begin(object.field("retention"));
    let policy = standing.policy;
    for (name, limit) in [
        ("messages_max", policy.messages_max),
        ("bytes_max", policy.bytes_max),
        ("age_seconds_max", policy.age_seconds_max),
    ] {
        if let Some(limit) = limit {
            kept.number(name, limit);
        }
    }
    kept.end();
    object.end();
    Ok(answered(out, router.highest()))
}

/// Where to begin, by the parameter `from`.
fn begin(params: &Params<'_>) -> Result<Option<Begin>, Problem> {
    params.get("from").map(begin_of).transpose()
}

fn begin_of(text: &[u8]) -> Result<Begin, Problem> {
    match text {
        b"first" => Ok(Begin::First),
        b"last" => Ok(Begin::Last),
        digits => {
            let digits = std::str::from_utf8(digits).ok();
            let offset = digits.and_then(|digits| digits.parse().ok());
            let offset = offset.map(Begin::Offset);
            offset.ok_or_else(|| impossible("from", "`first`, `last` or an offset"))
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let code = match error {
            Error::Store(error) => return error.into(),
            Error::Gone { .. } => Code::OffsetGone,
            Error::Beyond { .. } => Code::BeyondEnd,
            Error::Behind { .. } => Code::Acknowledged,
            Error::NoConsumer => Code::NoConsumer,
            Error::Exists => Code::Exists,
            Error::Kind(why) => return invalid(why),
            Error::Full => Code::Busy,
            Error::Contended => Code::Conflict,
        };
        Problem::new(code, error.to_string())
    }
}
