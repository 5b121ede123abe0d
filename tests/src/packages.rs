//! The package database of the machine, as records: real input of some size that every Debian has.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

/// Where dpkg keeps it.
pub const STATUS: &str = "/var/lib/dpkg/status";

/// Fields that are lists, separated by commas.
const LISTS: [&str; 6] = [
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Replaces",
];

/// One object a package at `/packages/<section>/<name>`; none if this is no Debian.
pub fn read() -> Option<BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(Path::new(STATUS)).ok()?;
    Some(text.split("\n\n").filter_map(record).collect())
}

fn record(paragraph: &str) -> Option<(String, Value)> {
    let mut fields: Vec<(&str, String)> = Vec::new();
    for line in paragraph.lines() {
        match (line.starts_with([' ', '\t']), line.split_once(':')) {
            // A continuation belongs to the field above.
            (true, _) => {
                let (_, value) = fields.last_mut()?;
                value.push('\n');
                value.push_str(line.trim_start());
            }
            (false, Some((name, value))) => fields.push((name, value.trim().to_owned())),
            (false, None) => {}
        }
    }
    let object: Map<String, Value> = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), field(name, value)))
        .collect();
    let name = object.get("Package")?.as_str()?;
    let section = object
        .get("Section")
        .and_then(Value::as_str)
        .unwrap_or("unknown");
    Some((format!("/packages/{section}/{name}"), Value::Object(object)))
}

fn field(name: &str, value: String) -> Value {
    if LISTS.contains(&name) {
        value
            .split(',')
            .map(|item| Value::from(item.trim()))
            .collect()
    } else if name == "Installed-Size" {
        value.parse::<u64>().map_or(Value::from(value), Value::from)
    } else {
        Value::from(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_paragraph_is_a_record() {
        let text = "Package: x\nSection: libs\nInstalled-Size: 12\nDepends: a (>= 1), b\n\
                    Description: short\n long: one\n .\n two";
        let expected = json!({
            "Package": "x",
            "Section": "libs",
            "Installed-Size": 12,
            "Depends": ["a (>= 1)", "b"],
            "Description": "short\nlong: one\n.\ntwo",
        });
        assert_eq!(
            record(text),
            Some(("/packages/libs/x".to_owned(), expected))
        );
        assert_eq!(record("\n"), None);
    }
}
