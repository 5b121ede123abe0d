//! The repository's own files, as `tidy` reads them.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository.
#[derive(Debug)]
pub struct Source {
    /// Relative to the top, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The top of the repository.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests/ is in the repository")
        .to_owned()
}

/// All text files that are part of the repository: neither hidden in `.git` nor made by a build.
pub fn all() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), "", &mut found);
    found.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(
        found.len() > 50,
        "only {} files: not the repository",
        found.len()
    );
    found
}

/// All Rust files.
pub fn rust() -> Vec<Source> {
    all()
        .into_iter()
        .filter(|source| source.path.ends_with(".rs"))
        .collect()
}

fn collect(dir: &Path, prefix: &str, found: &mut Vec<Source>) {
    const SKIPPED: [&str; 5] = [
        ".git",
        "target",
        "caucus-data",
        "caucus-dev-data",
        "Cargo.lock",
    ];
    let entries = fs::read_dir(dir).expect("the repository can be read");
    for entry in entries.map(|entry| entry.expect("the repository can be read")) {
        let name = entry.file_name().into_string().expect("names are text");
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("the repository can be read");
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), found);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            found.push(Source { path, text });
        }
    }
}

/// A function of a Rust file.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line it begins in, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
    /// Whether most of it is one flat `match`.
    pub is_flat_match: bool,
}

/// Finds functions by their indentation: rustfmt puts the closing brace under the line that begins the
/// item, so text between the two needs no parser.
pub fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (begin, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        let closing = format!("{indent}}}");
        let ends = |line: &&str| **line == closing || is_bodiless(line, indent);
        let Some(length) = lines[begin..].iter().position(ends) else {
            continue;
        };
        let body = &lines[begin..=begin + length];
        let name = name.to_owned();
        let is_flat_match = is_flat_match(body, indent);
        found.push(Function {
            name,
            line: begin + 1,
            lines: body.len(),
            is_flat_match,
        });
    }
    found
}

/// A declaration in a trait, or a body on the same line.
fn is_bodiless(line: &str, indent: &str) -> bool {
    let own = line.starts_with(indent) && !line[indent.len()..].starts_with([' ', '}']);
    let last = line.trim_start() == line.trim_start_matches(' ');
    own && last && (line.ends_with(';') || (line.contains('{') && line.ends_with('}')))
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        if let Some(name) = rest.strip_prefix("fn ") {
            return name.split(['(', '<']).next();
        }
        let (word, after) = rest.split_once(' ')?;
        let modifier = matches!(
            word,
            "pub" | "async" | "const" | "unsafe" | "extern" | "\"C\""
        ) || word.starts_with("pub(");
        if !modifier {
            return None;
        }
        rest = after;
    }
}

/// All but a few lines stand inside one `match` of the outermost block.
fn is_flat_match(body: &[&str], indent: &str) -> bool {
    let inner = format!("{indent}    ");
    let begins = |line: &str| line.starts_with(&format!("{inner}match ")) && line.ends_with('{');
    let Some(begin) = body.iter().position(|line| begins(line)) else {
        return false;
    };
    let closing = format!("{inner}}}");
    let length = body[begin..]
        .iter()
        .position(|line| *line == closing)
        .map_or(0, |last| last + 1);
    length * 4 >= body.len() * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured() {
        let text = "\
fn a() {}

pub(crate) async fn b<T>(
    x: T,
) {
    let y = |z| {
        z
    };
}

impl X {
    const fn c(&self);
    fn d() -> u8 {
        match 1 {
            1 => 2,
            2 => 3,
            3 => 4,
            4 => 4,
            5 => 4,
            6 => 4,
            _ => 3,
        }
    }
}
";
        let found = functions(text);
        let sizes: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(
            sizes,
            [("a", 1, 1), ("b", 3, 7), ("c", 12, 1), ("d", 13, 11)]
        );
        assert!(found[3].is_flat_match && !found[1].is_flat_match);
    }
}
