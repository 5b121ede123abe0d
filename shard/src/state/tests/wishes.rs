//! Wishes: requests as proptest makes and shrinks them, with small numbers for what only exists when they
//! are sent. [`Plan`] makes messages of them.

use bytes::Bytes;
use caucus_api::shard::change::By;
use caucus_api::shard::compare::Target;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::{
    Change, Compare, Filter, LeaseStep, Operation, Place, Put, RangeRead, Remove, Sequence, Span,
    Txn,
};
use caucus_ring::VnodeSet;
use proptest::prelude::*;

use super::history::KEYS;
use super::model::Model;

/// Mostly numbers, for those who count.
pub(super) const VALUES: [&[u8]; 8] = [
    b"0",
    b"1",
    b"-5",
    b"7",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"x",
    b"",
];
const NUMBERS: [i64; 6] = [0, 1, -5, 7, i64::MAX, i64::MIN];
/// Of a ring of 16 vnodes: the first three are at home here.
pub(super) const LEASES: [u64; 5] = [2, 3, 18, 4, 7];

/// A key, or a range from one to another.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    key: usize,
    /// `None`: it is one key. The end of keys is beyond the last.
    to: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    compares: Vec<Look>,
    then: Vec<Op>,
    otherwise: Vec<Op>,
}

#[derive(Clone, Debug)]
struct Look {
    span: Stretch,
    relation: i32,
    target: u8,
    /// How far beside what is there.
    off: i64,
    value: usize,
}

#[derive(Clone, Debug)]
struct Read {
    /// 0 is now; then so many revisions ago; below it what can't be.
    back: i64,
    limit: u64,
    order: i32,
    target: i32,
    /// Bits: keys only, count only, uncounted, filtered.
    how: u8,
}

/// The lease of a put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attach {
    lease: usize,
    /// Whether it names the record by which a lease of another group is open.
    knows: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Range(Stretch, Read),
    Place {
        key: usize,
        value: usize,
        attach: Option<Attach>,
        keep_value: bool,
        keep_lease: bool,
        previous: bool,
    },
    /// Perhaps only what is attached to a lease.
    Remove(Stretch, bool, Option<usize>),
    Change(usize, u8, usize, bool),
    Lease {
        kind: i32,
        lease: usize,
        /// Whether it names the right grant, a wrong one, or none.
        grant: u8,
        group: u32,
    },
    Sequence(usize, u64),
    Txn(Tree),
}

fn key() -> impl Strategy<Value = usize> + Clone {
    // The first few more often, so that they meet.
    prop_oneof![3 => 0..4_usize, 2 => 0..KEYS.len()]
}

fn lease() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![2 => Just(0), 3 => 0..LEASES.len()]
}

fn stretch() -> impl Strategy<Value = Stretch> + Clone {
    let to = prop_oneof![2 => Just(None), 1 => (0..=KEYS.len()).prop_map(Some)];
    (key(), to).prop_map(|(key, to)| Stretch { key, to })
}

fn look() -> impl Strategy<Value = Look> + Clone {
    (stretch(), 0..4_i32, 0..7_u8, -1..2_i64, 0..VALUES.len()).prop_map(
        |(span, relation, target, off, value)| Look {
            span,
            relation,
            target,
            off,
            value,
        },
    )
}

fn read() -> impl Strategy<Value = Read> + Clone {
    let back = prop_oneof![4 => Just(0_i64), 5 => 1..16_i64, 1 => -3..0_i64];
    (back, 0..4_u64, 0..3_i32, 0..5_i32, 0..16_u8).prop_map(|(back, limit, order, target, how)| {
        Read {
            back,
            limit,
            order,
            target,
            how,
        }
    })
}

pub(super) fn attach() -> impl Strategy<Value = Option<Attach>> + Clone {
    let attach = (lease(), prop::bool::weighted(0.8));
    let attach = attach.prop_map(|(lease, knows)| Attach { lease, knows });
    prop::option::weighted(0.4, attach)
}

