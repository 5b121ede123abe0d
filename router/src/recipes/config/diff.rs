//! What differs between two versions.

use std::time::Duration;

use caucus_api::shard::Record;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::Error;

/// Comparing takes a processor: others must not wait for it. Only so many at a time.
const AT_A_TIME: usize = 1;
/// What is compared is less thoroughly compared after this time: the difference is true then, but not the smallest.
const THOROUGH_FOR: Duration = Duration::from_millis(500);
/// Bytes of a difference in JSON, about: a small value may have long names many times.
const BYTES_MAX: usize = 4 << 20;

static TURNS: Semaphore = Semaphore::const_new(AT_A_TIME);

/// How two values differ.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// Of JSON: by JSON pointers (RFC 6901), in their order; `None` where there is nothing.
    Json {
        /// Where, and from what to what.
        changes: Vec<JsonChange>,
        /// There are more: they would be too large together.
        more: bool,
    },
    /// Of text: a unified diff; empty if they are the same.
    Text(String),
    /// Of bytes: whether they are the same.
    Bytes(bool),
}

/// A place in JSON, what was there and what is there.
pub type JsonChange = (String, Option<Value>, Option<Value>);

/// Compares two versions of a value.
///
/// # Errors
///
/// [`Error::TooSlow`] if it can't begin, or isn't done, in time.
pub async fn compare(
    from: Option<Record>,
    to: Option<Record>,
    deadline: Instant,
) -> Result<Difference, Error> {
    let turn = timeout_at(deadline, TURNS.acquire()).await;
    let turn = turn.map_err(|_| Error::TooSlow)?;
    let comparing = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        difference(from.as_ref(), to.as_ref())
    });
    match timeout_at(deadline, comparing).await {
        Ok(Ok(difference)) => Ok(difference),
        Ok(Err(_)) | Err(_) => Err(Error::TooSlow),
    }
}

fn difference(from: Option<&Record>, to: Option<&Record>) -> Difference {
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
        let mut found = Found::default();
        json(&mut String::new(), from.as_ref(), to.as_ref(), &mut found);
        return Difference::Json {
            changes: found.changes,
            more: found.bytes > BYTES_MAX,
        };
    }
    let bytes = |record: Option<&Record>| record.map_or(&b""[..], |record| &record.value).to_vec();
    let (from, to) = (bytes(from), bytes(to));
    match (std::str::from_utf8(&from), std::str::from_utf8(&to)) {
        (Ok(from), Ok(to)) => {
            let mut diff = similar::TextDiff::configure();
            let diff = diff.timeout(THOROUGH_FOR).diff_lines(from, to);
            Difference::Text(diff.unified_diff().to_string())
        }
        (_, _) => Difference::Bytes(from == to),
    }
}

#[derive(Default)]
struct Found {
    changes: Vec<JsonChange>,
    bytes: usize,
}

/// `at`: the pointer to what is compared; as it was when this returns.
fn json(at: &mut String, from: Option<&Value>, to: Option<&Value>, found: &mut Found) {
    if found.bytes > BYTES_MAX {
        return;
    }
    let length = at.len();
    match (from, to) {
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                at.push('/');
                at.push_str(&name.replace('~', "~0").replace('/', "~1"));
                json(at, from.get(name), to.get(name), found);
                at.truncate(length);
            }
        }
        (Some(Value::Array(from)), Some(Value::Array(to))) => {
            for index in 0..from.len().max(to.len()) {
                at.push('/');
                at.push_str(&index.to_string());
                json(at, from.get(index), to.get(index), found);
                at.truncate(length);
            }
        }
        (from, to) if from == to => {}
        (from, to) => {
            found.bytes += at.len() + 16;
            found.changes.push((at.clone(), from.cloned(), to.cloned()));
        }
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
        let json = |changes| Difference::Json {
            changes,
            more: false,
        };
        assert_eq!(difference(Some(&from), Some(&to)), json(expected));
        let all = vec![(String::new(), Some(json!(1)), None)];
        let one = record("application/json", "1");
        assert_eq!(difference(Some(&one), None), json(all));
    }

    #[test]
    fn text_is_compared_by_lines() {
        let (from, to) = (
            record("text/plain", "a\nb\nc\n"),
            record("text/plain", "a\nx\nc\n"),
        );
        let Difference::Text(diff) = difference(Some(&from), Some(&to)) else {
            panic!("it is text");
        };
        assert!(diff.contains("-b\n+x\n"), "{diff}");
        let same = difference(Some(&from), Some(&from));
        assert_eq!(same, Difference::Text(String::new()));
        let bytes = Record {
            value: vec![0xff].into(),
            ..Record::default()
        };
        assert_eq!(
            difference(Some(&bytes), Some(&bytes)),
            Difference::Bytes(true)
        );
    }

    #[test]
    fn what_would_be_too_large_is_cut() {
        let name = "n".repeat(100_000);
        let numbers = |begin: u32| (begin..begin + 100).collect::<Vec<u32>>();
        let value = |begin| {
            record(
                "application/json",
                &json!({ &name: numbers(begin) }).to_string(),
            )
        };
        let Difference::Json { changes, more } = difference(Some(&value(0)), Some(&value(1000)))
        else {
            panic!("it is JSON");
        };
        assert!(more && !changes.is_empty() && changes.len() < 100);
    }

    #[test]
    fn texts_without_a_common_line_are_compared_in_time() {
        let lines = |seed: u64| {
            let line = |n: u64| format!("{}\n", (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            record("text/plain", &(0..40_000).map(line).collect::<String>())
        };
        let Difference::Text(text) = difference(Some(&lines(0)), Some(&lines(1 << 40))) else {
            panic!("it is text");
        };
        assert_eq!(text.lines().filter(|l| l.starts_with('-')).count(), 40_000);
    }
}
