//! Answers on standard output: as a table for eyes, as JSON or YAML for programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Map, Value};

use crate::fatal::Fatal;

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// Columns.
    Table,
    /// As the API gave it.
    Json,
    /// The same, in YAML.
    Yaml,
}

impl Form {
    /// Prints the answer.
    pub(crate) fn print(self, answer: &Value) -> Result<(), Fatal> {
        let text = match self {
            Form::Table => table(answer),
            Form::Json => format!("{answer:#}\n"),
            Form::Yaml => serde_saphyr::to_string(answer).map_err(Fatal::failed)?,
        };
        print_bytes(text.as_bytes())
    }
}

/// Writes to standard output; a reader that has gone away (`| head`) ends the process quietly.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Fatal> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Fatal {
            code: 1,
            message: String::new(),
        }),
        Err(error) => Err(Fatal::failed(format!("standard output: {error}"))),
    }
}

/// Plain fields first, a line each; then each list of objects as a table with its name.
fn table(answer: &Value) -> String {
    match answer {
        Value::Object(fields) => object(fields),
        Value::Array(rows) => rows_of(rows),
        plain => format!("{}\n", cell(plain)),
    }
}

fn object(fields: &Map<String, Value>) -> String {
    let (lists, plain): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_list(value));
    let width = plain
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (name, value) in plain {
        let _ = writeln!(text, "{name:width$}  {}", cell(value));
    }
    for (name, value) in lists {
        let rows = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let _ = write!(text, "\n{name}\n{}", rows_of(rows));
    }
    text
}

fn is_list(value: &Value) -> bool {
    let rows = value.as_array();
    rows.is_some_and(|rows| !rows.is_empty() && rows.iter().all(Value::is_object))
}

fn rows_of(rows: &[Value]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for name in row.keys() {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    if names.is_empty() {
        return rows.iter().map(|row| format!("{}\n", cell(row))).collect();
    }
    let mut lines = vec![
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>(),
    ];
    for row in rows {
        lines.push(
            names
                .iter()
                .map(|name| row.get(*name).map_or(String::new(), cell))
                .collect(),
        );
    }
    aligned(&lines)
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"));
        let joined = cells.collect::<Vec<_>>().join("  ");
        text.push_str(joined.trim_end());
        text.push('\n');
    }
    text
}

/// One value on one line. Control characters stay escaped: a value can't move the cursor.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if !text.chars().any(char::is_control) => text.clone(),
        Value::Array(items)
            if items
                .iter()
                .all(|item| !item.is_array() && !item.is_object()) =>
        {
            items.iter().map(cell).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_fields_come_before_lists() {
        let answer = json!({
            "nodes": [
                {"id": 1, "address": "a:1", "roles": ["router", "shard"]},
                {"id": 12, "address": "b:1", "lag": 3},
            ],
            "name": "dev",
            "epoch": 7,
        });
        assert_eq!(
            table(&answer),
            "epoch  7\n\
             name   dev\n\
             \n\
             nodes\n\
             address  id  roles         lag\n\
             a:1      1   router,shard\n\
             b:1      12                3\n"
        );
    }

    #[test]
    fn a_value_keeps_to_its_line() {
        assert_eq!(cell(&json!("a\u{1b}[2Jb\n")), "\"a\\u001b[2Jb\\n\"");
        assert_eq!(cell(&json!({"a": [1, "x"]})), "{\"a\":[1,\"x\"]}");
        assert_eq!(cell(&Value::Null), "");
    }
}
