//! What operators and machines look at.

mod support;

use caucus_api::Failure;
use support::Door;

#[tokio::test]
async fn the_cluster_is_described() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.put("/v1/kv//a/b/c", "v").await;
    let cluster = client.get("/v1/cluster").await.json();
    assert_eq!(cluster["cluster_id"], "07".repeat(16));
    assert_eq!(cluster["epoch"], 1);
    assert_eq!(cluster["nodes"][0]["node"], 1);
    assert_eq!(cluster["nodes"][0]["state"], "unknown");
    let groups = cluster["groups"].as_array().unwrap();
    assert_eq!(groups.len(), support::GROUPS as usize);
    let share: f64 = groups
        .iter()
        .map(|g| g["arc_share"].as_f64().unwrap())
        .sum();
    assert!((share - 1.0).abs() < 1e-9);
    let vnodes: u64 = groups.iter().map(|g| g["vnodes"].as_u64().unwrap()).sum();
    assert_eq!(vnodes, 64);

    let ring = client.get("/v1/ring?key=/a/b/c").await.json();
    assert_eq!(ring["routing_key"], "/a/b/");
    assert_eq!(ring["leader"]["node"], 1);
    assert_eq!(ring["replicas"][0]["node"], 1);
    assert_eq!(ring["position"].as_str().unwrap().len(), 16);
    client.get("/v1/ring").await.is_problem(400, "key_empty");
    client
        .get("/v1/ring?x=1")
        .await
        .is_problem(400, "unknown_query_parameter");
}

#[tokio::test]
async fn probes() {
    let door = Door::open().await;
    let mut client = door.client().await;
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(&client.get("/metrics").await.body[..], b"caucus_test 1\n");
    door.groups.fail([Some(Failure::NoSpace)]);
    let ready = client.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["groups"].as_array().unwrap().len(), 1);
    let ready = client.get("/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), ready.json()["ready"].clone()),
        (200, true.into())
    );
}

#[tokio::test]
async fn other_routes_and_methods() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for path in ["/", "/v1", "/v1/kvx", "/v2/kv/k", "/v1/batch/"] {
        let answer = client.send("POST", path, &[], "a body").await;
        answer.is_problem(404, "not_found");
    }
    let answer = client.send("POST", "/healthz", &[], "a body").await;
    answer.is_problem(405, "method_not_allowed");
    assert!(answer.header("allow").unwrap().contains("GET"));
    let answer = client.get("/v1/kv/k?consistency=global&timeout=0.05").await;
    answer.is_problem(503, "unavailable");
    client
        .get("/v1/kv/k?consistency=x")
        .await
        .is_problem(400, "bad_query_value");
}
