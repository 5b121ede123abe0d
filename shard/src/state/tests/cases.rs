//! Single rules, each in the shortest history that shows it.

use std::sync::Arc;

use bytes::Bytes;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Batch, Put, RequestId, SessionProgress, Write};
use caucus_engine::rocks::{Options, RocksEngine};
use prost::Message;

use super::super::{Refusal, Verdict};
use super::history::{History, KEYS, bootstrap, rules};
use super::rig::{Entry, Rig, hash};

/// An encoded put.
pub(super) fn put(session: u64, sequence: u64, stamp: u64, key: &[u8], value: &[u8]) -> Bytes {
    let write = Write {
        id: Some(RequestId {
            session,
            sequence,
            stamp,
        }),
        key: Bytes::copy_from_slice(key),
        rules_version: rules().version(),
        action: Some(Action::Put(Put {
            value: Bytes::copy_from_slice(value),
            ..Put::default()
        })),
        ..Write::default()
    };
    write.encode_to_vec().into()
}

fn batch(first_revision: u64, writes: Vec<Bytes>) -> Batch {
    Batch {
        first_revision,
        writes,
        progress: Vec::new(),
        ..Batch::default()
    }
}

fn finished(session: u64, below: u64, stamp: u64) -> SessionProgress {
    SessionProgress {
        session,
        finished_below: below,
        stamp,
    }
}

/// A key of a vnode that the group owns, and one of another.
fn mine_and_theirs() -> (&'static [u8], &'static [u8]) {
    let model = History::new(10).model;
    let mine = |key: &&&[u8]| model.owned.contains(model.vnode(key));
    let theirs = KEYS.iter().find(|key| !mine(key)).unwrap();
    (KEYS.iter().find(mine).unwrap(), theirs)
}

/// Applies a history entry by entry and checks each answer.
fn follow(history: &History, rig: &mut Rig) {
    let answers = rig.one_by_one(&history.entries);
    let verdicts = answers.into_iter().map(|a| a.map(|a| a.verdicts));
    assert_eq!(verdicts.collect::<Vec<_>>(), history.verdicts);
}

#[test]
fn nothing_is_owned_before_the_first_command() {
    let (mine, _) = mine_and_theirs();
    let command = super::history::command(caucus_api::shard::command::Command::Batch(batch(
        1,
        vec![put(1, 1, 0, mine, b"x")],
    )));
    let mut rig = Rig::memory(10);
    rig.round(&[]);
    let before = rig.dump();
    let answers = rig.round(&[Entry { index: 1, command }]);
    let verdicts = answers[0].clone().unwrap().verdicts;
    assert_eq!(verdicts, [Verdict::Refused(Refusal::Moved)]);
    assert_eq!(rig.dump(), before);
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let (mine, theirs) = mine_and_theirs();
    let mut history = History::new(10);
    history.batch(batch(5, vec![put(1, 1, 0, mine, b"x")]));
    let mut rig = Rig::memory(10);
    follow(&history, &mut rig);
    let before = rig.dump();

    let mut other_rules = Write::decode(put(1, 4, 0, mine, b"y")).unwrap();
    other_rules.rules_version += 1;
    // Overtaken, of another owner, under other rules, unreadable.
    let mut refused = batch(
        4,
        vec![put(1, 2, 0, mine, b"y"), put(1, 3, 0, theirs, b"y")],
    );
    refused.writes.push(other_rules.encode_to_vec().into());
    refused.writes.push(Bytes::from_static(b"\xff"));
    history.batch(refused);
    let answers = rig.round(&history.entries[2..]);
    let verdicts = answers[0].clone().unwrap().verdicts;
    let reasons = [
        Refusal::Overtaken,
        Refusal::Moved,
        Refusal::Rules,
        Refusal::Malformed,
    ];
    assert_eq!(verdicts, reasons.map(Verdict::Refused));
    assert_eq!(rig.dump(), before);
    assert_eq!(rig.published.highest(), 5);

    // So the same ids are as good as new.
    let again = vec![put(1, 2, 0, mine, b"y"), put(1, 4, 0, mine, b"z")];
    history.batch(batch(6, again));
    let answers = rig.round(&history.entries[3..]);
    assert_eq!(
        Some(answers[0].clone().unwrap().verdicts),
        history.verdicts[3]
    );
    assert_eq!(rig.published.highest(), 7);
}

