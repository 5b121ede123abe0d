//! `/metrics`: every family that is promised is there, counts what happened, and has labels that clients
//! can't multiply.

use std::collections::BTreeSet;
use std::time::Duration;

use caucus_tests::http::Client;
use caucus_tests::metrics::Scrape;
use caucus_tests::wait::{wait_for, wait_until};
use caucus_tests::{Cluster, Options, kv};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);
const PUTS: u64 = 40;

/// On every node with all three roles.
const FAMILIES: [(&str, &str); 28] = [
    // Requests by route and code, and how long they take.
    ("caucus_http_requests_total", "counter"),
    ("caucus_http_request_duration_seconds", "histogram"),
    ("caucus_http_connections", "gauge"),
    // Proposals, and how far commit and apply are behind.
    ("caucus_raft_proposals_total", "counter"),
    ("caucus_raft_commit_lag_entries", "gauge"),
    ("caucus_raft_apply_lag_entries", "gauge"),
    ("caucus_raft_applied_entries_total", "counter"),
    // Time and size of what is synced at once.
    ("caucus_raft_log_sync_seconds", "histogram"),
    ("caucus_raft_log_batch_operations", "histogram"),
    ("caucus_raft_log_written_bytes", "counter"),
    // Leaders.
    ("caucus_raft_leader_changes_total", "counter"),
    ("caucus_raft_led_groups", "gauge"),
    ("caucus_raft_replicas", "gauge"),
    ("caucus_raft_stopped_replicas", "gauge"),
    ("caucus_raft_confirm_rounds_total", "counter"),
    // The oracle.
    ("caucus_oracle_grants_total", "counter"),
    ("caucus_oracle_granted_revisions_total", "counter"),
    ("caucus_oracle_queued_requests", "gauge"),
    // The groups, and what waits for them.
    ("caucus_shard_writes_total", "counter"),
    ("caucus_shard_reads_total", "counter"),
    ("caucus_shard_batch_writes", "histogram"),
    ("caucus_shard_write_queue_requests", "gauge"),
    ("caucus_shard_read_queue_requests", "gauge"),
    ("caucus_router_open_requests", "gauge"),
    // RocksDB.
    ("caucus_engine_disk_bytes", "gauge"),
    ("caucus_engine_wal_bytes", "gauge"),
    ("caucus_engine_memtable_bytes", "gauge"),
    ("caucus_engine_free_bytes", "gauge"),
];

#[test]
fn every_promised_family_is_there_and_counts() {
    let cluster = Cluster::start(Options::nodes(3));
    let mut client = cluster.client(1);
    for number in 0..PUTS {
        let key = format!("/metrics/{number}/key");
        kv::put(&mut client, &key, &json!(number));
        assert!(kv::get(&mut client, &key).is_some());
    }
    assert_eq!(kv::get(&mut client, "/metrics/none"), None);
    // Gauges are set once a second.
    let led = |node| Scrape::of(&mut cluster.client(node)).sum("caucus_raft_led_groups", &[]);
    wait_until("each group to be led by one node", LIMIT, || {
        // Six of data, and the placement group.
        cluster.nodes().map(led).sum::<f64>() == 7.0
    });
    let scrapes: Vec<Scrape> = cluster
        .nodes()
        .map(|node| complete(&mut cluster.client(node)))
        .collect();

    let http = |route, method, code| {
        let labels = [("route", route), ("method", method), ("code", code)];
        scrapes[0].sum("caucus_http_requests_total", &labels)
    };
    assert_eq!(http("/v1/kv/{key}", "PUT", "201"), PUTS as f64);
    assert_eq!(http("/v1/kv/{key}", "GET", "200"), PUTS as f64);
    assert_eq!(http("/v1/kv/{key}", "GET", "404"), 1.0);
    let labels = [("route", "/v1/kv/{key}"), ("method", "PUT")];
    let timed = scrapes[0].sum("caucus_http_request_duration_seconds_count", &labels);
    assert_eq!(timed, PUTS as f64);

    let all = |name, labels: &[(&str, &str)]| -> f64 {
        scrapes.iter().map(|scrape| scrape.sum(name, labels)).sum()
    };
    assert_eq!(
        all("caucus_shard_writes_total", &[("result", "done")]),
        PUTS as f64
    );
    assert!(all("caucus_oracle_granted_revisions_total", &[]) >= PUTS as f64);
    assert!(all("caucus_raft_proposals_total", &[("result", "applied")]) > 0.0);
    for (scrape, node) in scrapes.iter().zip(cluster.nodes()) {
        assert_eq!(scrape.sum("caucus_raft_replicas", &[]), 7.0, "node {node}");
        assert_eq!(scrape.sum("caucus_raft_stopped_replicas", &[]), 0.0);
        // Every replica applies every entry, wherever it is led.
        for name in [
            "caucus_raft_applied_entries_total",
            "caucus_raft_log_sync_seconds_count",
            "caucus_raft_log_written_bytes",
            "caucus_raft_leader_changes_total",
            "caucus_engine_wal_bytes",
            "caucus_engine_free_bytes",
        ] {
            assert!(scrape.sum(name, &[]) > 0.0, "node {node}: {name}");
        }
    }
}

