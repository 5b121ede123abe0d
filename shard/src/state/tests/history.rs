//! Makes a log from wishes: what a leader would propose, and what it should never.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::condition::Kind as ConditionKind;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Abort, Batch, Bootstrap, Command, Commit, Compact, Condition, Decide, Delete, Forget,
    Participant, Prepare, Put, Record, RequestId, Revisions, SessionProgress, Unit, Write,
};
use caucus_ring::{Ring, Rule, RuleEntry, Rules, VnodeSet, wire};
use proptest::prelude::*;
use prost::Message;

use super::super::Verdict;
use super::model::{Fault, Model};
use super::rig::Entry;
use super::wishes::{Attach, Plan, Tree, VALUES, attach, tree};

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

/// Who is asked, and by whom.
const GROUP: u32 = 5;
const OTHER: u32 = 6;

/// One write that a leader might pass on.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    session: u8,
    /// Its client named it; and of which body this is.
    named: Option<(u8, u8)>,
    /// Not a new one but this one of those that the session has sent.
    again: Option<u8>,
    /// Whether its session knows of the newest revisions.
    informed: bool,
    what: What,
    flaw: Flaw,
}

#[derive(Clone, Debug)]
enum What {
    Put(usize, Must, usize, Option<Attach>),
    Delete(usize, Must),
    Txn(Tree),
    Own(Tree),
    /// Whether this group coordinates it.
    Prepare(Tree, bool),
    /// Of the attempts so far; and the path.
    Decide(u8, [bool; 3]),
    Commit(u8, [bool; 3]),
    Abort(u8),
    Forget(u8),
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
        /// Names are forgotten that are older than so many batches.
        forget: Option<u8>,
    },
    /// Other groups are granted a revision, and one of them decides.
    Elsewhere(u8),
    /// What was replaced up to so many revisions ago.
    Compact(u8),
    /// A command that this version doesn't know.
    Foreign(u8),
    /// The first command once more.
    Bootstrap,
}

