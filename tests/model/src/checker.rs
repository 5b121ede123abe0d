//! Breadth-first explicit-state checker. The states of one layer are in memory; of those seen there is a
//! 64-bit fingerprint, with that of the state it was reached from, so that a shortest counterexample can be
//! replayed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A finite system: a state, and what can happen in it.
pub(crate) trait Model: Sync {
    /// Without fields of type `usize`: fingerprints leave them out.
    type State: Copy + Hash + Send + Sync;
    type Action: Debug;
    fn init(&self) -> Self::State;
    /// All successors; a violation is marked inside the successor.
    fn next(&self, state: &Self::State, out: &mut Vec<(Self::Action, Self::State)>);
    fn violation(&self, state: &Self::State) -> Option<&'static str>;
    /// What is wrong with a state that has no successor.
    fn terminal(&self, state: &Self::State) -> Option<&'static str>;
    /// Printed behind a counterexample.
    fn show(&self, _state: &Self::State) -> String {
        String::new()
    }
}

/// Where a search gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) states: u64,
    pub(crate) time: Duration,
    pub(crate) threads: usize,
}

/// What a search found.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) states: u64,
    pub(crate) transitions: u64,
    pub(crate) depth: usize,
    pub(crate) terminals: u64,
    /// Whether no state was left.
    pub(crate) complete: bool,
    /// What is violated in as few steps as can be, and the steps that lead there.
    pub(crate) violations: Vec<(&'static str, Vec<String>)>,
    pub(crate) time: Duration,
}

/// Fingerprints need no second hash.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 is hashed")
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Gathers small fields into words before it mixes them.
struct Fingerprint {
    hash: u64,
    word: u64,
    bits: u32,
}

impl Fingerprint {
    fn mix(&mut self, word: u64) {
        let product =
            u128::from(self.hash ^ word).wrapping_mul(0xA076_1D64_78BD_642F_E703_7ED1_A0B4_28DB);
        let folded = ((product >> 64) as u64) ^ (product as u64);
        self.hash = folded.rotate_left(23) ^ word.wrapping_mul(0x8EBC_6AF0_9C88_C6E3);
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.hash
    }
    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.word = self.word << 8 | u64::from(value);
        self.bits += 8;
        if self.bits == 64 {
            self.mix(self.word);
            (self.word, self.bits) = (0, 0);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    /// Lengths of arrays: always the same in one type.
    fn write_usize(&mut self, _: usize) {}
    /// Which variant of an enum.
    fn write_isize(&mut self, variant: isize) {
        self.write_u8(variant as u8);
    }
}

fn fingerprint<S: Hash>(state: &S) -> u64 {
    let mut hasher = Fingerprint {
        hash: 0x9E37_79B9_7F4A_7C15,
        word: 0,
        bits: 0,
    };
    state.hash(&mut hasher);
    hasher.mix(hasher.word);
    hasher.mix(0x5851_F42D_4C95_7F2D);
    // 0 is the parent of the first state.
    hasher.finish().max(1)
}

const SHARDS: usize = 64;

/// Parents by fingerprint, in shards so that threads seldom meet.
struct Seen(Vec<Mutex<HashMap<u64, u64, BuildHasherDefault<Identity>>>>);

impl Seen {
    fn new() -> Seen {
        Seen((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// Whether it is new.
    fn insert(&self, print: u64, parent: u64) -> bool {
        let mut shard = self.0[(print >> 58) as usize].lock().expect("no panics");
        match shard.entry(print) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(parent);
                true
            }
        }
    }

    fn parent(&self, print: u64) -> u64 {
        self.0[(print >> 58) as usize].lock().expect("no panics")[&print]
    }
}

struct Search<'a, M: Model> {
    model: &'a M,
    bounds: Bounds,
    began: Instant,
    seen: Seen,
    states: AtomicU64,
    transitions: AtomicU64,
    terminals: AtomicU64,
    found: Mutex<BTreeMap<&'static str, u64>>,
}

/// Searches the whole space of states, within the bounds.
#[expect(
    clippy::disallowed_methods,
    reason = "measures how long a search takes"
)]
pub(crate) fn check<M: Model>(model: &M, bounds: Bounds) -> Outcome {
    let search = Search {
        model,
        bounds,
        began: Instant::now(),
        seen: Seen::new(),
        states: AtomicU64::new(1),
        transitions: AtomicU64::new(0),
        terminals: AtomicU64::new(0),
        found: Mutex::default(),
    };
    search.run()
}

