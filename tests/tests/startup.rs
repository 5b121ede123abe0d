//! How a node starts, refuses to start, and ends.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use caucus_tests::process::{Finished, command, is_alive, run};
use caucus_tests::wait::wait_until;
use caucus_tests::{Cluster, Options, kv, ports};
use rustix::process::Signal;
use serde_json::json;

const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Writes a configuration of a cluster of one.
fn write_config(dir: &Path, port: u16, more: &str) -> String {
    let text = format!(
        "[node]\nid = 1\ndata_dir = {:?}\n\
         [listen]\nclient = \"127.0.0.1:{port}\"\npeer = \"127.0.0.1:{}\"\n\
         [cluster]\ninitial_nodes = 1\nreplication = 1\n\
         initial_placement = [{{ id = 1, peer = \"127.0.0.1:{}\" }}]\n{more}",
        dir.join("data"),
        port + 1,
        port + 1,
    );
    let path = dir.join("caucus.toml");
    std::fs::write(&path, text).expect("the test's directory can be written");
    path.to_str().expect("a plain path").to_owned()
}

/// One line that has all these words, and exit code 2.
fn assert_refused(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert_eq!(finished.stdout, "");
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "no `{word}` in {}",
            finished.stderr
        );
    }
}

#[test]
fn an_unknown_field_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(dir.path(), ports::free_base(1), "nmae = \"x\"\n");
    let refused = run(&["server", "--config", &config]);
    assert_refused(
        &refused,
        &[&config, "unknown field `cluster.nmae`", "`name`"],
    );
    assert!(
        !dir.path().join("data").exists(),
        "it must not touch the disk before"
    );
}

#[test]
fn what_is_wrong_with_a_configuration_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let port = ports::free_base(1);
    for (text, words) in [
        ("[http]\nnothing = 1\n", ["unknown field", "`http.nothing`"]),
        ("[htpt]\n", ["unknown field `htpt`", "`http`"]),
        (
            "[http]\nrequest_timeout_ms = \"soon\"\n",
            ["caucus.toml", "soon"],
        ),
        (
            "[http]\nconnections_max = 0\n",
            ["http.connections_max", "below 1"],
        ),
        ("colour\n", ["caucus.toml", "line 11"]),
        ("groups = 9000\n", ["cluster.groups", "cluster.vnodes"]),
    ] {
        let config = write_config(dir.path(), port, text);
        assert_refused(&run(&["server", "--config", &config]), &words);
    }
    assert_refused(
        &run(&["server", "--config", "/nowhere.toml"]),
        &["/nowhere.toml"],
    );
    assert_refused(&run(&["server"]), &["node.id"]);
    assert_refused(
        &run(&["server", "--set", "node.id"]),
        &["section.field=value"],
    );
    let unknown = run(&["dev", "--set", "node.colour=red"]);
    assert_refused(&unknown, &["unknown field `node.colour`"]);
    let mut variable = command(&["server"]);
    let output = variable.env("CAUCUS_NODE_COLOUR", "red").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("CAUCUS_NODE_COLOUR") && said.lines().count() == 1,
        "{said}"
    );
    // Where the data should be is a file.
    let config = write_config(dir.path(), port, "");
    std::fs::write(dir.path().join("data"), "").unwrap();
    assert_refused(&run(&["server", "--config", &config]), &["data directory"]);
}

#[test]
fn a_port_in_use_is_named() {
    for offset in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let port = ports::free_base(1);
        let address = format!("127.0.0.1:{}", port + offset);
        let _taken = TcpListener::bind(&address).expect("it was free");
        let config = write_config(dir.path(), port, "");
        assert_refused(
            &run(&["server", "--config", &config]),
            &[&address, "in use"],
        );
    }
}

#[test]
fn another_clusters_data_is_refused() {
    let (dir, config) = with_identity("\"cluster_name\": \"elsewhere\"");
    assert_refused(
        &run(&["server", "--config", &config]),
        &["`elsewhere`", "`caucus`"],
    );
    let other = ["server", "--config", &config, "--set", "cluster.name=third"];
    assert_refused(&run(&other), &["`elsewhere`", "`third`"]);
    drop(dir);
}

#[test]
fn a_newer_format_is_refused() {
    let (dir, config) = with_identity("\"format\": 1000");
    assert_refused(&run(&["server", "--config", &config]), &["format 1000"]);
    drop(dir);
}

