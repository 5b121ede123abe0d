//! `/v1/elections/{name}`: `GET` shows the candidates, `GET …/leader` who leads. `POST …/campaign {"ttl",
//! "wait", "value", "lease"}` answers `{"key", "token", "lease", …}` to who leads, and waits for that as long as it
//! may; `POST …/proclaim` (with `"value"`) and `POST …/resign` take that back. `GET …/observe` is a stream of
//! who leads, as server-sent events or lines of JSON. `GET /v1/elections` lists those with candidates.

use bytes::Bytes;
use caucus_api::shard::Put;
use http::{Method, Response};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::call::{self, Call};
use super::leases::{id, show, ttl};
use super::locks::{WAIT_S_MAX, answered, invalid, wait};
use super::{listing, streamed, whole};
use crate::http::frames::{self, ALIVE, Form, Frames, Speaker};
use crate::http::front::Body;
use crate::http::json::{self, Object};
use crate::http::media;
use crate::http::problem::{Code, Problem};
use crate::http::reply::Answer;
use crate::recipes::elections::{self, Candidacy, Error, Leader, Observer};
use crate::recipes::queue::Ended;

/// Without a word about it.
const TTL_S_DEFAULT: i64 = 10;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CampaignBody {
    #[serde(default)]
    ttl: Option<i64>,
    #[serde(default)]
    wait: Option<f64>,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    lease: Option<String>,
}

/// What was answered to a campaign, or the part of it that says which candidate is meant.
#[derive(serde::Deserialize)]
struct CandidateBody {
    key: String,
    token: u64,
    #[serde(default)]
    value: Value,
}

pub(super) async fn handle(call: Call<'_>) -> Result<Response<Body>, Problem> {
    let answer = match call.segments()[..] {
        [] => {
            call.only(&Method::GET, "GET")?;
            listing::names(call, "election", "elections").await
        }
        [election] => candidates(call, &call::name(election)?).await,
        [election, "leader"] => leader(call, &call::name(election)?).await,
        [election, "campaign"] => campaign(call, &call::name(election)?).await,
        [election, "proclaim"] => proclaim(call, &call::name(election)?).await,
        [election, "resign"] => resign(call, &call::name(election)?).await,
        [election, "observe"] => {
            return observe(call, &call::name(election)?).await;
        }
        _ => Err(call.no_route()),
    };
    answer.map(whole)
}

async fn campaign(mut call: Call<'_>, election: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, body) = call.json::<CampaignBody>().await?;
    let lease = asked.lease.as_deref().map(id).transpose()?;
    if lease.is_some() && asked.ttl.is_some() {
        return Err(invalid("with a `lease` its own time counts: no `ttl`"));
    }
    let put = put_of(&asked.value);
    let ask = Candidacy {
        ttl_s: ttl(asked.ttl.unwrap_or(TTL_S_DEFAULT))?,
        wait: Some(wait(asked.wait.unwrap_or(WAIT_S_MAX))?),
        value: put.value,
        content_type: put.content_type,
        lease,
    };
    let name = call.request_name(&body)?;
    let elected = elections::campaign(call.router, election, &ask, name, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.bytes("key", "key64", &elected.key);
    object.number("token", elected.token);
    object.text("lease", &show(elected.lease));
    if lease.is_none() {
        object.number("ttl", ask.ttl_s);
    }
    object.end();
    Ok(answered(out, elected.revision))
}

/// Text is text, all else JSON.
fn put_of(value: &Value) -> Put {
    let (value, content_type) = match value {
        Value::Null => (Bytes::new(), media::TEXT),
        Value::String(text) => (Bytes::from(text.clone()), media::TEXT),
        other => (other.to_string().into(), media::JSON),
    };
    Put {
        value,
        content_type: content_type.to_owned(),
        ..Put::default()
    }
}

async fn proclaim(mut call: Call<'_>, election: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, body) = call.json::<CandidateBody>().await?;
    let name = call.request_name(&body)?;
    let (key, put) = (Bytes::from(asked.key), put_of(&asked.value));
    let candidate = (&key, asked.token);
    let proclaimed = elections::proclaim(call.router, election, candidate, put, name, deadline);
    done("proclaimed", proclaimed.await?)
}

async fn resign(mut call: Call<'_>, election: &str) -> Result<Answer, Problem> {
    call.only(&Method::POST, "POST")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, body) = call.json::<CandidateBody>().await?;
    let name = call.request_name(&body)?;
    let key = Bytes::from(asked.key);
    let candidate = (&key, asked.token);
    let resigned = elections::resign(call.router, election, candidate, name, deadline);
    done("resigned", resigned.await?)
}

