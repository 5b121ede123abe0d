//! Publications.

use bytes::Bytes;
use caucus_api::limits::REQUEST_BYTES_MAX;
use caucus_api::shard::condition::Kind;
use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::path;
use crate::http::condition;
use crate::http::json::{self, Object};
use crate::http::key;
use crate::http::media;
use crate::http::params::Params;
use crate::http::problem::{Code, Problem};
use crate::http::recipes::call::Call;
use crate::http::recipes::locks::{answered, invalid};
use crate::http::reply::{self, Answer};
use crate::recipes::config::{self, Edit, Expect, Path, Publication};

/// Paths of one publication.
const EDITS_MAX: usize = 64;
/// Bytes of an author, and of a comment.
const TEXT_BYTES_MAX: usize = 4096;
/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 1 << 20;

const PARAMS: &[&str] = &["timeout", "author", "comment", "if_version"];

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishBody {
    #[serde(default)]
    author: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    set: Vec<SetBody>,
    #[serde(default)]
    delete: Vec<DeleteBody>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody {
    path: String,
    #[serde(default)]
    value: Option<Value>,
    #[serde(default)]
    value64: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    if_version: Option<u64>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteBody {
    path: String,
    #[serde(default)]
    if_version: Option<u64>,
}

pub(super) async fn set(call: Call<'_>, path: Path) -> Result<Answer, Problem> {
    let params = call.params(PARAMS)?;
    let content_type = match call.parts.headers.get(CONTENT_TYPE) {
        None => media::BYTES.to_owned(),
        Some(given) => given
            .to_str()
            .map_err(|_| Problem::new(Code::BadContentType, "a content type is ASCII text"))?
            .to_owned(),
    };
    let value = call.payload.read().await?;
    check_value(&content_type, &value)?;
    let content = value.clone();
    let edit = Edit::Set(value, content_type);
    one(call, &params, path, edit, &content).await
}

pub(super) async fn delete(call: Call<'_>, path: Path) -> Result<Answer, Problem> {
    let params = call.params(PARAMS)?;
    one(call, &params, path, Edit::Delete, b"").await
}

pub(super) async fn rollback(call: Call<'_>, path: Path) -> Result<Answer, Problem> {
    let params = call.params(&["timeout", "author", "comment", "if_version", "rollback"])?;
    let version = params.number("rollback", 1..=usize::MAX >> 1)?;
    let version = version.ok_or_else(|| invalid("a POST says which version with `rollback`"))?;
    let edit = Edit::Rollback(version as u64);
    one(call, &params, path, edit, b"").await
}

/// Publishes one path.
async fn one(
    call: Call<'_>,
    params: &Params<'_>,
    path: Path,
    edit: Edit,
    content: &[u8],
) -> Result<Answer, Problem> {
    let deadline = call.deadline(params)?;
    let text = |name| {
        let given = params.get(name).unwrap_or_default();
        String::from_utf8_lossy(given).into_owned()
    };
    let expect = expected(&call, params)?;
    let publication = Publication {
        author: text("author"),
        comment: text("comment"),
        edits: vec![(path, edit, expect)],
    };
    check_texts(&publication)?;
    let query = call.parts.uri.query().unwrap_or_default();
    let content = [content, &[0], query.as_bytes()].concat();
    let name = call.request_name(&content)?;
    let deletes = call.method() == Method::DELETE;
    let published = config::publish(call.router, &publication, name, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    for (path, version) in &published.versions {
        object.text("path", &path.to_string());
        object.number("version", *version);
    }
    object.number("revision", published.revision.0);
    object.end();
    let mut answer = answered(out, published.revision);
    if let Some((_, version)) = published.versions.first().filter(|_| !deletes) {
        reply::set_etag(answer.headers_mut(), *version);
    }
    Ok(answer)
}

fn is(version: u64) -> Expect {
    Expect::Is(vec![version])
}

/// Where the path must be, if that matters: `if_version`, or a condition of HTTP.
fn expected(call: &Call<'_>, params: &Params<'_>) -> Result<Option<Expect>, Problem> {
    let wanted = params.number("if_version", 0..=usize::MAX >> 1)?;
    let condition = condition::of_write(&call.parts.headers)?.and_then(|condition| condition.kind);
    match (wanted, condition) {
        (wanted, None) => Ok(wanted.map(|version| is(version as u64))),
        (None, Some(condition)) => Ok(Some(match condition {
            Kind::Present(_) => Expect::IsNot(vec![0]),
            Kind::Absent(_) => is(0),
            Kind::RevisionIs(versions) => Expect::Is(versions.revisions),
            Kind::RevisionIsNot(versions) => Expect::IsNot(versions.revisions),
        })),
        (Some(_), Some(_)) => Err(invalid(
            "a publication has `if_version` or a condition in its header, not both",
        )),
    }
}

fn check_value(content_type: &str, value: &[u8]) -> Result<(), Problem> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Problem::new(
            Code::ValueTooLarge,
            format!("a value has at most {VALUE_BYTES_MAX} bytes"),
        ));
    }
    media::check(content_type, value)
}