/// Asks until every family has a value.
fn complete(client: &mut Client) -> Scrape {
    let mut missing = Vec::new();
    let found = wait_for("all families", LIMIT, || {
        let scrape = Scrape::of(client);
        missing = missing_in(&scrape);
        missing.is_empty().then_some(scrape)
    });
    for (family, _) in FAMILIES {
        assert!(found.helped.contains(family), "{family} isn't explained");
    }
    found
}

fn missing_in(scrape: &Scrape) -> Vec<String> {
    let has = |(family, kind): &(&str, &str)| {
        let sample = match *kind {
            "histogram" => format!("{family}_bucket"),
            _ => (*family).to_owned(),
        };
        scrape.kinds.get(*family).is_some_and(|found| found == kind)
            && scrape.find(&sample, &[]).next().is_some()
    };
    let missing = FAMILIES.iter().filter(|family| !has(family));
    missing.map(|(family, _)| (*family).to_owned()).collect()
}

/// A client that thinks of something new each time makes no new series.
#[test]
fn clients_cannot_multiply_labels() {
    let cluster = Cluster::start(Options::nodes(1));
    let mut client = cluster.client(1);
    strange(&mut client, "first");
    let before = series(&mut client);
    for number in 0..50 {
        strange(&mut client, &format!("more-{number}"));
    }
    let new: Vec<_> = series(&mut client).difference(&before).cloned().collect();
    assert!(new.is_empty(), "{new:#?}");
    let labels: BTreeSet<String> = Scrape::of(&mut client)
        .samples
        .iter()
        .flat_map(|sample| sample.labels.keys().cloned())
        .collect();
    let known = [
        "code",
        "direction",
        "le",
        "method",
        "reason",
        "result",
        "route",
    ];
    let unknown: Vec<_> = labels
        .iter()
        .filter(|label| !known.contains(&label.as_str()))
        .collect();
    assert!(unknown.is_empty(), "labels without a bound: {unknown:?}");
}

/// One request of each kind, with names of its own.
fn strange(client: &mut Client, name: &str) {
    let key = kv::path(&format!("/{name}/key"));
    let value = [("content-type", "text/plain")];
    for (method, target, headers) in [
        ("PUT", key.clone(), &value[..]),
        ("GET", key.clone(), &[]),
        ("GET", kv::path(&format!("/{name}/none")), &[]),
        ("DELETE", key.clone(), &[]),
        ("GET", format!("/v1/kv?prefix={name}"), &[]),
        ("GET", format!("/v1/kv?{name}=1"), &[]),
        ("GET", format!("/{name}"), &[]),
        (name, key, &[]),
        (name, format!("/{name}"), &[]),
        ("GET", "/metrics".to_owned(), &[]),
    ] {
        let answer = client.request(method, &target, headers, b"x");
        answer.expect("the node answers");
    }
}

fn series(client: &mut Client) -> BTreeSet<String> {
    let samples = Scrape::of(client).samples.into_iter();
    // Of HTTP: all others don't depend on what a client says.
    let http = samples.filter(|sample| sample.name.starts_with("caucus_http_"));
    http.map(|sample| format!("{} {:?}", sample.name, sample.labels))
        .collect()
}
