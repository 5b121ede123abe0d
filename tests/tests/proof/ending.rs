//! What is looked at when everything has come to rest: all is well again, nothing is left of what went wrong, and all
//! replicas are the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use caucus_api::shard::reply::Body as Said;
use caucus_api::shard::request::Body as Ask;
use caucus_api::shard::{Hash, Hashed, Request};
use caucus_client::{LinksOptions, NodeLinks};
use caucus_history::history::Type;
use caucus_peer::{Hello, PROTOCOL_VERSION, Peers, PeersOptions, TcpNet};
use caucus_ring::NodeId;
use caucus_tests::http::Client as Http;
use caucus_tests::kv;
use caucus_tests::servers::Servers;
use caucus_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

use crate::LIMIT;
use crate::client::Client;
use crate::leases;
use crate::lockers::LOCK;
use crate::scene::Scene;
use crate::sets::items;

/// How soon all has to be well.
const CONVERGE: Duration = Duration::from_secs(60);
/// How long a replica may take to say its hash.
const HASH_WAIT: Duration = Duration::from_secs(5);
/// Keys of a transaction.
const KEYS_AT_ONCE: usize = 100;

/// Reads all that there is in the end; the revision of a last write, which the watchers wait for.
pub(super) fn last(servers: &Servers, scene: &Scene) -> u64 {
    let mut client = servers.client(1);
    let mut closing = Client::new(scene, 0);
    let closed = wait_for("a last write", LIMIT, || closing.write_last());
    let body = json!({"then": [{"get": {"prefix": "/p/"}}]});
    let (_, read) = wait_for("the last state", LIMIT, || {
        kv::txn(&mut client, &body).filter(|(status, _)| *status == 200)
    });
    let state = items(&read["results"][0]["get"]["items"]);
    let revision = read["revision"].as_u64();
    scene.say_at(Type::Ok, "harness", "final", state.into(), revision);
    closed
}

/// All nodes serve, and nothing is left of those who are gone.
pub(super) fn comes_to_rest(servers: &Servers) {
    for node in servers.nodes() {
        let mut client = servers.client(node);
        wait_until("a node to serve", CONVERGE, || {
            let answer = client.request("GET", "/readyz", &[], b"");
            answer.is_ok_and(|answer| answer.status == 200)
        });
        wait_until("leases of the gone to end", CONVERGE, || {
            leases::left(&mut client) == Some(0)
        });
        wait_until("the lock to be free", CONVERGE, || {
            let entries = json!({"then": [{"get": {"prefix": format!("/@lock/{LOCK}/")}}]});
            let found = kv::txn(&mut client, &entries);
            found.is_some_and(|(status, found)| {
                status == 200 && found["results"][0]["get"]["items"] == json!([])
            })
        });
        assert_eq!(servers.stopped_replicas(node), Some(0), "node {node}");
    }
}

/// Every key can be read and written from any node: no transaction holds it.
pub(super) fn every_key_is_free(servers: &Servers) {
    let mut clients: Vec<Http> = servers.nodes().map(|node| servers.client(node)).collect();
    let mut keys = Vec::new();
    for prefix in ["/p/", "/count"] {
        keys.extend(kv::list(&mut clients[0], prefix));
    }
    assert!(!keys.is_empty(), "there are keys");
    for (at, part) in keys.chunks(KEYS_AT_ONCE).enumerate() {
        let count = clients.len();
        let client = &mut clients[at % count];
        let name = |item: &Value| item["key"].clone();
        let put = |item: &Value| json!({"put": {"key": name(item), "value": item["value"]}});
        let body = json!({"then": part.iter().map(put).collect::<Vec<_>>()});
        wait_until("keys to be free", CONVERGE, || {
            kv::txn(client, &body).is_some_and(|(status, _)| status == 200)
        });
    }
}

/// Each replica of each group has the same state at the same place in the log, and all get to the same place.
pub(super) fn replicas_agree(servers: &Servers) -> usize {
    let asked = servers.client(1).request("GET", "/v1/cluster", &[], b"");
    let cluster = asked.expect("it serves").json();
    let groups = cluster["groups"].as_array().expect("groups").iter();
    let groups: Vec<u32> = groups
        .filter_map(|group| u32::try_from(group["group"].as_u64()?).ok())
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            cluster_name: "proof".to_owned(),
            ..Hello::default()
        };
        let peers = Peers::new(Arc::new(TcpNet::default()), hello, PeersOptions::default());
        let links = NodeLinks::new(peers.clone(), LinksOptions::default(), 1, None);
        for group in &groups {
            let mut seen: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
            let begun = caucus_tests::wait::Stopwatch::start();
            loop {
                let mut places = Vec::new();
                for node in servers.nodes() {
                    let Some(hashed) = hash(&links, servers, node, *group).await else {
                        continue;
                    };
                    let place = (hashed.term, hashed.index);
                    let before = seen.entry(place).or_insert_with(|| hashed.hash.to_vec());
                    assert_eq!(
                        *before, hashed.hash,
                        "group {group} at {place:?}, node {node}"
                    );
                    places.push(place);
                }
                let all = places.len() == servers.nodes().count();
                if all && places.iter().all(|place| *place == places[0]) {
                    break;
                }
                assert!(begun.elapsed() < CONVERGE, "group {group} is at {places:?}");
            }
        }
        peers.close().await;
    });
    groups.len()
}

async fn hash(links: &NodeLinks, servers: &Servers, node: u32, group: u32) -> Option<Hashed> {
    let request = Request {
        group,
        epoch: 1,
        deadline_ms: 2000,
        body: Some(Ask::Hash(Hash {})),
        ..Request::default()
    };
    let address = servers.peer_address(node).to_string();
    let pending = links.node(NodeId(node), &address).submit(request).ok()?;
    let reply = tokio::time::timeout(HASH_WAIT, pending).await.ok()?.ok()?;
    match reply.body {
        Some(Said::Hashed(hashed)) => Some(hashed),
        _ => None,
    }
}

/// What etcd calls the hash of all keys is the same from every node, at a revision.
pub(super) fn nodes_agree(servers: &Servers) {
    let ask = |node: u32, revision: u64| {
        let body = json!({"revision": revision.to_string()}).to_string();
        let mut client = servers.client(node);
        wait_for("a hash of all keys", CONVERGE, || {
            let asked = client.request("POST", "/v3/maintenance/hash", &[], body.as_bytes());
            let answer = asked.ok().filter(|answer| answer.status == 200);
            answer.map(|answer| answer.json())
        })
    };
    let first = ask(1, 0);
    let revision = first["header"]["revision"]
        .as_str()
        .and_then(|r| r.parse().ok());
    let revision = revision.expect("a revision");
    let hashes: Vec<Value> = servers
        .nodes()
        .map(|node| ask(node, revision)["hash"].clone())
        .collect();
    assert!(
        hashes
            .iter()
            .all(|hash| hash.is_number() && *hash == hashes[0]),
        "{hashes:?} at {revision}"
    );
}
