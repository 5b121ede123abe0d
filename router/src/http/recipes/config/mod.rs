//! `/v1/config/{path}`: configuration with its versions. What isn't said by the method is said by one parameter without
//! a value, so that a path may be any.
//!
//! ```text
//!  GET    path                        the value and its newest version; ?version=N one that was
//!  PUT    path                        a new version (?author, ?comment, ?if_version; the version is the ETag)
//!  DELETE path                        the same
//!  GET    path?history                versions, newest first (?limit, ?before)
//!  GET    path?diff=2..5              what differs between two versions
//!  POST   path?rollback=2             a new version with what was there at an old one
//!  GET    prefix/                     all values below it (?limit, ?after)
//!  GET    prefix/?watch, path?watch   a stream: what there is, then each publication
//!  GET    namespace?policy, PUT       how many versions are kept, and how long
//!  POST   /v1/config                  {"author", "comment", "set": […], "delete": […]}: all at once
//!  GET    /v1/config?effective=a,b,c  layers over each other, the last on top
//!  GET    /v1/config                  the namespaces
//! ```

mod change;
mod show;
mod watch;

use http::{Method, Response};

use super::call::Call;
use super::locks::invalid;
use super::{listing, whole};
use crate::http::front::Body;
use crate::http::key::percent_decode;
use crate::http::problem::{Code, Problem};
use crate::recipes::config::{Error, Path};

pub(super) async fn handle(call: Call<'_>) -> Result<Response<Body>, Problem> {
    let decoded = percent_decode(call.rest)?;
    let text = std::str::from_utf8(&decoded).map_err(|_| bad_path())?;
    if text.is_empty() {
        let answer = match *call.method() {
            Method::POST => change::publish(call).await,
            Method::GET | Method::HEAD if call.asks("effective") => show::effective(call).await,
            Method::GET | Method::HEAD => listing::names(call, "config", "namespaces").await,
            _ => Err(Problem::method_not_allowed("GET, HEAD, POST")),
        };
        return answer.map(whole);
    }
    let path = Path::parse(text).ok_or_else(bad_path)?;
    if call.asks("policy") {
        return show::policy(call, &path).await.map(whole);
    }
    let answer = match (call.method().as_str(), path.is_value()) {
        ("GET", _) if call.asks("watch") => return watch::begin(call, path).await,
        ("GET" | "HEAD", false) => show::list(call, &path).await,
        ("GET" | "HEAD", true) if call.asks("history") => show::history(call, &path).await,
        ("GET" | "HEAD", true) if call.asks("diff") => show::diff(call, &path).await,
        ("GET" | "HEAD", true) => show::one(call, &path).await,
        ("PUT", true) => change::set(call, path).await,
        ("DELETE", true) => change::delete(call, path).await,
        ("POST", true) => change::rollback(call, path).await,
        (_, true) => Err(Problem::method_not_allowed("GET, HEAD, PUT, DELETE, POST")),
        (_, false) => Err(Problem::method_not_allowed("GET, HEAD")),
    };
    answer.map(whole)
}

/// A path in a body.
fn path(text: &str) -> Result<Path, Problem> {
    let path = Path::parse(text).filter(Path::is_value);
    path.ok_or_else(bad_path)
}

fn bad_path() -> Problem {
    invalid(
        "a path is `namespace/segment/…`: UTF-8 without empty segments and control characters, up to 1024 bytes",
    )
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let code = match error {
            Error::Store(error) => return error.into(),
            Error::NotFound(_) => Code::KeyNotFound,
            Error::VersionGone { .. } => Code::VersionGone,
            Error::NoVersion { .. } => Code::NoVersion,
            Error::OtherVersion { .. } => Code::OtherVersion,
            Error::Contended => Code::Conflict,
            Error::TooLarge { .. } => Code::InvalidRequest,
            Error::TooSlow => Code::Deadline,
        };
        Problem::new(code, error.to_string())
    }
}
