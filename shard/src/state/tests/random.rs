//! Random histories: the same as the model, and the same however they are applied.

use caucus_engine::keys::state_kind;
use caucus_engine::memory::MemoryEngine;
use caucus_ring::{Vnode, VnodeSet};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError, TestError, TestRunner};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::check::{check, check_past, same};
use super::history::{Act, History, KEYS, acts};
use super::model::Fault;
use super::rig::{Entry, Rig, hash};

/// Names the random numbers of a run again: what a failed one prints.
const SEED: &str = "CAUCUS_PROPERTY_SEED";
/// Histories of the longest property: up to 100 operations each.
const CASES: u32 = 2_000;

/// Checks that something holds of many random values; shrinks one of which it doesn't.
fn property<S: Strategy>(
    name: &str,
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), String>,
) {
    let chosen = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed = chosen.unwrap_or_else(|| RandomState::new().hash_one(name));
    if let Err(error) = search(seed, cases, strategy, test) {
        panic!("{error}\nTo see it again: {SEED}={seed} cargo test -p caucus-shard {name}");
    }
}

/// The smallest value of those that are near the first of which it doesn't hold.
pub(super) fn search<S: Strategy>(
    seed: u64,
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), String>,
) -> Result<(), TestError<S::Value>> {
    let config = ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::with_cases(cases)
    };
    TestRunner::new(config).run(strategy, |value| test(value).map_err(TestCaseError::fail))
}

/// Tables that forget soon, and one that never does.
pub(super) fn items_max() -> impl Strategy<Value = usize> {
    prop_oneof![Just(2), Just(5), Just(100_000)]
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..7_usize, 1..5)
}

/// The entries in rounds of these sizes, over and over.
fn rounds<'e>(mut entries: &'e [Entry], sizes: &[usize]) -> Vec<&'e [Entry]> {
    let mut rounds = Vec::new();
    for size in sizes.iter().cycle() {
        if entries.is_empty() {
            break;
        }
        let (round, rest) = entries.split_at((*size).min(entries.len()));
        rounds.push(round);
        entries = rest;
    }
    rounds
}

/// Every answer, and all that can be read after each entry, is the model's.
pub(super) fn is_the_models(
    acts: &[Act],
    items_max: usize,
    fault: Option<Fault>,
) -> Result<(), String> {
    let mut history = History::with(items_max, fault);
    let mut rig = Rig::memory(items_max);
    let mut done = 0;
    for turn in 0..=acts.len() {
        if turn > 0 {
            history.extend(&acts[turn - 1]);
        }
        let mut highest = rig.published.highest();
        for at in done..history.entries.len() {
            let answers = rig.round(&history.entries[at..=at]);
            let verdicts = answers[0].clone().map(|applied| applied.verdicts);
            same!(verdicts, history.verdicts[at], "the answers to entry {at}");
            if let Some(applied) = &answers[0] {
                same!(applied.highest, rig.published.highest());
            }
            same!(
                rig.published.highest().max(highest),
                rig.published.highest()
            );
            highest = rig.published.highest();
        }
        done = history.entries.len();
        check(&rig, &history)?;
    }
    check_past(&rig, &history)?;
    // What a new replica reads from the engine is the same; and there its `occupied` is exact: the
    // vnodes with keys and those with a past.
    let again = rig.restart();
    check(&again, &history)?;
    check_past(&again, &history)?;
    let keys = history.model.keys.keys();
    let mut wanted: VnodeSet = keys.map(|key| history.model.vnode(key)).collect();
    let past = again.dump().into_keys();
    for key in past.filter(|key| key[0] == state_kind::HISTORY) {
        wanted.insert(Vnode(u16::from_be_bytes([key[1], key[2]])));
    }
    same!(again.published.occupied(), wanted, "what is occupied");
    Ok(())
}

#[test]
fn answers_and_states_are_the_models() {
    let name = "answers_and_states_are_the_models";
    property(name, CASES, &(acts(), items_max()), |(acts, items_max)| {
        is_the_models(&acts, items_max, None)
    });
}

#[test]
fn rounds_of_any_size_make_the_same_state() {
    let name = "rounds_of_any_size_make_the_same_state";
    let cases = (acts(), items_max(), sizes());
    property(name, 700, &cases, |(acts, items_max, sizes)| {
        let history = History::of(&acts, items_max);
        let mut singly = Rig::memory(items_max);
        let mut gathered = Rig::memory(items_max);
        for round in rounds(&history.entries, &sizes) {
            let answers = singly.one_by_one(round);
            same!(gathered.round(round), answers, "the answers");
            same!(
                gathered.published.hash(),
                singly.published.hash(),
                "the hash"
            );
            same!(gathered.essence(), singly.essence(), "the state");
        }
        check(&gathered, &history)
    });
}

