//! Random histories: the same as the model, and the same however they are applied.

use std::collections::BTreeMap;

use caucus_engine::keys::state_kind;
use caucus_ring::{Vnode, VnodeSet};
use proptest::prelude::*;
use prost::Message;

use super::super::record;
use super::history::{Act, History, KEYS, acts, owned};
use super::rig::{Entry, Rig, hash};

/// Tables that forget soon, and one that never does.
fn items_max() -> impl Strategy<Value = usize> {
    prop_oneof![Just(2), Just(5), Just(100_000)]
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

/// What readers see and the engine has is what the model has.
fn check(rig: &Rig, history: &History) {
    let model = &history.model;
    assert_eq!(rig.published.highest(), model.highest);
    let mut wanted = BTreeMap::new();
    let mut sum = 0_u128;
    let mut occupied = VnodeSet::new();
    for (key, record) in &model.keys {
        let vnode = model.vnode(key);
        let bytes = record.encode_to_vec();
        sum = sum.wrapping_add(record::hash(key, &bytes));
        occupied.insert(vnode);
        wanted.insert((vnode.0, key.to_vec()), bytes);
    }
    assert_eq!(rig.records(), wanted);
    assert_eq!(rig.published.hash().hash, sum);
    assert_eq!(rig.published.scope().owned, owned());
    let published = rig.published.occupied();
    assert!(occupied.is_subset(&published), "{occupied} of {published}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn outcomes_and_records_are_the_models(acts in acts(), items_max in items_max()) {
        let mut history = History::new(items_max);
        let mut rig = Rig::memory(items_max);
        let mut done = 0;
        let mut step = |history: &History| {
            let mut highest = rig.published.highest();
            for at in done..history.entries.len() {
                let answers = rig.round(&history.entries[at..=at]);
                let verdicts = answers[0].clone().map(|applied| applied.verdicts);
                assert_eq!(verdicts, history.verdicts[at], "entry {at}");
                if let Some(applied) = &answers[0] {
                    assert_eq!(applied.highest, rig.published.highest());
                }
                assert!(rig.published.highest() >= highest);
                highest = rig.published.highest();
            }
            done = history.entries.len();
            check(&rig, history);
        };
        step(&history);
        for act in &acts {
            history.extend(act);
            step(&history);
        }
        // What a new replica reads from the engine is the same; and there its `occupied` is exact: the
        // vnodes with keys and those with a past.
        let again = rig.restart();
        check(&again, &history);
        let keys = history.model.keys.keys();
        let mut wanted: VnodeSet = keys.map(|key| history.model.vnode(key)).collect();
        let past = again.dump().into_keys().filter(|key| key[0] == state_kind::HISTORY);
        for key in past {
            wanted.insert(Vnode(u16::from_be_bytes([key[1], key[2]])));
        }
        prop_assert_eq!(again.published.occupied(), wanted);
    }

    #[test]
    fn rounds_of_any_size_make_the_same_state(
        acts in acts(),
        items_max in items_max(),
        sizes in prop::collection::vec(1..7_usize, 1..5),
    ) {
        let history = History::of(&acts, items_max);
        let mut singly = Rig::memory(items_max);
        let answers = singly.one_by_one(&history.entries);
        let mut gathered = Rig::memory(items_max);
        let mut others = Vec::new();
        for round in rounds(&history.entries, &sizes) {
            others.extend(gathered.round(round));
        }
        prop_assert_eq!(answers, others);
        prop_assert_eq!(singly.essence(), gathered.essence());
        prop_assert_eq!(singly.published.hash(), gathered.published.hash());
        check(&gathered, &history);
    }

    #[test]
    fn a_replay_a_restart_and_a_snapshot_change_no_byte(
        acts in acts(),
        more in acts(),
        items_max in items_max(),
        sizes in prop::collection::vec(1..7_usize, 1..5),
    ) {
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
        let answers = apply(&mut straight, &rounds[half..]);
        let bytes = hash(&straight.dump());

        let mut replayed = Rig::memory(items_max);
        apply(&mut replayed, &rounds);
        prop_assert_eq!(hash(&replayed.dump()), bytes);

        let mut restarted = Rig::memory(items_max);
        apply(&mut restarted, &rounds[..half]);
        let restarted = restarted.restart();
        for mut other in [restarted, restored] {
            prop_assert_eq!(&apply(&mut other, &rounds[half..]), &answers);
            prop_assert_eq!(other.dump(), straight.dump());
            prop_assert_eq!(hash(&other.dump()), bytes);
            prop_assert_eq!(other.published.hash(), straight.published.hash());
            check(&other, &history);
        }
    }
}

/// The histories above are worth nothing if they never meet what they are for.
#[test]
fn keys_are_on_both_sides_of_the_border() {
    let model = History::new(10).model;
    let mine = |key: &&[u8]| model.owned.contains(model.vnode(key));
    let owned = KEYS.iter().filter(|key| mine(key)).count();
    assert!((7..KEYS.len()).contains(&owned), "{owned}");
}