fn op() -> impl Strategy<Value = Op> + Clone {
    let place = (
        key(),
        0..VALUES.len(),
        attach(),
        (prop::bool::weighted(0.1), prop::bool::weighted(0.15)),
        any::<bool>(),
    )
        .prop_map(
            |(key, value, attach, (keep_value, keep_lease), previous)| Op::Place {
                key,
                value,
                attach,
                keep_value,
                keep_lease,
                previous,
            },
        );
    let of = prop::option::weighted(0.3, lease());
    // A lease is granted more often than anything else happens to it.
    let kind = prop_oneof![2 => Just(1_i32), 1 => Just(2_i32), 3 => 1..10_i32];
    let lease =
        (kind, 0..LEASES.len(), 0..4_u8, 5..8_u32).prop_map(|(kind, lease, grant, group)| {
            Op::Lease {
                kind,
                lease,
                grant,
                group,
            }
        });
    let change = (key(), 0..5_u8, 0..NUMBERS.len(), any::<bool>());
    prop_oneof![
        3 => (stretch(), read()).prop_map(|(span, read)| Op::Range(span, read)),
        4 => place,
        2 => (stretch(), any::<bool>(), of).prop_map(|(span, previous, of)| Op::Remove(span, previous, of)),
        2 => change.prop_map(|(key, by, number, previous)| Op::Change(key, by, number, previous)),
        3 => lease,
        1 => (key(), 0..3_u64).prop_map(|(key, count)| Op::Sequence(key, count)),
    ]
}

pub(super) fn tree() -> impl Strategy<Value = Tree> + Clone {
    let leaf = op().boxed();
    let list = prop::collection::vec(leaf, 0..3);
    let some = prop::collection::vec(look(), 0..3);
    let flat = (some.clone(), list.clone(), list).prop_map(|(compares, then, otherwise)| Tree {
        compares,
        then,
        otherwise,
    });
    flat.prop_recursive(2, 16, 3, move |inner| {
        let op = prop_oneof![3 => op(), 1 => inner.prop_map(Op::Txn)].boxed();
        let list = prop::collection::vec(op, 1..4);
        (some.clone(), list.clone(), list).prop_map(|(compares, then, otherwise)| Tree {
            compares,
            then,
            otherwise,
        })
    })
}

/// Makes messages of wishes, as of a state.
pub(super) struct Plan<'m> {
    pub(super) model: &'m Model,
    /// Whether only keys of this group are named.
    pub(super) alone: bool,
}

