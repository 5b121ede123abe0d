//! The groups with keys: open records, registrations, attaches, drops; and the move of a key.

use super::*;

impl Lease {
    pub(crate) fn group(&self, s: &St, g: usize, out: &mut Vec<(Act, St)>) {
        let mut add = |a, n: Option<St>| out.extend(n.map(|n| (a, n)));
        let q = s.g[g];
        if q.lc < self.group_changes {
            let mut n = *s;
            n.g[g].lc += 1;
            n.g[g].q = [E::default(); 2];
            n.g[g].qn = 0;
            n.g[g].wait = 0;
            add(Act::GroupLeaderChange(g as u8), Some(n));
        }
        if q.qn > 0 {
            let mut n = *s;
            let e = q.q[0];
            n.g[g].q = [q.q[1], E::default()];
            n.g[g].qn -= 1;
            self.group_apply(&mut n, g, e);
            add(Act::GroupCommit(g as u8, e), Some(n));
        }
    }

    pub(crate) fn attaching(&self, s: &St, g: usize, out: &mut Vec<(Act, St)>) {
        let mut add = |a, n: Option<St>| out.extend(n.map(|n| (a, n)));
        let q = s.g[g];
        if q.left > 0 && !(g == 0 && s.mv > 0) {
            if q.rec == 2 || self.attach == Attach::NoHome {
                add(Act::Propose("attach"), self.gpush(s, g, entry(ATT, q.turn)));
            } else if self.attach == Attach::Open && q.rec == 0 && q.turn < 3 {
                add(Act::Propose("open"), self.gpush(s, g, entry(OPEN, 0)));
            } else if q.wait == 0
                && q.rec != 3
                && (self.attach != Attach::Open || q.rec == 1)
                && q.sent >> q.turn & 1 == 0
            {
                let mut n = *s;
                n.g[g].wait = 1 + q.turn;
                n.g[g].sent |= 1 << q.turn;
                add(Act::SendRegister(g as u8), Some(n));
            } else if q.wait == 0
                && q.sent >> q.turn & 1 == 1
                && q.rec != 3
                && (self.attach != Attach::Open || q.rec == 1)
            {
                let mut n = *s;
                n.g[g].wait = 1 + q.turn; // asks again after a change of leader
                add(Act::SendRegister(g as u8), Some(n));
            }
            if q.wait > 0 && q.ok >> (q.wait - 1) & 1 == 1 {
                add(
                    Act::Propose("attach (registered)"),
                    self.gpush(s, g, entry(ATT, q.wait - 1)),
                );
            }
        }
    }

    pub(crate) fn registering(&self, s: &St, g: usize, out: &mut Vec<(Act, St)>) {
        let mut add = |a, n: Option<St>| out.extend(n.map(|n| (a, n)));
        let q = s.g[g];
        if self.attach == Attach::NoHome && q.key == 1 && q.sent & 1 == 0 {
            let mut n = *s;
            n.g[g].sent |= 1;
            add(Act::SendRegister(g as u8), Some(n));
        }
        for turn in 0..4u8 {
            if q.sent >> turn & 1 == 1 && q.ok >> turn & 1 == 0 && s.st == 1 {
                add(
                    Act::Propose("register"),
                    self.push(s, entry(REG, g as u8 | turn << 4)),
                );
            }
        }
        if s.st == 2 && s.mask >> g & 1 == 1 && s.acked >> g & 1 == 0
            || self.regrant && s.inc == 2 && s.mask >> g & 1 == 1
        {
            let inc = if s.st == 2 { s.inc } else { 1 };
            add(
                Act::ProposeDrop(g as u8),
                self.gpush(s, g, entry(DROP, inc)),
            );
        }
    }

    /// Move of group 0's leased key to group 1 (steps are entries of the groups' logs, taken as one step each).
    pub(crate) fn moving(&self, s: &St, out: &mut Vec<(Act, St)>) {
        let mut add = |a, n: Option<St>| out.extend(n.map(|n| (a, n)));
        if s.mv == 0 && s.g[0].key == 1 && s.g[0].qn == 0 {
            let mut n = *s;
            n.mv = 1;
            n.content = s.g[0].key;
            add(Act::Move("freeze, last content sent"), Some(n));
        }
        if s.mv == 1 && self.mv_rule == 1 && s.mask & 2 == 0 {
            add(Act::Move("target registers"), self.push(s, entry(MREG, 0)));
        }
        if s.mv == 1 && (self.mv_rule != 1 || s.mask & 2 != 0) {
            let mut n = *s;
            n.mv = 2;
            n.g[0].key = 0;
            n.g[1].key |= n.content;
            if n.content != 0 && n.g[1].rec != 3 {
                n.g[1].rec = 2;
            }
            self.visible(&mut n);
            add(Act::Move("target owns"), Some(n));
        }
        if s.mv == 2 && self.mv_rule == 2 && s.st != 3 {
            add(Act::Move("target registers"), self.push(s, entry(MREG, 0)));
        }
        if s.mv == 3 || s.mv == 2 && self.mv_rule != 2 {
            let mut n = *s;
            n.mv = 4;
            add(Act::Move("source forgets"), Some(n));
        }
    }
}
