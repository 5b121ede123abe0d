//! Model A: the revision oracle. Two nodes, up to four terms; leaders of all terms go on acting on what they
//! remember; a deposed one can't commit and can't get a quorum's confirmation.

use crate::case::{Case, Expected::*, cases};
use crate::checker::Model;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    /// Wrong: grants with no quorum round.
    pub(crate) no_confirm: bool,
    /// Wrong: a round that began before the request arrived is good enough.
    pub(crate) late_join: bool,
    /// Question: number taken at arrival, confirmed by a later round.
    pub(crate) assign_first: bool,
    /// Wrong: a re-elected node goes on from its old memory.
    pub(crate) mem_kept: bool,
    /// Wrong: starts at the ceiling it had applied when elected, before its own blank entry.
    pub(crate) stale_ceiling: bool,
    /// Wrong: grants under a ceiling that is proposed, not committed.
    pub(crate) eager_raise: bool,
    /// Variant, which holds: a confirmation won in an old term is used after re-election of the same node.
    pub(crate) old_replies: bool,
}

pub(crate) struct Oracle {
    /// Choices of the protocol.
    pub(crate) f: Flags,
    /// Block size by request; 0 asks for a read revision.
    pub(crate) want: [u8; N],
    /// Leaders, one after the other.
    pub(crate) terms: u8,
    /// How far each raise goes.
    pub(crate) step: u8,
}

const T: usize = 4;
pub(crate) const N: usize = 4;
#[derive(Clone, Copy, Hash)]
pub(crate) struct Lead {
    /// The next revision to grant.
    next: u8,
    /// Ceiling known committed.
    known: u8,
    /// Proposed, in flight.
    raise: u8,
    /// Committed, not yet learned.
    raised: u8,
    /// 0 none, 1 begun, 2 confirmed by a quorum.
    round: u8,
}

#[derive(Clone, Copy, Hash)]
pub(crate) struct Req {
    /// 0 idle 1 sent 2 arrived 3 in round 5 answered 6 done.
    ph: u8,
    /// Of the leader that has it.
    term: u8,
    /// What was complete when it was sent.
    floor: u8,
    /// The first revision granted.
    rev: u8,
}

#[derive(Clone, Copy, Hash)]
pub(crate) struct St {
    /// What is violated, 0 for nothing.
    bad: u8,
    /// The newest term.
    cur: u8,
    /// The ceiling committed.
    ceil: u8,
    /// The one before.
    prev: u8,
    /// The highest of what is complete.
    rt: u8,
    /// The leaders, by term.
    l: [Lead; T],
    /// The requests.
    r: [Req; N],
    /// Revisions granted.
    used: [u8; 32],
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed in counterexamples")]
pub(crate) enum Act {
    Elect(u8),
    ProposeRaise(u8),
    CommitRaise(u8),
    LearnRaise(u8),
    Send(u8),
    Arrive { req: u8, term: u8, rev_if_first: u8 },
    BeginRound(u8),
    QuorumConfirms(u8),
    FinishRound(u8),
    Receive { req: u8, rev: u8 },
}

impl Oracle {
    fn assign(&self, s: &mut St, t: usize, i: usize) -> bool {
        let n = self.want[i];
        let l = &mut s.l[t];
        let lim = if self.f.eager_raise {
            l.known.max(l.raise)
        } else {
            l.known
        };
        if n == 0 {
            s.r[i].rev = l.next - 1;
            return true;
        }
        if l.next + n > lim {
            return false;
        }
        s.r[i].rev = l.next;
        l.next += n;
        true
    }

