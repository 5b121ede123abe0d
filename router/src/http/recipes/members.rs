//! `/v1/members/{group}`: the members of somebody's own cluster. `GET` lists them in the order in which they joined,
//! `POST {"ttl", "id", "metadata", "lease"}` joins, `GET …/watch` is a stream of who comes, changes and goes. `PUT
//! …/{id} {"metadata"}` changes what others know of a member, `DELETE …/{id}` lets it leave; with `joined` only
//! the one that joined then. `GET /v1/members` lists the groups.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::call::{self, Call};
use super::leases::{id, show, ttl};
use super::locks::{answered, invalid};
use super::{listing, streamed, whole};
use crate::http::frames::{self, ALIVE, Form, Frames, Speaker};
use crate::http::front::Body;
use crate::http::json::{self, Object};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Answer};
use crate::recipes::members::{self, Error, Event, Joining, Member, Watch};

/// Without a word about it.
const TTL_S_DEFAULT: i64 = 10;
/// Bytes of a member's metadata.
pub(super) const METADATA_BYTES_MAX: usize = 64 << 10;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinBody {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    ttl: Option<i64>,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    lease: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    metadata: Value,
}

pub(super) async fn handle(call: Call<'_>) -> Result<Response<Body>, Problem> {
    let answer = match call.segments()[..] {
        [] => {
            call.only(&Method::GET, "GET")?;
            listing::names(call, "member", "groups").await
        }
        [group] if call.method() == Method::GET => list(call, &call::name(group)?).await,
        [group] => {
            call.only(&Method::POST, "GET, POST")?;
            join(call, &call::name(group)?).await
        }
        [group, "watch"] if call.method() == Method::GET => {
            return watch(call, &call::name(group)?).await;
        }
        [group, member] => one(call, &call::name(group)?, &call::name(member)?).await,
        _ => Err(call.no_route()),
    };
    answer.map(whole)
}

async fn join(mut call: Call<'_>, group: &str) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, body) = call.json::<JoinBody>().await?;
    let lease = asked.lease.as_deref().map(id).transpose()?;
    if lease.is_some() && asked.ttl.is_some() {
        return Err(invalid("with a `lease` its own time counts: no `ttl`"));
    }
    if let Some(id) = &asked.id {
        call::check_name(id)?;
    }
    check_metadata(&asked.metadata)?;
    let joining = Joining {
        id: asked.id,
        metadata: asked.metadata,
        ttl_s: ttl(asked.ttl.unwrap_or(TTL_S_DEFAULT))?,
        lease,
    };
    let name = call.request_name(&body)?;
    let joined = members::join(call.router, group, &joining, name, deadline).await;
    let (member, revision) = joined?;
    let mut out = Vec::new();
    write_member(&mut out, &member);
    let mut answer = answered(out, revision);
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}

pub(super) fn check_metadata(metadata: &Value) -> Result<(), Problem> {
    match metadata.to_string().len() > METADATA_BYTES_MAX {
        true => Err(invalid(format!(
            "`metadata` has at most {METADATA_BYTES_MAX} bytes"
        ))),
        false => Ok(()),
    }
}

async fn list(call: Call<'_>, group: &str) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (members, revision) = members::list(call.router, group, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(object.field("members"), &members, |out, member| {
        write_member(out, member);
    });
    object.end();
    Ok(answered(out, revision))
}

async fn one(mut call: Call<'_>, group: &str, member: &str) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "joined"])?;
    let deadline = call.deadline(&params)?;
    let joined = params.number("joined", 1..=usize::MAX >> 1)?;
    let joined = joined.map(|joined| joined as u64);
    let router = call.router;
    let revision = match *call.method() {
        Method::PUT => {
            let (asked, body) = call.json::<ChangeBody>().await?;
            check_metadata(&asked.metadata)?;
            let name = call.request_name(&body)?;
            let metadata = &asked.metadata;
            members::change(router, group, member, joined, metadata, name, deadline).await?
        }
        Method::DELETE => {
            let name = call.request_name(b"")?;
            members::leave(router, group, member, joined, name, deadline).await?
        }
        _ => return Err(Problem::method_not_allowed("PUT, DELETE")),
    };
    let mut answer = reply::empty(StatusCode::NO_CONTENT);
    reply::set_revision(answer.headers_mut(), revision);
    Ok(answer)
}

fn write_member(out: &mut Vec<u8>, member: &Member) {
    let mut object = Object::begin(out);
    write_fields(&mut object, member);
    object.end();
}

fn write_fields(object: &mut Object<'_>, member: &Member) {
    object.text("id", &member.id);
    object.json("metadata", &member.metadata);
    object.text("lease", &show(member.lease));
    object.number("joined", member.joined);
    object.number("changed", member.changed);
}

async fn watch(call: Call<'_>, group: &str) -> Result<Response<Body>, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let form = Form::asked(call.parts);
    let watching = Watching {
        watch: Watch::open(call.router, group, deadline).await?,
        frames: Frames::new(form),
        shutdown: call.shutdown.child_token(),
        begun: false,
    };
    Ok(streamed(frames::respond(form, None, watching)))
}

/// A stream of members: first all of them, then each change.
struct Watching {
    watch: Watch,
    frames: Frames,
    shutdown: CancellationToken,
    begun: bool,
}

impl Speaker for Watching {
    async fn next(&mut self) -> (Bytes, bool) {
        if !std::mem::replace(&mut self.begun, true) {
            let (members, revision) = (self.watch.members(), self.watch.revision().0);
            self.frames.message("members", Some(revision), |object| {
                json::array(object.field("members"), &members, write_member_to);
                object.number("revision", revision);
            });
            return (self.frames.take(), false);
        }
        let ends = tokio::select! {
            told = self.watch.next() => match told {
                Ok(events) => {
                    let revision = self.watch.revision().0;
                    for event in &events {
                        let (name, member) = match event {
                            Event::Joined(member) => ("joined", member),
                            Event::Changed(member) => ("changed", member),
                            Event::Left(member) => ("left", member),
                        };
                        self.frames.message(name, Some(revision), |object| {
                            write_fields(object, member);
                            object.number("revision", revision);
                        });
                    }
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
            () = sleep_until(Instant::now() + ALIVE) => {
                self.frames.alive();
                false
            }
        };
        (self.frames.take(), ends)
    }
}

fn write_member_to(out: &mut Vec<u8>, member: &Member) {
    write_member(out, member);
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let code = match error {
            Error::Store(error) => return error.into(),
            Error::LeaseNotFound => Code::LeaseNotFound,
            Error::Exists => Code::Exists,
            Error::NotFound => Code::MemberNotFound,
        };
        Problem::new(code, error.to_string()).of_write()
    }
}
