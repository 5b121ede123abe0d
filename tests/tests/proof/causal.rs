//! Causal pairs: the cause is acknowledged before the effect is written, in another group.

use std::sync::atomic::{AtomicU64, Ordering};

use caucus_tests::random::Random;
use caucus_tests::wait::pause;
use serde_json::{Value, json};

use crate::client::Client;
use crate::scene::Scene;

fn cause(pair: u64) -> String {
    format!("/p/cause{pair}/r")
}

fn effect(pair: u64) -> String {
    format!("/p/effect{pair}/r")
}

/// Which pair is in use. A write of unknown outcome may come later, over a newer one: after it there is another pair.
pub(super) fn write(scene: &Scene, pair: &AtomicU64) {
    let mut client = Client::new(scene, 1);
    while !scene.is_over() {
        let (number, value) = (pair.load(Ordering::Acquire), scene.value());
        let write = |client: &mut Client<'_>, key: String| {
            let done = client.run(Vec::new(), vec![json!(["w", key, value])]);
            done.is_some()
        };
        if !write(&mut client, cause(number)) || !write(&mut client, effect(number)) {
            pair.fetch_add(1, Ordering::Release);
        }
        pause();
    }
}

pub(super) fn read(scene: &Scene, pair: &AtomicU64) {
    let mut client = Client::new(scene, 2);
    let mut random = Random::nth(scene.seed, 400);
    while !scene.is_over() {
        let number = pair.load(Ordering::Acquire);
        let (cause, effect) = (cause(number), effect(number));
        let read = |key: &str| -> Value { json!(["r", key, null]) };
        if random.below(2) == 0 {
            client.run(Vec::new(), vec![read(&cause), read(&effect)]);
        } else {
            client.run(Vec::new(), vec![read(&effect)]);
            client.run(Vec::new(), vec![read(&cause)]);
        }
        pause();
    }
}
