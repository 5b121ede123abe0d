//! The command line against a real cluster: data on standard output, talk on standard error, exit codes.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use caucus_tests::process::{Finished, Process, command, run};
use caucus_tests::wait::wait_until;
use caucus_tests::{Cluster, Options, kv, ports};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command against a cluster.
fn at(cluster: &Cluster, words: &[&str]) -> Finished {
    let endpoints = cluster.endpoints();
    run(&[words, &["--endpoints", &endpoints]].concat())
}

fn succeeds(finished: Finished) -> String {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout
}

/// One line that says why, and no data.
fn fails(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code, Some(code), "{finished:?}");
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
fn keys_from_the_command_line() {
    let cluster = Cluster::start(Options::nodes(1));
    let put = succeeds(at(
        &cluster,
        &["kv", "put", "/config/limit", "42", "--json", "-o", "json"],
    ));
    let put: Value = serde_json::from_str(&put).expect("it is JSON");
    assert_eq!(
        (put["key"].as_str(), put["version"].as_u64()),
        (Some("/config/limit"), Some(1))
    );
    let revision = put["revision"].as_u64().expect("a revision").to_string();
    // A value comes out as the bytes that went in.
    assert_eq!(
        succeeds(at(&cluster, &["kv", "get", "/config/limit"])),
        "42"
    );
    let whole = succeeds(at(&cluster, &["kv", "get", "/config/limit", "-o", "json"]));
    let whole: Value = serde_json::from_str(&whole).expect("it is JSON");
    assert_eq!(
        (&whole["value"], &whole["content_type"]),
        (&json!(42), &json!("application/json"))
    );

    let absent = at(
        &cluster,
        &["kv", "put", "/config/limit", "1", "--if-absent"],
    );
    fails(&absent, 1, &["condition_failed", &revision]);
    let changed = [
        "kv",
        "put",
        "/config/limit",
        "43",
        "--json",
        "--if-match",
        &revision,
    ];
    succeeds(at(&cluster, &changed));
    fails(&at(&cluster, &changed), 1, &["condition_failed"]);
    succeeds(at(&cluster, &["kv", "del", "/config/limit"]));
    fails(
        &at(&cluster, &["kv", "get", "/config/limit"]),
        1,
        &["key_not_found"],
    );
    fails(&at(&cluster, &["kv", "get", ""]), 1, &["key_empty"]);
}

#[test]
fn listings_from_the_command_line() {
    let cluster = Cluster::start(Options::nodes(1));
    kv::put(&mut cluster.client(1), "/config/limit", &json!(42));
    succeeds(at(&cluster, &["kv", "put", "/config/motd", "grüß dich\n"]));
    assert_eq!(
        succeeds(at(&cluster, &["kv", "get", "/config/motd"])),
        "grüß dich\n"
    );
    let table = succeeds(at(&cluster, &["kv", "list", "/config/"]));
    assert!(
        table.contains("/config/limit") && table.contains("/config/motd"),
        "{table}"
    );
    let yaml = succeeds(at(
        &cluster,
        &["kv", "list", "/config/", "--keys-only", "-o", "yaml"],
    ));
    assert!(
        yaml.contains("key: /config/limit") && !yaml.contains("value"),
        "{yaml}"
    );
    let folded = succeeds(at(
        &cluster,
        &["kv", "list", "--delimiter", "/", "-o", "json"],
    ));
    let folded: Value = serde_json::from_str(&folded).expect("it is JSON");
    assert_eq!(folded["prefixes"], json!(["/"]));
}