impl Plan<'_> {
    fn key(&self, pick: usize) -> Bytes {
        let mine = |key: &&&[u8]| self.model.owned.contains(self.model.vnode(key));
        let pool: Vec<&[u8]> = match self.alone {
            true => KEYS.iter().filter(mine).copied().collect(),
            false => KEYS.to_vec(),
        };
        Bytes::from_static(pool[pick % pool.len()])
    }

    fn span(&self, stretch: &Stretch) -> Span {
        let start = self.key(stretch.key);
        let Some(to) = stretch.to else {
            return Span {
                start,
                ..Span::default()
            };
        };
        let end = match to {
            to if to >= KEYS.len() => Bytes::new(),
            to => self.key(to),
        };
        let (start, end) = match end.is_empty() || start < end {
            true => (start, end),
            false => (end, start),
        };
        // One key has no range from itself to itself.
        let end = if start == end { Bytes::new() } else { end };
        Span {
            start,
            end,
            range: true,
            vnodes: self.vnodes().to_packed().into(),
        }
    }

    fn vnodes(&self) -> VnodeSet {
        match self.alone {
            true => self.model.owned.clone(),
            false => VnodeSet::full(super::history::VNODES),
        }
    }

    pub(super) fn tree(&self, tree: &Tree) -> Txn {
        let list = |all: &[Op]| all.iter().map(|op| self.op(op)).collect();
        Txn {
            compares: tree.compares.iter().map(|look| self.look(look)).collect(),
            then: list(&tree.then),
            otherwise: list(&tree.otherwise),
        }
    }

    fn look(&self, look: &Look) -> Compare {
        let span = self.span(&look.span);
        let there = self.model.keys.get(&span.start).cloned();
        let there = there.unwrap_or_default();
        let beside = |value: u64| value as i64 + look.off;
        let target = match look.target {
            0 => Target::Version(beside(there.version)),
            1 => Target::CreateRevision(beside(there.create_revision)),
            2 => Target::ModRevision(beside(there.mod_revision)),
            3 => Target::Lease(beside(there.lease)),
            4 => Target::Value(Bytes::from_static(VALUES[look.value])),
            5 => Target::Number(NUMBERS[look.value % NUMBERS.len()]),
            _ => Target::Count(look.value as u64),
        };
        Compare {
            span: Some(span),
            relation: look.relation,
            target: Some(target),
        }
    }

    fn read(&self, span: &Stretch, read: &Read) -> RangeRead {
        let highest = self.model.highest as i64;
        let has = |bit: u8| read.how & bit != 0;
        RangeRead {
            span: Some(self.span(span)),
            revision: match read.back {
                0 => 0,
                -1 => -1,
                back => highest - back + 2,
            },
            limit: read.limit,
            order: read.order,
            target: read.target,
            keys_only: has(1),
            count_only: has(2) && has(1),
            uncounted: has(4),
            filter: (has(8) && has(1)).then(|| Filter {
                mod_min: (highest / 3) as u64,
                mod_max: (highest as u64).saturating_sub(read.limit),
                create_min: read.limit,
                create_max: 0,
            }),
        }
    }

    /// What a put says of the lease that it attaches its key to.
    pub(super) fn attached(&self, attach: Option<Attach>, put: Put) -> Put {
        let Some(attach) = attach else {
            return put;
        };
        let lease = LEASES[attach.lease];
        let open = self.model.open.get(&lease).copied().unwrap_or(0);
        Put {
            lease,
            lease_grant: 77,
            lease_open: open + u64::from(!attach.knows),
            ..put
        }
    }

    fn op(&self, op: &Op) -> Operation {
        let operation = match op {
            Op::Range(span, read) => Asked::Range(self.read(span, read)),
            Op::Place {
                key,
                value,
                attach,
                keep_value,
                keep_lease,
                previous,
            } => Asked::Place(Place {
                key: self.key(*key),
                put: Some(self.attached(
                    *attach,
                    Put {
                        value: Bytes::from_static(VALUES[*value]),
                        content_type: "text/plain".to_owned(),
                        ..Put::default()
                    },
                )),
                keep_value: *keep_value,
                keep_lease: *keep_lease,
                previous: *previous,
            }),
            Op::Remove(span, previous, of) => {
                let lease = of.map_or(0, |of| LEASES[of]);
                let granted = self.model.leases.get(&lease).map(|lease| lease.grant);
                Asked::Remove(Remove {
                    span: Some(self.span(span)),
                    previous: *previous,
                    lease,
                    lease_grant: granted.unwrap_or(77),
                })
            }
            Op::Change(key, by, number, previous) => Asked::Change(Change {
                key: self.key(*key),
                previous: *previous,
                by: Some(match by {
                    0 | 1 => By::Add(NUMBERS[*number]),
                    2 => By::Min(NUMBERS[*number]),
                    3 => By::Max(NUMBERS[*number]),
                    _ => By::Append(Bytes::from_static(VALUES[*number])),
                }),
            }),
            Op::Lease {
                kind,
                lease,
                grant,
                group,
            } => Asked::Lease(self.step(*kind, *lease, *grant, *group)),
            Op::Sequence(key, count) => {
                let key = self.key(*key);
                let directory = key.iter().rposition(|byte| *byte == b'/');
                let directory = &key[..directory.map_or(0, |last| last + 1)];
                Asked::Sequence(Sequence {
                    counter: [directory, b"#"].concat().into(),
                    prefix: [directory, b"n"].concat().into(),
                    count: *count,
                    put: Some(Put {
                        value: Bytes::from_static(b"numbered"),
                        ..Put::default()
                    }),
                })
            }
            Op::Txn(tree) => Asked::Txn(self.tree(tree)),
        };
        Operation {
            operation: Some(operation),
        }
    }

    fn step(&self, kind: i32, lease: usize, grant: u8, group: u32) -> LeaseStep {
        // Alone, what is at home elsewhere can only be opened and closed here.
        let lease = match self.alone && !matches!(kind, 2 | 7) {
            true => lease % 3,
            false => lease,
        };
        let id = LEASES[lease];
        let granted = self.model.leases.get(&id).map_or(0, |lease| lease.grant);
        LeaseStep {
            kind,
            id,
            grant: match grant {
                0 | 1 => 0,
                2 => granted,
                _ => granted + 1,
            },
            ttl_s: 10,
            rest_ms: u64::from(group) * 100,
            group,
        }
    }
}
