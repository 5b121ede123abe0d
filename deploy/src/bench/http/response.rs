//! Reads HTTP/1.1 responses out of a buffer.
//!
//! The parser keeps no state: it is asked again, from the start of the response, when more bytes
//! are there. Answers in a benchmark nearly always fit one read.

use std::borrow::Cow;

/// Longer heads are taken for nonsense.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What the buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// The response goes on.
    Partial,
    /// A whole response.
    Complete(Response<'a>),
}

/// One response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    /// Status code.
    pub(super) status: u16,
    /// Body without chunk frames.
    pub(super) body: Cow<'a, [u8]>,
    /// Bytes of the buffer that the response took.
    pub(super) consumed: usize,
    /// The server closes the connection behind it.
    pub(super) closes: bool,
}

/// The bytes are no HTTP/1.1 response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Reads the response at the start of the buffer.
pub(super) fn parse(buffer: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let Some(head_end) = find(buffer, b"\r\n\r\n") else {
        return match buffer.len() > HEAD_BYTES_MAX {
            true => Err(Malformed("the head doesn't end")),
            false => Ok(Parsed::Partial),
        };
    };
    let head = parse_head(&buffer[..head_end])?;
    let rest = &buffer[head_end + 4..];
    let body = match head.framing {
        Framing::Length(length) => rest.get(..length).map(|body| (Cow::Borrowed(body), length)),
        Framing::Chunked => parse_chunks(rest)?.map(|(body, length)| (Cow::Owned(body), length)),
    };
    Ok(match body {
        None => Parsed::Partial,
        Some((body, length)) => Parsed::Complete(Response {
            status: head.status,
            body,
            consumed: head_end + 4 + length,
            closes: head.closes,
        }),
    })
}

struct Head {
    status: u16,
    framing: Framing,
    closes: bool,
}

enum Framing {
    Length(usize),
    Chunked,
}

fn parse_head(head: &[u8]) -> Result<Head, Malformed> {
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.trim_ascii_end());
    let status = parse_status(lines.next().unwrap_or_default())?;
    let mut framing = None;
    let mut closes = false;
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Err(Malformed("a header without a colon"));
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = parse_number(value, 10).ok_or(Malformed("bad content-length"))?;
            framing = framing.or(Some(Framing::Length(length)));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            match value.eq_ignore_ascii_case(b"chunked") {
                // Overrides a length, as the standard has it.
                true => framing = Some(Framing::Chunked),
                false => return Err(Malformed("unknown transfer-encoding")),
            }
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    let framing = match (status, framing) {
        (204 | 304, _) => Framing::Length(0),
        (_, Some(framing)) => framing,
        (_, None) => return Err(Malformed("neither a length nor chunks")),
    };
    Ok(Head {
        status,
        framing,
        closes,
    })
}

/// `HTTP/1.1 200 OK`
fn parse_status(line: &[u8]) -> Result<u16, Malformed> {
    let digits = line
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let status = digits.and_then(|digits| parse_number(digits, 10));
    let status = status.and_then(|status| u16::try_from(status).ok());
    status.ok_or(Malformed("not an HTTP/1.1 status line"))
}

/// The joined chunks and the bytes that they took with their frames; `None` if some are missing.
fn parse_chunks(buffer: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let mut body = Vec::new();
    let mut position = 0;
    loop {
        let Some(line_length) = find(&buffer[position..], b"\r\n") else {
            return Ok(None);
        };
        let line = &buffer[position..position + line_length];
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let size = parse_number(size.trim_ascii(), 16).ok_or(Malformed("bad chunk size"))?;
        let start = position + line_length + 2;
        if size == 0 {
            let trailers = parse_trailers(&buffer[start..]);
            return Ok(trailers.map(|length| (body, start + length)));
        }
        let end = start.checked_add(size).ok_or(Malformed("bad chunk size"))?;
        match buffer
            .get(end..)
            .map(|rest| (rest.len() >= 2, rest.starts_with(b"\r\n")))
        {
            Some((true, true)) => {}
            Some((true, false)) => return Err(Malformed("a chunk longer than its size")),
            Some((false, _)) | None => return Ok(None),
        }
        body.extend_from_slice(&buffer[start..end]);
        position = end + 2;
    }
}

/// Bytes up to the empty line behind the last chunk.
fn parse_trailers(buffer: &[u8]) -> Option<usize> {
    match buffer.starts_with(b"\r\n") {
        true => Some(2),
        false => find(buffer, b"\r\n\r\n").map(|end| end + 4),
    }
}

fn parse_number(digits: &[u8], radix: u32) -> Option<usize> {
    // The standard library would take a sign.
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| !digits.starts_with('+'))?;
    usize::from_str_radix(digits, radix).ok()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], status: u16, body: &[u8], closes: bool) {
        let expected = Response {
            status,
            body: body.into(),
            consumed: bytes.len(),
            closes,
        };
        assert_eq!(parse(bytes), Ok(Parsed::Complete(expected)));
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(Parsed::Partial), "cut at {end}");
        }
    }

    #[test]
    fn a_body_of_known_length() {
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            200,
            b"hello",
            false,
        );
        check(
            b"HTTP/1.1 503 \r\ncontent-length:0\r\nConnection: close\r\n\r\n",
            503,
            b"",
            true,
        );
    }

    #[test]
    fn a_body_in_chunks() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
            5\r\nhello\r\nA;x=y\r\n, 16 bytes\r\n0\r\n\r\n";
        check(bytes, 200, b"hello, 16 bytes", false);
    }

    #[test]
    fn trailers_are_skipped() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n";
        check(bytes, 200, b"", false);
    }

    #[test]
    fn no_body_behind_204() {
        check(b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", 204, b"", false);
    }

    #[test]
    fn what_follows_is_left_in_the_buffer() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 ";
        match parse(bytes) {
            Ok(Parsed::Complete(response)) => assert_eq!(response.consumed, bytes.len() - 9),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let cases: [&[u8]; 6] = [
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        ];
        for case in cases {
            assert!(parse(case).is_err(), "{}", String::from_utf8_lossy(case));
        }
        assert!(parse(&[b'x'; HEAD_BYTES_MAX + 1]).is_err());
    }
}