    fn answer(&self, s: &mut St, i: usize) {
        let (rev, n) = (s.r[i].rev, self.want[i]);
        for k in 0..n {
            if s.used[(rev + k) as usize] != 0 {
                s.bad = 1;
            }
            s.used[(rev + k) as usize] = 1;
        }
        if n > 0 && rev <= s.r[i].floor || n == 0 && rev < s.r[i].floor {
            s.bad = if n > 0 { 2 } else { 3 };
        }
        s.r[i].ph = 5;
    }
}

impl Model for Oracle {
    type State = St;
    type Action = Act;
    fn init(&self) -> St {
        let l = Lead {
            next: 1,
            known: 1,
            raise: 0,
            raised: 0,
            round: 0,
        };
        St {
            bad: 0,
            cur: 0,
            ceil: 1,
            prev: 1,
            rt: 0,
            l: [l; T],
            r: self.want.map(|w| Req {
                ph: if w == 255 { 6 } else { 0 },
                term: 0,
                floor: 0,
                rev: 0,
            }),
            used: [0; 32],
        }
    }

    fn violation(&self, s: &St) -> Option<&'static str> {
        [
            None,
            Some("a revision granted twice"),
            Some("a grant goes back in real time"),
            Some("a read revision below an acknowledged one"),
        ][s.bad as usize]
    }

    fn terminal(&self, s: &St) -> Option<&'static str> {
        s.r.iter()
            .any(|r| r.ph != 6)
            .then_some("a request is never answered")
    }

    fn next(&self, s: &St, out: &mut Vec<(Act, St)>) {
        if s.cur + 1 < self.terms {
            out.push(self.elect(s));
        }
        for t in 0..=s.cur as usize {
            self.lead(s, t, out);
            self.finish_round(s, t, out);
        }
        for i in 0..N {
            self.request(s, i, out);
        }
    }
}

impl Oracle {
    fn elect(&self, s: &St) -> (Act, St) {
        let f = &self.f;
        let mut n = *s;
        n.cur += 1;
        let c = n.cur as usize;
        n.l[c] = Lead {
            next: n.ceil,
            known: n.ceil,
            raise: 0,
            raised: 0,
            round: 0,
        };
        if f.stale_ceiling {
            n.l[c].next = n.prev;
        }
        if f.mem_kept && c >= 2 {
            n.l[c] = Lead {
                known: n.ceil,
                raise: 0,
                raised: 0,
                round: 0,
                ..n.l[c - 2]
            };
        }
        if f.old_replies && c >= 2 {
            n.l[c].round = n.l[c - 2].round;
            for r in
                n.r.iter_mut()
                    .filter(|r| r.ph == 3 && r.term as usize == c - 2)
            {
                r.term = c as u8;
            }
            n.l[c - 2].round = 0;
        }
        (Act::Elect(n.cur), n)
    }

    fn lead(&self, s: &St, t: usize, out: &mut Vec<(Act, St)>) {
        let f = &self.f;
        let l = s.l[t];
        let live = t as u8 == s.cur;
        if l.raise == 0
            && l.raised == 0
            && (live || f.eager_raise)
            && l.known.saturating_sub(l.next) < 4
            && l.known + self.step < 24
        {
            let mut n = *s;
            n.l[t].raise = l.known + self.step;
            out.push((Act::ProposeRaise(t as u8), n));
        }
        if l.raise != 0 && live {
            let mut n = *s;
            n.prev = n.ceil;
            n.ceil = n.ceil.max(l.raise);
            n.l[t].raised = l.raise;
            n.l[t].raise = 0;
            out.push((Act::CommitRaise(t as u8), n));
        }
        if l.raised != 0 {
            let mut n = *s;
            n.l[t].known = l.raised;
            n.l[t].raised = 0;
            out.push((Act::LearnRaise(t as u8), n));
        }
        if l.round == 0 && s.r.iter().any(|r| r.ph == 2 && r.term as usize == t) {
            let mut n = *s;
            n.l[t].round = 1;
            for r in n.r.iter_mut().filter(|r| r.ph == 2 && r.term as usize == t) {
                r.ph = 3;
            }
            out.push((Act::BeginRound(t as u8), n));
        }
        if l.round == 1 && (live || f.no_confirm) {
            let mut n = *s;
            n.l[t].round = 2;
            out.push((Act::QuorumConfirms(t as u8), n));
        }
    }

