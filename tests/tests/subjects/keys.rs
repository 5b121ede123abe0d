//! etcd under load and faults: its keys pass all checks, its watches don't.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use caucus_history::history::Type;
use caucus_tests::random::Random;
use caucus_tests::wait::{Stopwatch, pause, wait_for, wait_until};
use serde_json::{Value, json};

use crate::clients::{Client, play, read_last};
use crate::gateway::{Gateway, revision};
use crate::members::{COUNT, Members};
use crate::scene::{Scene, judge, refused_by, turn};
use crate::watchers::{Manner, watch};

const LIMIT: Duration = Duration::from_secs(120);
const CLIENTS: u64 = 6;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Pause,
}

/// What one who takes part does.
type Work = Box<dyn FnOnce(&Scene, &[String]) + Send>;

/// What is done to etcd, and how it is used.
struct Run {
    seed: u64,
    watchers: Manner,
    compacts: bool,
}

impl Run {
    /// Runs it, with all faults again and again until it has taken so long.
    fn play(&self, members: &mut Members, least: Duration) -> Arc<Scene> {
        let scene = Arc::new(Scene::new());
        let _ends = Arc::clone(&scene);
        let ends = scene.ends();
        let header = json!({
            "seed": self.seed, "nemesis": ["kill", "pause"],
            "least": {"all": 500, "during": 1, "after": 50},
        });
        scene.say(Type::Info, "harness", "header", header);
        let addresses = members.addresses();
        let until = Arc::new(AtomicU64::new(0));
        let spawn = |work: Work| {
            let (scene, addresses) = (Arc::clone(&scene), addresses.clone());
            std::thread::spawn(move || work(&scene, &addresses))
        };
        let (seed, manner) = (self.seed, self.watchers);
        let mut actors: Vec<JoinHandle<()>> = Vec::new();
        for client in 0..CLIENTS {
            actors.push(spawn(Box::new(move |scene, to| {
                play(scene, to, seed, client)
            })));
        }
        if self.compacts {
            actors.push(spawn(Box::new(compact)));
        }
        let watchers: Vec<JoinHandle<()>> = (0..3)
            .map(|n| {
                let until = Arc::clone(&until);
                spawn(Box::new(move |scene, to| {
                    watch(scene, to, seed + n, manner, &until);
                }))
            })
            .collect();
        let clock = Stopwatch::start();
        let mut random = Random::nth(seed, 1000);
        for fault in [Fault::Kill, Fault::Pause].into_iter().cycle() {
            self.harm(&scene, members, fault, random.below(COUNT as u64) as usize);
            if clock.elapsed() > least && matches!(fault, Fault::Pause) {
                break;
            }
        }
        drop(ends);
        actors.into_iter().for_each(join);
        let mut closing = Client::new(&scene, &addresses, 0);
        let last = wait_for("a last write", LIMIT, || {
            closing.write("/r/0", Value::from(scene.number()))
        });
        until.store(last, Ordering::Release);
        watchers.into_iter().for_each(join);
        read_last(&scene, &mut Gateway::new(&addresses[0]));
        scene
    }

    fn harm(&self, scene: &Scene, members: &mut Members, fault: Fault, member: usize) {
        let go_on = |what: &str, more: u64| {
            let goal = scene.answered() + more;
            wait_until(what, LIMIT, || scene.answered() >= goal);
        };
        let name = match fault {
            Fault::Kill => "kill",
            Fault::Pause => "pause",
        };
        let say = |step: &str| {
            let value = json!({"step": step, "member": member});
            scene.say(Type::Info, "nemesis", name, value);
        };
        go_on("work before a fault", 200);
        say("begin");
        match fault {
            Fault::Kill => members.kill(member),
            Fault::Pause => members.pause(member),
        }
        go_on("work without a member", 200);
        match fault {
            Fault::Kill => members.revive(member),
            Fault::Pause => members.go_on(member),
        }
        say("end");
        go_on("work after a fault", 200);
    }
}

#[track_caller]
fn join(actor: JoinHandle<()>) {
    if let Err(panic) = actor.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Forgets all that isn't the present, several times a second.
fn compact(scene: &Scene, addresses: &[String]) {
    let mut members: Vec<Gateway> = addresses.iter().map(|to| Gateway::hasty(to)).collect();
    let mut at = 0;
    while !scene.is_over() {
        let clock = Stopwatch::start();
        at = (at + 1) % members.len();
        if let Ok(now) = members[at].call("kv/range", &json!({"key": "YQ=="})) {
            let body = json!({"revision": revision(&now).to_string(), "physical": true});
            // It may be refused: another has been faster.
            let _ = members[at].call("kv/compaction", &body);
        }
        while clock.elapsed() < Duration::from_millis(200) && !scene.is_over() {
            pause();
        }
    }
}

/// How long the faults go on; `SUBJECTS_SECONDS` can say that they go on for longer.
fn least() -> Duration {
    let told = std::env::var("SUBJECTS_SECONDS").ok();
    let told = told.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(told.unwrap_or(5))
}

#[test]
fn keys_of_etcd_pass_all_checks() {
    let _turn = turn();
    let Some(mut members) = Members::start(&[]) else {
        return;
    };
    let run = Run {
        seed: 1,
        watchers: Manner {
            progress: false,
            messages: 0,
        },
        compacts: false,
    };
    let scene = run.play(&mut members, least());
    assert_eq!(judge("etcd keys", &scene.recorder.history()), []);
}

#[test]
fn watches_of_etcd_fail_the_checks() {
    let _turn = turn();
    let Some(mut members) = Members::start(&[]) else {
        return;
    };
    let run = Run {
        seed: 2,
        watchers: Manner {
            progress: true,
            messages: 40,
        },
        compacts: true,
    };
    let scene = run.play(&mut members, least());
    let found = judge("etcd watches", &scene.recorder.history());
    assert_eq!(refused_by(&found), ["watched"], "and nobody else says no");
}
