//! `caucus import etcd`: a living etcd is copied, by a process that is killed halfway and goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::lease_client::LeaseClient;
use caucus_etcd::etcdserverpb::{LeaseGrantRequest, PutRequest, RangeRequest};
use caucus_tests::process::{self, Process};
use caucus_tests::wait::wait_until;
use caucus_tests::{Cluster, Options};
use serde_json::Value;
use tonic::transport::Channel;

use crate::{channel, node, real_etcd, run};

const KEYS: u32 = 3000;
const LEASED: u32 = 7;
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of all kinds, in many directories.
fn key(number: u32) -> Vec<u8> {
    let mut key = format!("/copy/{}/", number % 50).into_bytes();
    key.extend(number.to_be_bytes());
    key
}

fn put(key: Vec<u8>, value: Vec<u8>, lease: i64) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        ..PutRequest::default()
    }
}

async fn fill(channel: Channel) {
    let mut client = KvClient::new(channel.clone());
    for number in 0..KEYS {
        let value = vec![number as u8; number as usize % 40];
        client.put(put(key(number), value, 0)).await.expect("a put");
    }
    let grant = LeaseGrantRequest { ttl: 3600, id: 0 };
    let granted = LeaseClient::new(channel).lease_grant(grant).await;
    let lease = granted.expect("a lease").into_inner().id;
    for number in 0..LEASED {
        let put = put(key(number), b"leased".to_vec(), lease);
        client.put(put).await.expect("a put");
    }
}

async fn all(channel: Channel, revision: i64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let range = RangeRequest {
        key: b"/copy/".as_slice().into(),
        range_end: b"/copy0".as_slice().into(),
        revision,
        ..RangeRequest::default()
    };
    let found = KvClient::new(channel).range(range).await;
    let pairs = found.expect("a listing").into_inner().kvs.into_iter();
    pairs
        .map(|pair| (pair.key.to_vec(), pair.value.to_vec()))
        .collect()
}

#[test]
fn a_copy_that_was_cut_off_goes_on() {
    let Some(etcd) = real_etcd() else { return };
    let cluster = Cluster::start(Options::nodes(3));
    run(async { fill(channel(etcd.address())).await });
    let state = cluster.dir().join("state");
    let state_name = state.to_str().expect("a plain path");
    let endpoints = cluster.endpoints();
    let args = [
        "import",
        "etcd",
        "--from",
        etcd.address(),
        "--prefix",
        "/copy/",
        "--endpoints",
        &endpoints,
        "--resume",
        state_name,
        "-o",
        "json",
    ];
    let slowly = [&args[..], &["--parallel", "1"]].concat();
    let mut first = Process::start(process::command(&slowly), cluster.dir(), "import");
    let read = || -> Option<Value> {
        let text = std::fs::read(&state).ok()?;
        serde_json::from_slice(&text).ok()
    };
    wait_until("a page to be copied", LIMIT, || {
        assert!(first.ended().is_none(), "{}", first.stderr());
        read().is_some_and(|state| state["copied"].as_u64() >= Some(500))
    });
    first.signal(rustix::process::Signal::KILL);
    wait_until("it to be gone", LIMIT, || first.ended().is_some());
    let halfway = read().expect("a state");
    let revision = halfway["revision"].as_i64().expect("a number");
    // The source goes on; the copy is of the moment at which it was begun.
    run(async {
        let mut client = KvClient::new(channel(etcd.address()));
        let later = put(key(KEYS + 1), b"later".to_vec(), 0);
        client.put(later).await.expect("a put");
    });
    let done = process::run(&args);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let summary: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(summary["copied"], KEYS, "{summary}");
    assert_eq!(summary["with_lease"], LEASED, "{summary}");
    assert!(
        done.stderr.contains("7 keys with a lease"),
        "{}",
        done.stderr
    );
    let theirs = run(async { all(channel(etcd.address()), revision).await });
    let ours = run(async { all(node(&cluster, 2), 0).await });
    assert_eq!(theirs.len(), KEYS as usize);
    assert!(ours == theirs, "the copy differs");

    let other = [&args[..4], &["--prefix", "/other/"], &args[6..]].concat();
    let refused = process::run(&other);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("another prefix"),
        "{}",
        refused.stderr
    );
}