#[test]
fn lines_go_in_and_come_out() {
    let cluster = Cluster::start(Options::nodes(1));
    let lines = [
        json!({"key": "/l/bytes", "value64": "/wA=", "content_type": "image/png"}),
        json!({"key": "/l/json", "value": {"a": [1, null, "x"]}, "content_type": "application/json"}),
        json!({"key": "/l/number", "value": 1.5, "content_type": "application/json"}),
        json!({"key": "/l/text", "value": "zwei\nZeilen", "content_type": "text/plain"}),
    ];
    let lines: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
    // Of two lines with one key the later one wins.
    let early = "{\"key\": \"/l/text\", \"value\": \"early\"}\n\n";
    let imported = import(&cluster, &[], &format!("{early}{}", lines.concat()));
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(
        imported.stderr.contains("imported 5 keys"),
        "{}",
        imported.stderr
    );
    let exported = at(&cluster, &["kv", "export", "--prefix", "/l/"]);
    assert!(
        exported.stderr.contains("exported 4 keys"),
        "{}",
        exported.stderr
    );
    assert_eq!(values(&succeeds(exported)), values(&lines.concat()));

    // What is wrong is named by its line; the rest goes in.
    let broken = "{\"key\": \"/m/1\", \"value\": 1}\nnonsense\n{\"key\": \"\", \"value\": 1}\n\
                  {\"key\": \"/m/4\", \"value\": 4}\n";
    let imported = import(&cluster, &[], broken);
    assert_eq!((imported.code, imported.stdout.as_str()), (Some(1), ""));
    for words in [
        "line 2: ",
        "line 3: key_empty",
        "imported 2 keys",
        "error: 2 lines failed",
    ] {
        assert!(
            imported.stderr.contains(words),
            "no `{words}` in {}",
            imported.stderr
        );
    }
    assert_eq!(kv::list(&mut cluster.client(1), "/m/").len(), 2);

    // Lines that are values, with their key inside.
    let people = "{\"id\": \"ada\", \"born\": 1815}\n{\"id\": \"alan\", \"born\": 1912}\n";
    let imported = import(
        &cluster,
        &["--key-field", "id", "--prefix", "/people/"],
        people,
    );
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let ada = kv::get(&mut cluster.client(1), "/people/ada").expect("it was imported");
    assert_eq!(ada["value"], json!({"id": "ada", "born": 1815}));
    fails(
        &at(&cluster, &["kv", "import", "/nowhere.ndjson"]),
        2,
        &["/nowhere.ndjson"],
    );
}

