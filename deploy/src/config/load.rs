//! Laying the sources of a configuration over each other.

use std::path::Path;

use toml::{Table, Value};

use super::{Checked, Config, REFERENCE};

/// Why a configuration can't be used. Always one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file can't be read.
    #[error("cannot read configuration {path}: {cause}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A source isn't TOML.
    #[error("{source_name}: {message}")]
    Syntax {
        /// Where it stands.
        source_name: String,
        /// What is wrong, without line breaks.
        message: String,
    },
    /// A field that doesn't exist.
    #[error("{source_name}: unknown field `{field}`{hint}")]
    Unknown {
        /// Where it stands.
        source_name: String,
        /// Its full name.
        field: String,
        /// What may have been meant.
        hint: String,
    },
    /// A value of the wrong type.
    #[error("{source_name}: {message}")]
    Type {
        /// Where it stands.
        source_name: String,
        /// What is wrong, without line breaks.
        message: String,
    },
    /// Values that make no sense together.
    #[error("configuration: {0}")]
    Invalid(String),
}

/// The sources of a configuration, the later above the earlier.
#[derive(Debug)]
pub(crate) struct Layers {
    merged: Table,
}

impl Layers {
    /// Only the defaults.
    pub(crate) fn reference() -> Self {
        Layers {
            merged: REFERENCE
                .parse()
                .expect("the reference configuration is tested"),
        }
    }

    /// A whole configuration as the lowest layer.
    pub(crate) fn of(config: Config) -> Self {
        Layers {
            merged: Table::try_from(config).expect("every field has a TOML form"),
        }
    }

    /// Lays a file over what is there.
    pub(crate) fn file(self, path: &Path) -> Result<Self, Error> {
        let source_name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|cause| Error::Read {
            path: source_name.clone(),
            cause,
        })?;
        let table = text.parse::<Table>().map_err(|error| Error::Syntax {
            message: syntax_message(&error, &text),
            source_name: source_name.clone(),
        })?;
        self.over(table, &source_name)
    }

    /// Lays `CAUCUS_<SECTION>_<FIELD>` variables over what is there. Other variables with the prefix
    /// belong to somebody else: `CAUCUS_ENDPOINTS`, or those that Kubernetes sets for a service.
    pub(crate) fn environment(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("CAUCUS_") else {
                continue;
            };
            let lower = rest.to_ascii_lowercase();
            let Some((section, field)) = lower.split_once('_') else {
                continue;
            };
            let of_kubernetes = field.starts_with("service_") || field.starts_with("port");
            if !self.merged.contains_key(section) || of_kubernetes {
                continue;
            }
            let source_name = format!("environment variable {name}");
            self = self.set(&format!("{section}.{field}"), &text, &source_name)?;
        }
        Ok(self)
    }

    /// Lays one `section.field=value` over what is there.
    pub(crate) fn assignment(self, assignment: &str) -> Result<Self, Error> {
        let Some((field, text)) = assignment.split_once('=') else {
            return Err(Error::Syntax {
                source_name: format!("--set {assignment}"),
                message: "expected section.field=value".to_owned(),
            });
        };
        self.set(field.trim(), text.trim(), &format!("--set {assignment}"))
    }

    /// Lays one field over what is there; `text` is TOML, a bare word counts as a string.
    pub(crate) fn set(self, field: &str, text: &str, source_name: &str) -> Result<Self, Error> {
        let unknown = || Error::Unknown {
            source_name: source_name.to_owned(),
            field: field.to_owned(),
            hint: String::new(),
        };
        let (section, name) = field.split_once('.').ok_or_else(unknown)?;
        let current = self.merged.get(section).and_then(|table| table.get(name));
        let value = read_value(text, current);
        let fields = Table::from_iter([(name.to_owned(), value)]);
        let table = Table::from_iter([(section.to_owned(), Value::Table(fields))]);
        self.over(table, source_name)
    }

    /// The whole, checked.
    pub(crate) fn check(self) -> Result<Checked, Error> {
        let config: Config = self.merged.try_into().map_err(|error| Error::Type {
            source_name: "configuration".to_owned(),
            message: one_line(&format!("{error}")),
        })?;
        config.validate().map_err(Error::Invalid)
    }

    fn over(mut self, table: Table, source_name: &str) -> Result<Self, Error> {
        for (section, fields) in table {
            let Some(Value::Table(known)) = self.merged.get_mut(&section) else {
                return Err(Error::Unknown {
                    source_name: source_name.to_owned(),
                    hint: hint(&section, REFERENCE_SECTIONS.iter().copied()),
                    field: section,
                });
            };
            let Value::Table(fields) = fields else {
                return Err(Error::Type {
                    source_name: source_name.to_owned(),
                    message: format!(
                        "`{section}` is a section: write [{section}] above its fields"
                    ),
                });
            };
            for (field, value) in fields {
                if !known.contains_key(&field) {
                    return Err(Error::Unknown {
                        source_name: source_name.to_owned(),
                        hint: hint(&field, known.keys().map(String::as_str)),
                        field: format!("{section}.{field}"),
                    });
                }
                known.insert(field, value);
            }
        }
        // Types are checked at every layer, so that the message can name the source.
        if let Err(error) = Config::try_from_table(&self.merged) {
            return Err(Error::Type {
                source_name: source_name.to_owned(),
                message: error,
            });
        }
        Ok(self)
    }
}

