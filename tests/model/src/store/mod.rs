//! Models B (strict serializability, two-phase commit), C (watch) and D (move of a vnode), over two groups.
//!
//! A group = applied state machine + queue of proposals in flight (commit in order) + the leader's volatile state.
//! A leader change drops the queue and the volatile state; that a prefix of the queue survives is covered, because
//! the prefix may commit just before the change. What a deposed leader can still do without its log (send late
//! messages, answer a read that it evaluated) is covered by messages that stay deliverable for ever and by the
//! floor/rt bookkeeping; the variants that let it do more keep what they need (`stale`).
//! Keys: x=0 (group 0, may move to group 1), y=1 and m=2 (group 1). Revisions are renumbered densely in each state.
//! Placement of reads: each completed operation has the least point L at which it can stand; `rt` is the largest L
//! completed; an operation that starts takes it as its floor; `rf[k]` = a read of k stands there, so a later write
//! of k at or below it is a violation.

use crate::checker::Model;

mod action;
mod apply;
mod canon;
mod cases;
mod config;
mod leader;
mod moving;
mod reads;
mod txn;
mod watch;
mod writes;

pub(crate) use action::*;
pub(crate) use cases::cases;
pub(crate) use config::*;

// kinds of entries in flight
const WR: u8 = 1;
const PREP: u8 = 2;
const DECC: u8 = 3;
const DECA: u8 = 4;
const COMM: u8 = 5;
const ABRT: u8 = 6;
const ADOPT: u8 = 7;
const CHUNK: u8 = 8;
const FREEZE: u8 = 9;
const OWN: u8 = 10;
const MABORT: u8 = 11;
const UNFRZ: u8 = 12;
const FORGET: u8 = 13;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Item {
    /// One of the kinds above; 0 is no entry.
    kind: u8,
    /// Operation, or dedupe mask of a content entry.
    op: u8,
    /// Attempt of a transaction.
    att: u8,
    /// Revision, or length of content.
    rev: u8,
}