    fn finish_round(&self, s: &St, t: usize, out: &mut Vec<(Act, St)>) {
        let (f, l) = (&self.f, s.l[t]);
        if l.round == 2 {
            let mut n = *s;
            n.l[t].round = 0;
            let mut ok = true;
            for i in 0..N {
                let r = n.r[i];
                if r.term as usize == t && (r.ph == 3 || f.late_join && r.ph == 2) {
                    if !f.assign_first || r.rev == 0 {
                        ok &= self.assign(&mut n, t, i);
                    }
                    if ok {
                        self.answer(&mut n, i);
                    }
                }
            }
            if ok {
                out.push((Act::FinishRound(t as u8), n));
            }
        }
    }

    fn request(&self, s: &St, i: usize, out: &mut Vec<(Act, St)>) {
        let f = &self.f;
        let r = s.r[i];
        if r.ph == 0 {
            let mut n = *s;
            n.r[i].ph = 1;
            n.r[i].floor = s.rt;
            out.push((Act::Send(i as u8), n));
        }
        // sent, or given up at an old leader and sent again (the old copy is thrown away)
        for t in 0..=s.cur {
            if r.ph == 1 || (r.ph == 2 || r.ph == 3) && r.term < t && t == s.cur {
                let mut n = *s;
                n.r[i] = Req {
                    ph: 2,
                    term: t,
                    rev: 0,
                    ..r
                };
                let mut ok = true;
                if f.assign_first {
                    ok = self.assign(&mut n, t as usize, i);
                }
                if ok {
                    out.push((
                        Act::Arrive {
                            req: i as u8,
                            term: t,
                            rev_if_first: n.r[i].rev,
                        },
                        n,
                    ));
                }
            }
        }
        if r.ph == 5 {
            let mut n = *s;
            n.rt = n.rt.max(r.rev + self.want[i].saturating_sub(1));
            n.r[i] = Req {
                ph: 6,
                term: 0,
                floor: 0,
                rev: 0,
            };
            out.push((
                Act::Receive {
                    req: i as u8,
                    rev: r.rev,
                },
                n,
            ));
        }
    }
}

/// All of them; a request that wants 255 isn't there.
pub(crate) fn cases() -> Vec<Case> {
    let d = Flags::default();
    let oracle = |want, terms| Oracle {
        f: d,
        want,
        terms,
        step: 4,
    };
    let small = [1, 0, 2, 255];
    let full = [1, 0, 2, 1];
    cases! {
        "A natural, 3 requests, 3 terms": HoldsSlow, oracle(small, 3);
        "A natural, 2 requests, 4 terms": HoldsSlow, oracle([1, 0, 255, 255], 4);
        "A natural, 4 requests, 2 terms": HoldsSlow, oracle(full, 2);
        "A number taken at arrival, 3 requests, 3 terms": HoldsSlow, oracle(small, 3), f = Flags { assign_first: true, ..d };
        "A number taken at arrival, 4 requests, 2 terms": HoldsSlow, oracle(full, 2), f = Flags { assign_first: true, ..d };
        "A wrong: no quorum round": Fails("a grant goes back in real time"), oracle(small, 3), f = Flags { no_confirm: true, ..d };
        "A wrong: round began before arrival": Fails("a grant goes back in real time"), oracle(small, 3), f = Flags { late_join: true, ..d };
        "A wrong: re-elected keeps memory": Fails("a revision granted twice"), oracle(small, 3), f = Flags { mem_kept: true, ..d };
        "A wrong: starts at applied ceiling": Fails("a revision granted twice"), oracle(small, 3), f = Flags { stale_ceiling: true, ..d };
        "A wrong: grants under uncommitted ceiling": Fails("a revision granted twice"), oracle(small, 3), f = Flags { eager_raise: true, ..d };
        "A variant: old term's confirmation reused": Holds, oracle([1, 0, 255, 255], 4), f = Flags { old_replies: true, ..d };
    }
}