const REFERENCE_SECTIONS: [&str; 10] = [
    "node",
    "listen",
    "cluster",
    "raft",
    "storage",
    "http",
    "history",
    "idempotency",
    "etcd",
    "log",
];

impl Config {
    fn try_from_table(table: &Table) -> Result<Config, String> {
        table
            .clone()
            .try_into()
            .map_err(|error: toml::de::Error| one_line(&error.to_string()))
    }
}

/// The file of `--config`, if any, then the environment.
pub(crate) fn surroundings(file: Option<&Path>) -> Result<Layers, Error> {
    let layers = match file {
        Some(path) => Layers::reference().file(path)?,
        None => Layers::reference(),
    };
    layers.environment(
        std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }),
    )
}

fn read_value(text: &str, current: Option<&Value>) -> Value {
    // A field that is a string takes any text as it is: `--set node.name=42` is a name.
    let quoted = text.starts_with('"') || text.starts_with('\'');
    if matches!(current, Some(Value::String(_))) && !quoted {
        return Value::String(text.to_owned());
    }
    let parsed = format!("value = {text}").parse::<Table>().ok();
    match parsed.and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None if matches!(current, Some(Value::Array(_))) => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        None => Value::String(text.to_owned()),
    }
}

fn hint<'a>(field: &str, known: impl Iterator<Item = &'a str>) -> String {
    let close = known
        .map(|name| (distance(field, name), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .min();
    match close {
        Some((_, name)) => format!(" (did you mean `{name}`?)"),
        None => String::new(),
    }
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

fn syntax_message(error: &toml::de::Error, text: &str) -> String {
    let line = error
        .span()
        .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    match line {
        Some(line) => format!("line {line}: {}", one_line(error.message())),
        None => one_line(error.message()),
    }
}

fn one_line(text: &str) -> String {
    let parts: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(assignments: &[&str]) -> Result<Config, Error> {
        let mut layers = Layers::reference().assignment("node.id=1")?;
        for assignment in assignments {
            layers = layers.assignment(assignment)?;
        }
        Ok((*layers.check()?).clone())
    }

    fn message(layers: Result<Layers, Error>) -> String {
        layers.unwrap_err().to_string()
    }

    #[test]
    fn later_layers_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("caucus.toml");
        std::fs::write(&path, "[node]\nid = 1\nzone = \"a\"\nname = \"x\"\n").unwrap();
        let variables = [
            ("CAUCUS_NODE_ZONE".to_owned(), "b".to_owned()),
            ("CAUCUS_NODE_NAME".to_owned(), "7".to_owned()),
            ("CAUCUS_ENDPOINTS".to_owned(), "http://h:1".to_owned()),
            ("CAUCUS_HTTP_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned()),
        ];
        let layers = Layers::reference().file(&path).unwrap();
        let layers = layers.environment(variables).unwrap();
        let checked = layers.assignment("node.zone=c").unwrap().check().unwrap();
        assert_eq!(
            (checked.node.zone.as_str(), checked.node.name.as_str()),
            ("c", "7")
        );
    }

    #[test]
    fn lists_may_be_bare() {
        let config = with(&["cluster.seeds=a:1, b:2"]).unwrap();
        assert_eq!(config.cluster.seeds, ["a:1", "b:2"]);
        let config = with(&["cluster.seeds=[\"a:1\"]"]).unwrap();
        assert_eq!(config.cluster.seeds, ["a:1"]);
    }

    #[test]
    fn unknown_fields_are_named_with_a_hint() {
        let text = message(Layers::reference().assignment("cluster.nmae=x"));
        assert!(
            text.ends_with("unknown field `cluster.nmae` (did you mean `name`?)"),
            "{text}"
        );
        let text = message(Layers::reference().assignment("nodes.id=1"));
        assert!(
            text.ends_with("unknown field `nodes` (did you mean `node`?)"),
            "{text}"
        );
        let variable = [("CAUCUS_NODE_COLOUR".to_owned(), "red".to_owned())];
        let text = message(Layers::reference().environment(variable));
        assert_eq!(
            text,
            "environment variable CAUCUS_NODE_COLOUR: unknown field `node.colour`"
        );
    }

    #[test]
    fn wrong_types_name_their_source_in_one_line() {
        for assignment in [
            "raft.heartbeat_interval_ms=soon",
            "listen.client=nowhere",
            "cluster.initial_placement=[{ id = 1, pear = \"x\" }]",
            "node.roles=[\"king\"]",
        ] {
            let text = message(Layers::reference().assignment(assignment));
            assert!(text.starts_with("--set ") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("caucus.toml");
        std::fs::write(&path, "[node]\nid = = 1\n").unwrap();
        let text = message(Layers::reference().file(&path));
        assert!(text.contains("line 2") && !text.contains('\n'), "{text}");
    }
}
