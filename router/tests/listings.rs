//! `GET /v1/kv`: listings over several groups.

mod support;

use std::time::Duration;

use caucus_ring::Revision;
use caucus_router::Listing;
use serde_json::Value;
use support::Door;
use support::client::Client;
use tokio::time::Instant;

/// Keys in many directories, so that they lie in all groups; some in one directory.
async fn filled() -> (Door, Client, Vec<String>) {
    let door = Door::open().await;
    let mut client = door.client().await;
    let mut keys: Vec<String> = (0..40).map(|n| format!("/dir{n:02}/sub/key")).collect();
    keys.extend((0..10).map(|n| format!("/one/place/key{n}")));
    keys.push("plain".to_owned());
    for key in &keys {
        assert_eq!(client.put(&format!("/v1/kv/{key}"), key).await.status, 201);
    }
    keys.sort();
    assert_eq!(door.groups.groups_in_use(), support::GROUPS as usize);
    (door, client, keys)
}

fn strings(page: &Value, list: &str, field: &str) -> Vec<String> {
    let items = page[list].as_array().unwrap().iter();
    let text = |item: &Value| {
        if field.is_empty() {
            item.clone()
        } else {
            item[field].clone()
        }
    };
    items
        .map(|item| text(item).as_str().unwrap().to_owned())
        .collect()
}

fn keys_of(page: &Value) -> Vec<String> {
    strings(page, "items", "key")
}

#[tokio::test]
async fn groups_are_merged_in_order() {
    let (_door, mut client, keys) = filled().await;
    let page = client.get("/v1/kv").await;
    assert_eq!(page.header("caucus-revision"), Some("51"));
    let page = page.json();
    assert_eq!(keys_of(&page), keys);
    assert_eq!(page["items"][0]["value"], keys[0]);
    assert_eq!(page["revision"], 51);
    assert!(page.get("cursor").is_none());

    let page = client
        .get("/v1/kv?prefix=/one/place/&keys_only")
        .await
        .json();
    assert_eq!(keys_of(&page).len(), 10);
    assert!(page["items"][0].get("value").is_none());
    let page = client.get("/v1/kv?prefix=/none/").await.json();
    assert!(keys_of(&page).is_empty());
    let page = client.get("/v1/kv?start=/dir05&end=/dir07").await.json();
    assert_eq!(keys_of(&page), ["/dir05/sub/key", "/dir06/sub/key"]);
    let page = client.get("/v1/kv?start=z&end=a").await.json();
    assert!(keys_of(&page).is_empty());
}

#[tokio::test]
async fn cursors_walk_through_all_pages() {
    let (_door, mut client, keys) = filled().await;
    for limit in [1, 7, 50, 51] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/kv?limit={limit}{cursor}");
            let page = client.get(&path).await.json();
            assert!(keys_of(&page).len() <= limit);
            seen.extend(keys_of(&page));
            match page.get("cursor") {
                Some(next) => cursor = format!("&cursor={}", next.as_str().unwrap()),
                None => break,
            }
        }
        assert_eq!(seen, keys, "limit {limit}");
    }
    let answer = client.get("/v1/kv?cursor=xyz").await;
    answer.is_problem(400, "invalid_cursor");
    client
        .get("/v1/kv?limit=0")
        .await
        .is_problem(400, "bad_query_value");
    client
        .get("/v1/kv?raw")
        .await
        .is_problem(400, "unknown_query_parameter");
    let answer = client.send("POST", "/v1/kv", &[], "x").await;
    answer.is_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET"));
}

#[tokio::test]
async fn a_delimiter_folds_over_all_groups() {
    let (_door, mut client, _) = filled().await;
    let page = client.get("/v1/kv?delimiter=/").await.json();
    assert_eq!(strings(&page, "prefixes", ""), ["/"]);
    assert_eq!(keys_of(&page), ["plain"]);

    let mut prefixes = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/kv?prefix=/&delimiter=/&limit=3{cursor}");
        let page = client.get(&path).await.json();
        prefixes.extend(strings(&page, "prefixes", ""));
        match page.get("cursor") {
            Some(next) => cursor = format!("&cursor={}", next.as_str().unwrap()),
            None => break,
        }
    }
    let mut expected: Vec<String> = (0..40).map(|n| format!("/dir{n:02}/")).collect();
    expected.push("/one/".to_owned());
    assert_eq!(prefixes, expected);
}

#[tokio::test]
async fn a_listing_asks_again_where_a_group_stumbles() {
    use caucus_api::Failure;
    let (door, mut client, keys) = filled().await;
    door.groups.fail([
        Some(Failure::NotLeader { leader: None }),
        Some(Failure::Moved { epoch: 1 }),
        Some(Failure::Rules),
    ]);
    let page = client.get("/v1/kv").await.json();
    assert_eq!(keys_of(&page), keys);
}

/// A router that has seen nothing gets no help from what it knows: the groups' own revisions differ,
/// and the one of a group without any write is 0.
#[tokio::test]
async fn a_listings_revision_is_not_below_what_it_shows() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let all = Listing {
        limit: 100,
        ..Listing::default()
    };
    let deadline = || Instant::now() + Duration::from_secs(30);
    let page = door
        .fresh_router()
        .list(&all, Revision(0), deadline())
        .await;
    assert_eq!(page.unwrap().revision, Revision(0), "nothing is there");

    client.put("/v1/kv/plain", "1").await;
    assert_eq!(door.groups.groups_in_use(), 1);
    let router = door.fresh_router();
    let page = router.list(&all, Revision(0), deadline()).await.unwrap();
    assert_eq!((page.items.len(), page.revision), (1, Revision(1)));

    for n in 0..40 {
        client.put(&format!("/v1/kv//dir{n:02}/sub/key"), "x").await;
    }
    assert_eq!(door.groups.groups_in_use(), support::GROUPS as usize);
    let router = door.fresh_router();
    let page = router.list(&all, Revision(0), deadline()).await.unwrap();
    let records = page.items.iter().filter_map(|item| item.record.as_ref());
    let newest = records.map(|record| record.mod_revision).max();
    assert_eq!((page.items.len(), newest), (41, Some(41)));
    assert_eq!(page.revision, Revision(41));

    // And not below what was asked for.
    let page = door
        .fresh_router()
        .list(&all, Revision(60), deadline())
        .await;
    assert_eq!(page.unwrap().revision, Revision(60));
}

/// All keys as lines, whatever the limit of a page is; then a line that says that this was all.
#[tokio::test]
async fn a_stream_has_everything_and_says_so() {
    let (door, mut client, keys) = filled().await;
    let ndjson = ["accept: application/x-ndjson"];
    let all = client.send("GET", "/v1/kv?revision=51", &ndjson, "").await;
    assert_eq!(all.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = text_of(&all)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (end, items) = lines.split_last().unwrap();
    let listed: Vec<&str> = items
        .iter()
        .map(|item| item["key"].as_str().unwrap())
        .collect();
    assert_eq!(listed, keys);
    assert_eq!(
        (&end["end"], &end["items"]),
        (&true.into(), &keys.len().into())
    );
    assert!(end.get("cursor").is_none());

    let some = client
        .send("GET", "/v1/kv?revision=51&limit=7&keys_only", &ndjson, "")
        .await;
    let text = text_of(&some);
    let end: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((text.lines().count(), &end["items"]), (8, &7.into()));
    let cursor = end["cursor"].as_str().unwrap();
    let rest = client.get(&format!("/v1/kv?cursor={cursor}")).await.json();
    assert_eq!(keys_of(&rest), keys[7..]);
    drop(door);
}

fn text_of(answer: &support::client::Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}
