//! The header `Idempotency-Key`.

use http::request::Parts;

use super::problem::{Code, Problem};
use crate::RequestName;

const HEADER: &str = "idempotency-key";
/// The longest name.
const NAME_BYTES_MAX: usize = 255;

/// The name that the client gave a request, if it gave one. `scope` and `content` as in
/// [`RequestName::new`]; the headers that say what a request asks for belong to the content, and are
/// added here.
pub(super) fn name(
    parts: &Parts,
    scope: &[&[u8]],
    content: &[&[u8]],
) -> Result<Option<RequestName>, Problem> {
    let mut given = parts.headers.get_all(HEADER).iter();
    let Some(name) = given.next().map(|name| name.as_bytes()) else {
        return Ok(None);
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || given.next().is_some() {
        return Err(Problem::new(
            Code::BadQueryValue,
            format!("an Idempotency-Key has 1 to {NAME_BYTES_MAX} bytes, and there is one"),
        ));
    }
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .map_or(&b""[..], |value| value.as_bytes())
    };
    let mut all = vec![
        header("content-type"),
        header("if-match"),
        header("if-none-match"),
    ];
    all.extend(content);
    Ok(Some(RequestName::new(scope, name, &all)))
}

/// Refuses the header where it would mean nothing.
pub(super) fn refuse(parts: &Parts, route: &str) -> Result<(), Problem> {
    match parts.headers.contains_key(HEADER) {
        true => Err(Problem::new(
            Code::InvalidRequest,
            format!(
                "{route} takes no Idempotency-Key; PUT, DELETE and POST of one key do, and /v1/txn"
            ),
        )),
        false => Ok(()),
    }
}
