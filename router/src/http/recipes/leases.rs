//! `/v1/leases`: `POST {"ttl", "lease"}` grants one, `GET` lists them (`limit`, `after`), `POST …/keepalive
//! {"leases"}` gives many all of their time again. `/v1/leases/{lease}`: `GET` (`keys`), `DELETE` ends it with all
//! its keys, `POST …/keepalive`.
//!
//! Ids are 16 hexadecimal digits in a string: many a reader of JSON has no numbers of 64 bits.

use std::time::Duration;

use caucus_api::limits::LEASE_TTL_S_MAX;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::call::Call;
use crate::http::json::{self, Object};
use crate::http::params::impossible;
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Answer};
use crate::{LeaseError, LeaseStatus};

/// Leases of one listing, or of one keepalive.
const LEASES_MAX: usize = 10_000;
const LEASES_DEFAULT: usize = 1_000;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantBody {
    ttl: i64,
    #[serde(default)]
    lease: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct KeepAliveBody {
    leases: Vec<String>,
}

pub(super) async fn handle(call: Call<'_>) -> Result<Answer, Problem> {
    match call.segments()[..] {
        [] if call.method() == Method::GET => list(call).await,
        [] => {
            call.only(&Method::POST, "GET, POST")?;
            grant(call).await
        }
        ["keepalive"] => {
            call.only(&Method::POST, "POST")?;
            keep_alive_many(call).await
        }
        [lease] => one(call, id(lease)?).await,
        [lease, "keepalive"] => {
            call.only(&Method::POST, "POST")?;
            keep_alive(call, id(lease)?).await
        }
        _ => Err(call.no_route()),
    }
}

async fn grant(mut call: Call<'_>) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, _) = call.json::<GrantBody>().await?;
    let ttl = ttl(asked.ttl)?;
    let lease = asked.lease.as_deref().map(id).transpose()?;
    let granted = call.router.grant(lease, ttl, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("lease", &show(granted.id));
    object.number("ttl", granted.ttl.as_secs());
    object.number("revision", granted.revision.0);
    object.end();
    let mut answer = reply::json(StatusCode::CREATED, out);
    reply::set_revision(answer.headers_mut(), granted.revision);
    Ok(answer)
}

async fn list(call: Call<'_>) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "limit", "after"])?;
    let deadline = call.deadline(&params)?;
    let limit = params.number("limit", 1..=LEASES_MAX)?;
    let limit = limit.unwrap_or(LEASES_DEFAULT);
    let after = match params.get("after") {
        Some(after) => id(&String::from_utf8_lossy(after))?,
        None => 0,
    };
    let mut leases = call.router.leases(deadline).await?;
    leases.retain(|lease| lease.id > after);
    let more = leases.len() > limit;
    leases.truncate(limit);
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(object.field("leases"), &leases, |out, lease| {
        let mut object = Object::begin(out);
        write_status(&mut object, lease);
        object.end();
    });
    object.boolean("more", more);
    object.end();
    Ok(reply::json(StatusCode::OK, out))
}

async fn one(call: Call<'_>, lease: u64) -> Result<Answer, Problem> {
    let router = call.router;
    match *call.method() {
        Method::GET => {
            let params = call.params(&["timeout", "keys"])?;
            let deadline = call.deadline(&params)?;
            let status = router.lease(lease, deadline).await?;
            let keys = match params.flag("keys")? {
                true => Some(router.lease_keys(&status, deadline).await?),
                false => None,
            };
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            write_status(&mut object, &status);
            if let Some(keys) = keys {
                json::array(object.field("keys"), keys, |out, key| {
                    let mut object = Object::begin(out);
                    object.key(&key);
                    object.end();
                });
            }
            object.end();
            Ok(reply::json(StatusCode::OK, out))
        }
        Method::DELETE => {
            let deadline = call.deadline(&call.params(&["timeout"])?)?;
            router.revoke(lease, deadline).await?;
            let mut answer = reply::empty(StatusCode::NO_CONTENT);
            reply::set_revision(answer.headers_mut(), router.highest());
            Ok(answer)
        }
        _ => Err(Problem::method_not_allowed("GET, DELETE")),
    }
}

async fn keep_alive(call: Call<'_>, lease: u64) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let ttl = call.router.keep_alive(lease, deadline).await?;
    let mut out = Vec::new();
    write_alive(&mut out, lease, Some(ttl));
    Ok(reply::json(StatusCode::OK, out))
}

async fn keep_alive_many(mut call: Call<'_>) -> Result<Answer, Problem> {
    let deadline: Instant = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, _) = call.json::<KeepAliveBody>().await?;
    if asked.leases.len() > LEASES_MAX {
        return Err(Problem::new(
            Code::TooManyOperations,
            format!("at most {LEASES_MAX} leases at a time"),
        ));
    }
    let ids: Result<Vec<u64>, Problem> = asked.leases.iter().map(|lease| id(lease)).collect();
    let alive = call.router.keep_all_alive(ids?, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(object.field("leases"), alive, |out, (lease, ttl)| {
        write_alive(out, lease, ttl);
    });
    object.end();
    Ok(reply::json(StatusCode::OK, out))
}

/// A lease that has gone has no time.
fn write_alive(out: &mut Vec<u8>, lease: u64, ttl: Option<Duration>) {
    let mut object = Object::begin(out);
    object.text("lease", &show(lease));
    object.number("ttl", ttl.map_or(0, |ttl| ttl.as_secs()));
    object.end();
}

fn write_status(object: &mut Object<'_>, lease: &LeaseStatus) {
    object.text("lease", &show(lease.id));
    object.number("ttl", lease.ttl.as_secs());
    object.decimal("rest", lease.rest.as_secs_f64());
    object.number("revision", lease.grant.0);
}

/// A lease as it is written.
pub(in crate::http) fn show(lease: u64) -> String {
    format!("{lease:016x}")
}

/// A lease as it is given.
pub(in crate::http) fn id(text: &str) -> Result<u64, Problem> {
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    match u64::from_str_radix(text, 16) {
        Ok(lease) if digits && lease != 0 => Ok(lease),
        Ok(_) | Err(_) => Err(impossible("lease", "1 to 16 hexadecimal digits, and not 0")),
    }
}

/// How long a lease is to live, in seconds.
pub(in crate::http) fn ttl(seconds: i64) -> Result<u64, Problem> {
    match u64::try_from(seconds) {
        Ok(ttl) if (1..=LEASE_TTL_S_MAX).contains(&ttl) => Ok(ttl),
        Ok(_) | Err(_) => Err(Problem::new(
            Code::InvalidRequest,
            format!("`ttl` is a whole number of seconds from 1 to {LEASE_TTL_S_MAX}"),
        )),
    }
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Problem {
        match error {
            LeaseError::Store(error) => error.into(),
            LeaseError::NotFound => Problem::new(Code::LeaseNotFound, error.to_string()),
            LeaseError::Exists => Problem::new(Code::LeaseExists, error.to_string()),
        }
    }
}
