//! What operators look at: the cluster, and where a key lives.

use std::time::Duration;

use axum::extract::State;
use caucus_api::placement::Reported;
use caucus_ring::{ClusterMap, Group, NodeId, hash};
use http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::front::Cold;
use super::key;
use super::params::Params;
use super::problem::{Code, Problem};
use super::reply::{self, Answer};
use crate::Router;

/// How long the answer waits for what the placement leader knows beyond the map.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);

/// `GET /v1/cluster`.
pub(super) async fn cluster(State(cold): State<Cold>, uri: Uri) -> Answer {
    match describe_cluster(&cold.router, &uri).await {
        Ok(body) => reply::json(StatusCode::OK, body.to_string().into_bytes()),
        Err(problem) => problem.into_response(),
    }
}

/// `GET /v1/ring?key=`.
pub(super) async fn ring(State(cold): State<Cold>, uri: Uri) -> Answer {
    match describe_key(&cold.router, &uri) {
        Ok(body) => reply::json(StatusCode::OK, body.to_string().into_bytes()),
        Err(problem) => problem.into_response(),
    }
}

async fn describe_cluster(router: &Router, uri: &Uri) -> Result<Value, Problem> {
    Params::parse(uri.query(), &[])?;
    let map = router.map().ok_or_else(no_map)?;
    let reported = router
        .placement_report(Instant::now() + REPORT_TIMEOUT)
        .await;
    Ok(json!({
        "cluster_id": map.cluster_id().to_string(),
        "epoch": map.epoch().0,
        "vnodes": map.ring().vnodes(),
        "nodes": nodes(&map, reported.as_ref()),
        "placement": { "replicas": replicas(&map, map.placement()) },
        "groups": groups(router, &map, reported.as_ref()),
    }))
}

fn groups(router: &Router, map: &ClusterMap, reported: Option<&Reported>) -> Vec<Value> {
    let shares = shares(map);
    let groups = map.groups().iter();
    groups
        .map(|group| {
            let (vnodes, arc) = shares.get(&group.id).copied().unwrap_or((0, 0.0));
            json!({
                "group": group.id.0,
                "state": group.state,
                "leader": leader(router, group, reported).map(|node| node.0),
                "vnodes": vnodes,
                "arc_share": arc,
                "replicas": replicas(map, group),
            })
        })
        .collect()
}

/// As the leader itself reported. What a router knows is from its last request of that group, which may
/// be long ago.
fn leader(router: &Router, group: &Group, reported: Option<&Reported>) -> Option<NodeId> {
    let reports = reported.map_or(&[][..], |reported| &reported.leads);
    let leads = reports.iter().find(|leads| leads.group == group.id.0);
    let replica = leads.and_then(|leads| {
        let mut replicas = group.replicas.iter();
        replicas.find(|replica| replica.id.0 == leads.replica)
    });
    match replica {
        Some(replica) => Some(replica.node),
        None => router.leader(group.id),
    }
}

fn nodes(map: &ClusterMap, reported: Option<&Reported>) -> Vec<Value> {
    let nodes = map.nodes().iter();
    nodes
        .map(|node| {
            let suspect = reported.map(|reported| reported.suspects.contains(&node.id.0));
            let state = match suspect {
                Some(true) => "suspect",
                Some(false) => "up",
                None => "unknown",
            };
            json!({
                "node": node.id.0,
                "state": state,
                "suspect": suspect,
                "peer_address": node.peer_address,
                "client_address": node.client_address,
                "zone": node.zone,
                "roles": node.roles,
            })
        })
        .collect()
}

/// How many vnodes each group has, and what part of the circle they are.
fn shares(map: &ClusterMap) -> std::collections::HashMap<caucus_ring::GroupId, (u32, f64)> {
    let mut shares = std::collections::HashMap::new();
    for vnode in map.ring().iter() {
        let share: &mut (u32, f64) = shares.entry(map.owner(vnode)).or_default();
        share.0 += 1;
        share.1 += map.ring().arc(vnode).unwrap_or(0) as f64 / 2f64.powi(64);
    }
    shares
}

fn replicas(map: &ClusterMap, group: &Group) -> Vec<Value> {
    let replicas = group.replicas.iter();
    replicas
        .map(|replica| {
            let node = map.node(replica.node);
            json!({
                "replica": replica.id.0,
                "node": replica.node.0,
                "role": replica.role,
                "peer_address": node.map(|node| &node.peer_address),
                "client_address": node.map(|node| &node.client_address),
            })
        })
        .collect()
}

fn describe_key(router: &Router, uri: &Uri) -> Result<Value, Problem> {
    let params = Params::parse(uri.query(), &["key", "key64"])?;
    let key = match (params.get("key"), params.get("key64")) {
        (Some(key), None) => key::checked(bytes::Bytes::copy_from_slice(key))?,
        (None, Some(encoded)) => key::from_base64(encoded)?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::new(
                Code::KeyEmpty,
                "give one of `key` and `key64`",
            ));
        }
    };
    let map = router.map().ok_or_else(no_map)?;
    let routing_key = map.routing_key(&key);
    let (vnode, group) = map.locate(&key);
    let leader = router.leader(group);
    let address = |node: NodeId| map.node(node).map(|node| node.client_address.clone());
    Ok(json!({
        "key": String::from_utf8_lossy(&key),
        "routing_key": String::from_utf8_lossy(routing_key.as_bytes()),
        "position": format!("{:016x}", hash::position(routing_key.as_bytes())),
        "vnode": vnode.0,
        "group": group.0,
        "leader": leader.map(|node| json!({ "node": node.0, "client_address": address(node) })),
        "replicas": map.group(group).map(|group| replicas(&map, group)),
        "epoch": map.epoch().0,
    }))
}

fn no_map() -> Problem {
    Problem::new(Code::Unavailable, "there is no cluster map yet")
}
