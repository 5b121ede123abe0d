//! The model: batches that a seed gives, and a map.

use caucus_engine::{Direction, Reader, Space, WriteBatch};
use caucus_power::random::Random;
use std::collections::BTreeMap;

/// Everything in both spaces.
pub(crate) type Contents = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

const KEYS: u64 = 400;
const OPS_MAX: u64 = 8;
const VALUE_BYTES_MAX: u64 = 3000;
/// In both spaces: how many batches were written.
const COUNT: &[u8] = b"count";

/// What was written so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) seed: u64,
    pub(crate) count: u64,
    pub(crate) contents: Contents,
}

/// What the engine said before it died.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Batches that a completed sync covers.
    pub(crate) synced: u64,
    /// Batches that may have been written.
    pub(crate) written: u64,
}

enum Action {
    Put(Space, Vec<u8>, Vec<u8>),
    Delete(Space, Vec<u8>),
    DeleteRange(Space, Vec<u8>, Vec<u8>),
}

fn key(number: u64) -> Vec<u8> {
    format!("key {number:04}").into_bytes()
}

/// The batch with this number, of the life of this seed.
fn actions(seed: u64, number: u64) -> Vec<Action> {
    let mut random = Random::nth(seed, number);
    let ops = random.below(OPS_MAX);
    let mut actions: Vec<Action> = (0..ops).map(|_| action(&mut random)).collect();
    for space in Space::ALL {
        let count = (number + 1).to_be_bytes();
        actions.push(Action::Put(space, COUNT.to_vec(), count.to_vec()));
    }
    actions
}

fn action(random: &mut Random) -> Action {
    let space = Space::ALL[random.below(2) as usize];
    let first = random.below(KEYS);
    match random.below(10) {
        0 => Action::Delete(space, key(first)),
        1 => Action::DeleteRange(space, key(first), key(first + random.below(20))),
        _ => {
            // Half of it compresses to nothing, half doesn't compress.
            let length = random.below(VALUE_BYTES_MAX);
            let noise = (0..length / 2).map(|_| random.below(256) as u8);
            let mut value: Vec<u8> = noise.collect();
            value.resize(length as usize, 7);
            Action::Put(space, key(first), value)
        }
    }
}

/// The same, for an engine.
pub(crate) fn batch(seed: u64, number: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for action in actions(seed, number) {
        match action {
            Action::Put(space, key, value) => batch.put(space, key, value),
            Action::Delete(space, key) => batch.delete(space, key),
            Action::DeleteRange(space, start, end) => batch.delete_range(space, start..end),
        }
    }
    batch
}

/// What an engine has.
pub(crate) fn contents(reader: &(impl Reader + ?Sized)) -> Result<Contents, caucus_engine::Error> {
    let mut found = Contents::new();
    for space in Space::ALL {
        let mut scan = reader.scan(space, b"", b"", Direction::Forward)?;
        while let Some((key, value)) = scan.next()? {
            found.insert((space, key.to_vec()), value.to_vec());
        }
    }
    Ok(found)
}

/// How many batches a space says it has.
pub(crate) fn count(contents: &Contents, space: Space) -> u64 {
    let stored = contents.get(&(space, COUNT.to_vec()));
    stored.map_or(0, |bytes| {
        u64::from_be_bytes(bytes[..].try_into().expect("a count"))
    })
}

impl Model {
    pub(crate) fn new(seed: u64) -> Model {
        Model {
            seed,
            count: 0,
            contents: Contents::new(),
        }
    }

    fn next(&mut self) {
        for action in actions(self.seed, self.count) {
            match action {
                Action::Put(space, key, value) => {
                    self.contents.insert((space, key), value);
                }
                Action::Delete(space, key) => {
                    self.contents.remove(&(space, key));
                }
                Action::DeleteRange(space, start, end) => {
                    let is_in =
                        |of: &Space, key: &Vec<u8>| *of == space && *key >= start && *key < end;
                    self.contents.retain(|(of, key), _| !is_in(of, key));
                }
            }
        }
        self.count += 1;
    }

    /// Goes on to what was found after a death; else what is wrong with it.
    pub(crate) fn go_on(&mut self, told: Told, found: &Contents) -> Result<(), String> {
        let [log, state] = Space::ALL.map(|space| count(found, space));
        if log != state {
            return Err(format!("{log} batches in the log, {state} in the state"));
        }
        let least = told.synced.max(self.count);
        if log < least {
            return Err(format!("{least} batches were synced, {log} are there"));
        }
        if log > told.written.max(self.count) {
            return Err(format!(
                "{} batches were written, {log} are there",
                told.written
            ));
        }
        while self.count < log {
            self.next();
        }
        match self.contents == *found {
            true => Ok(()),
            false => Err(format!(
                "not what the first {log} batches leave: {}",
                self.unlike(found)
            )),
        }
    }

    fn unlike(&self, found: &Contents) -> String {
        let keys = self.contents.keys().chain(found.keys());
        let mut wrong: Vec<String> = keys
            .filter(|key| self.contents.get(*key) != found.get(*key))
            .map(|(space, key)| format!("{space:?} {}", String::from_utf8_lossy(key)))
            .collect();
        wrong.dedup();
        wrong.truncate(10);
        wrong.join(", ")
    }
}
