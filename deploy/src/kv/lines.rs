//! The lines that `import` reads and `export` writes: one JSON object a key.
//!
//! ```json
//! {"key": "/config/a", "value": {"any": ["JSON", 1]}}
//! {"key": "/motd", "value": "hello"}
//! {"key": "/name", "value": "hello", "content_type": "application/json"}
//! {"key": "/logo", "value64": "iVBORw0KGgo=", "content_type": "image/png"}
//! ```
//!
//! As in `/v1/batch`, a string is kept as `text/plain` and everything else as `application/json`, unless
//! the line names another type; keys and values that aren't UTF-8 stand in `key64` and `value64`, in
//! base64. With a key field every line is a value itself, and one of its fields is the key.
//!
//! Invariant: the text of a value goes through as it is, so that numbers keep all their digits and
//! objects their order.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// What a line and a `put` of `/v1/batch` have in common.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Item<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key64: Option<Cow<'a, str>>,
    // `null` is a value too.
    #[serde(borrow, default, deserialize_with = "given")]
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value64: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Cow<'a, str>>,
}

const FIELDS: [&str; 5] = ["key", "key64", "value", "value64", "content_type"];

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// How lines become keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// The field of the value that is the key; none: the line says key and value.
    pub(super) key_field: Option<String>,
    /// Put in front of every key.
    pub(super) prefix: String,
}

/// A line that can be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Tells keys apart.
    pub(super) key: String,
    /// `{"put": {...}}`.
    pub(super) operation: String,
}

/// Reads a line.
pub(super) fn parse(number: u64, text: &str, shape: &Shape) -> Result<Line, String> {
    let fields: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let item = match &shape.key_field {
        Some(field) => Item {
            key: Some(own_key(&fields, field)?.into()),
            value: Some(serde_json::from_str(text).map_err(|error| error.to_string())?),
            ..Item::default()
        },
        None => {
            if let Some(field) = fields.keys().find(|field| !FIELDS.contains(&&***field)) {
                return Err(format!("unknown field `{field}`"));
            }
            serde_json::from_str(text).map_err(|error| error.to_string())?
        }
    };
    line(number, item, &shape.prefix)
}

fn own_key(fields: &HashMap<Cow<'_, str>, &RawValue>, field: &str) -> Result<String, String> {
    let key = fields
        .get(field)
        .and_then(|raw| serde_json::from_str(raw.get()).ok());
    key.ok_or_else(|| format!("no field `{field}` with a string"))
}

fn line(number: u64, mut item: Item<'_>, prefix: &str) -> Result<Line, String> {
    if item.value.is_some() == item.value64.is_some() {
        return Err("needs one of `value` and `value64`".to_owned());
    }
    let key = match (&mut item.key, &item.key64) {
        (Some(key), None) => {
            key.to_mut().insert_str(0, prefix);
            key.to_string()
        }
        (None, Some(key64)) if prefix.is_empty() => key64.to_string(),
        (None, Some(_)) => return Err("a prefix needs `key` instead of `key64`".to_owned()),
        (Some(_), Some(_)) | (None, None) => {
            return Err("needs one of `key` and `key64`".to_owned());
        }
    };
    let put = serde_json::to_string(&item).map_err(|error| error.to_string())?;
    Ok(Line {
        number,
        key,
        operation: format!("{{\"put\":{put}}}"),
    })
}

/// A page of a listing, as far as export needs it.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    #[serde(borrow)]
    pub(super) items: Vec<Item<'a>>,
}

/// The line of one item of a listing.
pub(super) fn to_line(item: &Item<'_>) -> String {
    let text = serde_json::to_string(item).expect("text and raw JSON");
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_key_and_value() {
        let shape = Shape {
            prefix: "/p".to_owned(),
            ..Shape::default()
        };
        let line = parse(3, "{\"value\": [1.50, 1e400], \"key\": \"/a\"}", &shape).unwrap();
        assert_eq!((line.number, line.key.as_str()), (3, "/p/a"));
        let operation = "{\"put\":{\"key\":\"/p/a\",\"value\":[1.50, 1e400]}}";
        assert_eq!(line.operation, operation);
        let null = parse(1, "{\"key\":\"a\",\"value\":null}", &Shape::default()).unwrap();
        assert_eq!(null.operation, "{\"put\":{\"key\":\"a\",\"value\":null}}");
    }

    #[test]
    fn a_line_may_be_the_value() {
        let shape = Shape {
            key_field: Some("id".to_owned()),
            prefix: "/x/".to_owned(),
        };
        let line = parse(1, "{\"id\":\"7\",\"a\":1}", &shape).unwrap();
        let put = "{\"key\":\"/x/7\",\"value\":{\"id\":\"7\",\"a\":1}}";
        assert_eq!(line.operation, format!("{{\"put\":{put}}}"));
        assert!(parse(1, "{\"id\":7}", &shape).is_err());
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (text, word) in [
            ("{\"key\":\"a\"", "EOF"),
            ("[1]", "map"),
            ("{\"value\":1}", "`key`"),
            ("{\"key\":1,\"value\":1}", "string"),
            ("{\"key\":\"a\"}", "`value64`"),
            ("{\"key\":\"a\",\"value\":1,\"value64\":\"\"}", "`value64`"),
            ("{\"key\":\"a\",\"valeu\":1}", "`valeu`"),
        ] {
            let error = parse(1, text, &Shape::default()).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn what_export_writes_import_reads() {
        let page = "{\"items\":[{\"key\":\"/a\",\"value\":\"t\",\"content_type\":\"text/plain\",\
                    \"revision\":9,\"version\":2}],\"prefixes\":[],\"revision\":9}";
        let page: Page<'_> = serde_json::from_str(page).unwrap();
        let text = to_line(&page.items[0]);
        let put = "{\"key\":\"/a\",\"value\":\"t\",\"content_type\":\"text/plain\"}";
        assert_eq!(text, format!("{put}\n"));
        let line = parse(1, &text, &Shape::default()).unwrap();
        assert_eq!(line.operation, format!("{{\"put\":{put}}}"));
    }
}
