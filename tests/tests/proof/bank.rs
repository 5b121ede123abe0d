//! A bank: accounts in many groups, transfers between any two of them, and people who look at all.

use caucus_history::bank::{balance, value};
use caucus_history::history::Type;
use caucus_tests::random::Random;
use caucus_tests::wait::wait_until;
use serde_json::{Value, json};

use crate::LIMIT;
use crate::client::Client;
use crate::scene::Scene;

const ACCOUNTS: u64 = 8;
const AT_FIRST: u64 = 100;

fn account(number: u64) -> String {
    format!("/p/bank{number}/account")
}

fn accounts() -> impl Iterator<Item = String> {
    (0..ACCOUNTS).map(account)
}

/// Gives each account its money.
pub(super) fn open(scene: &Scene) {
    let names: Vec<String> = accounts().collect();
    let total = ACCOUNTS * AT_FIRST;
    let bank = json!({"accounts": names, "total": total});
    scene.say(Type::Info, "harness", "bank", bank);
    let mut client = Client::new(scene, 0);
    let unique = scene.value();
    wait_until("the bank to open", LIMIT, || {
        let write = |name| json!(["w", name, value(unique, AT_FIRST)]);
        client
            .run(Vec::new(), accounts().map(write).collect())
            .is_some()
    });
}

pub(super) fn play(scene: &Scene, number: u64) {
    let mut client = Client::new(scene, number as usize);
    let mut random = Random::nth(scene.seed, 200 + number);
    while !scene.is_over() {
        if random.below(3) == 0 {
            client.run(Vec::new(), accounts().map(read).collect());
        } else {
            transfer(scene, &mut client, &mut random);
        }
    }
}

fn read(name: String) -> Value {
    json!(["r", name, null])
}

/// Looks at two accounts, and writes them if they are still as they were.
fn transfer(scene: &Scene, client: &mut Client<'_>, random: &mut Random) {
    let from = random.below(ACCOUNTS);
    let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
    let (from, to) = (account(from), account(to));
    let steps = vec![read(from.clone()), read(to.clone())];
    let Some(done) = client.run(Vec::new(), steps) else {
        return;
    };
    let (Some(has), Some(gets)) = (balance(&done.read[0]), balance(&done.read[1])) else {
        return;
    };
    let amount = random.below(has + 1);
    let unique = scene.value();
    let compares = vec![
        (from.clone(), done.read[0].clone()),
        (to.clone(), done.read[1].clone()),
    ];
    let steps = vec![
        json!(["w", from, value(unique, has - amount)]),
        json!(["w", to, value(unique, gets + amount)]),
    ];
    client.run(compares, steps);
}
