//! What a compiler doesn't check: sizes, arrows between crates, names, links, words.

use std::collections::{BTreeMap, BTreeSet};

use caucus_tests::sources::{self, Source, functions};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const README_LINES_MAX: usize = 300;

/// Whom each crate may use, of those in this repository. Arrows go one way: pure rooms know nobody (but for
/// `planted`, which is nothing in what is shipped), the three services know each other only through `api`.
const ARROWS: [(&str, &[&str]); 19] = [
    ("caucus-ring", &[]),
    ("caucus-planted", &[]),
    // The engine tests itself without power.
    ("caucus-engine", &["planted", "power"]),
    ("caucus-peer", &[]),
    ("caucus-model", &[]),
    ("caucus-power", &[]),
    ("caucus-api", &["ring"]),
    ("caucus-raft", &["engine", "peer", "planted"]),
    ("caucus-client", &["api", "peer", "ring"]),
    (
        "caucus-shard",
        &["api", "client", "engine", "peer", "planted", "raft", "ring"],
    ),
    (
        "caucus-placement",
        &["api", "client", "engine", "peer", "planted", "raft", "ring"],
    ),
    ("caucus-etcd", &[]),
    ("caucus-sdk", &[]),
    ("caucus-history", &[]),
    (
        "caucus-router",
        &["api", "client", "etcd", "peer", "planted", "ring"],
    ),
    (
        "caucus-node",
        &[
            "api",
            "client",
            "engine",
            "peer",
            "placement",
            "planted",
            "raft",
            "ring",
            "router",
            "shard",
        ],
    ),
    (
        "caucus-sim",
        &[
            "api",
            "engine",
            "history",
            "node",
            "peer",
            "placement",
            "planted",
            "raft",
            "ring",
            "router",
            "shard",
        ],
    ),
    (
        "caucus",
        &[
            "api",
            "client",
            "engine",
            "etcd",
            "node",
            "peer",
            "placement",
            "planted",
            "raft",
            "ring",
            "router",
            "sdk",
            "shard",
        ],
    ),
    (
        "caucus-tests",
        &[
            "api",
            "client",
            "engine",
            "etcd",
            "history",
            "peer",
            "placement",
            "power",
            "planted",
            "raft",
            "ring",
            "router",
            "sdk",
            "shard",
        ],
    ),
];

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn files_are_short() {
    let long = sources::rust().into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
    });
    assert_none("files over 600 lines", &long.collect::<Vec<_>>());
}

/// One function a crate may be longer, if it is one flat `match`.
#[test]
fn functions_are_short() {
    let mut excused = BTreeSet::new();
    let mut long = Vec::new();
    for source in sources::rust() {
        for function in functions(&source.text) {
            if function.lines <= FUNCTION_LINES_MAX {
                continue;
            }
            let krate = source
                .path
                .split("/src/")
                .next()
                .unwrap_or_default()
                .to_owned();
            if function.is_flat_match && excused.insert(krate) {
                continue;
            }
            long.push(format!(
                "{}:{}: {} has {} lines",
                source.path, function.line, function.name, function.lines
            ));
        }
    }
    assert_none("functions over 70 lines", &long);
}

#[test]
fn crates_use_only_whom_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources::all()
        .iter()
        .filter(|source| source.path.ends_with("/Cargo.toml"))
    {
        let manifest: toml::Table = source.text.parse().expect("cargo reads it too");
        let name = manifest["package"]["name"]
            .as_str()
            .expect("crates have names")
            .to_owned();
        let Some(allowed) = allowed.get(name.as_str()) else {
            wrong.push(format!("{}: no arrows are drawn for {name}", source.path));
            continue;
        };
        for used in uses(&manifest) {
            if !allowed.contains(&used.as_str()) && format!("caucus-{used}") != name {
                wrong.push(format!("{name} uses caucus-{used}"));
            }
        }
        if manifest.get("lints").is_none() {
            wrong.push(format!("{name} doesn't take the workspace's lints"));
        }
        seen.insert(name);
    }
    assert_none("arrows", &wrong);
    assert_eq!(seen.len(), ARROWS.len(), "{seen:?}");
}

