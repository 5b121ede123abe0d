//! What is published, and what was.

use http::{Method, StatusCode};

use super::{bad_path, path};
use crate::http::condition::{OfRead, Verdict};
use crate::http::json::{self, Object};
use crate::http::params::{self, impossible};
use crate::http::problem::Problem;
use crate::http::recipes::call::Call;
use crate::http::recipes::locks::{answered, invalid};
use crate::http::reply::{self, Answer};
use crate::recipes::config::{self, Difference, Entry, Error, Meta, Path, Policy};

/// Values of a page, or versions.
const PAGE_MAX: usize = 1000;
const PAGE_DEFAULT: usize = 100;
/// Layers of an effective configuration.
const LAYERS_MAX: usize = 16;
/// Versions that a policy may keep.
const VERSIONS_MAX: u64 = 10_000;

/// A value as it is, or as a version had it. Its version is its ETag.
pub(super) async fn one(call: Call<'_>, path: &Path) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "version"])?;
    let deadline = call.deadline(&params)?;
    let condition = OfRead::parse(&call.parts.headers)?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("path", &path.to_string());
    let (version, revision) = match params.number("version", 1..=usize::MAX >> 1)? {
        None => {
            let (entry, revision) = config::get(call.router, path, deadline).await?;
            object.value(&entry.record);
            if let Some(meta) = &entry.meta {
                write_meta(&mut object, meta);
            }
            object.number("revision", entry.record.mod_revision);
            (entry.meta.map(|meta| meta.version), revision)
        }
        Some(version) => {
            let found = config::version(call.router, path, version as u64, deadline);
            let (found, revision) = found.await?;
            if let Some(record) = &found.record {
                object.value(record);
            }
            write_meta(&mut object, &found.meta);
            (Some(found.meta.version), revision)
        }
    };
    object.end();
    let mut answer = match condition.judge(version) {
        Verdict::Answer => answered(out, revision),
        Verdict::NotModified => reply::empty(StatusCode::NOT_MODIFIED),
        Verdict::Failed => {
            let path = path.to_string();
            let found = version.unwrap_or(0);
            return Err(Error::OtherVersion { path, found }.into());
        }
    };
    if let Some(version) = version {
        reply::set_etag(answer.headers_mut(), version);
    }
    Ok(answer)
}

pub(super) fn write_meta(object: &mut Object<'_>, meta: &Meta) {
    object.number("version", meta.version);
    object.text("author", &meta.author);
    object.text("comment", &meta.comment);
    object.number("time_ms", meta.time_ms);
    if meta.deleted {
        object.boolean("deleted", true);
    }
}

pub(super) async fn history(call: Call<'_>, path: &Path) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "history", "limit", "before"])?;
    let deadline = call.deadline(&params)?;
    let limit = params.number("limit", 1..=PAGE_MAX)?;
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let before = params.number("before", 1..=usize::MAX >> 1)?.unwrap_or(0);
    let found = config::history(call.router, path, before as u64, limit, deadline);
    let (versions, more, revision) = found.await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("path", &path.to_string());
    json::array(object.field("versions"), &versions, |out, meta| {
        let mut object = Object::begin(out);
        write_meta(&mut object, meta);
        object.end();
    });
    object.boolean("more", more);
    object.end();
    Ok(answered(out, revision))
}