/// A data directory whose identity has one field changed.
fn with_identity(field: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(dir.path(), ports::free_base(1), "");
    let mut fields = vec![
        "\"format\": 1",
        "\"engine\": \"rocksdb\"",
        "\"cluster_name\": \"caucus\"",
        "\"cluster_id\": null",
        "\"node\": 1",
        "\"storage_id\": \"00112233445566778899aabbccddeeff\"",
    ];
    let name = field.split(':').next();
    fields.retain(|found| found.split(':').next() != name);
    fields.push(field);
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(
        data.join("IDENTITY"),
        format!("{{{}}}\n", fields.join(", ")),
    )
    .unwrap();
    (dir, config)
}

#[test]
fn a_directory_in_use_is_refused() {
    let cluster = Cluster::start(Options::nodes(1));
    let config = cluster.node_dir(1).join("caucus.toml");
    let port = ports::free_base(1);
    let (client, peer) = (
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1:{}", port + 1),
    );
    let members = format!("cluster.initial_placement=[{{ id = 1, peer = \"{peer}\" }}]");
    let refused = run(&[
        "server",
        "--config",
        config.to_str().expect("a plain path"),
        "--listen-client",
        &client,
        "--set",
        &members,
        "--set",
        &format!("listen.peer={peer}"),
    ]);
    assert_refused(&refused, &["in use by another process"]);
}

#[test]
fn dev_passes_on_why_a_node_cannot_start() {
    let dir = tempfile::tempdir().unwrap();
    let port = ports::free_base(3);
    let address = format!("127.0.0.1:{}", port + 11);
    let _taken = TcpListener::bind(&address).expect("it was free");
    let (port, data) = (port.to_string(), dir.path().join("data"));
    let data = data.to_str().expect("a plain path");
    let refused = run(&["dev", "--nodes", "3", "--port", &port, "--data-dir", data]);
    assert_eq!(
        (refused.code, refused.stdout.as_str()),
        (Some(2), ""),
        "{}",
        refused.stderr
    );
    let last = refused.stderr.lines().last().expect("a last line");
    assert!(last.contains("node 2") && last.contains(&address), "{last}");
}

#[test]
fn a_second_start_finds_the_data() {
    for nodes in [1, 3] {
        let mut cluster = Cluster::start(Options::nodes(nodes));
        let value = json!({"kept": nodes});
        kv::put(&mut cluster.client(1), "/kept/key", &value);
        for _ in 0..2 {
            cluster.down();
            cluster.up();
            for node in cluster.nodes() {
                let found = kv::get(&mut cluster.client(node), "/kept/key");
                assert_eq!(found.expect("it was acknowledged")["value"], value);
            }
        }
    }
}

#[test]
fn dev_says_ready_once_and_takes_its_nodes_along() {
    for (signal, code) in [
        (Signal::TERM, Some(0)),
        (Signal::INT, Some(0)),
        (Signal::KILL, None),
    ] {
        let mut cluster = Cluster::start(Options::nodes(3));
        let expected = format!("ready http://{}\n", cluster.address(1));
        let pids: Vec<u32> = cluster.nodes().map(|node| cluster.pid(node)).collect();
        assert!(pids.iter().all(|pid| is_alive(*pid)));
        let dev = cluster.dev();
        dev.signal(signal);
        assert_eq!(dev.wait(STOP_LIMIT), code, "{}", dev.stderr());
        assert_eq!(dev.stdout(), expected);
        for pid in pids {
            wait_until("a node to end with dev", STOP_LIMIT, || !is_alive(pid));
        }
    }
}

#[test]
fn dev_restarts_no_node_that_died() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let pid = cluster.pid(2);
    cluster.kill(2);
    let dev = cluster.dev();
    wait_until("dev to notice", STOP_LIMIT, || {
        dev.stderr().contains("node 2 ended: signal 9")
    });
    kv::put(&mut cluster.client(1), "/still/serving", &json!(true));
    assert!(!is_alive(pid));
    assert!(
        cluster
            .client(2)
            .request("GET", "/readyz", &[], b"")
            .is_err()
    );
}

#[test]
fn the_reference_configuration_is_complete_and_valid() {
    let reference = run(&["config", "reference"]);
    assert_eq!((reference.code, reference.stderr.as_str()), (Some(0), ""));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("caucus.toml");
    std::fs::write(&path, &reference.stdout).unwrap();
    let path = path.to_str().expect("a plain path");
    let checked = run(&["config", "check", "--config", path, "--set", "node.id=1"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let fields = |text: &str| {
        let table: toml::Table = text.parse().expect("it is TOML");
        let fields = |(section, fields): (&String, &toml::Value)| {
            let fields = fields.as_table().expect("a section").keys();
            fields
                .map(|field| format!("{section}.{field}"))
                .collect::<Vec<_>>()
        };
        table.iter().flat_map(fields).collect::<Vec<_>>()
    };
    assert_eq!(fields(&reference.stdout), fields(&checked.stdout));
}
