//! Rules of transactions over groups and of leases, each in the shortest history that shows it.

use bytes::Bytes;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::lease_step::Kind as Step;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Batch, Commit, Compact, Decide, LeaseStep, Operation, Participant, Place, Prepare, Put,
    RangeRead, Remove, RequestId, SessionProgress, Span, Txn, Write,
};
use caucus_ring::VnodeSet;
use prost::Message;

use super::super::{Holder, Refusal, Verdict};
use super::check::{check, check_past};
use super::history::{History, KEYS, VNODES, command, owned, rules};
use super::rig::{Entry, Rig};

/// Two keys of this group.
fn keys() -> (&'static [u8], &'static [u8]) {
    let model = History::new(10).model;
    let mut mine = KEYS
        .into_iter()
        .filter(|key| owned().contains(model.vnode(key)));
    (mine.next().unwrap(), mine.next().unwrap())
}

fn place(key: &'static [u8]) -> Asked {
    Asked::Place(Place {
        key: Bytes::from_static(key),
        put: Some(Put::default()),
        ..Place::default()
    })
}

fn read(key: &'static [u8], revision: i64) -> Asked {
    Asked::Range(RangeRead {
        span: Some(Span {
            start: Bytes::from_static(key),
            ..Span::default()
        }),
        revision,
        ..RangeRead::default()
    })
}

fn txn(operations: impl IntoIterator<Item = Asked>) -> Txn {
    let operations = operations.into_iter().map(|operation| Operation {
        operation: Some(operation),
    });
    Txn {
        then: operations.collect(),
        ..Txn::default()
    }
}

fn prepare(tree: Txn, coordinator: u32, attempt: u64) -> Action {
    Action::Prepare(Prepare {
        txn: Some(tree),
        coordinator,
        attempt,
        age: 0,
        participants: vec![Participant {
            group: 5,
            vnodes: owned().to_packed().into(),
        }],
    })
}

fn write(id: (u64, u64), fingerprint: u64, action: Action) -> Bytes {
    let write = Write {
        id: Some(RequestId {
            session: id.0,
            sequence: id.1,
            stamp: 0,
        }),
        fingerprint,
        key: Bytes::from_static(keys().0),
        rules_version: rules().version(),
        action: Some(action),
        ..Write::default()
    };
    write.encode_to_vec().into()
}

/// A history with its replica: each answer must be the model's.
struct Story {
    history: History,
    rig: Option<Rig>,
}

impl Story {
    fn new() -> Story {
        let history = History::new(10);
        let mut rig = Rig::memory(10);
        rig.round(&history.entries);
        Story {
            history,
            rig: Some(rig),
        }
    }

    fn rig(&mut self) -> &mut Rig {
        self.rig.as_mut().unwrap()
    }

    fn restart(&mut self) {
        self.rig = self.rig.take().map(Rig::restart);
    }

    fn one(&mut self, revision: u64, write: Bytes) -> Verdict {
        self.batch(Batch {
            first_revision: revision,
            writes: vec![write],
            ..Batch::default()
        })
    }

    fn batch(&mut self, batch: Batch) -> Verdict {
        self.history.batch(batch);
        let entry = self.history.entries.last().cloned().unwrap();
        let answers = self.rig().round(&[entry]);
        let verdicts = answers[0].clone().unwrap().verdicts;
        assert_eq!(
            Some(&verdicts),
            self.history.verdicts.last().unwrap().as_ref()
        );
        let rig = self.rig.as_ref().unwrap();
        assert_eq!(check(rig, &self.history), Ok(()));
        assert_eq!(check_past(rig, &self.history), Ok(()));
        verdicts[0].clone()
    }
}

