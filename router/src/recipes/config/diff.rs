//! What differs between two versions.

use caucus_api::shard::Record;
use serde_json::Value;

/// How two values differ.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// Of JSON: by JSON pointers (RFC 6901), in their order; `None` where there is nothing.
    Json(Vec<(String, Option<Value>, Option<Value>)>),
    /// Of text: a unified diff; empty if they are the same.
    Text(String),
    /// Of bytes: whether they are the same.
    Bytes(bool),
}

/// Compares two versions of a value.
pub fn compare(from: Option<&Record>, to: Option<&Record>) -> Difference {
    let value = |record: Option<&Record>| match record {
        Some(record) => serde_json::from_slice(&record.value).ok().map(Some),
        None => Some(None),
    };
    let is_json =
        |record: Option<&Record>| record.is_none_or(|record| record.content_type.contains("json"));
    if is_json(from)
        && is_json(to)
        && let (Some(from), Some(to)) = (value(from), value(to))
    {
        let mut found = Vec::new();
        json(String::new(), from.as_ref(), to.as_ref(), &mut found);
        return Difference::Json(found);
    }
    let bytes = |record: Option<&Record>| record.map_or(&b""[..], |record| &record.value).to_vec();
    let (from, to) = (bytes(from), bytes(to));
    match (std::str::from_utf8(&from), std::str::from_utf8(&to)) {
        (Ok(from), Ok(to)) => {
            let diff = similar::TextDiff::from_lines(from, to);
            Difference::Text(diff.unified_diff().to_string())
        }
        (_, _) => Difference::Bytes(from == to),
    }
}

fn json(
    at: String,
    from: Option<&Value>,
    to: Option<&Value>,
    found: &mut Vec<(String, Option<Value>, Option<Value>)>,
) {
    match (from, to) {
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                json(
                    format!("{at}/{escaped}"),
                    from.get(name),
                    to.get(name),
                    found,
                );
            }
        }
        (Some(Value::Array(from)), Some(Value::Array(to))) => {
            for index in 0..from.len().max(to.len()) {
                json(
                    format!("{at}/{index}"),
                    from.get(index),
                    to.get(index),
                    found,
                );
            }
        }
        (from, to) if from == to => {}
        (from, to) => found.push((at, from.cloned(), to.cloned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(content_type: &str, value: &str) -> Record {
        Record {
            content_type: content_type.to_owned(),
            value: value.to_owned().into(),
            ..Record::default()
        }
    }

    #[test]
    fn json_is_compared_by_its_parts() {
        let from = record(
            "application/json",
            r#"{"a": 1, "b": [1, 2], "c/d": {"e": 1}}"#,
        );
        let to = record(
            "application/json",
            r#"{"a": 1, "b": [1, 3, 4], "c/d": {"f": 1}}"#,
        );
        let expected = vec![
            ("/b/1".to_owned(), Some(json!(2)), Some(json!(3))),
            ("/b/2".to_owned(), None, Some(json!(4))),
            ("/c~1d/e".to_owned(), Some(json!(1)), None),
            ("/c~1d/f".to_owned(), None, Some(json!(1))),
        ];
        assert_eq!(compare(Some(&from), Some(&to)), Difference::Json(expected));
        let all = vec![(String::new(), Some(json!(1)), None)];
        let one = record("application/json", "1");
        assert_eq!(compare(Some(&one), None), Difference::Json(all));
    }

    #[test]
    fn text_is_compared_by_lines() {
        let (from, to) = (
            record("text/plain", "a\nb\nc\n"),
            record("text/plain", "a\nx\nc\n"),
        );
        let Difference::Text(diff) = compare(Some(&from), Some(&to)) else {
            panic!("it is text");
        };
        assert!(diff.contains("-b\n+x\n"), "{diff}");
        let same = compare(Some(&from), Some(&from));
        assert_eq!(same, Difference::Text(String::new()));
        let bytes = Record {
            value: vec![0xff].into(),
            ..Record::default()
        };
        assert_eq!(compare(Some(&bytes), Some(&bytes)), Difference::Bytes(true));
    }
}
