//! `/v1/locks/{name}`: `GET` shows who holds it and who waits. `POST …/acquire {"ttl", "wait", "kind",
//! "permits", "owner", "delay", "lease"}` answers `{"key", "token", "lease", …}`, which `POST …/release` takes
//! back and `POST …/check` looks at. `DELETE …/holders/{lease}` takes it from somebody. `GET /v1/locks` lists
//! the locks that somebody uses.
//!
//! Tokens are create revisions: whoever gets a lock of a name later has a higher one, for ever.

use std::time::Duration;

use bytes::Bytes;
use caucus_ring::Revision;
use http::{Method, StatusCode};

use super::call::{self, Call};
use super::leases::{id, show, ttl};
use super::listing;
use crate::http::json::{self, Object};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Answer};
use crate::recipes::locks::{self, Ask, Error, Kind, PERMITS_MAX};

/// The longest wait of one call, in seconds.
pub(super) const WAIT_S_MAX: f64 = 3600.0;
/// Bytes of a note about who holds.
const OWNER_BYTES_MAX: usize = 1024;
/// The longest time that a lock stays taken after its holder was lost, in seconds.
const DELAY_S_MAX: u64 = 3600;
/// Without a word about it.
const TTL_S_DEFAULT: i64 = 30;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AcquireBody {
    #[serde(default)]
    ttl: Option<i64>,
    #[serde(default)]
    wait: f64,
    #[serde(default)]
    kind: KindBody,
    #[serde(default)]
    permits: Option<u32>,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    delay: u64,
    #[serde(default)]
    lease: Option<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum KindBody {
    #[default]
    Mutex,
    Read,
    Write,
    Semaphore,
}

/// What was answered to an acquire, or the part of it that says which attempt is meant.
#[derive(serde::Deserialize)]
pub(super) struct HeldBody {
    pub(super) key: String,
    pub(super) token: u64,
}

pub(super) async fn handle(call: Call<'_>) -> Result<Answer, Problem> {
    match call.segments()[..] {
        [] => {
            call.only(&Method::GET, "GET")?;
            listing::names(call, "lock", "locks").await
        }
        [lock] => {
            call.only(&Method::GET, "GET")?;
            one(call, &call::name(lock)?).await
        }
        [lock, "acquire"] => acquire(call, &call::name(lock)?).await,
        [lock, "release"] => release(call, &call::name(lock)?).await,
        [lock, "check"] => check(call, &call::name(lock)?).await,
        [lock, "holders", lease] => force(call, &call::name(lock)?, id(lease)?).await,
        _ => Err(call.no_route()),
    }
}

async fn acquire(mut call: Call<'_>, lock: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, body) = call.json::<AcquireBody>().await?;
    let ask = ask(asked)?;
    let name = call.request_name(&body)?;
    let held = locks::acquire(call.router, lock, &ask, name, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.bytes("key", "key64", &held.key);
    object.number("token", held.token);
    object.text("lease", &show(held.lease));
    if ask.lease.is_none() {
        object.number("ttl", ask.ttl_s);
    }
    write_kind(&mut object, ask.kind);
    object.end();
    Ok(answered(out, held.revision))
}

fn ask(asked: AcquireBody) -> Result<Ask, Problem> {
    let lease = asked.lease.as_deref().map(id).transpose()?;
    if lease.is_some() && (asked.ttl.is_some() || asked.delay > 0) {
        return Err(invalid(
            "with a `lease` its own time counts: no `ttl`, no `delay`",
        ));
    }
    if asked.owner.len() > OWNER_BYTES_MAX {
        return Err(invalid(format!(
            "`owner` has at most {OWNER_BYTES_MAX} bytes"
        )));
    }
    if asked.delay > DELAY_S_MAX {
        return Err(invalid(format!("`delay` is at most {DELAY_S_MAX} seconds")));
    }
    Ok(Ask {
        kind: kind(&asked.kind, asked.permits)?,
        ttl_s: ttl(asked.ttl.unwrap_or(TTL_S_DEFAULT))?,
        delay_s: asked.delay,
        wait: wait(asked.wait)?,
        owner: asked.owner,
        lease,
    })
}

fn kind(kind: &KindBody, permits: Option<u32>) -> Result<Kind, Problem> {
    match (kind, permits) {
        (KindBody::Mutex, None) => Ok(Kind::Mutex),
        (KindBody::Read, None) => Ok(Kind::Read),
        (KindBody::Write, None) => Ok(Kind::Write),
        (KindBody::Semaphore, Some(permits)) if (1..=PERMITS_MAX).contains(&permits) => {
            Ok(Kind::Semaphore { permits })
        }
        (_, _) => Err(invalid(format!(
            "a semaphore, and nothing else, has `permits`, from 1 to {PERMITS_MAX}"
        ))),
    }
}

/// How long to wait, in seconds.
pub(super) fn wait(seconds: f64) -> Result<Duration, Problem> {
    let allowed = (0.0..=WAIT_S_MAX).contains(&seconds);
    let wait = Duration::try_from_secs_f64(seconds).ok();
    wait.filter(|_| allowed).ok_or_else(|| {
        invalid(format!(
            "`wait` is a number of seconds from 0 to {WAIT_S_MAX}"
        ))
    })
}

async fn release(mut call: Call<'_>, lock: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (held, body) = call.json::<HeldBody>().await?;
    let name = call.request_name(&body)?;
    let key = Bytes::from(held.key);
    let revision = locks::release(call.router, lock, &key, held.token, name, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.boolean("released", true);
    object.end();
    Ok(answered(out, revision))
}

async fn check(mut call: Call<'_>, lock: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (held, _) = call.json::<HeldBody>().await?;
    let key = Bytes::from(held.key);
    let revision = locks::check(call.router, lock, &key, held.token, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.boolean("held", true);
    object.end();
    Ok(answered(out, revision))
}

async fn force(call: Call<'_>, lock: &str, lease: u64) -> Result<Answer, Problem> {
    call.only(&Method::DELETE, "DELETE")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let revision = locks::force(call.router, lock, lease, deadline).await?;
    let mut answer = reply::empty(StatusCode::NO_CONTENT);
    reply::set_revision(answer.headers_mut(), revision);
    Ok(answer)
}

async fn one(call: Call<'_>, lock: &str) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (attempts, revision) = locks::show(call.router, lock, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("lock", lock);
    for (field, holds) in [("holders", true), ("waiters", false)] {
        let these = attempts.iter().filter(|attempt| attempt.holds == holds);
        json::array(object.field(field), these, |out, attempt| {
            let mut object = Object::begin(out);
            object.bytes("key", "key64", &attempt.key);
            object.number("token", attempt.token);
            object.text("lease", &show(attempt.lease));
            if let Some(kind) = attempt.kind {
                write_kind(&mut object, kind);
            }
            object.text("owner", &attempt.owner);
            object.end();
        });
    }
    object.end();
    Ok(answered(out, revision))
}

fn write_kind(object: &mut Object<'_>, kind: Kind) {
    match kind {
        Kind::Mutex => object.text("kind", "mutex"),
        Kind::Read => object.text("kind", "read"),
        Kind::Write => object.text("kind", "write"),
        Kind::Semaphore { permits } => {
            object.text("kind", "semaphore");
            object.number("permits", u64::from(permits));
        }
    }
}

/// JSON, as of a revision.
pub(super) fn answered(out: Vec<u8>, revision: Revision) -> Answer {
    let mut answer = reply::json(StatusCode::OK, out);
    reply::set_revision(answer.headers_mut(), revision);
    answer
}

pub(super) fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Code::InvalidRequest, why)
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let code = match &error {
            Error::Store(_) => None,
            Error::NotAcquired { .. } => Some(Code::NotAcquired),
            Error::Lost => Some(Code::SessionExpired),
            Error::LeaseNotFound => Some(Code::LeaseNotFound),
            Error::OtherKind { .. } => Some(Code::OtherKind),
            Error::NotHeld => Some(Code::NotHeld),
        };
        match (code, error) {
            (_, Error::Store(error)) => error.into(),
            (code, error) => {
                let code = code.unwrap_or(Code::NotHeld);
                Problem::new(code, error.to_string()).of_write()
            }
        }
    }
}