pub(super) async fn diff(call: Call<'_>, path: &Path) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "diff"])?;
    let deadline = call.deadline(&params)?;
    let between = String::from_utf8_lossy(params.get("diff").unwrap_or_default()).into_owned();
    let versions = between.split_once("..").and_then(|(from, to)| {
        let version = |text: &str| text.parse::<u64>().ok().filter(|version| *version > 0);
        Some((version(from)?, version(to)?))
    });
    let (from, to) = versions.ok_or_else(|| impossible("diff", "two versions, as in `2..5`"))?;
    let (before, _) = config::version(call.router, path, from, deadline).await?;
    let (after, revision) = config::version(call.router, path, to, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("path", &path.to_string());
    object.number("from", from);
    object.number("to", to);
    match config::compare(before.record, after.record, deadline).await? {
        Difference::Json { changes, more } => {
            json::array(object.field("changes"), &changes, |out, (at, from, to)| {
                let mut object = Object::begin(out);
                object.text("at", at);
                if let Some(from) = from {
                    object.json("from", from);
                }
                if let Some(to) = to {
                    object.json("to", to);
                }
                object.end();
            });
            if more {
                object.boolean("more", true);
            }
        }
        Difference::Text(text) => object.text("unified", &text),
        Difference::Bytes(same) => object.boolean("same", same),
    }
    object.end();
    Ok(answered(out, revision))
}

pub(super) async fn list(call: Call<'_>, prefix: &Path) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "limit", "after"])?;
    let deadline = call.deadline(&params)?;
    let limit = params.number("limit", 1..=PAGE_MAX)?;
    let after = match params.get("after") {
        Some(after) => {
            let after = path(&String::from_utf8_lossy(after))?;
            if !after.is_in(prefix) {
                return Err(invalid(format!("`after` is a path below `{prefix}`")));
            }
            Some(after)
        }
        None => None,
    };
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let listed = config::list(call.router, prefix, after.as_ref(), limit, None, deadline);
    let listed = listed.await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    write_entries(&mut object, &listed.entries);
    object.boolean("more", listed.more);
    object.end();
    Ok(answered(out, listed.revision))
}

pub(super) fn write_entries(object: &mut Object<'_>, entries: &[Entry]) {
    json::array(object.field("entries"), entries, |out, entry| {
        let mut object = Object::begin(out);
        write_entry(&mut object, entry);
        object.end();
    });
}

fn write_entry(object: &mut Object<'_>, entry: &Entry) {
    object.text("path", &entry.path.to_string());
    object.value(&entry.record);
    if let Some(meta) = &entry.meta {
        write_meta(object, meta);
    }
    object.number("revision", entry.record.mod_revision);
}

pub(super) async fn effective(call: Call<'_>) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "effective"])?;
    let deadline = call.deadline(&params)?;
    // A comma that belongs to a path is percent-encoded, so it is looked for before that is decoded.
    let given = params.raw("effective").unwrap_or_default();
    let layers: Result<Vec<Path>, Problem> = given.split(',').map(layer).collect();
    let layers = layers?;
    if layers.len() > LAYERS_MAX {
        return Err(invalid(format!("there are at most {LAYERS_MAX} layers")));
    }
    let (merged, revision) = config::effective(call.router, &layers, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(object.field("entries"), &merged, |out, (name, entry)| {
        let mut object = Object::begin(out);
        object.text("name", name);
        write_entry(&mut object, entry);
        object.end();
    });
    object.number("revision", revision.0);
    object.end();
    Ok(answered(out, revision))
}

fn layer(encoded: &str) -> Result<Path, Problem> {
    let decoded = params::form_decode(encoded)?;
    let path = std::str::from_utf8(&decoded).ok().and_then(Path::parse);
    Ok(path.ok_or_else(bad_path)?.as_prefix())
}

pub(super) async fn policy(mut call: Call<'_>, path: &Path) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout", "policy"])?)?;
    if path.to_string() != path.namespace() {
        return Err(invalid("a policy is that of a namespace"));
    }
    let (router, namespace) = (call.router, path.namespace());
    let policy = match *call.method() {
        Method::GET => config::policy(router, namespace, deadline).await?,
        Method::PUT => {
            let (policy, _) = call.json::<Policy>().await?;
            if !(1..=VERSIONS_MAX).contains(&policy.versions_max) {
                return Err(invalid(format!(
                    "`versions_max` is a number from 1 to {VERSIONS_MAX}"
                )));
            }
            config::set_policy(router, namespace, &policy, deadline).await?;
            policy
        }
        _ => return Err(Problem::method_not_allowed("GET, PUT")),
    };
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.number("versions_max", policy.versions_max);
    if let Some(age) = policy.age_seconds_max {
        object.number("age_seconds_max", age);
    }
    object.end();
    Ok(answered(out, router.highest()))
}
