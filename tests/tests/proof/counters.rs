//! Counters: what was added is counted once, however often it was sent.

use caucus_history::history::Type;
use caucus_tests::random::Random;
use caucus_tests::wait::pause;
use serde_json::json;

use crate::client::{Client, Ended};
use crate::scene::Scene;

const COUNTERS: u64 = 4;

pub(super) fn play(scene: &Scene, number: u64) {
    let mut client = Client::new(scene, number as usize);
    let mut random = Random::nth(scene.seed, 500 + number);
    while !scene.is_over() {
        let turn = scene.process();
        let by = format!("counter-{number}-{turn}");
        let counter = format!("/count{}/c", random.below(COUNTERS));
        let (begin, step) = match random.below(4) {
            0 => (
                json!({"counter": counter}),
                json!({"get": {"key": counter}}),
            ),
            _ => (
                json!({"counter": counter, "add": 1}),
                json!({"increment": {"key": counter, "by": 1}}),
            ),
        };
        scene.say(Type::Invoke, &by, "counter", begin.clone());
        // Some have no name, and so an outcome that nobody knows when an answer is lost.
        let adds = begin["add"] == 1;
        let name = (adds && !turn.is_multiple_of(4)).then_some(&by[..]);
        match client.ask(&json!({"then": [step]}), name) {
            Ended::Answer(answer) => {
                let result = &answer["results"][0];
                let is = match adds {
                    true => result["changed"]["value"].clone(),
                    false => result["get"]["items"][0]["value"].clone(),
                };
                let mut end = begin;
                end["is"] = is.as_u64().unwrap_or(0).into();
                let revision = answer["revision"].as_u64();
                scene.say_at(Type::Ok, &by, "counter", end, revision);
            }
            Ended::NotApplied(_) => scene.say(Type::Fail, &by, "counter", begin),
            Ended::Unknown(_) => scene.say(Type::Info, &by, "counter", begin),
        }
        pause();
    }
}
