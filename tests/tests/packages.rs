//! The main job on real input: the machine's package database goes into a cluster over HTTP, a node is
//! killed halfway, and everything is there afterwards.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use caucus_tests::process::{Process, command, run};
use caucus_tests::wait::wait_until;
use caucus_tests::{Cluster, Options, kv, packages, say_skipped};
use serde_json::{Value, json};

const IMPORT_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_package_database_survives_a_killed_node_and_a_restart() {
    let Some(records) = packages::read() else {
        say_skipped(&format!("this machine has no {}", packages::STATUS));
        return;
    };
    assert!(records.len() > 50, "{} packages are no test", records.len());
    let mut cluster = Cluster::start(Options::nodes(3));
    import_while_a_node_dies(&mut cluster, &records);
    for node in [2, 3] {
        check(&cluster, node, &records);
    }
    cluster.down();
    cluster.up();
    for node in cluster.nodes() {
        check(&cluster, node, &records);
    }
    check_export(&cluster, &records);
}

/// The import reads from a pipe, so that the test decides what is halfway.
fn import_while_a_node_dies(cluster: &mut Cluster, records: &BTreeMap<String, Value>) {
    let lines: Vec<String> = records
        .iter()
        .map(|(key, value)| format!("{}\n", json!({"key": key, "value": value})))
        .collect();
    let (first, second) = lines.split_at(lines.len() / 2);
    let endpoints = cluster.endpoints();
    let mut command = command(&[
        "kv",
        "import",
        "-",
        "--batch",
        "5",
        "--endpoints",
        &endpoints,
    ]);
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    command.stdin(Stdio::from(reader));
    let mut import = Process::start(command, cluster.dir(), "import");
    // What the import has read but not sent yet must not be all of the first half.
    let early = records
        .keys()
        .nth(first.len() / 4)
        .expect("there are many")
        .clone();
    first
        .iter()
        .for_each(|line| writer.write_all(line.as_bytes()).expect("the import reads"));
    let mut client = cluster.client(2);
    wait_until("the first records to arrive", IMPORT_LIMIT, || {
        kv::get(&mut client, &early).is_some()
    });
    cluster.kill(1);
    second
        .iter()
        .for_each(|line| writer.write_all(line.as_bytes()).expect("the import reads"));
    drop(writer);
    let code = import.wait(IMPORT_LIMIT);
    assert_eq!(code, Some(0), "{}", import.stderr());
    let said = format!("imported {} keys", records.len());
    assert!(import.stderr().contains(&said), "{}", import.stderr());
}

/// Every record by itself and in a listing, from one node.
fn check(cluster: &Cluster, node: u32, records: &BTreeMap<String, Value>) {
    let mut client = cluster.client(node);
    for (key, value) in records {
        let found = kv::get(&mut client, key).unwrap_or_else(|| panic!("node {node} has no {key}"));
        assert_eq!(found["value"], *value, "node {node}: {key}");
    }
    let listed = kv::list(&mut client, "/packages/");
    let listed: Vec<(&str, &Value)> = listed
        .iter()
        .map(|item| (item["key"].as_str().expect("a key"), &item["value"]))
        .collect();
    let expected: Vec<(&str, &Value)> = records
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    assert_eq!(listed.len(), expected.len(), "node {node}");
    assert!(
        listed == expected,
        "node {node} lists other records, or in another order"
    );
}

/// `export` writes what `import` read.
fn check_export(cluster: &Cluster, records: &BTreeMap<String, Value>) {
    let endpoints = cluster.endpoints();
    let export = run(&[
        "kv",
        "export",
        "--prefix",
        "/packages/",
        "--endpoints",
        &endpoints,
    ]);
    assert_eq!(export.code, Some(0), "{}", export.stderr);
    let lines = export.stdout.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("a line of JSON");
        let key = line["key"].as_str().expect("a key").to_owned();
        (key, line["value"].take())
    });
    assert!(lines.eq(records.clone()), "the export differs");
}