fn what() -> impl Strategy<Value = What> {
    let must = prop_oneof![
        4 => Just(Must::Nothing),
        1 => Just(Must::Absent),
        1 => Just(Must::Present),
        2 => any::<bool>().prop_map(Must::RevisionIs),
        1 => any::<bool>().prop_map(Must::RevisionIsNot),
    ];
    let key = 0..KEYS.len();
    let put = (key.clone(), must.clone(), 0..VALUES.len(), attach());
    prop_oneof![
        6 => put.prop_map(|(key, must, value, lease)| What::Put(key, must, value, lease)),
        3 => (key, must).prop_map(|(key, must)| What::Delete(key, must)),
        6 => tree().prop_map(What::Txn),
        1 => tree().prop_map(What::Own),
        3 => (tree(), any::<bool>()).prop_map(|(tree, ours)| What::Prepare(tree, ours)),
        3 => any::<(u8, [bool; 3])>().prop_map(|(pick, path)| What::Decide(pick, path)),
        3 => any::<(u8, [bool; 3])>().prop_map(|(pick, path)| What::Commit(pick, path)),
        2 => any::<u8>().prop_map(What::Abort),
        1 => any::<u8>().prop_map(What::Forget),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let flaw = prop_oneof![
        40 => Just(Flaw::None),
        1 => Just(Flaw::OtherRules),
        1 => Just(Flaw::Unreadable),
    ];
    let who = (
        0..SESSIONS,
        prop::option::weighted(0.15, (0..3_u8, 1..3_u8)),
        prop::option::weighted(0.2, any::<u8>()),
        prop::bool::weighted(0.7),
    );
    (who, what(), flaw).prop_map(|((session, named, again, informed), what, flaw)| Wish {
        session,
        named,
        again,
        informed,
        what,
        flaw,
    })
}

pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let progress = prop::collection::vec((0..SESSIONS, 0..4_u8), 0..3);
    let gap = prop_oneof![30 => 0..3_i64, 1 => -4..0_i64];
    let forget = prop::option::weighted(0.2, 0..6_u8);
    let writes = prop::collection::vec(wish(), 0..6);
    let batch =
        (writes, progress, gap, forget).prop_map(|(writes, progress, gap, forget)| Act::Batch {
            writes,
            progress,
            gap,
            forget,
        });
    let act = prop_oneof![
        24 => batch,
        2 => any::<u8>().prop_map(Act::Elsewhere),
        2 => (0..8_u8).prop_map(Act::Compact),
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
        group: GROUP,
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
    /// Whether revisions were used that no leader would be granted.
    pub(super) overlaps: bool,
    sessions: Vec<Session>,
    /// The last revision that anybody was granted.
    granted: u64,
    /// All attempts that ever stood, and how those of others were decided.
    attempts: Vec<u64>,
    decided: BTreeMap<u64, u64>,
    /// What others asked this group to prepare, and what the batch that is being made may end of it.
    asked: BTreeMap<u64, Bytes>,
    ending: BTreeSet<u64>,
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
        History::with(items_max, None)
    }

    /// The same with a model that makes a mistake.
    pub(super) fn with(items_max: usize, fault: Option<Fault>) -> History {
        let ring = Ring::new(VNODES).unwrap();
        let mut model = Model::new(ring, rules(), (GROUP, owned()), items_max);
        model.fault = fault;
        let mut history = History {
            model,
            entries: Vec::new(),
            verdicts: Vec::new(),
            overlaps: false,
            sessions: (0..SESSIONS).map(|_| Session::default()).collect(),
            granted: 0,
            attempts: Vec::new(),
            decided: BTreeMap::new(),
            asked: BTreeMap::new(),
            ending: BTreeSet::new(),
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

    fn grant(&mut self) -> u64 {
        self.granted = self.granted.max(self.model.highest) + 1;
        self.granted
    }

    pub(super) fn extend(&mut self, act: &Act) {
        match act {
            Act::Foreign(seed) => {
                // Field 14 of the command, of length 1.
                let bytes = vec![14 << 3 | 2, 1, *seed];
                self.push(bytes.into(), None);
            }
            Act::Bootstrap => self.push(bootstrap(), None),
            Act::Compact(back) => {
                let revision = self.model.highest.saturating_sub(u64::from(*back));
                self.model.compact(revision);
                self.push(command(Kind::Compact(Compact { revision })), None);
            }
            Act::Elsewhere(pick) => {
                let revision = self.grant();
                let attempt = self.attempt(*pick);
                self.decided.entry(attempt).or_insert(revision);
            }
            Act::Batch {
                writes,
                progress,
                gap,
                forget,
            } => {
                self.ending.clear();
                let writes: Vec<Bytes> = writes.iter().map(|wish| self.write(wish)).collect();
                self.leaders(writes, progress, *gap, *forget);
            }
        }
    }

    fn leaders(&mut self, writes: Vec<Bytes>, progress: &[(u8, u8)], gap: i64, forget: Option<u8>) {
        let progress = progress.iter().map(|(session, open)| {
            let of = &self.sessions[usize::from(*session)];
            SessionProgress {
                session: u64::from(*session),
                finished_below: (of.sent.len() as u64).saturating_sub(u64::from(*open)),
                stamp: of.stamp,
            }
        });
        let progress = progress.collect();
        self.overlaps |= gap < 0;
        let free = match gap < 0 {
            true => self.model.highest + 1,
            false => self.granted.max(self.model.highest) + 1,
        };
        let first_revision = free.saturating_add_signed(gap).max(1);
        let last = first_revision + writes.len() as u64;
        self.granted = self.granted.max(last);
        // Time stands still now and then, and a new leader's lags behind.
        let entries = self.entries.len() as u64;
        let lag = if entries % 5 == 4 { 3 } else { 0 };
        let time_ms = 1000 * (entries / 2 + 10 - lag);
        let forget_before_ms = forget.map_or(0, |back| time_ms - 1000 * u64::from(back));
        self.batch(Batch {
            first_revision,
            writes,
            progress,
            time_ms,
            forget_before_ms,
        });
    }

    pub(super) fn batch(&mut self, batch: Batch) {
        let verdicts = self.model.batch(self.next_index(), &batch);
        for verdict in &verdicts {
            if let Verdict::Prepared { attempt, .. } = verdict
                && !self.attempts.contains(attempt)
            {
                self.attempts.push(*attempt);
            }
        }
        self.push(command(Kind::Batch(batch)), Some(verdicts));
    }

    fn attempt(&self, pick: u8) -> u64 {
        let standing: Vec<u64> = self.model.attempts.keys().copied().collect();
        // Mostly one that stands.
        let pool = match standing.is_empty() || pick >= 224 {
            true => &self.attempts,
            false => &standing,
        };
        let pick = usize::from(pick) % pool.len().max(1);
        pool.get(pick).copied().unwrap_or(999)
    }

    fn write(&mut self, wish: &Wish) -> Bytes {
        let at = usize::from(wish.session);
        let theirs = matches!(wish.what, What::Prepare(_, false));
        if let Some(back) = wish.again {
            let stands = |(attempt, _): &(&u64, &Bytes)| {
                self.model.attempts.contains_key(attempt) && !self.ending.contains(attempt)
            };
            let sent: Vec<&Bytes> = match theirs {
                // A step that ended is asked for once more only by its coordinator, which this is not.
                true => self.asked.iter().filter(stands).map(|(_, b)| b).collect(),
                false => self.sessions[at].sent.iter().collect(),
            };
            if !sent.is_empty() {
                return sent[usize::from(back) % sent.len()].clone();
            }
        }
        let action = self.action(&wish.what);
        let session = &mut self.sessions[at];
        if wish.informed {
            session.stamp = session.stamp.max(self.model.highest);
        }
        let (must, key) = match &wish.what {
            What::Put(key, must, ..) | What::Delete(key, must) => (*must, KEYS[*key]),
            // The home of a transaction.
            _ => (Must::Nothing, first_mine(&self.model)),
        };
        let name = RequestId {
            session: u64::from(wish.session),
            sequence: session.sent.len() as u64,
            stamp: session.stamp,
        };
        let (id, fingerprint) = match wish.named {
            Some((name, body)) => {
                let name = u64::from(name);
                let id = RequestId {
                    session: 1000 + name,
                    sequence: name,
                    stamp: 0,
                };
                (id, u64::from(body))
            }
            None => (name, 0),
        };
        let write = Write {
            id: Some(id),
            fingerprint,
            key: Bytes::from_static(key),
            condition: condition(must, self.model.keys.get(key)),
            rules_version: match wish.flaw {
                Flaw::OtherRules => rules().version() - 1,
                Flaw::None | Flaw::Unreadable => rules().version(),
            },
            action: Some(action),
            ..Write::default()
        };
        let mut bytes = write.encode_to_vec();
        if matches!(wish.flaw, Flaw::Unreadable) {
            bytes.push(0xff);
        }
        let bytes = Bytes::from(bytes);
        match &write.action {
            Some(Action::Prepare(prepare)) if theirs => {
                self.asked.insert(prepare.attempt, bytes.clone());
            }
            _ => session.sent.push(bytes.clone()),
        }
        bytes
    }

    fn action(&mut self, what: &What) -> Action {
        let plan = |alone| Plan {
            model: &self.model,
            alone,
        };
        match what {
            What::Put(_, _, value, attach) => {
                let put = Put {
                    value: Bytes::from_static(VALUES[*value]),
                    content_type: "text/plain".to_owned(),
                    ..Put::default()
                };
                Action::Put(plan(true).attached(*attach, put))
            }
            What::Delete(..) => Action::Delete(Delete {}),
            What::Txn(tree) => Action::Txn(plan(true).tree(tree)),
            What::Own(tree) => Action::Own(plan(true).tree(tree)),
            What::Prepare(tree, ours) => {
                let participant = |group, vnodes: VnodeSet| Participant {
                    group,
                    vnodes: vnodes.to_packed().into(),
                };
                let txn = Some(plan(false).tree(tree));
                let theirs = VnodeSet::full(VNODES).difference(&owned());
                let attempt = if *ours { 0 } else { self.grant() };
                Action::Prepare(Prepare {
                    txn,
                    coordinator: if *ours { GROUP } else { OTHER },
                    attempt,
                    // Some were refused before.
                    age: (attempt % 3) * (attempt / 2),
                    participants: vec![participant(OTHER, theirs), participant(GROUP, owned())],
                })
            }
            What::Decide(pick, path) => Action::Decide(Decide {
                attempt: self.attempt(*pick),
                path: path.to_vec(),
            }),
            What::Commit(pick, path) => {
                let mut attempt = self.attempt(*pick);
                let granted = self.grant();
                let revision = match self.model.attempts.contains_key(&attempt) {
                    true => *self.decided.entry(attempt).or_insert(granted),
                    false => granted,
                };
                if !self.model.attempts.contains_key(&attempt) {
                    // One that never was: who ended isn't prepared again.
                    attempt += 1_000_000;
                }
                self.ending.insert(attempt);
                Action::Commit(Commit {
                    attempt,
                    revision,
                    path: path.to_vec(),
                })
            }
            What::Abort(pick) => {
                let attempt = self.attempt(*pick);
                self.ending.insert(attempt);
                Action::Abort(Abort { attempt })
            }
            What::Forget(pick) => Action::Forget(Forget {
                attempt: self.attempt(*pick),
            }),
        }
    }
}

fn first_mine(model: &Model) -> &'static [u8] {
    let mine = |key: &&&[u8]| model.owned.contains(model.vnode(key));
    KEYS.iter().find(mine).copied().unwrap_or_default()
}

fn condition(must: Must, known: Option<&Record>) -> Option<Condition> {
    let of = |hit: bool| Revisions {
        revisions: match known {
            Some(record) if hit => vec![9_999_999, record.mod_revision],
            Some(_) | None => vec![9_999_999, 0],
        },
    };
    let kind = match must {
        Must::Nothing => None,
        Must::Absent => Some(ConditionKind::Absent(Unit {})),
        Must::Present => Some(ConditionKind::Present(Unit {})),
        Must::RevisionIs(hit) => Some(ConditionKind::RevisionIs(of(hit))),
        Must::RevisionIsNot(hit) => Some(ConditionKind::RevisionIsNot(of(hit))),
    };
    kind.map(|kind| Condition { kind: Some(kind) })
}
