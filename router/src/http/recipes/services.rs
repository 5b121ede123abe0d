//! `/v1/services/{name}`: `GET` lists its instances (`healthy`, `tag`), `GET …/watch` is a stream of all of them at each
//! change. `/v1/services/{name}/{id}`: `PUT {"address", "port", "tags", "metadata", "ttl", "critical_after",
//! "check", "status"}` registers an instance, `GET`, `DELETE`, and `POST …/heartbeat {"status", "note"}` shows that
//! it lives. `GET /v1/services` lists the services.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::call::{self, Call};
use super::leases::ttl;
use super::locks::{answered, invalid};
use super::members::check_metadata;
use super::{listing, streamed, whole};
use crate::http::frames::{self, ALIVE, Form, Frames, Speaker};
use crate::http::front::Body;
use crate::http::json::{self, Object};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{self, Answer};
use crate::recipes::services::{
    self, Check, Error, Health, Instance, Probe, Registered, Status, Watch,
};

/// Without a word about it.
const TTL_S_DEFAULT: i64 = 30;
/// Tags of an instance, and bytes of each, of its address and of a note.
const TAGS_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1024;
/// Seconds between two checks.
const INTERVAL_S_MAX: u64 = 3600;
/// A check's instance is critical only after so many checks are missing.
const MISSING_MAX: u64 = 3;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterBody {
    address: String,
    port: u16,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    ttl: Option<i64>,
    #[serde(default)]
    critical_after: Option<u64>,
    #[serde(default)]
    check: Option<CheckBody>,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    #[serde(default)]
    http: Option<String>,
    #[serde(default)]
    tcp: Option<u16>,
    interval: u64,
    #[serde(default)]
    timeout: Option<u64>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct HeartbeatBody {
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    note: String,
}

pub(super) async fn handle(call: Call<'_>) -> Result<Response<Body>, Problem> {
    let answer = match call.segments()[..] {
        [] => {
            call.only(&Method::GET, "GET")?;
            listing::names(call, "service", "services").await
        }
        [service] => {
            call.only(&Method::GET, "GET")?;
            list(call, &call::name(service)?).await
        }
        [service, "watch"] if call.method() == Method::GET => {
            return watch(call, &call::name(service)?).await;
        }
        [service, id] => one(call, &call::name(service)?, &call::name(id)?).await,
        [service, id, "heartbeat"] => {
            call.only(&Method::POST, "POST")?;
            heartbeat(call, &call::name(service)?, &call::name(id)?).await
        }
        _ => Err(call.no_route()),
    };
    answer.map(whole)
}

fn instance(asked: RegisterBody) -> Result<(Instance, Health), Problem> {
    let fits = |text: &String| (1..=TEXT_BYTES_MAX).contains(&text.len());
    let all_fit = fits(&asked.address) && asked.tags.iter().all(fits);
    if !all_fit || asked.tags.len() > TAGS_MAX {
        return Err(invalid(format!(
            "an address and a tag have 1 to {TEXT_BYTES_MAX} bytes, and there are at most {TAGS_MAX} tags"
        )));
    }
    check_metadata(&asked.metadata)?;
    let check = asked.check.map(check).transpose()?;
    let ttl = match (&check, asked.ttl) {
        (None, given) => ttl(given.unwrap_or(TTL_S_DEFAULT))?,
        (Some(check), None) => MISSING_MAX * (check.interval + check.timeout),
        (Some(_), Some(_)) => return Err(invalid("with a `check` there is no `ttl`")),
    };
    // Nobody knows yet how it is: with a check that is found out, without one it says so itself by coming.
    let status = asked.status.unwrap_or(match check {
        Some(_) => Status::Critical,
        None => Status::Passing,
    });
    let instance = Instance {
        address: asked.address,
        port: asked.port,
        tags: asked.tags,
        metadata: asked.metadata,
        ttl,
        critical_after: asked.critical_after,
        check,
    };
    let health = Health {
        status,
        note: String::new(),
    };
    Ok((instance, health))
}

fn check(asked: CheckBody) -> Result<Check, Problem> {
    let probe = match (asked.http, asked.tcp) {
        (Some(path), None) if is_path(&path) => Probe::Http(path),
        (None, Some(port)) if port > 0 => Probe::Tcp(port),
        (_, _) => {
            return Err(invalid(
                "a check has either `http`, a path that begins with `/`, or `tcp`, a port",
            ));
        }
    };
    let timeout = asked.timeout.unwrap_or(asked.interval.min(2));
    let fits = (1..=INTERVAL_S_MAX).contains(&asked.interval);
    if !fits || !(1..=asked.interval).contains(&timeout) {
        return Err(invalid(format!(
            "`interval` is 1 to {INTERVAL_S_MAX} seconds, `timeout` 1 to `interval`"
        )));
    }
    Ok(Check {
        probe,
        interval: asked.interval,
        timeout,
    })
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= TEXT_BYTES_MAX
        && path.bytes().all(|b| b.is_ascii_graphic())
}

async fn one(mut call: Call<'_>, service: &str, id: &str) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let router = call.router;
    match *call.method() {
        Method::PUT => {
            let (asked, _) = call.json::<RegisterBody>().await?;
            let (instance, health) = instance(asked)?;
            let done = services::register(router, service, id, &instance, &health, deadline);
            done_at(done.await?)
        }
        Method::DELETE => done_at(services::deregister(router, service, id, deadline).await?),
        Method::GET => {
            let (all, revision) = services::show(router, service, deadline).await?;
            let found = all.into_iter().find(|instance| instance.id == id);
            let found = found.ok_or(Error::NotFound)?;
            let mut out = Vec::new();
            write_instance(&mut out, &found);
            Ok(answered(out, revision))
        }
        _ => Err(Problem::method_not_allowed("GET, PUT, DELETE")),
    }
}

fn done_at(revision: caucus_ring::Revision) -> Result<Answer, Problem> {
    let mut answer = reply::empty(StatusCode::NO_CONTENT);
    reply::set_revision(answer.headers_mut(), revision);
    Ok(answer)
}

async fn heartbeat(mut call: Call<'_>, service: &str, id: &str) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, _) = call.json::<HeartbeatBody>().await?;
    if asked.note.len() > TEXT_BYTES_MAX {
        return Err(invalid(format!(
            "`note` has at most {TEXT_BYTES_MAX} bytes"
        )));
    }
    let health = Health {
        status: asked.status.unwrap_or(Status::Passing),
        note: asked.note,
    };
    let revision = services::heartbeat(call.router, service, id, &health, deadline).await?;
    done_at(revision)
}

async fn list(call: Call<'_>, service: &str) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "healthy", "tag"])?;
    let deadline = call.deadline(&params)?;
    let healthy = params.flag("healthy")?;
    let tag = params.get("tag").map(String::from_utf8_lossy);
    let (mut all, revision) = services::show(call.router, service, deadline).await?;
    all.retain(|found| !healthy || found.health.status != Status::Critical);
    if let Some(tag) = tag {
        all.retain(|found| found.instance.tags.iter().any(|has| *has == tag));
    }
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(object.field("instances"), &all, write_instance);
    object.end();
    Ok(answered(out, revision))
}

fn write_instance(out: &mut Vec<u8>, found: &Registered) {
    let Registered {
        id,
        instance,
        health,
        revision,
    } = found;
    let mut object = Object::begin(out);
    object.text("id", id);
    object.text("address", &instance.address);
    object.number("port", u64::from(instance.port));
    json::array(object.field("tags"), &instance.tags, |out, tag| {
        json::text(out, tag);
    });
    object.json("metadata", &instance.metadata);
    object.text("status", health.status.name());
    object.text("note", &health.note);
    object.number("ttl", instance.ttl);
    if let Some(after) = instance.critical_after {
        object.number("critical_after", after);
    }
    if let Some(check) = &instance.check {
        let mut inner = Object::begin(object.field("check"));
        match &check.probe {
            Probe::Http(path) => inner.text("http", path),
            Probe::Tcp(port) => inner.number("tcp", u64::from(*port)),
        }
        inner.number("interval", check.interval);
        inner.number("timeout", check.timeout);
        inner.end();
    }
    object.number("revision", *revision);
    object.end();
}

async fn watch(call: Call<'_>, service: &str) -> Result<Response<Body>, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let form = Form::asked(call.parts);
    let watching = Watching {
        watch: Watch::open(call.router, service, deadline).await?,
        frames: Frames::new(form),
        shutdown: call.shutdown.child_token(),
        begun: false,
    };
    Ok(streamed(frames::respond(form, None, watching)))
}

/// A stream of all instances, as they are at first and after each change.
struct Watching {
    watch: Watch,
    frames: Frames,
    shutdown: CancellationToken,
    begun: bool,
}

impl Watching {
    fn tell(&mut self) {
        let (instances, revision) = self.watch.instances();
        self.frames
            .message("instances", Some(revision.0), |object| {
                json::array(object.field("instances"), &instances, write_instance);
                object.number("revision", revision.0);
            });
    }
}

impl Speaker for Watching {
    async fn next(&mut self) -> (Bytes, bool) {
        if !std::mem::replace(&mut self.begun, true) {
            self.tell();
            return (self.frames.take(), false);
        }
        let ends = tokio::select! {
            changed = self.watch.changed() => match changed {
                Ok(()) => {
                    self.tell();
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

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let code = match error {
            Error::Store(error) => return error.into(),
            Error::NotFound => Code::InstanceNotFound,
            Error::Contended => Code::Busy,
        };
        Problem::new(code, error.to_string()).of_write()
    }
}
