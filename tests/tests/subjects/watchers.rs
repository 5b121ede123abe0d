//! Watchers, and what they write down of etcd's messages.

use std::sync::atomic::{AtomicU64, Ordering};

use caucus_history::history::Type;
use caucus_tests::random::Random;
use caucus_tests::wait::pause;
use serde_json::{Value, json};

use crate::clients::{REGISTERS, register};
use crate::gateway::{Watch, decode, number, revision};
use crate::scene::Scene;

/// A watch of all registers, from its beginning at a revision; who resumes one goes on with it.
#[derive(Clone)]
pub(super) struct Told {
    name: String,
    prefix: String,
    from: u64,
    /// The last revision of which it was told something.
    pub(super) last: u64,
}

impl Told {
    pub(super) fn new(scene: &Scene, prefix: &str, from: u64) -> Told {
        Told {
            name: format!("watch-{}", scene.number()),
            prefix: prefix.to_owned(),
            from,
            last: from.saturating_sub(1),
        }
    }

    /// Opens it, or opens it again behind what it was told; `progress`: asks how far it has got, too.
    pub(super) fn open(&self, address: &str, progress: bool) -> std::io::Result<Watch> {
        let mut requests = vec![Watch::create(&self.prefix, self.last + 1)];
        if progress {
            requests.push(Watch::ask_progress());
        }
        Watch::open(address, &requests)
    }

    /// Writes a message down; the revision to begin at if what it wants is compacted.
    pub(super) fn take(&mut self, scene: &Scene, message: &Value) -> Option<u64> {
        if message["canceled"] == json!(true) {
            return Some(number(&message["compact_revision"]));
        }
        let events: Vec<Value> = message["events"]
            .as_array()
            .into_iter()
            .flatten()
            .map(event)
            .collect();
        // A message with changes doesn't say that there are no others up to its revision; one without does.
        let through = match (events.last(), message["created"] == json!(true)) {
            (Some(last), _) => last[0].as_u64().unwrap_or(0),
            (None, true) => return None,
            (None, false) => revision(message),
        };
        self.last = self.last.max(through);
        let told = json!({
            "watch": self.name, "prefix": self.prefix, "from": self.from,
            "events": events, "through": through,
        });
        scene.say(Type::Ok, &self.name, "watch", told);
        None
    }
}

fn event(event: &Value) -> Value {
    let kv = &event["kv"];
    let value = match event["type"].as_str() {
        Some("DELETE") => Value::Null,
        _ => register(kv),
    };
    json!([number(&kv["mod_revision"]), decode(&kv["key"]), value])
}

/// How a watcher behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// It asks for progress each time that it opens a watch.
    pub(super) progress: bool,
    /// It reads so many messages at most before it comes back, perhaps elsewhere; 0: as many as there are.
    pub(super) messages: u64,
}

/// Watches all registers until it was told of the revision that `until` says in the end. If what it wants is
/// compacted it begins anew at the first revision that isn't, as etcd's clients do.
pub(super) fn watch(
    scene: &Scene,
    addresses: &[String],
    seed: u64,
    manner: Manner,
    until: &AtomicU64,
) {
    let mut random = Random::nth(seed, 77);
    let mut told = Told::new(scene, REGISTERS, 1);
    let mut at = random.below(addresses.len() as u64) as usize;
    let is_done = |told: &Told| {
        let until = until.load(Ordering::Acquire);
        until > 0 && told.last >= until
    };
    while !is_done(&told) {
        at += 1;
        let Ok(mut watch) = told.open(&addresses[at % addresses.len()], manner.progress) else {
            pause();
            continue;
        };
        let mut left = match manner.messages {
            0 => u64::MAX,
            most => 2 + random.below(most),
        };
        while left > 0 && !is_done(&told) {
            let Ok(Some(message)) = watch.message() else {
                break;
            };
            if let Some(first) = told.take(scene, &message) {
                told = Told::new(scene, REGISTERS, first);
                break;
            }
            left -= 1;
        }
    }
}
