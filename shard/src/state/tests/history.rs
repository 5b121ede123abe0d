//! Makes a log from wishes: what a leader would propose, and what it should never.

use bytes::Bytes;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::condition::Kind as ConditionKind;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Batch, Bootstrap, Command, Condition, Delete, Put, RequestId, Revisions, SessionProgress, Unit,
    Write,
};
use caucus_ring::{Ring, Rule, RuleEntry, Rules, VnodeSet, wire};
use proptest::prelude::*;
use prost::Message;

use super::super::Verdict;
use super::model::Model;
use super::rig::Entry;

pub(super) const VNODES: u32 = 16;
const SESSIONS: u8 = 3;
/// In many vnodes, some of which the group doesn't own; under the default and under a rule.
pub(super) const KEYS: [&[u8]; 14] = [
    b"/a/b/one",
    b"/a/b/two",
    b"/a/b/\x00\xff",
    b"/c/d/e/f",
    b"/c/d/e/g",
    b"/whole/x",
    b"/whole/y",
    b"plain",
    b"plainer",
    b"dir/",
    b"dir/x",
    b"\xff\xff",
    b"/",
    b"/q/r/s",
];

/// One write that a leader might pass on.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    session: u8,
    /// Not a new one but this one of those that the session has sent.
    again: Option<u8>,
    /// Whether its session knows of the newest revisions.
    informed: bool,
    key: usize,
    must: Must,
    /// The length of the value; `None`: a delete.
    put: Option<usize>,
    flaw: Flaw,
}

#[derive(Clone, Copy, Debug)]
enum Must {
    Nothing,
    Absent,
    Present,
    /// Whether the key's own revision is among them.
    RevisionIs(bool),
    RevisionIsNot(bool),
}

#[derive(Clone, Copy, Debug)]
enum Flaw {
    None,
    OtherRules,
    Unreadable,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Batch {
        writes: Vec<Wish>,
        /// How many of its last requests each session has not finished.
        progress: Vec<(u8, u8)>,
        /// Where its revisions begin, counted from the first that is free.
        gap: i64,
    },
    /// A command that this version doesn't know.
    Foreign(u8),
    /// The first command once more.
    Bootstrap,
}

fn wish() -> impl Strategy<Value = Wish> {
    let must = prop_oneof![
        4 => Just(Must::Nothing),
        1 => Just(Must::Absent),
        1 => Just(Must::Present),
        2 => any::<bool>().prop_map(Must::RevisionIs),
        1 => any::<bool>().prop_map(Must::RevisionIsNot),
    ];
    let flaw = prop_oneof![
        20 => Just(Flaw::None),
        1 => Just(Flaw::OtherRules),
        1 => Just(Flaw::Unreadable),
    ];
    let who = (
        0..SESSIONS,
        prop::option::weighted(0.25, any::<u8>()),
        prop::bool::weighted(0.7),
    );
    let put = prop::option::weighted(0.7, 0..40_usize);
    (who, 0..KEYS.len(), must, put, flaw).prop_map(
        |((session, again, informed), key, must, put, flaw)| Wish {
            session,
            again,
            informed,
            key,
            must,
            put,
            flaw,
        },
    )
}

pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let progress = prop::collection::vec((0..SESSIONS, 0..4_u8), 0..3);
    let gap = prop_oneof![6 => 0..3_i64, 1 => -4..0_i64];
    let batch =
        (prop::collection::vec(wish(), 0..6), progress, gap).prop_map(|(writes, progress, gap)| {
            Act::Batch {
                writes,
                progress,
                gap,
            }
        });
    let act = prop_oneof![
        12 => batch,
        1 => any::<u8>().prop_map(Act::Foreign),
        1 => Just(Act::Bootstrap),
    ];
    prop::collection::vec(act, 1..30)
}

pub(super) fn rules() -> Rules {
    let entry = RuleEntry {
        prefix: b"/whole/".to_vec(),
        rule: Rule::WholeKey,
    };
    Rules::new(3, vec![entry]).unwrap()
}

/// All but every third vnode.
pub(super) fn owned() -> VnodeSet {
    let all = Ring::new(VNODES).unwrap();
    all.iter().filter(|vnode| vnode.0 % 3 != 1).collect()
}

pub(super) fn command(kind: Kind) -> Bytes {
    let command = Command {
        command: Some(kind),
    };
    command.encode_to_vec().into()
}

pub(super) fn bootstrap() -> Bytes {
    command(Kind::Bootstrap(Bootstrap {
        cluster_id: Bytes::from_static(&[7; 16]),
        group: 5,
        vnodes: VNODES,
        owned: owned().to_packed().into(),
        rules_version: rules().version(),
        rules: wire::Rules::from(&rules()).encode_to_vec().into(),
    }))
}

