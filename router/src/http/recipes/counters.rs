//! `/v1/counters/{name}`: `GET`, `PUT {"value"}`, `DELETE`; `POST …/add {"by"}` answers the value after it,
//! `POST …/next {"count"}` takes numbers of a sequence and answers the first and the last of them.

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::call::{self, Call};
use crate::http::json::Object;
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Answer};
use crate::recipes::counters::{self, Count, Error};

/// Numbers of a sequence that one call can take.
const BLOCK_MAX: i64 = 1 << 32;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody {
    value: i64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    #[serde(default = "one")]
    by: i64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NextBody {
    #[serde(default = "one")]
    count: i64,
}

fn one() -> i64 {
    1
}

pub(super) async fn handle(call: Call<'_>) -> Result<Answer, Problem> {
    let params = call.params(&["timeout"])?;
    let deadline = call.deadline(&params)?;
    match call.segments()[..] {
        [counter] => one_counter(call, &call::name(counter)?, deadline).await,
        [counter, "add"] => add(call, &call::name(counter)?, deadline).await,
        [counter, "next"] => next(call, &call::name(counter)?, deadline).await,
        _ => Err(call.no_route()),
    }
}

async fn one_counter(
    mut call: Call<'_>,
    counter: &str,
    deadline: Instant,
) -> Result<Answer, Problem> {
    let router = call.router;
    let count = match *call.method() {
        Method::GET => counters::read(router, counter, deadline).await?,
        Method::PUT => {
            let (asked, body) = call.json::<SetBody>().await?;
            let name = call.request_name(&body)?;
            counters::set(router, counter, asked.value, name, deadline).await?
        }
        Method::DELETE => {
            let name = call.request_name(b"")?;
            let revision = counters::remove(router, counter, name, deadline).await?;
            let mut answer = reply::empty(StatusCode::NO_CONTENT);
            reply::set_revision(answer.headers_mut(), revision);
            return Ok(answer);
        }
        _ => return Err(Problem::method_not_allowed("GET, PUT, DELETE")),
    };
    Ok(answer(&count, |object| value(object, count.value)))
}

async fn add(mut call: Call<'_>, counter: &str, deadline: Instant) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let (asked, body) = call.json::<AddBody>().await?;
    let name = call.request_name(&body)?;
    let count = counters::add(call.router, counter, asked.by, name, deadline).await?;
    Ok(answer(&count, |object| value(object, count.value)))
}

async fn next(mut call: Call<'_>, counter: &str, deadline: Instant) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let (asked, body) = call.json::<NextBody>().await?;
    if !(1..=BLOCK_MAX).contains(&asked.count) {
        return Err(Problem::new(
            Code::InvalidRequest,
            format!("`count` is a number from 1 to {BLOCK_MAX}"),
        ));
    }
    let name = call.request_name(&body)?;
    let count = counters::add(call.router, counter, asked.count, name, deadline).await?;
    Ok(answer(&count, |object| {
        // What was added fits, so this does.
        object.integer("first", count.value - (asked.count - 1));
        object.integer("last", count.value);
    }))
}

fn value(object: &mut Object<'_>, value: i64) {
    object.integer("value", value);
}

fn answer(count: &Count, fields: impl FnOnce(&mut Object<'_>)) -> Answer {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    fields(&mut object);
    object.number("revision", count.changed.0);
    object.end();
    let mut answer = reply::json(StatusCode::OK, out);
    reply::set_revision(answer.headers_mut(), count.revision);
    answer
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::Store(error) => error.into(),
            Error::Overflow | Error::NotANumber => {
                Problem::new(Code::Impossible, error.to_string()).of_write()
            }
        }
    }
}
