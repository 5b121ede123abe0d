//! Bytes that no leader sends: never a panic, and no trace of what cannot be read.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::{Batch, Bootstrap, Command};

use super::super::{Refusal, Verdict};
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

    /// Near to right is where the harm is: true histories with bytes changed in their commands.
    #[test]
    fn damaged_histories_are_the_same_for_all(
        acts in acts(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut entries = History::of(&acts, 5).entries;
        for (entry, byte, value) in damage {
            let entry = &mut entries[entry.index(acts.len() + 1)];
            let mut bytes = entry.command.to_vec();
            if !bytes.is_empty() {
                let at = byte.index(bytes.len());
                bytes[at] = value;
            }
            entry.command = bytes.into();
        }
        let (mut one, mut other) = (Rig::memory(5), Rig::memory(5));
        prop_assert_eq!(one.one_by_one(&entries), other.one_by_one(&entries));
        prop_assert_eq!(one.dump(), other.dump());
        let dump = one.dump();
        prop_assert_eq!(one.restart().dump(), dump);
    }
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