impl<M: Model> Search<'_, M> {
    fn run(self) -> Outcome {
        let init = self.model.init();
        self.seen.insert(fingerprint(&init), 0);
        let mut layer = vec![init];
        let mut depth = 0;
        let mut complete = true;
        while !layer.is_empty() {
            let next = self.layer(&layer);
            if !self.found.lock().expect("no panics").is_empty() {
                break;
            }
            if self.is_over() {
                complete = false;
                break;
            }
            layer = next;
            depth += 1;
        }
        // All of the last layer, so that the outcome doesn't depend on threads.
        let found = self.found.lock().expect("no panics").clone();
        Outcome {
            states: self.states.load(Ordering::Relaxed),
            transitions: self.transitions.load(Ordering::Relaxed),
            depth,
            terminals: self.terminals.load(Ordering::Relaxed),
            complete,
            violations: found
                .into_iter()
                .map(|(what, print)| (what, self.replay(print)))
                .collect(),
            time: self.began.elapsed(),
        }
    }

    fn is_over(&self) -> bool {
        self.states.load(Ordering::Relaxed) > self.bounds.states
            || self.began.elapsed() > self.bounds.time
    }

    fn layer(&self, layer: &[M::State]) -> Vec<M::State> {
        let threads = self.bounds.threads;
        let chunk = 4096.max(layer.len() / (threads * 8) + 1);
        let work = Mutex::new(layer.chunks(chunk));
        let worker = || {
            let (mut next, mut out) = (Vec::new(), Vec::new());
            while !self.is_over() {
                let Some(part) = work.lock().expect("no panics").next() else {
                    break;
                };
                for state in part {
                    self.expand(state, &mut out, &mut next);
                }
            }
            next
        };
        if layer.len() <= 4096 {
            return worker();
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            let parts = workers.into_iter().map(|w| w.join().expect("no panics"));
            parts.flatten().collect()
        })
    }

    fn expand(
        &self,
        state: &M::State,
        out: &mut Vec<(M::Action, M::State)>,
        next: &mut Vec<M::State>,
    ) {
        let print = fingerprint(state);
        self.model.next(state, out);
        self.transitions
            .fetch_add(out.len() as u64, Ordering::Relaxed);
        if out.is_empty() {
            self.terminals.fetch_add(1, Ordering::Relaxed);
            self.find(self.model.terminal(state), print);
        }
        for (_, successor) in out.drain(..) {
            let new = fingerprint(&successor);
            if self.seen.insert(new, print) {
                self.states.fetch_add(1, Ordering::Relaxed);
                self.find(self.model.violation(&successor), new);
                next.push(successor);
            }
        }
    }

    fn find(&self, violation: Option<&'static str>, print: u64) {
        if let Some(what) = violation {
            let mut found = self.found.lock().expect("no panics");
            let least = found.entry(what).or_insert(print);
            *least = print.min(*least);
        }
    }

    fn replay(&self, mut print: u64) -> Vec<String> {
        let mut path = Vec::new();
        while print != 0 {
            path.push(print);
            print = self.seen.parent(print);
        }
        path.reverse();
        let mut state = self.model.init();
        let (mut steps, mut out) = (Vec::new(), Vec::new());
        for print in &path[1..] {
            self.model.next(&state, &mut out);
            let step = out.drain(..).find(|(_, n)| fingerprint(n) == *print);
            let (action, next) = step.expect("it was found on this way");
            steps.push(format!("{action:?}"));
            state = next;
        }
        steps.push(self.model.show(&state));
        steps
    }
}
