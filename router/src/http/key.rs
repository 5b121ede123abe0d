//! Keys in URLs.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use caucus_api::limits::KEY_BYTES_MAX;

use super::problem::{Code, Problem};

const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

/// Undoes percent-encoding, once.
pub(super) fn percent_decode(text: &str) -> Result<Cow<'_, [u8]>, Problem> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            decoded.push(*first);
            rest = after;
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            let shown = String::from_utf8_lossy(&rest[..rest.len().min(3)]).into_owned();
            return Err(Problem::new(
                Code::BadPercentEncoding,
                format!("`{shown}` is not a percent sign and two hexadecimal digits"),
            ));
        };
        decoded.push((high << 4 | low) as u8);
        rest = &after[2..];
    }
    Ok(Cow::Owned(decoded))
}

/// The key in a path: all that follows `/v1/kv/`.
pub(super) fn from_path(rest: &str) -> Result<Bytes, Problem> {
    let key = match percent_decode(rest)? {
        Cow::Borrowed(key) => Bytes::copy_from_slice(key),
        Cow::Owned(key) => Bytes::from(key),
    };
    if std::str::from_utf8(&key).is_err() {
        return Err(Problem::new(
            Code::BadUtf8Key,
            "a key in the path must be UTF-8; use /v1/kv?key64= for other bytes",
        ));
    }
    checked(key)
}

/// Any bytes, in either base64 alphabet, with or without padding.
pub(super) fn from_base64(text: &[u8]) -> Result<Bytes, Problem> {
    checked(base64(text)?)
}

/// Undoes base64.
pub(super) fn base64(text: &[u8]) -> Result<Bytes, Problem> {
    // A `+` in a query that nobody escaped has become a space.
    let text: Cow<'_, [u8]> = if text.contains(&b' ') {
        Cow::Owned(
            text.iter()
                .map(|b| if *b == b' ' { b'+' } else { *b })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    };
    let url_safe = text.iter().any(|b| matches!(b, b'-' | b'_'));
    let decoded = if url_safe {
        URL_SAFE.decode(&text)
    } else {
        STANDARD.decode(&text)
    };
    match decoded {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(Problem::new(
            Code::BadQueryValue,
            format!("this is not base64: {error}"),
        )),
    }
}

/// Whether it can be a key.
pub(super) fn checked(key: Bytes) -> Result<Bytes, Problem> {
    if key.is_empty() {
        return Err(Problem::new(Code::KeyEmpty, "a key has at least one byte"));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Problem::new(
            Code::KeyTooLong,
            format!(
                "a key has at most {KEY_BYTES_MAX} bytes, this one has {}",
                key.len()
            ),
        ));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(rest: &str) -> Result<Vec<u8>, Code> {
        from_path(rest)
            .map(|key| key.to_vec())
            .map_err(|problem| problem.code)
    }

    #[test]
    fn a_path_is_decoded_once() {
        for (rest, expected) in [
            ("%2Fservice%2Fbatman", Ok("/service/batman")),
            ("/service/batman", Ok("/service/batman")),
            ("a%252Fb", Ok("a%2Fb")),
            ("a+b", Ok("a+b")),
            ("%c3%A9", Ok("é")),
            ("", Err(Code::KeyEmpty)),
            ("a%2", Err(Code::BadPercentEncoding)),
            ("%zz", Err(Code::BadPercentEncoding)),
            ("%", Err(Code::BadPercentEncoding)),
            ("%+1", Err(Code::BadPercentEncoding)),
            ("%ff", Err(Code::BadUtf8Key)),
        ] {
            assert_eq!(
                path(rest),
                expected.map(|k| k.as_bytes().to_vec()),
                "{rest}"
            );
        }
        assert!(path(&"a".repeat(KEY_BYTES_MAX)).is_ok());
        assert_eq!(path(&"a".repeat(KEY_BYTES_MAX + 1)), Err(Code::KeyTooLong));
    }

    #[test]
    fn base64_of_both_kinds() {
        for text in ["-_8", "-_8=", "+/8=", "+/8", " /8="] {
            assert_eq!(&from_base64(text.as_bytes()).unwrap()[..], b"\xfb\xff");
        }
        assert_eq!(from_base64(b"!").unwrap_err().code, Code::BadQueryValue);
        assert_eq!(from_base64(b"").unwrap_err().code, Code::KeyEmpty);
    }
}