#[test]
fn an_id_executes_once_in_one_entry_and_in_two() {
    let (mine, _) = mine_and_theirs();
    let mut history = History::new(10);
    let write = put(1, 1, 0, mine, b"x");
    history.batch(batch(5, vec![write.clone(), write.clone()]));
    history.batch(batch(9, vec![write.clone()]));
    let mut rig = Rig::memory(10);
    follow(&history, &mut rig);
    let mut rig = rig.restart();
    assert_eq!(rig.published.highest(), 5);
    history.batch(batch(12, vec![write]));
    let answers = rig.round(&history.entries[3..]);
    let Verdict::Done(outcome) = answers[0].clone().unwrap().verdicts[0] else {
        panic!("{answers:?}");
    };
    assert_eq!((outcome.revision, outcome.version), (5, 1));
}

/// A session that ended early is forgotten while an entry, alive through another session, still
/// names its requests. A replica that starts again reads that entry and must know no more than one
/// that didn't.
#[test]
fn a_forgotten_session_does_not_come_back_with_a_restart() {
    let (mine, theirs) = mine_and_theirs();
    let mut history = History::new(3);
    history.batch(batch(4, vec![put(3, 1, 0, mine, b"a")]));
    let two = vec![put(1, 1, 0, mine, b"b"), put(2, 1, 0, mine, b"c")];
    history.batch(batch(5, two));
    // Session 1 gave up on its request, and knows of no revision; its next one goes elsewhere.
    history.batch(Batch {
        progress: vec![finished(1, 2, 0)],
        ..batch(7, vec![put(1, 2, 0, theirs, b"d")])
    });
    // The table overflows: what session 3 did is forgotten, the floor rises over session 1's stamps.
    let two = vec![put(2, 2, 4, mine, b"e"), put(2, 3, 4, mine, b"f")];
    history.batch(batch(8, two));
    assert_eq!(history.model.ids.floor, 4);
    let cut = history.entries.len();
    for sequence in 4..9 {
        let write = put(2, sequence, 9, mine, b"g");
        history.batch(batch(10 + sequence, vec![write, put(1, 1, 0, mine, b"b")]));
    }
    let mut straight = Rig::memory(3);
    follow(&history, &mut straight);
    let mut restarted = Rig::memory(3);
    restarted.one_by_one(&history.entries[..cut]);
    let mut restarted = restarted.restart();
    let answers = restarted.one_by_one(&history.entries[cut..]);
    let verdicts = answers.into_iter().map(|a| a.map(|a| a.verdicts));
    assert_eq!(verdicts.collect::<Vec<_>>(), history.verdicts[cut..]);
    assert_eq!(restarted.dump(), straight.dump());
}

#[test]
fn rocksdb_holds_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::new(5);
    for turn in 0..40_u64 {
        let first_revision = 1 + turn * 3;
        let write = |n: u64| {
            let key = KEYS[(turn * 3 + n) as usize % KEYS.len()];
            put(turn % 3, turn * 3 + n, first_revision - 1, key, b"value")
        };
        history.batch(Batch {
            progress: vec![finished(turn % 3, turn * 2, first_revision - 1)],
            ..batch(first_revision, (0..3).map(write).collect())
        });
    }
    let mut memory = Rig::memory(5);
    follow(&history, &mut memory);
    let options = || Options {
        reserve_bytes: 0,
        ..Options::default()
    };
    let half = history.entries.len() / 2;
    let engine = RocksEngine::open(directory.path(), options()).unwrap();
    let mut rocks = Rig::open(Arc::new(engine), 1, 5, 0);
    rocks.one_by_one(&history.entries[..half]);
    drop(rocks);
    let engine = RocksEngine::open(directory.path(), options()).unwrap();
    let applied = history.entries[half - 1].index;
    let mut rocks = Rig::open(Arc::new(engine), 1, 5, applied);
    rocks.one_by_one(&history.entries[half..]);
    assert_eq!(rocks.dump(), memory.dump());
    assert_eq!(hash(&rocks.dump()), hash(&memory.dump()));
    assert_eq!(rocks.published.hash(), memory.published.hash());
    // The rest is the group's own: it came first.
    assert_eq!(history.entries[0].command, bootstrap());
}