const NOI: Item = item(0, 0, 0, 0);
const fn item(kind: u8, op: u8, att: u8, rev: u8) -> Item {
    Item { kind, op, att, rev }
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct OpS {
    /// 0 not begun; 1 begun; 2 R: at the leader / S: has R; 9 done.
    ph: u8,
    /// What was complete when it began.
    floor: u8,
    /// `at_least` of its router.
    al: u8,
    /// R: outstanding writes ahead; S: R.
    aux: u8,
    /// S: what was read, by key.
    v: [u8; NK],
    /// S: groups evaluated.
    got: u8,
    /// How often it was sent.
    tries: u8,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Group {
    /// Proposals in flight.
    q: [Item; Q],
    /// How many they are.
    qn: u8,
    /// The leader's open ask, or the grant it holds.
    seq: Item,
    /// Prefetch: a revision of an old block.
    spare: u8,
    /// A write that waits in the state for an unlock (variants).
    parked: Item,
    /// Changes of leader.
    lc: u8,
    /// The highest revision applied.
    maxrev: u8,
    /// Watch: progress of stream g.
    p: u8,
    /// De-duplication: operations known here.
    dd: u8,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Rec {
    /// 0 none 1 prepared 2 committed.
    st: u8,
    /// The attempt.
    att: u8,
    /// Aborted attempts that are remembered.
    tomb: u8,
    /// The revision of the key when it was prepared.
    rv: u8,
    /// Attempts for which a yes was ever sent.
    yes: u8,
    /// Attempts whose Prepare message is lost.
    lost: u8,
    /// Watch: last applied revision of the group when it was prepared.
    lo: u8,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct St {
    /// What is violated, 0 for nothing.
    bad: u8,
    /// The last revision granted.
    next: u8,
    /// The largest point of what is complete.
    rt: u8,
    /// The highest revision seen, by router.
    seen: [u8; 2],
    /// The operations.
    ops: [OpS; NO],
    /// The groups.
    g: [Group; 2],
    /// Revisions of each key.
    hist: [[u8; H]; NK],
    /// How many they are.
    hn: [u8; NK],
    /// A completed read of the key stands at this.
    rf: [u8; NK],
    /// Length of history at the last change of leader (variants).
    stale: [u8; NK],
    /// What a group knows of a transaction.
    rec: [[Rec; NT]; 2],
    /// State 0 idle 1 running 2 asked 3 has c 4 deciding; attempt; c.
    drv: [[u8; 3]; NT],
    /// By attempt: 0 none 1 commit 2 abort; c.
    dec: [[[u8; 2]; 2]; NT],
    /// Attempts begun.
    sent: [u8; NT],
    /// Of the driver (fresh_votes).
    votes: [u8; NT],
    // move
    /// 0 owned 1 frozen 2 forgotten.
    src: u8,
    /// 0 none 1 arriving 2 owned 3 aborted.
    dst: u8,
    /// Length of x's history at the target.
    cp: u8,
    /// Its de-duplication entries.
    cpd: u8,
    /// Whether routers have the new map.
    map: u8,
    /// Length of x's history that `own` names, + 1.
    own_sent: u8,
    /// The revision that `own` carries.
    own_rev: u8,
    /// Group from which the watch reads x.
    sub: u8,
    /// Unfreeze decided.
    mvab: u8,
}

const BAD: [&str; 16] = [
    "",
    "order by key: a write of the key is applied below an earlier one",
    "a completed read should have seen this write (or reply revision too high)",
    "watch: an event at or below a progress mark already given",
    "a write's revision is not above what was completed before it began",
    "snapshot revision below what was completed before it began",
    "snapshot: not the state at R",
    "transaction: what it read changed before its commit revision",
    "transaction half applied: committed without a prepared participant",
    "transaction half applied: a participant aborts what is committed",
    "applied twice",
    "read is stale",
    "two owners",
    "moved content incomplete: writes lost",
    "single-group transaction read from the future",
    "an operation applied by a group that doesn't own the key",
];

impl Cfg {
    /// The transactions are the first operations of a case: the index of the operation is that of the transaction.
    fn ts(&self) -> usize {
        self.ops.iter().take_while(|o| **o == Op::T).count()
    }

    fn prepared(s: &St, g: usize) -> bool {
        s.rec[g].iter().any(|r| r.st == 1)
    }

    fn owner(&self, s: &St, k: usize, g: usize) -> bool {
        if k != 0 {
            return g == 1;
        }
        if !self.mv {
            return g == 0;
        }
        if g == 0 { s.src == 0 } else { s.dst == 2 }
    }

    fn locked(&self, s: &St, g: usize, k: usize) -> bool {
        Self::prepared(s, g) && k == g
    }

    fn wkey(&self, op: u8) -> usize {
        match self.ops[op as usize] {
            Op::W(k) | Op::RW(_, k) => k as usize,
            _ => 1,
        }
    }

    fn lastv(s: &St, k: usize) -> u8 {
        if s.hn[k] == 0 {
            0
        } else {
            s.hist[k][s.hn[k] as usize - 1]
        }
    }

    fn push(&self, s: &mut St, g: usize, k: usize, rev: u8) {
        if rev <= Self::lastv(s, k) {
            s.bad = 1;
            return;
        }
        if rev <= s.rf[k] {
            s.bad = 2;
        }
        let stream = if k == 0 { 0 } else { 1 };
        let given = if self.eager_merge {
            s.g[0].p.max(s.g[1].p)
        } else {
            s.g[stream].p
        };
        if self.watch && rev <= given {
            s.bad = 3;
        }
        if s.hn[k] as usize == H {
            // canon() keeps histories short; drop the oldest if a snapshot pins more
            s.hist[k].copy_within(1.., 0);
            s.hn[k] -= 1;
        }
        s.hist[k][s.hn[k] as usize] = rev;
        s.hn[k] += 1;
        s.g[g].maxrev = s.g[g].maxrev.max(rev);
    }

    fn done_write(&self, s: &mut St, op: usize, rev: u8) {
        if rev <= s.ops[op].floor {
            s.bad = 4;
        }
        s.rt = s.rt.max(rev);
        s.seen[op % self.routers as usize] = s.seen[op % self.routers as usize].max(rev);
        s.ops[op].ph = 9;
    }

    /// Executes a write (unlocked, owned, not seen).
    fn execute(&self, s: &mut St, g: usize, op: usize, rev: u8) {
        if s.ops[op].ph == 9 {
            s.bad = 10;
            return;
        }
        s.g[g].dd |= 1 << op;
        match self.ops[op] {
            Op::W(k) => self.push(s, g, k as usize, rev),
            Op::RW(a, b) => {
                if Self::lastv(s, a as usize) >= rev {
                    s.bad = 14;
                }
                s.rf[a as usize] = s.rf[a as usize].max(rev);
                self.push(s, g, b as usize, rev);
            }
            Op::T => {
                self.push(s, g, 0, rev);
                self.push(s, g, 1, rev);
            }
            _ => unreachable!(),
        }
        self.done_write(s, op, rev);
    }

    fn keys_of(&self, op: usize) -> u8 {
        match self.ops[op] {
            Op::W(k) => 1 << k,
            Op::RW(a, b) => 1 << a | 1 << b,
            Op::T => 3,
            _ => 0,
        }
    }

    fn unpark(&self, s: &mut St, g: usize) {
        let it = s.g[g].parked;
        if it.kind == WR && !Self::prepared(s, g) {
            s.g[g].parked = NOI;
            if s.g[g].dd >> it.op & 1 == 0 {
                self.execute(s, g, it.op as usize, it.rev);
            }
        }
    }

    fn enqueue(&self, s: &St, g: usize, it: Item) -> Option<St> {
        let q = &s.g[g];
        if q.qn >= self.qcap || q.q[..q.qn as usize].contains(&it) {
            return None;
        }
        let mut n = *s;
        n.g[g].q[q.qn as usize] = it;
        n.g[g].qn += 1;
        Some(n)
    }

    fn outstanding_le(&self, s: &St, g: usize, r: u8, asked: bool) -> bool {
        let q = &s.g[g];
        q.q[..q.qn as usize]
            .iter()
            .any(|i| i.kind == WR && i.rev <= r)
            || asked && q.seq.kind == WR && q.seq.rev > 0 && q.seq.rev <= r
            || q.parked.kind == WR && q.parked.rev <= r
    }

    fn version_at(s: &St, k: usize, r: u8, len: u8) -> u8 {
        s.hist[k][..len as usize]
            .iter()
            .rev()
            .find(|v| **v <= r)
            .copied()
            .unwrap_or(0)
    }
}

impl Model for Cfg {
    type State = St;
    type Action = Act;
    fn init(&self) -> St {
        let op = OpS {
            ph: 0,
            floor: 0,
            al: 0,
            aux: 0,
            v: [0; NK],
            got: 0,
            tries: 0,
        };
        let g = Group {
            q: [NOI; Q],
            qn: 0,
            seq: NOI,
            spare: 0,
            parked: NOI,
            lc: 0,
            maxrev: 0,
            p: 0,
            dd: 0,
        };
        let rec = Rec {
            st: 0,
            att: 0,
            tomb: 0,
            rv: 0,
            yes: 0,
            lost: 0,
            lo: 0,
        };
        St {
            bad: 0,
            next: 0,
            rt: 0,
            seen: [0; 2],
            ops: [op; NO],
            g: [g; 2],
            hist: [[0; H]; NK],
            hn: [0; NK],
            rf: [0; NK],
            stale: [0; NK],
            rec: [[rec; NT]; 2],
            drv: [[0; 3]; NT],
            dec: [[[0; 2]; 2]; NT],
            sent: [0; NT],
            votes: [0; NT],
            src: 0,
            dst: 0,
            cp: 0,
            cpd: 0,
            map: 0,
            own_sent: 0,
            own_rev: 0,
            sub: 0,
            mvab: 0,
        }
    }

    fn violation(&self, s: &St) -> Option<&'static str> {
        (s.bad != 0).then(|| BAD[s.bad as usize])
    }

    fn terminal(&self, s: &St) -> Option<&'static str> {
        if Self::prepared(s, 0) || Self::prepared(s, 1) {
            return Some("a transaction stays prepared for ever");
        }
        for o in 0..NO {
            if matches!(self.ops[o], Op::R(..) | Op::D(..) | Op::S(..)) && s.ops[o].ph != 9 {
                return Some("a read waits for ever");
            }
        }
        if self.watch
            && self.f_index
            && (Self::lastv(s, 0) > s.g[0].p || Self::lastv(s, 1).max(Self::lastv(s, 2)) > s.g[1].p)
        {
            return Some("watch: an event is never delivered");
        }
        if self.mv && (s.src == 1 || s.dst == 1 && s.mvab == 0) {
            return Some("a move never ends");
        }
        None
    }

    fn show(&self, s: &St) -> String {
        format!(
            "hist x={:?} y={:?} m={:?} rf={:?}",
            &s.hist[0][..s.hn[0] as usize],
            &s.hist[1][..s.hn[1] as usize],
            &s.hist[2][..s.hn[2] as usize],
            s.rf
        )
    }

    fn next(&self, s: &St, out: &mut Vec<(Act, St)>) {
        if s.bad != 0 {
            return;
        }
        let first = out.len();
        self.clients(s, out);
        for g in 0..2 {
            self.group(s, g, out);
        }
        for t in 0..self.ts() {
            self.txn(s, t, out);
        }
        if self.watch {
            self.watching(s, out);
        }
        if self.mv {
            self.moving(s, out);
        }
        for (_, n) in &mut out[first..] {
            if n.bad == 0 {
                self.canon(n);
            }
        }
    }
}
