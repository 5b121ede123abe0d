//! `/v1/barriers/{name}`: `PUT` closes it, `DELETE` opens it, `POST …/wait {"wait"}` is answered when it is open.
//! A double one: `POST …/enter {"parties", "ttl", "wait"}` is answered when so many have entered, with what `POST
//! …/leave` takes back, which is answered when all have left. `GET` shows how it stands.

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::call::{self, Call};
use super::leases::{show, ttl};
use super::locks::{WAIT_S_MAX, answered, invalid, wait};
use crate::http::json::Object;
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Answer};
use crate::recipes::barriers::{self, Error, PARTIES_MAX};

/// Without a word about it.
const TTL_S_DEFAULT: i64 = 30;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitBody {
    #[serde(default = "longest")]
    wait: f64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct EnterBody {
    parties: usize,
    #[serde(default)]
    ttl: Option<i64>,
    #[serde(default = "longest")]
    wait: f64,
}

#[derive(serde::Deserialize)]
struct LeaveBody {
    key: String,
    token: u64,
    #[serde(default = "longest")]
    wait: f64,
}

fn longest() -> f64 {
    WAIT_S_MAX
}

pub(super) async fn handle(call: Call<'_>) -> Result<Answer, Problem> {
    match call.segments()[..] {
        [barrier] => one(call, &call::name(barrier)?).await,
        [barrier, "wait"] => pass(call, &call::name(barrier)?).await,
        [barrier, "enter"] => enter(call, &call::name(barrier)?).await,
        [barrier, "leave"] => leave(call, &call::name(barrier)?).await,
        _ => Err(call.no_route()),
    }
}

async fn one(call: Call<'_>, barrier: &str) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (router, name) = (call.router, call.request_name(b"")?);
    let revision = match *call.method() {
        Method::PUT => barriers::close(router, barrier, name, deadline).await?,
        Method::DELETE => barriers::open(router, barrier, name, deadline).await?,
        Method::GET => {
            let (standing, revision) = barriers::show(router, barrier, deadline).await?;
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.boolean("closed", standing.closed);
            object.boolean("ready", standing.ready);
            object.number("parties", standing.parties as u64);
            object.end();
            return Ok(answered(out, revision));
        }
        _ => return Err(Problem::method_not_allowed("GET, PUT, DELETE")),
    };
    let mut answer = reply::empty(StatusCode::NO_CONTENT);
    reply::set_revision(answer.headers_mut(), revision);
    Ok(answer)
}

async fn pass(mut call: Call<'_>, barrier: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, _) = call.json::<WaitBody>().await?;
    let until = Instant::now() + wait(asked.wait)?;
    let revision = barriers::wait(call.router, barrier, until, deadline).await?;
    Ok(passed("open", revision))
}

fn passed(what: &str, revision: caucus_ring::Revision) -> Answer {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.boolean(what, true);
    object.end();
    answered(out, revision)
}

async fn enter(mut call: Call<'_>, barrier: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, _) = call.json::<EnterBody>().await?;
    if !(1..=PARTIES_MAX).contains(&asked.parties) {
        return Err(invalid(format!(
            "`parties` is a number from 1 to {PARTIES_MAX}"
        )));
    }
    let party = (asked.parties, ttl(asked.ttl.unwrap_or(TTL_S_DEFAULT))?);
    let until = Instant::now() + wait(asked.wait)?;
    let entered = barriers::enter(call.router, barrier, party, until, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.bytes("key", "key64", &entered.key);
    object.number("token", entered.token);
    object.text("lease", &show(entered.lease));
    object.number("ttl", party.1);
    object.end();
    Ok(answered(out, entered.revision))
}

async fn leave(mut call: Call<'_>, barrier: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, _) = call.json::<LeaveBody>().await?;
    let until = Instant::now() + wait(asked.wait)?;
    let key = Bytes::from(asked.key);
    let party = (&key, asked.token);
    let revision = barriers::leave(call.router, barrier, party, until, deadline).await?;
    Ok(passed("left", revision))
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let code = match error {
            Error::Store(error) => return error.into(),
            Error::Late(_) => Code::NotAcquired,
            Error::Lost => Code::SessionExpired,
            Error::Begun => Code::Begun,
            Error::NotIn => Code::NotHeld,
        };
        Problem::new(code, error.to_string()).of_write()
    }
}
