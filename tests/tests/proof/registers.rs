//! Clients that write, read and compare registers and lists of many groups.

use caucus_tests::random::Random;
use serde_json::{Value, json};

use crate::client::Client;
use crate::scene::Scene;

/// In as many groups as that makes.
const DIRECTORIES: u64 = 6;
/// Registers, and lists, of a directory.
const KEYS: u64 = 2;
/// After so many values there are other keys: lists don't get long, and what a key has been through fits a search.
const ERA: u64 = 4000;

pub(super) fn play(scene: &Scene, number: u64) {
    let mut client = Client::new(scene, number as usize);
    let mut random = Random::nth(scene.seed, number);
    while !scene.is_over() {
        act(scene, &mut client, &mut random);
    }
}

fn key(kind: char, value: u64, random: &mut Random) -> String {
    let (directory, key) = (random.below(DIRECTORIES), random.below(KEYS));
    format!("/p/{directory}/{kind}{key}-{}", value / ERA)
}

/// Two different keys.
fn two(mut draw: impl FnMut() -> String) -> [String; 2] {
    let first = draw();
    loop {
        let second = draw();
        if second != first {
            return [first, second];
        }
    }
}

fn act(scene: &Scene, client: &mut Client<'_>, random: &mut Random) {
    let number = scene.value();
    let value = Value::from(number);
    let register = |random: &mut Random| key('r', number, random);
    let list = |random: &mut Random| key('l', number, random);
    let steps = match random.below(12) {
        0..=2 => vec![json!(["w", register(random), value])],
        3 => vec![json!(["r", register(random), null])],
        4 | 5 => {
            let key = register(random);
            let expected = client.seen(&key);
            client.run(
                vec![(key.clone(), expected)],
                vec![json!(["w", key, value])],
            );
            return;
        }
        6 | 7 => {
            let [one, other] = two(|| register(random));
            vec![
                json!(["r", register(random), null]),
                json!(["w", one, value]),
                json!(["w", other, value]),
            ]
        }
        8 => {
            let [one, other] = two(|| list(random));
            vec![
                json!(["append", one, value]),
                json!(["append", other, value]),
                json!(["r", list(random), null]),
            ]
        }
        9 => {
            let [one, other] = two(|| register(random));
            vec![json!(["r", one, null]), json!(["r", other, null])]
        }
        10 => {
            let [one, other] = two(|| list(random));
            vec![json!(["r", one, null]), json!(["r", other, null])]
        }
        _ => vec![json!(["d", register(random)])],
    };
    client.run(Vec::new(), steps);
}