#[test]
fn a_replay_a_restart_and_a_snapshot_change_no_byte() {
    let name = "a_replay_a_restart_and_a_snapshot_change_no_byte";
    let cases = ((acts(), acts()), items_max(), sizes());
    property(name, 300, &cases, |((acts, more), items_max, sizes)| {
        let all: Vec<Act> = acts.iter().chain(&more).cloned().collect();
        let history = History::of(&all, items_max);
        let rounds = rounds(&history.entries, &sizes);
        let half = rounds.len() / 2;
        let apply = |rig: &mut Rig, rounds: &[&[Entry]]| {
            let answers = rounds.iter().flat_map(|round| rig.round(round));
            answers.collect::<Vec<_>>()
        };
        let mut straight = Rig::memory(items_max);
        apply(&mut straight, &rounds[..half]);
        let restored = straight.restore();
        same!(restored.dump(), straight.dump(), "the snapshot");
        let at_half = straight.published.hash();
        let answers = apply(&mut straight, &rounds[half..]);
        let bytes = hash(&straight.dump());

        let mut replayed = Rig::memory(items_max);
        apply(&mut replayed, &rounds);
        same!(hash(&replayed.dump()), bytes, "a replay");

        let mut restarted = Rig::memory(items_max);
        apply(&mut restarted, &rounds[..half]);
        let restarted = restarted.restart();
        for mut other in [restarted, restored] {
            same!(other.published.hash(), at_half, "the hash as it begins");
            same!(apply(&mut other, &rounds[half..]), answers, "the answers");
            same!(other.dump(), straight.dump(), "the state");
            same!(hash(&other.dump()), bytes);
            same!(
                other.published.hash(),
                straight.published.hash(),
                "the hash"
            );
            check(&other, &history)?;
            check_past(&other, &history)?;
        }
        Ok(())
    });
}

/// What a crash does to a replica.
#[derive(Clone, Debug)]
pub(super) struct Crash {
    /// After which rounds the device was told to sync.
    syncs: Vec<bool>,
    /// After which round.
    at: prop::sample::Index,
    /// Un-synced rounds that the device kept all the same.
    kept: u64,
    /// Rounds of the replay.
    again: Vec<usize>,
}

pub(super) fn crash() -> impl Strategy<Value = Crash> {
    let syncs = prop::collection::vec(prop::bool::weighted(0.2), 1..9);
    (syncs, any::<prop::sample::Index>(), 0..4_u64, sizes()).prop_map(|(syncs, at, kept, again)| {
        Crash {
            syncs,
            at,
            kept,
            again,
        }
    })
}

/// After a crash a replica goes on where its engine is. `skipped`: entries that it misses then.
pub(super) fn survives(
    history: &History,
    items_max: usize,
    crash: &Crash,
    skipped: usize,
) -> Result<(), String> {
    let mut straight = Rig::memory(items_max);
    straight.one_by_one(&history.entries);

    let engine = MemoryEngine::new();
    let mut rig = Rig::open(Arc::new(engine.clone()), 1, items_max, 0);
    let (mut synced, last) = (0, crash.at.index(history.entries.len()));
    for (turn, entry) in history.entries[..=last].iter().enumerate() {
        rig.round(std::slice::from_ref(entry));
        if crash.syncs[turn % crash.syncs.len()] {
            engine_sync(&engine);
            synced = turn + 1;
        }
    }
    drop(rig);
    let engine = engine.crash_with(crash.kept);
    let mut rig = Rig::open(Arc::new(engine), 1, items_max, 0);
    let kept = (synced + crash.kept as usize).min(last + 1);
    let applied = kept
        .checked_sub(1)
        .map_or(0, |at| history.entries[at].index);
    same!(rig.applied(), applied, "the index that it finds");
    let from = (kept + skipped).min(history.entries.len());
    for round in rounds(&history.entries[from..], &crash.again) {
        rig.round(round);
    }
    same!(
        rig.published.hash().hash,
        straight.published.hash().hash,
        "the hash"
    );
    same!(rig.essence(), straight.essence(), "the state");
    check(&rig, history)?;
    check_past(&rig, history)
}

fn engine_sync(engine: &MemoryEngine) {
    use caucus_engine::Engine;
    engine.sync(Box::new(|synced| synced.expect("a device that works")));
}

#[test]
fn a_crash_and_a_replay_make_the_same_state() {
    let name = "a_crash_and_a_replay_make_the_same_state";
    let cases = (acts(), items_max(), crash());
    property(name, 700, &cases, |(acts, items_max, crash)| {
        survives(&History::of(&acts, items_max), items_max, &crash, 0)
    });
}

/// The histories above are worth nothing if they never meet what they are for.
#[test]
fn keys_are_on_both_sides_of_the_border() {
    let model = History::new(10).model;
    let mine = |key: &&[u8]| model.owned.contains(model.vnode(key));
    let owned = KEYS.iter().filter(|key| mine(key)).count();
    assert!((7..KEYS.len()).contains(&owned), "{owned}");
}
