//! Every property is shown to be able to fail: mistakes that are made on purpose must be noticed.

use std::collections::BTreeMap;
use std::sync::Arc;

use caucus_engine::keys::state_kind;
use caucus_engine::memory::MemoryEngine;
use proptest::test_runner::TestError;

use super::super::{Refusal, Verdict};
use super::history::{History, acts};
use super::model::Fault;
use super::random::{crash, is_the_models, items_max, search, survives};
use super::rig::Rig;

const SEED: u64 = 5;
/// Histories in which each mistake must be met.
const CASES: u32 = 2_000;

#[test]
fn a_model_that_makes_a_mistake_is_found_out() {
    for fault in Fault::ALL {
        let strategy = (acts(), items_max());
        let find = || {
            search(SEED, CASES, &strategy, |(acts, items_max)| {
                is_the_models(&acts, items_max, Some(fault))
            })
        };
        let Err(TestError::Fail(reason, (acts, items_max))) = find() else {
            panic!("{fault:?} was not noticed");
        };
        // It is the mistake that was found, in few steps, and not something else.
        assert!(is_the_models(&acts, items_max, Some(fault)).is_err());
        assert_eq!(is_the_models(&acts, items_max, None), Ok(()), "{fault:?}");
        assert!(
            acts.len() <= 16,
            "{fault:?} in {} steps: {reason}",
            acts.len()
        );
    }
}

/// What is printed of a failed case is enough to see it again.
#[test]
fn a_seed_leads_to_the_same_smallest_case() {
    let find = || {
        let strategy = (acts(), items_max());
        let found = search(SEED, CASES, &strategy, |(acts, items_max)| {
            is_the_models(&acts, items_max, Some(Fault::ForgetsDelete))
        });
        found.expect_err("a mistake").to_string()
    };
    let case = find();
    assert!(case.contains("minimal failing input"), "{case}");
    assert_eq!(case, find());
}

#[test]
fn a_replay_that_misses_an_entry_is_found_out() {
    let strategy = (acts(), items_max(), crash());
    let found = search(SEED, 100, &strategy, |(acts, items_max, crash)| {
        survives(&History::of(&acts, items_max), items_max, &crash, 1)
    });
    assert!(matches!(found, Err(TestError::Fail(..))), "{found:?}");
}

/// A snapshot without one kind of records: what is read and answered after it tells, byte for byte apart.
#[test]
fn a_snapshot_that_lacks_anything_is_found_out() {
    let kinds = [
        state_kind::CURRENT,
        state_kind::HISTORY,
        state_kind::DEDUP,
        state_kind::LEASE,
        state_kind::TXN,
        state_kind::JOURNAL,
        state_kind::SESSION,
        state_kind::IDEMPOTENT,
        state_kind::CHANGES,
        state_kind::ATTACHED,
        state_kind::OPEN,
    ];
    for kind in kinds {
        let strategy = (acts(), items_max());
        let found = search(SEED, CASES, &strategy, |(acts, items_max)| {
            let history = History::of(&acts, items_max);
            let half = history.entries.len() / 2;
            let mut straight = Rig::memory(items_max);
            straight.one_by_one(&history.entries[..half]);
            let mut lacking = straight.restore_without(kind);
            let answers = straight.one_by_one(&history.entries[half..]);
            // Only by what it answers and the hash that it tells; for what readers need, by what they see.
            let told = lacking.one_by_one(&history.entries[half..]);
            let silent = [state_kind::HISTORY, state_kind::CHANGES].contains(&kind);
            let differs = told != answers
                || lacking.published.hash() != straight.published.hash()
                || (silent && super::check::check_past(&lacking, &history).is_err());
            if differs { Err(String::new()) } else { Ok(()) }
        });
        assert!(matches!(found, Err(TestError::Fail(..))), "kind {kind}");
    }
}

#[test]
fn entries_in_another_order_are_found_out() {
    let strategy = (acts(), items_max());
    let found = search(SEED, 100, &strategy, |(acts, items_max)| {
        let history = History::of(&acts, items_max);
        let mut rig = Rig::memory(items_max);
        let mut swapped = history.entries.clone();
        let last = swapped.len() - 1;
        if last > 1 {
            let (a, b) = swapped.split_at_mut(last);
            std::mem::swap(&mut a[last - 1].command, &mut b[0].command);
        }
        rig.one_by_one(&swapped);
        super::check::check(&rig, &history)
    });
    assert!(matches!(found, Err(TestError::Fail(..))), "{found:?}");
}

/// The histories meet every verdict and every refusal but the one that needs thousands of transactions.
#[test]
fn histories_meet_everything() {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let counts = std::sync::Mutex::new(&mut met);
    let strategy = (acts(), items_max());
    let done = search(SEED, CASES, &strategy, |(acts, items_max)| {
        let history = History::of(&acts, items_max);
        let mut counts = counts.lock().unwrap();
        for verdict in history.verdicts.iter().flatten().flatten() {
            *counts.entry(kind(verdict)).or_default() += 1;
        }
        Ok(())
    });
    assert!(done.is_ok());
    let wanted = [
        "Done",
        "Txn",
        "Prepared",
        "Committed",
        "Committed before",
        "Stepped",
        "Moved",
        "Expired",
        "Overtaken",
        "Rules",
        "Malformed",
        "Locked",
        "Aborted",
        "NameTaken",
        "KeyNotFound",
        "NotAnInteger",
        "Overflow",
        "Compacted",
        "FutureRevision",
        "LeaseNotFound",
        "LeaseNotOpen",
        "LeaseExists",
        "LeaseHasKeys",
    ];
    for wanted in wanted {
        let times = met.get(wanted).copied().unwrap_or(0);
        assert!(times >= 8, "{wanted}: {times} times; {met:?}");
    }
}

fn kind(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Done(_) => "Done".to_owned(),
        Verdict::Txn(_) => "Txn".to_owned(),
        Verdict::Prepared { .. } => "Prepared".to_owned(),
        Verdict::Committed { answers: None, .. } => "Committed before".to_owned(),
        Verdict::Committed { .. } => "Committed".to_owned(),
        Verdict::Stepped => "Stepped".to_owned(),
        Verdict::Refused(Refusal::Problem(problem)) => format!("{:?}", problem.kind()),
        Verdict::Refused(Refusal::Locked(_)) => "Locked".to_owned(),
        Verdict::Refused(refusal) => format!("{refusal:?}"),
    }
}

/// A crash that loses everything is a beginning like any other.
#[test]
fn nothing_at_all_is_a_state() {
    let history = History::new(10);
    let engine = MemoryEngine::new();
    let rig = Rig::open(Arc::new(engine.clone()), 1, 10, 0);
    drop(rig);
    let mut rig = Rig::open(Arc::new(engine.crash()), 1, 10, 0);
    assert_eq!(rig.applied(), 0);
    rig.one_by_one(&history.entries);
    assert_eq!(super::check::check(&rig, &history), Ok(()));
}
