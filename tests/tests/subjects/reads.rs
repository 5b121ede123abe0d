//! ZooKeeper's reads come from the server that is asked, as far as it has got: they aren't linearizable, and aren't
//! meant to be. Its writes are; so are reads after a `sync`, as long as nobody else becomes leader; and what a server
//! answers was true at the revision that it names.

use caucus_history::History;
use caucus_history::history::{Process, Type};
use caucus_history::record::line;
use serde_json::{Value, json};

use crate::ensemble::{COUNT, Ensemble, Request, Session};
use crate::scene::{Scene, judge, refused_by, turn};

const KEYS: [&str; 2] = ["/a", "/b"];
/// Each writer's, of a round.
const WRITES: usize = 25;
const ROUNDS_MAX: usize = 40;
const ROUNDS_SYNCED: usize = 10;

/// A client's session, and its number.
struct Client {
    session: Session,
    process: u64,
}

impl Client {
    fn new(scene: &Scene, address: &str) -> Client {
        Client {
            session: Session::open(address).expect("a session"),
            process: scene.number(),
        }
    }

    fn say(&self, scene: &Scene, kind: Type, step: Value, rev: Option<u64>, mods: Vec<u64>) {
        let by = Process::Client(self.process);
        let mut line = line(kind, by, "txn", json!([step]));
        (line.rev, line.mods) = (rev, mods);
        scene.recorder.write(line);
    }

    fn write(&mut self, scene: &Scene, key: &str, request: fn(&str, &str) -> Request) {
        let value = scene.number();
        let step = json!(["w", key, value]);
        self.say(scene, Type::Invoke, step.clone(), None, vec![]);
        let request = request(key, &value.to_string());
        let reply = self.session.call(&request).expect("it is written");
        self.say(scene, Type::Ok, step, Some(reply.zxid), vec![0]);
    }

    /// Reads a key at a server that is stopped, and goes on only once it has been asked.
    fn read(&mut self, scene: &Scene, key: &str, synced: bool, go_on: impl FnOnce()) {
        self.say(scene, Type::Invoke, json!(["r", key, null]), None, vec![]);
        let session = &mut self.session;
        if synced {
            session.send(&Request::sync(key)).expect("it is sent");
        }
        session.send(&Request::get(key)).expect("it is sent");
        go_on();
        if synced {
            session.receive().expect("it is answered");
        }
        let reply = session.receive().expect("it is answered");
        let (value, changed) = reply.value();
        let value: u64 = value.parse().expect("a number was written");
        let step = json!(["r", key, value]);
        self.say(scene, Type::Ok, step, Some(reply.zxid), vec![changed]);
    }
}

/// Rounds in which a follower is stopped while the others write, and then is asked; until somebody says no, or `rounds`
/// are over.
fn lag(ensemble: &Ensemble, synced: bool, rounds: usize) -> History {
    let scene = Scene::new();
    let leader = ensemble.leader();
    let (behind, other) = ((leader + 1) % COUNT, (leader + 2) % COUNT);
    let open = |server: u16| Client::new(&scene, &ensemble.address(server));
    let (mut writers, mut reader) = ([open(leader), open(other)], open(behind));
    for key in KEYS {
        // It may be there from before.
        let create = Request::create(key, "0");
        let _ = writers[0].session.call(&create);
        writers[0].write(&scene, key, Request::set);
    }
    for _ in 0..rounds {
        ensemble.pause(behind);
        std::thread::scope(|threads| {
            for writer in &mut writers {
                threads.spawn(|| {
                    for write in 0..WRITES {
                        writer.write(&scene, KEYS[write % KEYS.len()], Request::set);
                    }
                });
            }
        });
        reader.read(&scene, KEYS[0], synced, || ensemble.go_on(behind));
        if !refused_by(&caucus_history::check(&scene.recorder.history())).is_empty() {
            break;
        }
    }
    scene.recorder.history()
}

#[test]
fn reads_of_zookeeper_are_not_linearizable() {
    let _turn = turn();
    let Some(ensemble) = Ensemble::start() else {
        return;
    };
    let history = lag(&ensemble, false, ROUNDS_MAX);
    let found = judge("zookeeper reads", &history);
    assert_eq!(refused_by(&found), ["replay", "windows"]);

    let mut writes = history.clone();
    writes.lines.retain(|line| line.value[0][0] == "w");
    assert_eq!(judge("zookeeper writes", &writes), []);

    // The same answers, if they don't claim to be of the present.
    let mut stale = history;
    for line in &mut stale.lines {
        line.stale = line.value[0][0] == "r";
    }
    assert_eq!(judge("zookeeper reads of the past", &stale), []);

    let synced = lag(&ensemble, true, ROUNDS_SYNCED);
    assert_eq!(judge("zookeeper reads after a sync", &synced), []);
}