/// A log with what each of its entries must answer.
pub(super) struct History {
    pub(super) model: Model,
    pub(super) entries: Vec<Entry>,
    /// `None`: it is no batch.
    pub(super) verdicts: Vec<Option<Vec<Verdict>>>,
    sessions: Vec<Session>,
}

#[derive(Default)]
struct Session {
    sent: Vec<Bytes>,
    /// Of the last request; they rise.
    stamp: u64,
}

impl History {
    /// Begins with the bootstrap, at index 1.
    pub(super) fn new(items_max: usize) -> History {
        let ring = Ring::new(VNODES).unwrap();
        let mut history = History {
            model: Model::new(ring, rules(), owned(), items_max),
            entries: Vec::new(),
            verdicts: Vec::new(),
            sessions: (0..SESSIONS).map(|_| Session::default()).collect(),
        };
        history.push(bootstrap(), None);
        history
    }

    pub(super) fn of(acts: &[Act], items_max: usize) -> History {
        let mut history = History::new(items_max);
        for act in acts {
            history.extend(act);
        }
        history
    }

    fn push(&mut self, command: Bytes, verdicts: Option<Vec<Verdict>>) {
        let index = self.next_index();
        self.entries.push(Entry { index, command });
        self.verdicts.push(verdicts);
    }

    /// Raft's own entries take some indices.
    fn next_index(&self) -> u64 {
        let entries = self.entries.len() as u64;
        1 + entries + entries / 3
    }

    pub(super) fn extend(&mut self, act: &Act) {
        match act {
            Act::Foreign(seed) => {
                // Field 14 of the command, of length 1.
                let bytes = vec![14 << 3 | 2, 1, *seed];
                self.push(bytes.into(), None);
            }
            Act::Bootstrap => self.push(bootstrap(), None),
            Act::Batch {
                writes,
                progress,
                gap,
            } => {
                let progress = progress.iter().map(|(session, open)| {
                    let of = &self.sessions[usize::from(*session)];
                    SessionProgress {
                        session: u64::from(*session),
                        finished_below: (of.sent.len() as u64).saturating_sub(u64::from(*open)),
                        stamp: of.stamp,
                    }
                });
                let progress = progress.collect();
                let batch = Batch {
                    first_revision: (self.model.highest + 1).saturating_add_signed(*gap).max(1),
                    writes: writes.iter().map(|wish| self.write(wish)).collect(),
                    progress,
                    ..Batch::default()
                };
                self.batch(batch);
            }
        }
    }

    pub(super) fn batch(&mut self, batch: Batch) {
        let verdicts = self.model.batch(self.next_index(), &batch);
        self.push(command(Kind::Batch(batch)), Some(verdicts));
    }

    fn write(&mut self, wish: &Wish) -> Bytes {
        let session = &mut self.sessions[usize::from(wish.session)];
        if let Some(back) = wish.again
            && !session.sent.is_empty()
        {
            return session.sent[usize::from(back) % session.sent.len()].clone();
        }
        if wish.informed {
            session.stamp = session.stamp.max(self.model.highest);
        }
        let known = self.model.keys.get(KEYS[wish.key]);
        let of = |hit: bool| Revisions {
            revisions: match known {
                Some(record) if hit => vec![9_999_999, record.mod_revision],
                Some(_) | None => vec![9_999_999, 0],
            },
        };
        let must = match wish.must {
            Must::Nothing => None,
            Must::Absent => Some(ConditionKind::Absent(Unit {})),
            Must::Present => Some(ConditionKind::Present(Unit {})),
            Must::RevisionIs(hit) => Some(ConditionKind::RevisionIs(of(hit))),
            Must::RevisionIsNot(hit) => Some(ConditionKind::RevisionIsNot(of(hit))),
        };
        let sequence = session.sent.len() as u64;
        let write = Write {
            id: Some(RequestId {
                session: u64::from(wish.session),
                sequence,
                stamp: session.stamp,
            }),
            key: Bytes::from_static(KEYS[wish.key]),
            condition: must.map(|kind| Condition { kind: Some(kind) }),
            rules_version: match wish.flaw {
                Flaw::OtherRules => rules().version() - 1,
                Flaw::None | Flaw::Unreadable => rules().version(),
            },
            action: Some(match wish.put {
                Some(bytes) => Action::Put(Put {
                    value: vec![sequence as u8; bytes].into(),
                    content_type: "text/plain".to_owned(),
                    ..Put::default()
                }),
                None => Action::Delete(Delete {}),
            }),
            ..Write::default()
        };
        let mut bytes = write.encode_to_vec();
        if matches!(wish.flaw, Flaw::Unreadable) {
            bytes.push(0xff);
        }
        let bytes = Bytes::from(bytes);
        session.sent.push(bytes.clone());
        bytes
    }
}
