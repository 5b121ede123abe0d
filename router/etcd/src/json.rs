//! Reads a message the way etcd's gateway does: leniently, and with its words when it can't.

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine as _};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Value};

/// The first value of a text; none is the empty message, and what follows isn't looked at. What `null` is
/// set to isn't set; in a list it is an empty message.
pub(crate) fn parse<T: DeserializeOwned + Default>(text: &[u8]) -> Result<T, String> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    // What most clients send needs no second look.
    if let Ok(message) = T::deserialize(&mut Deserializer::from_slice(text)) {
        return Ok(message);
    }
    let value = Value::deserialize(&mut Deserializer::from_slice(text));
    let mut value = value.map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => "unexpected EOF".to_owned(),
        _ => error.to_string(),
    })?;
    match &value {
        Value::Null => return Ok(T::default()),
        Value::Object(_) => {}
        other => {
            let kind = kind(other);
            return Err(format!("json: cannot unmarshal {kind} into a message"));
        }
    }
    remove_nulls(&mut value);
    T::deserialize(&value).map_err(|error| {
        let place = first_bad_base64(&value);
        place.filter(|_| is_about_base64(&error)).map_or_else(
            || error.to_string(),
            |place| format!("illegal base64 data at input byte {place}"),
        )
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(values) => {
            for value in values {
                if value.is_null() {
                    *value = Value::Object(serde_json::Map::new());
                }
                remove_nulls(value);
            }
        }
        _ => {}
    }
}

/// serde passes on nothing but the text.
fn is_about_base64(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    let texts = [
        "Invalid symbol",
        "Invalid last symbol",
        "Invalid padding",
        "Invalid input length",
    ];
    texts.iter().any(|known| text.contains(known))
}

/// Where the first text among the fields that hold bytes stops being base64.
fn first_bad_base64(value: &Value) -> Option<usize> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| match value {
            Value::String(text)
                if matches!(
                    name.as_str(),
                    "key" | "range_end" | "rangeEnd" | "value" | "name"
                ) =>
            {
                bad_byte(text.as_bytes())
            }
            other => first_bad_base64(other),
        }),
        Value::Array(values) => values.iter().find_map(first_bad_base64),
        _ => None,
    }
}

/// A wrong character is at its own place, one that is missing at the start of its group of four, padding
/// that is missing at the end.
fn bad_byte(text: &[u8]) -> Option<usize> {
    let padding = text.iter().position(|&byte| byte == b'=');
    match STANDARD.decode(text).err()? {
        DecodeError::InvalidByte(at, b'=') => {
            let after = text[at..].iter().position(|&byte| byte != b'=');
            Some(after.map_or(text.len(), |after| at + after))
        }
        DecodeError::InvalidByte(at, _) => Some(at),
        _ if padding.is_some() => Some(text.len()),
        _ => Some(text.len() / 4 * 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcdserverpb::{RangeRequest, TxnRequest};

    #[test]
    fn lenient() {
        let range = |text: &str| parse::<RangeRequest>(text.as_bytes()).expect("a message");
        let a = RangeRequest {
            key: "a".into(),
            ..RangeRequest::default()
        };
        assert_eq!(range(""), RangeRequest::default());
        assert_eq!(range("null"), RangeRequest::default());
        assert_eq!(range(r#"{"key": "YQ=="}{"x":"#), a);
        assert_eq!(range(r#"{"key": "YQ==", "limit": null, "x": [null]}"#), a);
        let txn = parse::<TxnRequest>(br#"{"success": [null]}"#).expect("a message");
        assert_eq!(txn.success.len(), 1);
    }

    #[test]
    fn bad_bytes_are_placed() {
        let place = |key: &str| parse::<RangeRequest>(format!(r#"{{"key": "{key}"}}"#).as_bytes());
        for (key, at) in [("!", 0), ("YWFh!WFh", 4), ("YWFhY!", 5), ("YQ==YQ==", 4)] {
            let expected = format!("illegal base64 data at input byte {at}");
            assert_eq!(place(key), Err(expected), "{key}");
        }
    }

    #[test]
    fn cut_short() {
        let error = parse::<RangeRequest>(br#"{"key":"#).expect_err("half a message");
        assert_eq!(error, "unexpected EOF");
    }
}
