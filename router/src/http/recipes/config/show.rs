//! What is published, and what was.

use http::Method;

use super::{bad_path, path};
use crate::http::json::{self, Object};
use crate::http::params::impossible;
use crate::http::problem::Problem;
use crate::http::recipes::call::Call;
use crate::http::recipes::locks::{answered, invalid};
use crate::http::reply::Answer;
use crate::recipes::config::{self, Difference, Entry, Meta, Path, Policy};

/// Values of a page, or versions.
const PAGE_MAX: usize = 1000;
const PAGE_DEFAULT: usize = 100;
/// Layers of an effective configuration.
const LAYERS_MAX: usize = 16;
/// Versions that a policy may keep.
const VERSIONS_MAX: u64 = 10_000;

pub(super) async fn one(call: Call<'_>, path: &Path) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "version"])?;
    let deadline = call.deadline(&params)?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.text("path", &path.to_string());
    let revision = match params.number("version", 1..=usize::MAX >> 1)? {
        None => {
            let (entry, revision) = config::get(call.router, path, deadline).await?;
            object.value(&entry.record);
            if let Some(meta) = &entry.meta {
                write_meta(&mut object, meta);
            }
            object.number("revision", entry.record.mod_revision);
            revision
        }
        Some(version) => {
            let found = config::version(call.router, path, version as u64, deadline);
            let (found, revision) = found.await?;
            if let Some(record) = &found.record {
                object.value(record);
            }
            write_meta(&mut object, &found.meta);
            revision
        }
    };
    object.end();
    Ok(answered(out, revision))
}

fn write_meta(object: &mut Object<'_>, meta: &Meta) {
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
    match config::compare(before.record.as_ref(), after.record.as_ref()) {
        Difference::Json(changes) => {
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
            if after.namespace() != prefix.namespace() {
                return Err(invalid("`after` is a path of the same namespace"));
            }
            Some(after)
        }
        None => None,
    };
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    let listed = config::list(call.router, prefix, after.as_ref(), limit, None, deadline);
    let (entries, more, revision) = listed.await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    json::array(object.field("entries"), &entries, |out, entry| {
        let mut object = Object::begin(out);
        write_entry(&mut object, entry);
        object.end();
    });
    object.boolean("more", more);
    object.end();
    Ok(answered(out, revision))
}

pub(super) fn write_entry(object: &mut Object<'_>, entry: &Entry) {
    object.text("path", &entry.path.to_string());
    object.value(&entry.record);
    object.number("revision", entry.record.mod_revision);
}

pub(super) async fn effective(call: Call<'_>) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "effective"])?;
    let deadline = call.deadline(&params)?;
    let given = String::from_utf8_lossy(params.get("effective").unwrap_or_default()).into_owned();
    let layers: Option<Vec<Path>> = given.split(',').map(Path::parse).collect();
    let layers = layers.ok_or_else(bad_path)?;
    if layers.len() > LAYERS_MAX {
        return Err(invalid(format!("there are at most {LAYERS_MAX} layers")));
    }
    let layers: Vec<Path> = layers.into_iter().map(Path::as_prefix).collect();
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
