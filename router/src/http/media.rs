//! Media types of values: what they promise of the bytes.

use caucus_api::limits::CONTENT_TYPE_BYTES_MAX;
use serde::de::IgnoredAny;

use super::problem::{Code, Problem};

/// Of values whose type nobody named.
pub(super) const BYTES: &str = "application/octet-stream";
/// Of strings in batches.
pub(super) const TEXT: &str = "text/plain";
/// Of other JSON values in batches.
pub(super) const JSON: &str = "application/json";
/// A decimal 64-bit number with sign.
pub(super) const INTEGER: &str = "application/vnd.caucus.integer";

/// The media type of a record; etcd's clients give their values none.
pub(super) fn name(content_type: &str) -> &str {
    match content_type {
        "" => BYTES,
        named => named,
    }
}

/// What a media type promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Text,
    Integer,
    Bytes,
}

/// The kind of a media type; parameters don't matter.
pub(super) fn kind(content_type: &str) -> Kind {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(BYTES) {
        Kind::Bytes
    } else if essence.eq_ignore_ascii_case(JSON) {
        Kind::Json
    } else if essence.eq_ignore_ascii_case(TEXT) {
        Kind::Text
    } else if essence.eq_ignore_ascii_case(INTEGER) {
        Kind::Integer
    } else {
        Kind::Bytes
    }
}

/// Whether bytes are one JSON value.
pub(super) fn is_json(value: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(value).is_ok()
}

/// Whether it is a media type, and the value is of it.
pub(super) fn check(content_type: &str, value: &[u8]) -> Result<(), Problem> {
    check_name(content_type)?;
    match kind(content_type) {
        Kind::Bytes => Ok(()),
        Kind::Json => match serde_json::from_slice::<IgnoredAny>(value) {
            Ok(IgnoredAny) => Ok(()),
            Err(error) => Err(Problem::new(
                Code::MalformedJson,
                format!("the value is not the JSON that its content type promises: {error}"),
            )),
        },
        Kind::Text => match std::str::from_utf8(value) {
            Ok(_) => Ok(()),
            Err(error) => Err(Problem::new(
                Code::BadContentType,
                format!("the value is not the UTF-8 text that its content type promises: {error}"),
            )),
        },
        Kind::Integer => {
            let number = std::str::from_utf8(value).ok();
            let canonical = number
                .and_then(|text| text.parse::<i64>().ok())
                .map(|n| n.to_string());
            // `+7` and `007` are no JSON, and two spellings of a number are no use to anyone.
            if canonical.is_some() && canonical.as_deref() == number {
                return Ok(());
            }
            Err(Problem::new(
                Code::BadContentType,
                "the value is not a decimal 64-bit integer such as -17",
            ))
        }
    }
}

fn check_name(content_type: &str) -> Result<(), Problem> {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    let is_token = |part: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !part.is_empty() && part.bytes().all(legal)
    };
    let named = essence
        .split_once('/')
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    if named && content_type.len() <= CONTENT_TYPE_BYTES_MAX {
        return Ok(());
    }
    Err(Problem::new(
        Code::BadContentType,
        format!(
            "a content type has the form type/subtype and at most {CONTENT_TYPE_BYTES_MAX} bytes"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_must_be_of_their_type() {
        for (content_type, value, expected) in [
            (BYTES, &b"\xff"[..], None),
            ("image/png", b"\xff", None),
            (JSON, b"[1]", None),
            (
                "Application/JSON; charset=utf-8",
                b"[1",
                Some(Code::MalformedJson),
            ),
            (TEXT, "é".as_bytes(), None),
            (TEXT, b"\xff", Some(Code::BadContentType)),
            (INTEGER, b"-17", None),
            (INTEGER, b"9223372036854775807", None),
            (INTEGER, b"9223372036854775808", Some(Code::BadContentType)),
            (INTEGER, b"+1", Some(Code::BadContentType)),
            (INTEGER, b"\xff", Some(Code::BadContentType)),
            ("json", b"[1]", Some(Code::BadContentType)),
            ("a/b c", b"[1]", Some(Code::BadContentType)),
            ("", b"", Some(Code::BadContentType)),
        ] {
            let code = check(content_type, value).err().map(|problem| problem.code);
            assert_eq!(code, expected, "{content_type} {}", value.escape_ascii());
        }
    }
}