/// A storage id is a node's own: the hash of what is stored under it is not.
#[test]
fn leases_have_the_same_hash_on_every_node() {
    let step = |kind: Step| {
        let step = LeaseStep {
            kind: kind as i32,
            id: 2,
            ttl_s: 10,
            ..LeaseStep::default()
        };
        Action::Own(txn([Asked::Lease(step)]))
    };
    let mut story = Story::new();
    let empty = story.rig().published.hash().hash;
    story.one(5, write((0, 0), 0, step(Step::Grant)));
    let granted = story.rig().published.hash();
    assert_ne!(granted.hash, empty);
    // It is stored under another id there.
    let mut other = story.rig().restore();
    assert_eq!(other.published.hash(), granted);
    let mut fresh = story.rig().fresh(7);
    fresh.one_by_one(&story.history.entries);
    assert_eq!(fresh.published.hash(), granted);
    story.one(6, write((0, 0), 0, step(Step::Drop)));
    let last = story.history.entries.last().cloned().unwrap();
    other.round(&[last]);
    assert_eq!(other.published.hash().hash, empty);
    assert_eq!(story.rig().published.hash().hash, empty);
}

/// What the transaction itself has written counts, in both directions.
#[test]
fn a_lease_goes_with_its_keys_and_not_before() {
    let key = keys().0;
    let step = |kind: Step| {
        Asked::Lease(LeaseStep {
            kind: kind as i32,
            id: 2,
            ttl_s: 10,
            ..LeaseStep::default()
        })
    };
    let attach = Asked::Place(Place {
        key: Bytes::from_static(key),
        put: Some(Put {
            lease: 2,
            ..Put::default()
        }),
        ..Place::default()
    });
    let remove = Asked::Remove(Remove {
        span: Some(Span {
            start: Bytes::from_static(key),
            ..Span::default()
        }),
        ..Remove::default()
    });
    let own = |operations: Vec<Asked>| write((0, 0), 0, Action::Own(txn(operations)));
    let refused = |verdict| {
        let Verdict::Refused(Refusal::Problem(problem)) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(problem.kind(), ProblemKind::LeaseHasKeys);
    };
    let mut story = Story::new();
    story.one(5, own(vec![step(Step::Grant)]));
    refused(story.one(6, own(vec![attach.clone(), step(Step::Drop)])));
    story.one(7, own(vec![attach]));
    refused(story.one(8, own(vec![step(Step::Drop)])));
    refused(story.one(9, own(vec![step(Step::Drop), remove.clone()])));
    let gone = story.one(10, own(vec![remove, step(Step::Drop)]));
    assert!(matches!(gone, Verdict::Txn(_)), "{gone:?}");
    assert!(story.history.model.leases.is_empty());
}

/// A router that gave a request up says that it is finished; its transaction is still prepared then.
#[test]
fn what_its_session_gave_up_is_not_decided() {
    let mut story = Story::new();
    let id = (1, 1);
    let tree = txn([place(keys().0)]);
    story.one(5, write(id, 0, prepare(tree.clone(), 5, 0)));
    let decided = Batch {
        first_revision: 7,
        progress: vec![SessionProgress {
            session: 1,
            finished_below: 2,
            stamp: 5,
        }],
        writes: vec![write(
            id,
            0,
            Action::Decide(Decide {
                attempt: 5,
                path: vec![true],
            }),
        )],
        ..Batch::default()
    };
    let aborted = Verdict::Refused(Refusal::Aborted);
    assert_eq!(story.batch(decided), aborted);
    // The same before and after a restart.
    let again = write(id, 0, prepare(tree, 5, 0));
    let expired = Verdict::Refused(Refusal::Expired);
    assert_eq!(story.one(8, again.clone()), expired);
    story.restart();
    assert_eq!(story.one(9, again), expired);
}

/// A client that names two requests the same while the first is prepared.
#[test]
fn a_name_is_executed_once_by_whoever_decides_first() {
    let (first, second) = keys();
    let mut story = Story::new();
    let id = (1000, 7);
    let tree = txn([place(first)]);
    let decide = write(
        id,
        1,
        Action::Decide(Decide {
            attempt: 5,
            path: vec![true],
        }),
    );
    story.one(5, write(id, 1, prepare(tree.clone(), 5, 0)));
    let other = write(id, 2, Action::Txn(txn([place(second)])));
    assert!(matches!(story.one(6, other), Verdict::Txn(_)));
    assert_eq!(story.one(7, decide), Verdict::Refused(Refusal::Aborted));
    assert!(!story.history.model.keys.contains_key(first));
    let again = write(id, 1, prepare(tree, 5, 0));
    assert_eq!(story.one(8, again), Verdict::Refused(Refusal::NameTaken));
}

