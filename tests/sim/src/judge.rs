//! The end of a run: all is healed, it must come to rest and serve, and all that was told must be true.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use caucus_api::shard::RangeRead;
use caucus_api::shard::answer::Answer;
use caucus_api::shard::operation::Operation as Op;
use caucus_engine::keys::{self, state_kind};
use caucus_engine::{Direction, Space};
use caucus_history::history::{Process, Type};
use caucus_history::record::line;
use caucus_router::Router;
use serde_json::Value;
use tokio::time::sleep;

use crate::clients::{Client, shown};
use crate::host::Alive;
use crate::scene::{Scene, all, deadline, does, only};
use crate::world::World;

/// Records of a state, without the id of their storage.
type Content = BTreeMap<Bytes, Bytes>;

/// Clients go on so long after all is healed, in ms.
const AFTER: u64 = 15_000;
/// All must have come to rest within this, in ms.
const LIMIT: u64 = 120_000;
/// Looks at that, in ms.
const LOOK_EVERY: u64 = 1_000;

/// Ends a run whose faults are over.
pub(crate) fn end(world: &mut World) {
    let end = world.now + AFTER;
    world.wait(AFTER + 1, |world| world.now >= end);
    world.scene.end();
    let front = world.fronts().start;
    let alive = |world: &World| world.hosts[front].alive();
    if !world.wait(LIMIT, |world| alive(world).is_some()) {
        return world.fail("a router doesn't find its cluster again");
    }
    let router = alive(world).expect("it has just been there").router;
    let scene = world.scene.clone();
    world.hosts[front].spawn(close(scene, router));
    let is_closed = |world: &World| world.scene.until.load(Ordering::Relaxed) > 0;
    if !world.wait(LIMIT, is_closed) {
        let standing = standing(world);
        return world.fail(format!(
            "the cluster doesn't serve again after all is healed: {standing}"
        ));
    }
    let watches = world.watches;
    let arrived = |world: &World| world.scene.arrived.load(Ordering::Relaxed) >= watches;
    if !world.wait(LIMIT, arrived) {
        world.fail("a watch doesn't get to the last revision");
    }
    let end = world.now + LIMIT;
    while let Some(why) = differences(world) {
        if world.now >= end {
            return world.fail(format!("replicas don't become equal: {why}"));
        }
        world.wait(LOOK_EVERY, |_| false);
    }
}

/// What each replica says of itself.
fn standing(world: &mut World) -> String {
    let said = Arc::new(Mutex::new(Vec::new()));
    for host in world.nodes() {
        let Some(alive) = world.hosts[host].alive() else {
            let mut said = said.lock().expect("no panic under this lock");
            said.push(format!("host {host}: doesn't serve"));
            continue;
        };
        for (group, replica) in alive.replicas.stored() {
            let Some(running) = alive.replicas.group(group, replica) else {
                continue;
            };
            let said = said.clone();
            world.hosts[host].spawn(async move {
                let (leads, progress) = (running.leadership(), running.progress());
                let confirmed = running.confirm().await;
                let mut said = said.lock().expect("no panic under this lock");
                said.push(format!(
                    "host {host}: group {group}: {leads:?} {progress:?} {confirmed:?}"
                ));
            });
        }
    }
    world.wait(10 * LOOK_EVERY, |_| false);
    let said = said.lock().expect("no panic under this lock");
    said.join("; ")
}

/// A last write, which the watchers wait for, and all that there is in the end.
async fn close(scene: Arc<Scene>, router: Router) {
    let mut client = Client::new(&scene, &router);
    let last = loop {
        if let Some(revision) = client.write_last().await {
            break revision;
        }
        sleep(Duration::from_millis(200)).await;
    };
    let read = only(vec![does(Op::Range(RangeRead {
        span: all("/p/"),
        ..RangeRead::default()
    }))]);
    let done = loop {
        match router.txn(read.clone(), deadline()).await {
            Ok(answer) => break answer.done,
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    };
    let Some(Answer::Ranged(ranged)) = done.answers.first().and_then(|a| a.answer.as_ref()) else {
        panic!("a read was answered with {done:?}");
    };
    let state: Vec<Value> = ranged.items.iter().map(shown).collect();
    let harness = Process::Other("harness".to_owned());
    let mut line = line(Type::Ok, harness, "final", Value::from(state));
    line.rev = Some(done.revision);
    scene.write(line);
    scene.until.store(last, Ordering::Relaxed);
}

/// How replicas of a group differ; `None`: all are the same.
fn differences(world: &World) -> Option<String> {
    let mut states: BTreeMap<u32, (usize, u64, Content)> = BTreeMap::new();
    for host in world.nodes() {
        // Its node may be gone, or some of its replicas; those that are there must be as the others.
        let is_damaged = world.hosts[host].damage().is_some();
        let Some(alive) = world.hosts[host].alive() else {
            match is_damaged {
                true => continue,
                false => return Some(format!("host {host} isn't back")),
            }
        };
        for (group, replica) in alive.replicas.stored() {
            match standing_of(&alive, (group, replica)) {
                Ok(Some((applied, content))) => {
                    let Some((other, at, first)) = states.get(&group) else {
                        states.insert(group, (host, applied, content));
                        continue;
                    };
                    let pair = format!("group {group}: hosts {other} and {host}");
                    if *at != applied {
                        return Some(format!("{pair} are at {at} and {applied}"));
                    }
                    if let Some(key) = difference(first, &content) {
                        return Some(format!("{pair} differ in {key:x?}"));
                    }
                }
                Ok(None) | Err(_) if is_damaged => {}
                Ok(None) => {
                    return Some(format!("host {host}: group {group} can't be read"));
                }
                Err(why) => return Some(format!("host {host}: group {group} {why}")),
            }
        }
    }
    None
}

/// How far a replica has got, and its state, if that can be read; or why it doesn't run.
fn standing_of(
    alive: &Alive,
    (group, replica): (u32, u64),
) -> Result<Option<(u64, Content)>, String> {
    let running = alive.replicas.group(group, replica);
    let running = running.ok_or("doesn't run")?;
    let progress = running.progress();
    match progress.stopped {
        Some(why) => Err(format!("has stopped: {why}")),
        None => Ok(content(&running)
            .ok()
            .map(|content| (progress.applied, content))),
    }
}

/// The first key in which two states differ.
fn difference(one: &Content, other: &Content) -> Option<Bytes> {
    let keys = one.keys().chain(other.keys());
    let mut differing = keys.filter(|key| one.get(*key) != other.get(*key));
    differing.next().cloned()
}

/// All that a replica's state holds, but for the records of vnodes: when their changes are gathered depends on how
/// many entries a replica applied at once.
fn content(replica: &caucus_raft::Group) -> Result<Content, caucus_engine::Error> {
    let view = replica.view();
    let range = keys::prefix_range(view.storage());
    let engine = view.engine();
    let mut scan = engine.scan(Space::State, &range.start, &range.end, Direction::Forward)?;
    let mut content = Content::new();
    while let Some((key, value)) = scan.next()? {
        let key = key.slice(range.start.len()..);
        if !matches!(key[0], state_kind::VNODE | state_kind::JOURNAL) {
            content.insert(key, value);
        }
    }
    Ok(content)
}
