//! Lockers: each takes the lock, does a step that is guarded by its token, and gives it back.

use std::sync::Arc;
use std::time::Duration;

use caucus_api::shard::Place;
use caucus_api::shard::compare::Target;
use caucus_api::shard::operation::Operation as Op;
use caucus_history::history::Type;
use caucus_router::Router;
use caucus_router::recipes::locks::{self, Ask, Kind};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::scene::{Scene, apply_if, deadline, does, put};

const LOCK: &str = "proof";
/// In seconds.
const TTL: u64 = 3;

pub(crate) async fn play(scene: Arc<Scene>, router: Router, number: u64) {
    let seed = scene.plan.seed.rotate_left(17) ^ number;
    let mut random = fastrand::Rng::with_seed(seed);
    while !scene.is_over() {
        turn(&scene, &router, number, &mut random).await;
        let pause = random.u64(0..2 * scene.plan.think_max);
        sleep(Duration::from_millis(pause)).await;
    }
}

async fn turn(scene: &Scene, router: &Router, number: u64, random: &mut fastrand::Rng) {
    // One call at a time, each under a name of its own: an answer that was lost belongs to no later one.
    let by = format!("locker-{number}-{}", scene.process());
    let lock = |token: &Value| json!({"lock": LOCK, "token": token});
    scene.say(Type::Invoke, &by, "lock", lock(&Value::Null));
    let ask = Ask {
        kind: Kind::Mutex,
        ttl_s: TTL,
        delay_s: 0,
        wait: Duration::from_secs(2),
        owner: by.clone(),
        lease: None,
    };
    let Ok(held) = locks::acquire(router, LOCK, &ask, None, deadline()).await else {
        scene.say(Type::Info, &by, "lock", lock(&Value::Null));
        return;
    };
    let token = Value::from(held.token);
    scene.say(Type::Ok, &by, "lock", lock(&token));
    if random.u8(0..4) == 0 {
        // It thinks for longer than it holds the lock.
        sleep(Duration::from_millis(random.u64(0..3 * TTL * 1000))).await;
    }
    scene.say(Type::Invoke, &by, "guarded", lock(&token));
    let key = std::str::from_utf8(&held.key).expect("locks have plain names");
    let has_it = (key, Target::CreateRevision(held.token as i64));
    let step = does(Op::Place(Place {
        key: "/guarded/a".into(),
        put: put(&held.token.to_string()),
        ..Place::default()
    }));
    let (kind, _) = apply_if(router, has_it, step).await;
    scene.say(kind, &by, "guarded", lock(&token));
    // Whether it could be given back makes no difference: its lease ends.
    let released = locks::release(router, LOCK, &held.key, held.token, None, deadline());
    drop(released.await);
}