/// What is decided is executed whole, whatever became of the past that it reads.
#[test]
fn a_compaction_takes_nothing_from_what_is_prepared() {
    let (first, second) = keys();
    let mut story = Story::new();
    for revision in 5..8 {
        story.one(
            revision,
            write((1, revision), 0, Action::Txn(txn([place(first)]))),
        );
    }
    let tree = txn([read(first, 5), place(second)]);
    story.one(10, write((1, 20), 0, prepare(tree, 6, 9)));
    let revision = 7;
    story.history.model.compact(revision);
    let compact = Entry {
        index: 100,
        command: command(Kind::Compact(Compact { revision })),
    };
    story.rig().round(&[compact]);
    let commit = Commit {
        attempt: 9,
        revision: 11,
        path: vec![true],
    };
    let committed = story.one(12, write((1, 20), 0, Action::Commit(commit)));
    let Verdict::Committed { answers, .. } = committed else {
        panic!("{committed:?}");
    };
    assert_eq!(answers, None, "the past is gone: nobody has that answer");
    assert_eq!(story.history.model.keys[second].mod_revision, 11);
}

/// What is prepared may commit at a revision that lies in the past by then: who reads there waits.
#[test]
fn a_read_of_the_past_meets_what_may_still_commit_there() {
    let (first, second) = keys();
    let mut story = Story::new();
    story.one(5, write((1, 1), 0, prepare(txn([place(first)]), 6, 4)));
    // Decided at 7 in its own group, which isn't known here yet.
    story.one(9, write((1, 2), 0, Action::Txn(txn([place(second)]))));
    let reader = write((1, 3), 0, Action::Txn(txn([read(first, 8)])));
    let holder = Holder { attempt: 4, age: 4 };
    let locked = Verdict::Refused(Refusal::Locked(holder));
    assert_eq!(story.one(10, reader.clone()), locked);
    let commit = Commit {
        attempt: 4,
        revision: 7,
        path: vec![true],
    };
    story.one(11, write((1, 1), 0, Action::Commit(commit)));
    let Verdict::Txn(done) = story.one(12, reader) else {
        panic!("it reads");
    };
    let answer = format!("{:?}", done.answers);
    assert!(answer.contains("mod_revision: 7"), "{answer}");
}

/// Which lock is named doesn't depend on which came first here.
#[test]
fn the_first_of_two_locks_is_named_also_after_a_restart() {
    let (first, second) = keys();
    let mut story = Story::new();
    let everything = Asked::Range(RangeRead {
        span: Some(Span {
            range: true,
            vnodes: VnodeSet::full(VNODES).to_packed().into(),
            ..Span::default()
        }),
        ..RangeRead::default()
    });
    for (revision, attempt, tree) in [
        (5, 4, txn([read(first, 0)])),
        (6, 3, txn([read(first, 0)])),
        (7, 2, txn([everything])),
    ] {
        story.one(revision, write((1, revision), 0, prepare(tree, 6, attempt)));
    }
    let put = |n: u64, key| {
        let bytes = write((1, n), 0, Action::Put(Put::default()));
        let mut write = Write::decode(bytes).unwrap();
        write.key = Bytes::from_static(key);
        Bytes::from(write.encode_to_vec())
    };
    let of = |attempt: u64| {
        Verdict::Refused(Refusal::Locked(Holder {
            attempt,
            age: attempt,
        }))
    };
    assert_eq!(story.one(10, put(20, first)), of(2));
    assert_eq!(story.one(11, put(21, second)), of(2));
    let abort = Action::Abort(caucus_api::shard::Abort { attempt: 2 });
    story.one(12, write((1, 30), 0, abort));
    let both = write((1, 22), 0, Action::Txn(txn([place(first), place(second)])));
    for turn in 0..2 {
        assert_eq!(story.one(13 + turn, put(20, first)), of(3));
        assert_eq!(story.one(15 + turn, both.clone()), of(3));
        story.restart();
    }
}
