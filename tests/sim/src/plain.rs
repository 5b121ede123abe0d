//! Plain requests, as most are: reads of single keys, which are linearizable key by key, writes of single keys, and
//! listings of all keys at one revision.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::outcome::Kind;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Delete, Write};
use caucus_history::history::{Line, Process, Type};
use caucus_history::record::line;
use caucus_ring::Revision;
use caucus_router::{Listing, Outcome, Router};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::clients::{read_value, register, shown};
use crate::scene::{Scene, all, deadline, put};

const PREFIX: &str = "/p/";
/// More than there are keys.
const LIMIT: usize = 10_000;

pub(crate) async fn play(scene: Arc<Scene>, router: Router, number: u64) {
    let seed = scene.plan.seed.rotate_left(41) ^ number;
    let mut random = fastrand::Rng::with_seed(seed);
    while !scene.is_over() {
        match random.u8(0..8) {
            0 => list(&scene, &router).await,
            1 => {
                let key = register(&scene.plan, &mut random);
                write(&scene, &router, &key, random.u8(0..4) == 0).await;
            }
            _ => get(&scene, &router, &register(&scene.plan, &mut random)).await,
        }
        let pause = random.u64(0..scene.plan.think_max);
        sleep(Duration::from_millis(pause)).await;
    }
}

/// Its revision says how far its group was, which is nothing to other groups: it isn't written down.
async fn get(scene: &Scene, router: &Router, key: &str) {
    let by = Process::Client(scene.process());
    let step = |value| json!([["r", key, value]]);
    let begin = line(Type::Invoke, by, "txn", step(Value::Null));
    scene.write(begin.clone());
    let bytes = Bytes::copy_from_slice(key.as_bytes());
    let read = router.get(bytes, false, Revision(0), deadline()).await;
    scene.write(match read {
        Ok(read) => {
            let record = read.record.as_ref();
            Line {
                kind: Type::Ok,
                value: step(read_value(key, record)),
                held: Some(true),
                mods: vec![record.map_or(0, |record| record.mod_revision)],
                ..begin
            }
        }
        Err(error) => Line {
            kind: Type::Fail,
            error: Some(error.to_string()),
            ..begin
        },
    });
}

async fn write(scene: &Scene, router: &Router, key: &str, removes: bool) {
    let by = Process::Client(scene.process());
    let value = scene.value();
    let (step, action) = match removes {
        true => (json!(["d", key]), Action::Delete(Delete {})),
        false => {
            let put = put(&value.to_string()).expect("some");
            (json!(["w", key, value]), Action::Put(put))
        }
    };
    let begin = line(Type::Invoke, by, "txn", json!([step]));
    scene.write(begin.clone());
    let write = Write {
        key: Bytes::copy_from_slice(key.as_bytes()),
        action: Some(action),
        ..Write::default()
    };
    let (kind, rev, error) = match router.write(write, deadline()).await {
        // What isn't there can't be removed.
        Ok(written) if written.outcome.kind() == Kind::Absent => (Type::Fail, None, None),
        Ok(written) => (Type::Ok, Some(written.outcome.revision), None),
        Err(error) if error.outcome == Outcome::NotApplied => {
            (Type::Fail, None, Some(error.to_string()))
        }
        Err(error) => (Type::Info, None, Some(error.to_string())),
    };
    let held = (kind == Type::Ok).then_some(true);
    scene.write(Line {
        kind,
        rev,
        error,
        held,
        mods: held.map(|_| 0).into_iter().collect(),
        ..begin
    });
}

/// At the revision that was granted last when it begins.
async fn list(scene: &Scene, router: &Router) {
    let by = format!("lister-{}", scene.process());
    let begin = json!({"prefix": PREFIX});
    scene.say(Type::Invoke, &by, "list", begin.clone());
    let Ok((items, revision)) = listed(router).await else {
        scene.say(Type::Info, &by, "list", begin);
        return;
    };
    let value = json!({"prefix": PREFIX, "items": items});
    scene.write(Line {
        rev: Some(revision),
        ..line(Type::Ok, Process::Other(by), "list", value)
    });
}

async fn listed(router: &Router) -> Result<(Vec<Value>, u64), caucus_router::Error> {
    let deadline = deadline();
    let revision = router.granted(deadline).await?;
    let span = all(PREFIX).expect("a span");
    let listing = Listing {
        start: span.start,
        end: span.end,
        limit: LIMIT,
        revision: Some(revision),
        ..Listing::default()
    };
    let page = router.list(&listing, Revision(0), deadline).await?;
    assert!(page.next.is_none(), "they fit a page");
    Ok((page.items.iter().map(shown).collect(), revision.0))
}
