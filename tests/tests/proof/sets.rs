//! Sets: some add, others list all that there is, over all groups at one revision.

use caucus_history::history::Type;
use caucus_tests::kv::encoded;
use caucus_tests::random::Random;
use caucus_tests::wait::pause;
use serde_json::{Value, json};

use crate::client::{Client, read_value};
use crate::scene::Scene;

/// So many values belong to a set; then there is another one.
const ERA: u64 = 2000;
/// Parts of a set, in as many groups as that makes.
const PARTS: u64 = 5;

fn prefix(era: u64) -> String {
    format!("/p/set{era}.")
}

pub(super) fn add(scene: &Scene, number: u64) {
    let mut client = Client::new(scene, number as usize);
    let mut random = Random::nth(scene.seed, 300 + number);
    while !scene.is_over() {
        let value = scene.value();
        let (set, part) = (prefix(value / ERA), random.below(PARTS));
        let key = format!("{set}{part}/element{value}");
        client.run(Vec::new(), vec![json!(["w", key, value])]);
        // Others do more of interest, and sets get long.
        (0..5).for_each(|_| pause());
    }
}

pub(super) fn look(scene: &Scene, number: u64) {
    let mut nodes = scene.nodes();
    let mut random = Random::nth(scene.seed, 310 + number);
    let mut turn = 0;
    while !scene.is_over() {
        let era = scene.value() / ERA;
        let prefix = prefix(era.saturating_sub(random.below(2)));
        let by = format!("looker-{number}-{turn}");
        turn += 1;
        let begin = json!({"prefix": prefix});
        scene.say(Type::Invoke, &by, "list", begin.clone());
        let node = &mut nodes[random.below(scene.addresses.len() as u64) as usize];
        let target = format!(
            "/v1/kv?limit=10000&consistency=global&timeout=3&prefix={}",
            encoded(&prefix)
        );
        let answer = node.request("GET", &target, &[], b"");
        match answer.ok().filter(|answer| answer.status == 200) {
            Some(answer) => {
                let page = answer.json();
                assert!(page["cursor"].is_null(), "a set fits a page");
                let (items, revision) = (items(&page["items"]), page["revision"].as_u64());
                let all = json!({"prefix": prefix, "items": items});
                scene.say_at(Type::Ok, &by, "list", all, revision);
            }
            None => scene.say(Type::Info, &by, "list", begin),
        }
        (0..10).for_each(|_| pause());
    }
}

/// Keys with their values and revisions.
pub(super) fn items(items: &Value) -> Vec<Value> {
    let items = items.as_array().expect("items").iter();
    items
        .map(|item| json!([item["key"], read_value(item), item["revision"]]))
        .collect()
}