fn done(what: &str, revision: caucus_ring::Revision) -> Result<Answer, Problem> {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.boolean(what, true);
    object.end();
    Ok(answered(out, revision))
}

async fn leader(call: Call<'_>, election: &str) -> Result<Answer, Problem> {
    call.only(&Method::GET, "GET")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let queue = elections::queue(election);
    let (leader, revision) = elections::leader(call.router, &queue, deadline).await?;
    let leader = leader.ok_or(Error::NoLeader)?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    write_candidate(&mut object, &leader);
    object.end();
    Ok(answered(out, revision))
}

async fn candidates(call: Call<'_>, election: &str) -> Result<Answer, Problem> {
    call.only(&Method::GET, "GET")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (candidates, revision) = elections::show(call.router, election, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("election", election);
    json::array(object.field("candidates"), &candidates, |out, candidate| {
        let mut object = Object::begin(out);
        write_candidate(&mut object, candidate);
        object.end();
    });
    object.end();
    Ok(answered(out, revision))
}

fn write_candidate(object: &mut Object<'_>, candidate: &Leader) {
    object.bytes("key", "key64", &candidate.key);
    object.number("token", candidate.record.create_revision);
    object.text("lease", &show(candidate.record.lease));
    object.value(&candidate.record);
    object.number("revision", candidate.record.mod_revision);
}

async fn observe(call: Call<'_>, election: &str) -> Result<Response<Body>, Problem> {
    call.only(&Method::GET, "GET")?;
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let form = Form::asked(call.parts);
    let observer = Observer::of(call.router, election, deadline).await?;
    let observing = Observing {
        observer,
        frames: Frames::new(form),
        shutdown: call.shutdown.child_token(),
        quiet: true,
    };
    Ok(streamed(frames::respond(form, None, observing)))
}

/// A stream of leaders.
struct Observing {
    observer: Observer,
    frames: Frames,
    shutdown: CancellationToken,
    /// Nothing was told yet.
    quiet: bool,
}

impl Speaker for Observing {
    async fn next(&mut self) -> (Bytes, bool) {
        // Whoever observes learns at once that nobody leads.
        if std::mem::take(&mut self.quiet) && !self.observer.has_news() {
            self.frames.message("none", None, |_| {});
            return (self.frames.take(), false);
        }
        let alive = sleep_until(Instant::now() + ALIVE);
        let ends = tokio::select! {
            told = self.observer.next() => match told {
                Ok((revision, leader)) => {
                    let name = if leader.is_some() { "leader" } else { "none" };
                    self.frames.message(name, Some(revision.0), |object| {
                        if let Some(leader) = leader {
                            write_candidate(object, &leader);
                        }
                        object.number("at", revision.0);
                    });
                    false
                }
                Err(error) => {
                    self.frames.failed(error);
                    true
                }
            },
            () = self.shutdown.cancelled() => {
                self.frames.shut_down();
                true
            }
            () = alive => {
                self.frames.alive();
                false
            }
        };
        (self.frames.take(), ends)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let code = match error {
            Error::Store(error) | Error::Ended(Ended::Store(error)) => return error.into(),
            Error::Ended(Ended::LeaseNotFound) => Code::LeaseNotFound,
            Error::Ended(Ended::Lost) => Code::SessionExpired,
            Error::Ended(Ended::Late { .. }) => Code::NotAcquired,
            Error::NotLeader => Code::NotLeading,
            Error::NoLeader => Code::NoLeader,
        };
        Problem::new(code, error.to_string()).of_write()
    }
}
