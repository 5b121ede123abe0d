//! What a client asks of `/v1/watch`.

use std::time::Duration;

use bytes::Bytes;
use caucus_ring::Revision;
use http::request::Parts;

use super::filter::{Filter, Kind};
use super::write::Show;
use crate::http::frames::{self, Form};
use crate::http::key;
use crate::http::params::{Params, impossible};
use crate::http::problem::{Code, Problem};
use crate::watch::WatchSpec;
use crate::{Listing, RouterOptions};
use caucus_api::range::prefix_end;

const PARAMS: &[&str] = &[
    "key",
    "key64",
    "prefix",
    "start",
    "end",
    "from",
    "initial",
    "previous",
    "keys_only",
    "only",
    "glob",
    "depth",
    "changed",
    "order",
    "progress",
    "timeout",
];

/// Marks of progress are at least so far apart, in seconds...
const PROGRESS_MIN: usize = 1;
/// ... and at most.
const PROGRESS_MAX: usize = 3600;

/// A request that makes sense.
pub(super) struct Asked {
    pub(super) spec: WatchSpec,
    pub(super) filter: Filter,
    pub(super) form: Form,
    /// The keys as they are come first.
    pub(super) initial: Option<Listing>,
    pub(super) progress: Option<Duration>,
    /// Of each question that the stream needs an answer to.
    pub(super) timeout: Duration,
}

/// Reads a request.
pub(super) fn parse(parts: &Parts, options: &RouterOptions) -> Result<Asked, Problem> {
    let params = Params::parse(parts.uri.query(), PARAMS)?;
    let (start, end, prefix) = range(&params)?;
    let resumed = frames::last_event_id(parts)?;
    let from = params.number("from", 1..=usize::MAX >> 1)?;
    let initial = params.flag("initial")?;
    if initial && from.is_some() {
        return Err(Problem::new(
            Code::BadQueryValue,
            "`initial` is the state as it is now: there is no `from` with it",
        ));
    }
    let from = match resumed {
        Some(last) => Some(Revision(last + 1)),
        None => from.map(|from| Revision(from as u64)),
    };
    let by_group = match params.get("order") {
        None | Some(b"revision") => false,
        Some(b"group") => true,
        Some(_) => return Err(impossible("order", "`revision` or `group`")),
    };
    let filter = filter(&params, &prefix)?;
    let form = Form::asked(parts);
    let progress = params.number("progress", PROGRESS_MIN..=PROGRESS_MAX)?;
    let spec = WatchSpec {
        previous: filter.show.previous || filter.needs_previous(),
        by_group,
        from,
        start,
        end,
    };
    // Who comes back has seen it.
    let initial = (initial && resumed.is_none()).then(|| Listing {
        start: spec.start.clone(),
        end: listing_end(&spec),
        keys_only: filter.show.keys_only,
        ..Listing::default()
    });
    Ok(Asked {
        filter,
        spec,
        form,
        initial,
        progress: progress.map(|seconds| Duration::from_secs(seconds as u64)),
        timeout: params.timeout(parts, options)?,
    })
}

/// The first key and the end of the range, if it is one, and what all its keys begin with.
fn range(params: &Params<'_>) -> Result<(Bytes, Option<Bytes>, Bytes), Problem> {
    let bytes = |name| Bytes::copy_from_slice(params.get(name).unwrap_or(b""));
    let given = |name| params.get(name).is_some();
    let ways = [
        given("key"),
        given("key64"),
        given("prefix"),
        given("start") || given("end"),
    ];
    if ways.iter().filter(|given| **given).count() > 1 {
        return Err(Problem::new(
            Code::BadQueryValue,
            "one of `key`, `key64`, `prefix`, or `start` and `end` says what is watched; none: all keys",
        ));
    }
    if given("key") {
        let key = key::checked(bytes("key"))?;
        return Ok((key.clone(), None, key));
    }
    if let Some(encoded) = params.get("key64") {
        let key = key::from_base64(encoded)?;
        return Ok((key.clone(), None, key));
    }
    let prefix = bytes("prefix");
    let (start, end) = match given("prefix") {
        true => (prefix.clone(), prefix_end(&prefix).unwrap_or_default()),
        false => (bytes("start"), bytes("end")),
    };
    if !end.is_empty() && start >= end {
        return Err(impossible("end", "above `start`, or nothing can change"));
    }
    Ok((start, Some(end), prefix))
}

fn listing_end(spec: &WatchSpec) -> Bytes {
    spec.end.clone().unwrap_or_else(|| {
        // The first key after it.
        [&spec.start[..], &[0]].concat().into()
    })
}

fn filter(params: &Params<'_>, prefix: &Bytes) -> Result<Filter, Problem> {
    let only = match params.get("only") {
        None => None,
        Some(b"put") => Some(Kind::Put),
        Some(b"delete") => Some(Kind::Delete),
        Some(_) => return Err(impossible("only", "`put` or `delete`")),
    };
    let glob = match params.get("glob") {
        None => None,
        Some(pattern) => Some(super::filter::glob(pattern)?),
    };
    Ok(Filter {
        only,
        glob,
        depth: params.number("depth", 1..=4096)?,
        prefix: prefix.len(),
        changed: params.flag("changed")?,
        show: Show {
            keys_only: params.flag("keys_only")?,
            previous: params.flag("previous")?,
        },
    })
}