fn check_texts(publication: &Publication) -> Result<(), Problem> {
    let long = |text: &String| text.len() > TEXT_BYTES_MAX;
    match long(&publication.author) || long(&publication.comment) {
        true => Err(invalid(format!(
            "`author` and `comment` have at most {TEXT_BYTES_MAX} bytes each"
        ))),
        false => Ok(()),
    }
}

/// `POST /v1/config`.
pub(super) async fn publish(mut call: Call<'_>) -> Result<Answer, Problem> {
    let deadline = call.deadline(&call.params(&["timeout"])?)?;
    let (asked, body) = call.json::<PublishBody>().await?;
    let count = asked.set.len() + asked.delete.len();
    if !(1..=EDITS_MAX).contains(&count) || body.len() > REQUEST_BYTES_MAX {
        return Err(invalid(format!("a publication has 1 to {EDITS_MAX} paths")));
    }
    let mut publication = Publication {
        author: asked.author,
        comment: asked.comment,
        edits: Vec::with_capacity(count),
    };
    check_texts(&publication)?;
    for set in asked.set {
        let (path, wanted) = (path(&set.path)?, set.if_version);
        publication
            .edits
            .push((path, value_of(set)?, wanted.map(is)));
    }
    for delete in asked.delete {
        let path = path(&delete.path)?;
        publication
            .edits
            .push((path, Edit::Delete, delete.if_version.map(is)));
    }
    let mut paths: Vec<&Path> = publication.edits.iter().map(|(path, ..)| path).collect();
    paths.sort_unstable();
    if paths.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("a path stands in a publication once"));
    }
    let name = call.request_name(&body)?;
    let published = config::publish(call.router, &publication, name, deadline).await?;
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    let versions = &published.versions;
    json::array(
        object.field("published"),
        versions,
        |out, (path, version)| {
            let mut object = Object::begin(out);
            object.text("path", &path.to_string());
            object.number("version", *version);
            object.end();
        },
    );
    object.number("revision", published.revision.0);
    object.end();
    Ok(answered(out, published.revision))
}

fn value_of(set: SetBody) -> Result<Edit, Problem> {
    let (value, by_itself): (Bytes, &str) = match (set.value, set.value64) {
        (Some(Value::String(text)), None) if !is_json(set.content_type.as_deref()) => {
            (text.into(), media::TEXT)
        }
        (Some(value), None) => (value.to_string().into(), media::JSON),
        (None, Some(encoded)) => (key::base64(encoded.as_bytes())?, media::BYTES),
        (_, _) => return Err(invalid("a path gets either a `value` or a `value64`")),
    };
    let content_type = set.content_type.unwrap_or_else(|| by_itself.to_owned());
    check_value(&content_type, &value)?;
    Ok(Edit::Set(value, content_type))
}

fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|given| media::kind(given) == media::Kind::Json)
}