/// The crates of this repository in any table of dependencies.
fn uses(manifest: &toml::Table) -> BTreeSet<String> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table());
    let names = tables.flat_map(toml::Table::keys);
    names
        .filter_map(|name| Some(name.strip_prefix("caucus-")?.to_owned()))
        .collect()
}

/// Behind `caucus_<subsystem>_<what>` stands the unit; things that are counted are their own unit, in the
/// plural, and the numbers of the design have none.
#[test]
fn metric_names_have_one_form() {
    let mut wrong = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for source in sources::rust().iter().filter(|source| is_metrics(source)) {
        for (number, line) in source.text.lines().enumerate() {
            for name in literals(line).filter(|name| name.starts_with("caucus_")) {
                let place = format!("{}:{}: {name}", source.path, number + 1);
                if !is_metric_name(name) {
                    wrong.push(format!("{place}: not caucus_<subsystem>_<what>_<unit>"));
                }
                let other = names.insert(name.to_owned(), source.path.clone());
                if let Some(other) = other.filter(|other| *other != source.path) {
                    wrong.push(format!("{place}: also in {other}"));
                }
            }
        }
    }
    assert_none("metric names", &wrong);
    assert!(!names.is_empty(), "no metrics.rs has a metric");
}

fn is_metric_name(name: &str) -> bool {
    const UNITS: [&str; 4] = ["total", "seconds", "bytes", "ratio"];
    const OTHER_SCALES: [&str; 6] = ["ms", "millis", "milliseconds", "micros", "us", "percents"];
    const NUMBERS: [&str; 4] = ["epoch", "revision", "term", "index"];
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let parts: Vec<&str> = name.split('_').collect();
    let last = parts[parts.len() - 1];
    let ends_well = UNITS.contains(&last)
        || NUMBERS.contains(&last)
        || (last.ends_with('s') && !OTHER_SCALES.contains(&last));
    name.chars().all(plain) && parts.len() >= 3 && ends_well
}

fn is_metrics(source: &Source) -> bool {
    source.path.ends_with("metrics.rs") && !source.path.starts_with("tests/")
}

fn literals(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// Links and paths in backquotes that begin like a room of the repository.
#[test]
fn the_readme_names_what_exists() {
    let readme = std::fs::read_to_string(sources::root().join("README.md")).expect("a README");
    assert!(
        readme.lines().count() <= README_LINES_MAX,
        "the README is too long"
    );
    let rooms = [
        "deploy/",
        "placement/",
        "router/",
        "shard/",
        "tests/",
        ".ci/",
    ];
    let links = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let quoted = readme.split('`').skip(1).step_by(2);
    let quoted = quoted.filter(|path| rooms.iter().any(|room| path.starts_with(room)));
    let mut paths: Vec<&str> = links.chain(quoted).collect();
    paths.retain(|path| !path.contains([' ', '<', '*']));
    assert!(paths.len() > 10, "the README names only {paths:?}");
    let missing = paths
        .into_iter()
        .filter(|path| !sources::root().join(path).exists());
    assert_none(
        "named in the README",
        &missing.map(str::to_owned).collect::<Vec<_>>(),
    );
}

#[test]
fn nothing_is_left_to_do() {
    // Spelled in two parts, so that this file doesn't find itself.
    let macros = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
    ];
    let words = [
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("HA", "CK"),
    ];
    let mut found = Vec::new();
    for source in sources::all() {
        for (number, line) in source.text.lines().enumerate() {
            let is_rust = source.path.ends_with(".rs");
            let left = macros.iter().any(|call| is_rust && line.contains(call))
                || words.iter().any(|word| line.contains(word));
            if left && source.path != "LICENSE" {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("left to do", &found);
}

/// Paths of one machine make no sense on another.
#[test]
fn no_machine_is_named() {
    let places = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
    ];
    let mut found = Vec::new();
    for source in sources::all() {
        for (number, line) in source.text.lines().enumerate() {
            // Behind a letter or another segment it is part of something else.
            let named = places.iter().any(|place| {
                line.match_indices(place).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-}~".contains(c))
                })
            });
            if named {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("paths of a machine", &found);
}