fn import(cluster: &Cluster, options: &[&str], lines: &str) -> Finished {
    let endpoints = cluster.endpoints();
    let words = ["kv", "import", "-", "--endpoints", &endpoints];
    let mut command = command(&[&words, options].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(lines.as_bytes()).expect("the import reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it is our child");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn values(lines: &str) -> Vec<Value> {
    let lines = lines.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("lines of JSON")
}

#[test]
fn the_cluster_from_the_command_line() {
    let cluster = Cluster::start(Options::nodes(3));
    let shown = succeeds(at(&cluster, &["cluster", "-o", "json"]));
    let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
    let nodes = shown["nodes"].as_array().expect("nodes");
    let addresses: Vec<_> = nodes
        .iter()
        .map(|node| node["client_address"].as_str())
        .collect();
    let expected: Vec<_> = cluster.nodes().map(|node| cluster.address(node)).collect();
    assert_eq!(
        addresses,
        expected
            .iter()
            .map(|it| Some(it.as_str()))
            .collect::<Vec<_>>()
    );
    assert_eq!(shown["groups"].as_array().map(Vec::len), Some(6));
    for form in ["table", "yaml"] {
        let text = succeeds(at(&cluster, &["cluster", "-o", form]));
        for address in &expected {
            assert!(text.contains(address), "no {address} in {text}");
        }
    }
    // From the environment, without the scheme, the first of them dead.
    let mut command = command(&["kv", "put", "/from/environment", "x", "-o", "json"]);
    let dead = ports::free_base(1);
    let endpoints = format!("127.0.0.1:{dead},{}", cluster.address(2));
    let output = command.env("CAUCUS_ENDPOINTS", endpoints).output();
    let output = output.expect("the binary starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_cluster_that_is_not_there() {
    let endpoint = format!("http://127.0.0.1:{}", ports::free_base(1));
    for words in [
        &["cluster"][..],
        &["kv", "get", "a"],
        &["kv", "put", "a", "b"],
        &["kv", "list"],
        &["kv", "del", "a"],
        &["kv", "export"],
    ] {
        let finished = run(&[words, &["--endpoints", &endpoint]].concat());
        fails(&finished, 1, &[&endpoint, "refused"]);
    }
    fails(
        &run(&["cluster", "--endpoints", "https://h:1"]),
        2,
        &["TLS"],
    );
}

#[test]
fn every_command_explains_itself() {
    let commands = [
        &[][..],
        &["server"],
        &["join"],
        &["dev"],
        &["kv"],
        &["kv", "put"],
        &["kv", "get"],
        &["kv", "del"],
        &["kv", "list"],
        &["kv", "import"],
        &["kv", "export"],
        &["cluster"],
        &["config"],
        &["config", "reference"],
        &["config", "check"],
        &["bench"],
        &["completions"],
    ];
    for words in commands {
        let finished = run(&[words, &["--help"]].concat());
        assert_eq!(
            (finished.code, finished.stderr.as_str()),
            (Some(0), ""),
            "{words:?}"
        );
        let usage = [&["Usage: caucus"], words].concat().join(" ");
        assert!(
            finished.stdout.contains(&usage),
            "{words:?}: {}",
            finished.stdout
        );
        assert!(
            !finished.stdout.contains("--parent"),
            "{words:?} shows what is ours"
        );
    }
    let version = succeeds(run(&["--version"]));
    assert_eq!(version, format!("caucus {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = succeeds(run(&["completions", shell]));
        assert!(
            script.contains("caucus") && script.contains("import"),
            "{shell}"
        );
    }
    for words in [
        &["nonsense"][..],
        &["server", "--nonsense"],
        &["dev", "--nodes", "0"],
        &[],
    ] {
        let finished = run(words);
        assert_eq!(
            (finished.code, finished.stdout.as_str()),
            (Some(2), ""),
            "{words:?}"
        );
        assert!(!finished.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn transactions_and_the_past_from_the_command_line() {
    let cluster = Cluster::start(Options::nodes(1));
    let json = |args: &[&str]| -> Value {
        let args = [args, &["-o", "json"]].concat();
        serde_json::from_str(&succeeds(at(&cluster, &args))).expect("it is JSON")
    };
    let swap = [
        "txn",
        "--if",
        "version(/stock/apples) = 0",
        "--then",
        "put /stock/apples 5",
        "--then",
        "put /sold/apples 0",
        "--else",
        "increment /stock/apples -1",
        "--else",
        "increment /sold/apples 1",
        "--check",
    ];
    let first = json(&swap);
    assert_eq!(first["succeeded"], json!(true), "{first}");
    let second = at(&cluster, &[&swap[..], &["-o", "json"]].concat());
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains("does not"), "{}", second.stderr);
    let second: Value = serde_json::from_str(&second.stdout).expect("it is JSON");
    assert_eq!(
        second["results"][0]["changed"]["value"],
        json!(4),
        "{second}"
    );
    let all = json(&["txn", "--then", "get /stock/*", "--then", "get /sold/*"]);
    assert_eq!(
        all["results"][1]["get"]["items"][0]["value"],
        json!(1),
        "{all}"
    );
    fails(&at(&cluster, &["txn"]), 2, &["--then"]);
    fails(
        &at(&cluster, &["txn", "--then", "move /a /b"]),
        2,
        &["put KEY VALUE"],
    );

    assert_eq!(
        json(&["kv", "increment", "/stock/apples", "--by", "-3"])["value"],
        json!(1)
    );
    let history = json(&["kv", "history", "/stock/apples"]);
    assert_eq!(
        history["changes"].as_array().map(Vec::len),
        Some(3),
        "{history}"
    );
    let revision = first["revision"].as_u64().expect("a number").to_string();
    let then = ["kv", "get", "/stock/apples", "--revision", &revision];
    assert_eq!(succeeds(at(&cluster, &then)), "5");
    let listed = json(&["kv", "list", "/stock/", "--revision", &revision]);
    assert_eq!(listed["items"][0]["value"], json!(5), "{listed}");
    let now = json(&["kv", "list", "/stock/", "--global"])["revision"].to_string();
    assert_eq!(json(&["compact", &now])["compacted"].to_string(), now);
    fails(&at(&cluster, &then), 1, &["compacted"]);
    succeeds(at(&cluster, &["kv", "append", "/text/a", "b"]));
}

#[test]
fn watches_from_the_command_line() {
    let mut cluster = Cluster::start(Options::nodes(3));
    let put = |key: &str, value: &str| {
        succeeds(at(&cluster, &["kv", "put", key, value]));
    };
    let wrong = at(&cluster, &["watch", "--glob", "["]);
    fails(&wrong, 1, &["glob"]);
    put("/w/1/a", "one");
    let words = ["watch", "--prefix", "/w/", "--initial", "--count", "3"];
    let endpoints = cluster.endpoints();
    let mut watch = command(&words);
    watch.args(["--endpoints", &endpoints]);
    let mut watching = Process::start(watch, cluster.dir(), "watch");
    wait_until("the state", LIMIT, || watching.stdout().contains("synced"));
    put("/w/2/b", "two");
    wait_until("a change", LIMIT, || watching.stdout().contains("/w/2/b"));
    // The node that it is connected to.
    cluster.kill(1);
    succeeds(at(&cluster, &["kv", "put", "/w/3/c", "three"]));
    succeeds(at(&cluster, &["kv", "del", "/w/1/a"]));
    assert_eq!(watching.wait(LIMIT), Some(0), "{}", watching.stderr());
    let out = watching.stdout();
    let lines = out.lines().map(|line| line.split_once('\t'));
    let lines: Vec<&str> = lines.map(|line| line.expect("a revision").1).collect();
    assert_eq!(
        lines,
        [
            "state\t/w/1/a\tone",
            "synced",
            "put\t/w/2/b\ttwo",
            "put\t/w/3/c\tthree",
            "delete\t/w/1/a"
        ]
    );
}
