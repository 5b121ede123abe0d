//! Lockers: each takes the lock, does a step that is guarded by its token, and gives it back.

use caucus_history::history::Type;
use caucus_tests::http::Client;
use caucus_tests::kv;
use caucus_tests::wait::pause;
use serde_json::{Value, json};

use crate::scene::Scene;

pub(super) const LOCK: &str = "proof";

pub(super) fn play(scene: &Scene, number: u64) {
    let mut nodes = scene.nodes();
    let mut at = number as usize;
    while !scene.is_over() {
        let count = nodes.len();
        if turn(scene, number, &mut nodes[at % count]).is_none() {
            at += 1;
            pause();
        }
    }
}

/// `None`: this node was no use.
fn turn(scene: &Scene, number: u64, node: &mut Client) -> Option<()> {
    // One call at a time, each under a name of its own: an answer that was lost belongs to no later one.
    let by = format!("locker-{number}-{}", scene.process());
    let lock = |token: &Value| json!({"lock": LOCK, "token": token});
    scene.say(Type::Invoke, &by, "lock", lock(&Value::Null));
    let ask = json!({"ttl": 3, "wait": 2, "owner": by});
    let target = format!("/v1/locks/{LOCK}/acquire?timeout=5");
    let sent = node.request("POST", &target, &[], ask.to_string().as_bytes());
    let Some(held) = sent
        .ok()
        .filter(|answer| answer.status == 200)
        .map(|a| a.json())
    else {
        scene.say(Type::Info, &by, "lock", lock(&Value::Null));
        return None;
    };
    let token = &held["token"];
    scene.say(Type::Ok, &by, "lock", lock(token));
    scene.say(Type::Invoke, &by, "guarded", lock(token));
    let step = json!({
        "if": [{"key": held["key"], "create_revision": token}],
        "then": [{"put": {"key": "/guarded/a", "value": token}}],
    });
    let kind = match kv::txn(node, &step) {
        Some((200, answer)) if answer["succeeded"] == json!(true) => Type::Ok,
        Some((200, _)) => Type::Fail,
        _ => Type::Info,
    };
    scene.say(kind, &by, "guarded", lock(token));
    let target = format!("/v1/locks/{LOCK}/release?timeout=5");
    let released = node.request("POST", &target, &[], held.to_string().as_bytes());
    released
        .ok()
        .filter(|answer| answer.status < 500)
        .map(|_| ())
}
