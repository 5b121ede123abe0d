//! Takers: who creates a key has it, until he removes it or somebody takes it from him. Its revision is the token of the
//! step that is guarded. Unlike with a lock of the product, it is the same key each time.

use std::sync::Arc;
use std::time::Duration;

use caucus_api::shard::compare::Target;
use caucus_api::shard::operation::Operation as Op;
use caucus_api::shard::{Operation, Place, Remove};
use caucus_history::history::Type;
use caucus_router::Router;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::scene::{Scene, apply_if, deadline, does, one, only, put};

const KEY: &str = "/taken/a";
const GUARDED: &str = "/taken/guarded";
/// In ms.
const SLOW_MAX: u64 = 5_000;

pub(crate) async fn play(scene: Arc<Scene>, router: Router, number: u64) {
    let seed = scene.plan.seed.rotate_left(53) ^ number;
    let mut random = fastrand::Rng::with_seed(seed);
    while !scene.is_over() {
        turn(&scene, &router, &mut random).await;
        let pause = random.u64(0..scene.plan.think_max);
        sleep(Duration::from_millis(pause)).await;
    }
}

async fn turn(scene: &Scene, router: &Router, random: &mut fastrand::Rng) {
    let by = format!("taker-{}", scene.process());
    let say = |kind, f: &str, token: &Value| {
        scene.say(kind, &by, f, json!({"lock": KEY, "token": token}));
    };
    say(Type::Invoke, "lock", &Value::Null);
    let (kind, revision) = apply_if(router, (KEY, Target::Version(0)), place(KEY, &by)).await;
    let token = match kind {
        Type::Ok => Value::from(revision),
        _ => Value::Null,
    };
    say(kind, "lock", &token);
    if kind != Type::Ok {
        if random.u8(0..3) == 0 {
            // Whoever has it is too slow. Whether that works makes no difference.
            drop(router.txn(only(vec![remove()]), deadline()).await);
        }
        return;
    }
    if random.bool() {
        sleep(Duration::from_millis(random.u64(0..SLOW_MAX))).await;
    }
    let has_it = || (KEY, Target::CreateRevision(revision as i64));
    say(Type::Invoke, "guarded", &token);
    let (kind, _) = apply_if(router, has_it(), place(GUARDED, &by)).await;
    say(kind, "guarded", &token);
    apply_if(router, has_it(), remove()).await;
}

fn place(key: &'static str, value: &str) -> Operation {
    does(Op::Place(Place {
        key: key.into(),
        put: put(value),
        ..Place::default()
    }))
}

fn remove() -> Operation {
    does(Op::Remove(Remove {
        span: one(KEY),
        ..Remove::default()
    }))
}
