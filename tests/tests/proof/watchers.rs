//! Watchers that come back at another node whenever their stream ends.

use std::sync::atomic::{AtomicU64, Ordering};

use caucus_history::history::Type;
use caucus_tests::wait::pause;
use caucus_tests::watch::watch as open;
use serde_json::{Value, json};

use crate::scene::Scene;

/// Writes down what is told, from the first revision to the one that `until` says at last.
pub(super) fn watch(scene: &Scene, number: usize, prefix: &str, until: &AtomicU64) {
    let name = format!("watcher-{number}");
    let mut last = None;
    let mut at = number;
    let is_done = |last: Option<u64>| {
        let until = until.load(Ordering::Acquire);
        until > 0 && last >= Some(until)
    };
    while !is_done(last) {
        at += 1;
        let address = &scene.addresses[at % scene.addresses.len()];
        let query = format!("prefix={prefix}&from=1&progress=1");
        let Ok(Ok(mut watching)) = open(address, &query, last) else {
            pause();
            continue;
        };
        watching.set_patience(std::time::Duration::from_secs(5));
        while !is_done(last) {
            let Ok(Some(message)) = watching.message() else {
                break;
            };
            let Some(revision) = message["revision"].as_u64() else {
                break;
            };
            let events: Vec<Value> = registers(&message);
            let told = json!({
                "watch": name, "prefix": prefix, "from": 1, "events": events, "through": revision,
            });
            scene.say(Type::Ok, &name, "watch", told);
            last = Some(revision);
        }
    }
}

/// Lists are checked by those who read them.
fn registers(message: &Value) -> Vec<Value> {
    let changes = message["changes"].as_array().into_iter().flatten();
    let changes = changes.filter(|change| {
        let key = change["key"].as_str().unwrap_or_default();
        !key.rsplit('/').next().unwrap_or_default().starts_with('l')
    });
    let event = |change: &Value| {
        let value = match change["type"].as_str() {
            Some("delete") => Value::Null,
            _ => change["value"].clone(),
        };
        json!([message["revision"], change["key"], value])
    };
    changes.map(event).collect()
}
