//! JSON written straight into the answer's buffer.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use caucus_api::shard::Record;

use super::media::{self, Kind};
use super::recipes::leases;

/// An object under construction.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    next: u8,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Object<'a> {
        Object { out, next: b'{' }
    }

    /// A field; its value is written next. `name` needs no escapes.
    pub(super) fn field(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.push(self.next);
        self.next = b',';
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        text(self.field(name), value);
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        let _ = write!(self.field(name), "{value}");
    }

    pub(super) fn integer(&mut self, name: &str, value: i64) {
        let _ = write!(self.field(name), "{value}");
    }

    pub(super) fn decimal(&mut self, name: &str, value: f64) {
        let _ = write!(self.field(name), "{value:.3}");
    }

    pub(super) fn json(&mut self, name: &str, value: &serde_json::Value) {
        // Writing to memory doesn't fail.
        let _ = serde_json::to_writer(self.field(name), value);
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        let word: &[u8] = if value { b"true" } else { b"false" };
        self.field(name).extend_from_slice(word);
    }

    /// `"name"` if the bytes are UTF-8, else `"name64"`.
    pub(super) fn bytes(&mut self, name: &'static str, name64: &'static str, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok(value) => self.text(name, value),
            Err(_) => self.base64(name64, value),
        }
    }

    pub(super) fn key(&mut self, key: &[u8]) {
        self.bytes("key", "key64", key);
    }

    /// A value as its media type says, with that type.
    pub(super) fn value(&mut self, record: &Record) {
        self.typed(&record.content_type, &record.value);
    }

    /// The same of what is no record.
    pub(super) fn typed(&mut self, content_type: &str, value: &[u8]) {
        let embedded = match media::kind(content_type) {
            Kind::Json | Kind::Integer => media::is_json(value),
            Kind::Text | Kind::Bytes => false,
        };
        if embedded {
            self.field("value").extend_from_slice(value);
        } else {
            self.bytes("value", "value64", value);
        }
        self.text("content_type", media::name(content_type));
    }

    /// A key with its record, which may go without its value.
    pub(super) fn record(&mut self, key: &[u8], record: &Record, keys_only: bool) {
        self.key(key);
        if !keys_only {
            self.value(record);
        }
        self.revisions(record.mod_revision, record.create_revision, record.version);
        if record.lease != 0 {
            self.text("lease", &leases::show(record.lease));
        }
    }

    /// The revisions of a record.
    pub(super) fn revisions(&mut self, revision: u64, create_revision: u64, version: u64) {
        self.number("revision", revision);
        self.number("create_revision", create_revision);
        self.number("version", version);
    }

    pub(super) fn end(self) {
        if self.next == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }

    fn base64(&mut self, name: &str, value: &[u8]) {
        let out = self.field(name);
        out.push(b'"');
        out.extend_from_slice(STANDARD.encode(value).as_bytes());
        out.push(b'"');
    }
}

/// A JSON string.
pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    // Writing to memory doesn't fail.
    let _ = serde_json::to_writer(out, value);
}

/// Elements of an array, each written by `write`.
pub(super) fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    let start = out.len();
    for item in items {
        if out.len() > start {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_json(content_type: &str, value: &[u8]) -> String {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.value(&Record {
            content_type: content_type.to_owned(),
            value: bytes::Bytes::copy_from_slice(value),
            ..Record::default()
        });
        object.end();
        let text = String::from_utf8(out).unwrap();
        let whole: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(whole["content_type"], content_type);
        text.split(",\"content_type\"").next().unwrap()[1..].to_owned()
    }

    #[test]
    fn values_follow_their_media_type() {
        for (content_type, value, expected) in [
            (
                "application/json",
                &b"{\"a\": 1}"[..],
                r#""value":{"a": 1}"#,
            ),
            ("application/json", b"broken", r#""value":"broken""#),
            ("text/plain", b"a\"b\n", r#""value":"a\"b\n""#),
            ("application/vnd.caucus.integer", b"-7", r#""value":-7"#),
            ("application/octet-stream", b"text", r#""value":"text""#),
            ("application/octet-stream", b"\xff", r#""value64":"/w==""#),
            ("text/plain", b"\xff", r#""value64":"/w==""#),
        ] {
            assert_eq!(value_json(content_type, value), expected);
        }
    }

    #[test]
    fn an_object_without_fields_is_one() {
        let mut out = Vec::new();
        Object::begin(&mut out).end();
        assert_eq!(out, b"{}");
    }
}
