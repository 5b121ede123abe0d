//! Random batches against a model: reads agree at each step, and a crash leaves a prefix of the
//! batches that holds at least all synced ones.

use crate::bench::{Bench, pairs, sync};
use caucus_engine::{Direction, Engine, Space, WriteBatch};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
enum Action {
    Put(Space, u8, Vec<u8>),
    Delete(Space, u8),
    DeleteRange(Space, u8, u8),
}

#[derive(Clone, Debug)]
struct Step {
    actions: Vec<Action>,
    then_sync: bool,
}

fn actions() -> impl Strategy<Value = Action> {
    let space = prop_oneof![Just(Space::Log), Just(Space::State)];
    let key = 0u8..12;
    prop_oneof![
        4 => (space.clone(), key.clone(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(space, key, value)| Action::Put(space, key, value)),
        1 => (space.clone(), key.clone()).prop_map(|(space, key)| Action::Delete(space, key)),
        1 => (space, key.clone(), key)
            .prop_map(|(space, start, end)| Action::DeleteRange(space, start, end)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        prop::collection::vec(actions(), 0..8),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(actions, then_sync)| Step { actions, then_sync });
    prop::collection::vec(step, 1..25)
}

fn apply(model: &mut Model, actions: &[Action]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for action in actions.iter().cloned() {
        match action {
            Action::Put(space, key, value) => {
                batch.put(space, vec![key], value.clone());
                model.insert((space, vec![key]), value);
            }
            Action::Delete(space, key) => {
                batch.delete(space, vec![key]);
                model.remove(&(space, vec![key]));
            }
            Action::DeleteRange(space, start, end) => {
                batch.delete_range(space, vec![start]..vec![end]);
                model.retain(|(s, key), _| *s != space || key[0] < start || key[0] >= end);
            }
        }
    }
    batch
}

fn dump(engine: &dyn Engine) -> Model {
    Space::ALL
        .into_iter()
        .flat_map(|space| {
            pairs(engine, space, b"", b"", Direction::Forward)
                .into_iter()
                .map(move |(key, value)| ((space, key), value))
        })
        .collect()
}

/// Run the steps; the states after each, and how many of them a crash must keep.
fn run(engine: &dyn Engine, steps: &[Step]) -> (Vec<Model>, usize) {
    let mut states = vec![Model::new()];
    let mut synced = 0;
    for step in steps {
        let mut model = states[states.len() - 1].clone();
        engine
            .write(apply(&mut model, &step.actions))
            .expect("write");
        assert_eq!(dump(engine), model);
        states.push(model);
        if step.then_sync {
            sync(engine).expect("sync");
            synced = states.len() - 1;
        }
    }
    (states, synced)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_recovers_the_prefix_it_is_told_to(steps in steps(), keep in 0usize..30) {
        let Bench::Memory(engine) = Bench::memory() else { unreachable!() };
        let snapshot_of_nothing = engine.snapshot();
        let (states, synced) = run(&engine, &steps);
        prop_assert_eq!(engine.unsynced_batches() as usize, states.len() - 1 - synced);
        let kept = (synced + keep).min(states.len() - 1);
        let recovered = engine.crash_with(keep as u64);
        prop_assert_eq!(&dump(&recovered), &states[kept]);
        prop_assert_eq!(&dump(&recovered.crash()), &states[kept]);
        let old = pairs(&*snapshot_of_nothing, Space::State, b"", b"", Direction::Forward);
        prop_assert!(old.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rocks_recovers_a_prefix_with_all_synced(steps in steps()) {
        let bench = Bench::rocks();
        let (states, synced) = run(bench.engine(), &steps);
        let bench = bench.crash();
        let recovered = dump(bench.engine());
        prop_assert!(states[synced..].contains(&recovered));
    }
}
