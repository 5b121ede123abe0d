//! One call of a recipe.

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::idempotency;
use crate::http::key::percent_decode;
use crate::http::params::Params;
use crate::http::payload::Payload;
use crate::http::problem::{Code, Problem};
use crate::{RequestName, Router};

/// The longest name of a lock, a counter, a topic, …
const NAME_BYTES_MAX: usize = 255;

/// What a recipe is called with.
pub(in crate::http) struct Call<'a> {
    pub(in crate::http) router: &'a Router,
    pub(in crate::http) parts: &'a Parts,
    pub(in crate::http) payload: &'a mut Payload,
    /// What follows the recipe's name in the path, not decoded yet.
    pub(in crate::http) rest: &'a str,
    pub(in crate::http) shutdown: &'a CancellationToken,
}

impl<'a> Call<'a> {
    /// The segments of the path after the recipe's name; a `/` at the end means nothing.
    pub(super) fn segments(&self) -> Vec<&'a str> {
        let rest = self.rest.strip_suffix('/').unwrap_or(self.rest);
        match rest {
            "" => Vec::new(),
            rest => rest.split('/').collect(),
        }
    }

    /// Whether a parameter is there, whatever its value.
    pub(super) fn asks(&self, name: &str) -> bool {
        let mut pairs = self.parts.uri.query().unwrap_or_default().split('&');
        pairs.any(|pair| pair.split('=').next() == Some(name))
    }

    pub(super) fn method(&self) -> &Method {
        &self.parts.method
    }

    pub(super) fn params(&self, allowed: &[&'static str]) -> Result<Params<'a>, Problem> {
        Params::parse(self.parts.uri.query(), allowed)
    }

    pub(super) fn deadline(&self, params: &Params<'_>) -> Result<Instant, Problem> {
        Ok(Instant::now() + params.timeout(self.parts, self.router.options())?)
    }

    /// The body, which is JSON; none is the empty object.
    pub(super) async fn json<T: DeserializeOwned>(&mut self) -> Result<(T, Bytes), Problem> {
        let body = self.payload.read().await?;
        let text = match body.is_empty() {
            true => b"{}",
            false => &body[..],
        };
        let read = serde_json::from_slice(text)
            .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
        Ok((read, body))
    }

    /// The client's name of the request, which asks for `body` at this path.
    pub(super) fn request_name(&self, body: &[u8]) -> Result<Option<RequestName>, Problem> {
        let scope = [
            self.parts.method.as_str().as_bytes(),
            self.parts.uri.path().as_bytes(),
        ];
        idempotency::name(self.parts, &scope, &[body])
    }

    /// Refuses other methods.
    pub(super) fn only(&self, method: &Method, allowed: &'static str) -> Result<(), Problem> {
        match self.method() == method {
            true => Ok(()),
            false => Err(Problem::method_not_allowed(allowed)),
        }
    }

    pub(super) fn no_route(&self) -> Problem {
        let path: String = self.parts.uri.path().chars().take(128).collect();
        Problem::new(Code::NotFound, format!("there is no route `{path}`"))
    }
}

/// The name in a segment of a path.
pub(super) fn name(segment: &str) -> Result<String, Problem> {
    let name = percent_decode(segment)?;
    check_name(&String::from_utf8_lossy(&name))?;
    String::from_utf8(name.into_owned()).map_err(|_| bad_name())
}

/// Whether a name can be one.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    let allowed = (1..=NAME_BYTES_MAX).contains(&name.len());
    match allowed && !name.bytes().any(|byte| byte.is_ascii_control()) {
        true => Ok(()),
        false => Err(bad_name()),
    }
}

fn bad_name() -> Problem {
    Problem::new(
        Code::BadName,
        format!("a name is UTF-8 of 1 to {NAME_BYTES_MAX} bytes without control characters"),
    )
}
