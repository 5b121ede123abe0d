//! Query strings, strictly: a parameter that isn't known is an error, not a surprise.

use std::borrow::Cow;
use std::time::Duration;

use caucus_ring::Revision;
use http::request::Parts;

use super::key::percent_decode;
use super::problem::{Code, Problem};
use super::recipes::leases;
use crate::RouterOptions;

/// The deadline of a request, in seconds; the parameter `timeout` goes before it.
const TIMEOUT_HEADER: &str = "caucus-timeout";

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params<'a> {
    given: Vec<Param<'a>>,
}

#[derive(Debug)]
struct Param<'a> {
    name: &'static str,
    raw: &'a str,
    value: Cow<'a, [u8]>,
}

impl<'a> Params<'a> {
    /// Reads a query string; only `allowed` names may occur, each once.
    pub(super) fn parse(
        query: Option<&'a str>,
        allowed: &[&'static str],
    ) -> Result<Params<'a>, Problem> {
        let mut given: Vec<Param<'a>> = Vec::new();
        let pairs = query.unwrap_or("").split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = allowed.iter().find(|known| **known == name) else {
                return Err(unknown(name, allowed));
            };
            if given.iter().any(|known| known.name == *name) {
                return Err(Problem::new(
                    Code::BadQueryValue,
                    format!("`{name}` is given twice"),
                ));
            }
            given.push(Param {
                name,
                raw,
                value: form_decode(raw)?,
            });
        }
        Ok(Params { given })
    }

    /// The bytes of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.find(name).map(|param| &*param.value)
    }

    /// A parameter as it stands in the query string.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.find(name).map(|param| param.raw)
    }

    fn find(&self, name: &str) -> Option<&Param<'a>> {
        self.given.iter().find(|param| param.name == name)
    }

    /// A switch: there, or `=true`, or `=1` is on.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some(b"false" | b"0") => Ok(false),
            Some(b"" | b"true" | b"1") => Ok(true),
            Some(_) => Err(impossible(name, "`true` or `false`")),
        }
    }

    /// A number in a range.
    pub(super) fn number(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        match number {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            Some(_) | None => Err(impossible(
                name,
                &format!("a number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// A lease by its id.
    pub(super) fn lease(&self) -> Result<Option<u64>, Problem> {
        let lease = self.get("lease").map(String::from_utf8_lossy);
        lease.map(|lease| leases::id(&lease)).transpose()
    }

    /// The revision as of which to read.
    pub(super) fn revision(&self) -> Result<Option<Revision>, Problem> {
        let range = 1..=usize::MAX >> 1;
        let revision = self.number("revision", range)?;
        Ok(revision.map(|revision| Revision(revision as u64)))
    }

    /// Whether the read must see all that anyone anywhere was told of.
    pub(super) fn wants_global(&self) -> Result<bool, Problem> {
        match self.get("consistency") {
            None | Some(b"default") => Ok(false),
            Some(b"global") => Ok(true),
            Some(_) => Err(impossible("consistency", "`default` or `global`")),
        }
    }

    /// How long the request may take.
    pub(super) fn timeout(
        &self,
        parts: &Parts,
        options: &RouterOptions,
    ) -> Result<Duration, Problem> {
        let header = parts
            .headers
            .get(TIMEOUT_HEADER)
            .map(|value| value.as_bytes());
        let Some(value) = self.get("timeout").or(header) else {
            return Ok(options.timeout);
        };
        let seconds = std::str::from_utf8(value)
            .ok()
            .and_then(|value| value.parse::<f64>().ok());
        let max = options.timeout_max;
        match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            Some(timeout) if !timeout.is_zero() && timeout <= max => Ok(timeout),
            Some(_) | None => Err(impossible(
                "timeout",
                &format!("seconds, more than 0 and at most {}", max.as_secs_f64()),
            )),
        }
    }
}

/// A value that a parameter can't have.
pub(super) fn impossible(name: &str, wanted: &str) -> Problem {
    Problem::new(Code::BadQueryValue, format!("`{name}` must be {wanted}"))
}

fn unknown(name: &str, allowed: &[&'static str]) -> Problem {
    // Not the whole of what may be a long and strange text.
    let name: String = name.chars().take(64).collect();
    let allowed = if allowed.is_empty() {
        "none".to_owned()
    } else {
        allowed.join(", ")
    };
    Problem::new(
        Code::UnknownQueryParameter,
        format!("`{name}` is not known here; allowed are: {allowed}"),
    )
}

/// As HTML forms are: `+` is a space.
pub(super) fn form_decode(value: &str) -> Result<Cow<'_, [u8]>, Problem> {
    if !value.contains('+') {
        return percent_decode(value);
    }
    let spaced = value.replace('+', " ");
    Ok(Cow::Owned(percent_decode(&spaced)?.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(query: &str) -> Code {
        Params::parse(Some(query), &["a", "b"]).unwrap_err().code
    }

    #[test]
    fn queries_are_strict() {
        let params = Params::parse(Some("a=x+%2B%ff&b"), &["a", "b"]).unwrap();
        assert_eq!(params.get("a"), Some(&b"x +\xff"[..]));
        assert_eq!(params.flag("b"), Ok(true));
        assert_eq!(params.get("c"), None);
        assert_eq!(code("c=1"), Code::UnknownQueryParameter);
        assert_eq!(code("a=1&a=2"), Code::BadQueryValue);
        assert_eq!(code("a=%2"), Code::BadPercentEncoding);
        assert!(Params::parse(None, &[]).unwrap().given.is_empty());
    }

    #[test]
    fn values_are_in_range() {
        let params = Params::parse(Some("a=11&b=maybe"), &["a", "b"]).unwrap();
        assert_eq!(params.number("a", 1..=11), Ok(Some(11)));
        assert!(params.number("a", 1..=10).is_err());
        assert!(params.number("b", 1..=10).is_err());
        assert!(params.flag("b").is_err());
    }
}
