//! Bytes that no leader sends: never a panic, and no trace of what cannot be read.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::{Batch, Bootstrap, Command};

use super::super::{Applied, Refusal, Verdict};
use super::history::{History, acts, bootstrap, command};
use super::rig::{Entry, Rig};

fn next(index: u64, command: impl Into<Bytes>) -> Entry {
    Entry {
        index,
        command: command.into(),
    }
}

fn begun() -> Rig {
    let mut rig = Rig::memory(10);
    rig.round(&[next(1, bootstrap())]);
    rig
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn bytes_that_are_no_command_leave_no_trace(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let known = Command::decode(&bytes[..]).is_ok_and(|read| read.command.is_some());
        for mut rig in [begun(), Rig::memory(10)] {
            rig.round(&[]);
            let before = rig.dump();
            let answers = rig.round(&[next(2, bytes.clone())]);
            if !known {
                prop_assert_eq!(answers, vec![None]);
                prop_assert_eq!(rig.dump(), before);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_write_leave_no_trace(bytes in prop::collection::vec(any::<u8>(), 1..60)) {
        let mut rig = begun();
        let before = rig.dump();
        let batch = Batch {
            first_revision: 5,
            writes: vec![bytes.clone().into()],
            progress: Vec::new(),
..Batch::default()
};
        let answers = rig.round(&[next(2, command(Kind::Batch(batch)))]);
        let verdicts = answers.into_iter().flatten().flat_map(|applied| applied.verdicts);
        let verdicts: Vec<_> = verdicts.collect();
        prop_assert_eq!(verdicts.len(), 1);
        if let Verdict::Refused(_) = verdicts[0] {
            prop_assert_eq!(rig.dump(), before);
        }
        if caucus_api::shard::Write::decode(&bytes[..]).is_err() {
            prop_assert_eq!(&verdicts[0], &Verdict::Refused(Refusal::Malformed));
        }
    }

    /// Near to right is where the harm is: true histories with bytes changed in their commands, and in the
    /// writes inside of them.
    #[test]
    fn damaged_histories_are_the_same_for_all(
        acts in acts(),
        damage in prop::collection::vec(damage(), 1..8),
    ) {
        let mut entries = History::of(&acts, 5).entries;
        for damage in damage {
            let at = damage.entry.index(entries.len());
            let entry = &mut entries[at];
            entry.command = damage.command(&entry.command);
        }
        let (mut one, mut other) = (Rig::memory(5), Rig::memory(5));
        let mut answers = Vec::new();
        one.round(&[]);
        for entry in &entries {
            let before = one.dump();
            let answer = one.one_by_one(std::slice::from_ref(entry));
            if leaves_no_trace(&entry.command, &answer[0]) {
                prop_assert_eq!(one.dump(), before);
            }
            answers.extend(answer);
        }
        prop_assert_eq!(&answers, &other.round(&entries));
        prop_assert_eq!(one.essence(), other.essence());
        prop_assert_eq!(one.published.hash(), other.published.hash());
        let dump = one.dump();
        prop_assert_eq!(one.restart().dump(), dump);
    }

    /// What a snapshot brings, or a disk, is read or refused.
    #[test]
    fn a_damaged_state_is_opened_or_refused(
        acts in acts(),
        damage in prop::collection::vec(damage(), 1..4),
    ) {
        let mut rig = Rig::memory(5);
        rig.one_by_one(&History::of(&acts, 5).entries);
        let mut pairs: Vec<_> = rig.dump().into_iter().collect();
        for damage in damage {
            let at = damage.entry.index(pairs.len());
            let (key, value) = &mut pairs[at];
            match damage.inside {
                true if key.len() > 1 => *key = [&key[..1], &damage.bytes(&key[1..])].concat(),
                true => {}
                false => *value = damage.bytes(value),
            }
        }
        Rig::try_open(&pairs.into_iter().collect());
    }
}

/// A change of some bytes.
#[derive(Clone, Debug)]
struct Damage {
    entry: prop::sample::Index,
    /// Of a write inside, if there is one.
    inside: bool,
    kind: u8,
    at: prop::sample::Index,
    value: u8,
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    (at, any::<bool>(), 0..7_u8, any::<u8>()).prop_map(|((entry, at), inside, kind, value)| {
        Damage {
            entry,
            inside,
            kind,
            at,
            value,
        }
    })
}

impl Damage {
    fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let at = self.at.index(bytes.len() + 1);
        let (before, after) = bytes.split_at(at);
        // What protobuf writes for the largest number, and for -1.
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        match self.kind {
            0 => before.to_vec(),
            1 => after.to_vec(),
            2 => [before, &[self.value], after].concat(),
            3 => [bytes, after].concat(),
            4 => [before, &most, after].concat(),
            5 => [before, &most, after.get(1..).unwrap_or_default()].concat(),
            _ => {
                let mut bytes = bytes.to_vec();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= self.value;
                }
                bytes
            }
        }
    }

    fn command(&self, command: &Bytes) -> Bytes {
        let read = Command::decode(command.clone()).ok();
        match read.and_then(|read| read.command) {
            Some(Kind::Batch(mut batch)) if self.inside && !batch.writes.is_empty() => {
                let at = usize::from(self.value) % batch.writes.len();
                batch.writes[at] = self.bytes(&batch.writes[at]).into();
                super::history::command(Kind::Batch(batch))
            }
            Some(_) | None => self.bytes(command).into(),
        }
    }
}

/// Whether an entry has nothing to do, by what it was answered.
fn leaves_no_trace(bytes: &Bytes, answer: &Option<Applied>) -> bool {
    let command = Command::decode(bytes.clone()).ok().and_then(|c| c.command);
    match (command, answer) {
        (None, _) => true,
        (Some(Kind::Batch(batch)), Some(applied)) => {
            // What was aborted for good has gone.
            let refused = |verdict: &Verdict| matches!(verdict, Verdict::Refused(refusal) if *refusal != Refusal::Aborted);
            batch.progress.is_empty()
                && batch.forget_before_ms == 0
                && applied.verdicts.iter().all(refused)
        }
        (Some(_), _) => false,
    }
}

#[test]
fn trees_are_read_as_deep_as_they_can_be() {
    use caucus_api::shard::operation::Operation as Asked;
    use caucus_api::shard::write::Action;
    use caucus_api::shard::{Operation, Txn, Write};
    let mut rig = begun();
    let before = rig.dump();
    for (index, depth) in (2..).zip([1, 10, 40, 48, 49, 50, 51, 100, 400, 4_000]) {
        // Written by hand: an encoder would go as deep.
        let mut tree = Txn::default().encode_to_vec();
        for _ in 0..depth {
            let field = |bytes: &[u8], tag: u8| {
                let mut field = vec![tag << 3 | 2];
                prost::encoding::encode_varint(bytes.len() as u64, &mut field);
                field.extend_from_slice(bytes);
                field
            };
            tree = field(&field(&tree, 4), 2);
        }
        let mut write = Write {
            rules_version: super::history::rules().version(),
            ..Write::default()
        }
        .encode_to_vec();
        write.push(21 << 3 & 0x7f | 0x80 | 2);
        write.push(1);
        prost::encoding::encode_varint(tree.len() as u64, &mut write);
        write.extend_from_slice(&tree);
        let batch = Batch {
            first_revision: 1,
            writes: vec![write.into()],
            ..Batch::default()
        };
        let answers = rig.round(&[next(index, command(Kind::Batch(batch)))]);
        let verdict = answers[0].clone().unwrap().verdicts[0].clone();
        match verdict {
            Verdict::Refused(Refusal::Malformed) => assert!(depth >= 48, "{depth}"),
            // The second is refused as too old: what counts is that it was read.
            Verdict::Txn(_) | Verdict::Refused(Refusal::Overtaken) => assert!(depth < 51),
            verdict => panic!("{depth}: {verdict:?}"),
        }
    }
    let kinds = |pairs: &super::rig::Pairs| pairs.keys().map(|key| key[0]).collect::<Vec<_>>();
    assert_eq!(kinds(&rig.dump()), kinds(&before));
    // So that the shape above is known to be that of an own transaction with transactions inside.
    let inner = Operation {
        operation: Some(Asked::Txn(Txn::default())),
    };
    let write = Write {
        action: Some(Action::Own(Txn {
            then: vec![inner],
            ..Txn::default()
        })),
        ..Write::default()
    };
    assert_eq!(write.encode_to_vec(), [170, 1, 4, 18, 2, 34, 0]);
}

#[test]
fn a_bootstrap_that_makes_no_sense_begins_nothing() {
    let Ok(Command {
        command: Some(Kind::Bootstrap(good)),
    }) = Command::decode(bootstrap())
    else {
        panic!("a bootstrap");
    };
    let wrong = [
        Bootstrap {
            owned: Bytes::from_static(&[1]),
            ..good.clone()
        },
        Bootstrap {
            vnodes: 1,
            ..good.clone()
        },
        Bootstrap {
            vnodes: u32::MAX,
            ..good.clone()
        },
        Bootstrap {
            rules: Bytes::from_static(&[0xff]),
            ..good
        },
    ];
    let mut rig = Rig::memory(10);
    rig.round(&[]);
    let before = rig.dump();
    for (index, bootstrap) in (1..).zip(wrong) {
        rig.round(&[next(index, command(Kind::Bootstrap(bootstrap)))]);
        assert!(rig.published.scope().routing.is_none());
        assert_eq!(rig.dump(), before);
    }
    rig.round(&[next(9, bootstrap())]);
    assert!(rig.published.scope().routing.is_some());
}

#[test]
fn revisions_at_the_end_of_all_numbers_wrap_nothing() {
    let mut history = History::new(10);
    let write = |sequence| super::cases::put(1, sequence, 0, b"/a/b/one", b"x");
    history.batch(Batch {
        first_revision: u64::MAX - 1,
        writes: (0..4).map(write).collect(),
        progress: Vec::new(),
        ..Batch::default()
    });
    let mut rig = Rig::memory(10);
    let answers = rig.one_by_one(&history.entries);
    let verdicts = answers[1].clone().unwrap().verdicts;
    assert_eq!(Some(verdicts.clone()), history.verdicts[1]);
    assert_eq!(verdicts[3], Verdict::Refused(Refusal::Overtaken));
}
