//! What an entry does when it is applied: pure, the same on every replica.

use super::*;

impl Cfg {
    pub(crate) fn apply(&self, s: &mut St, g: usize, it: Item) {
        match it.kind {
            WR => self.apply_write(s, g, it),
            PREP => self.apply_prepare(s, g, it),
            DECC => self.apply_decide(s, it),
            DECA => {
                let (a, t) = (it.att as usize, it.op as usize % NT);
                if s.drv[t][1] == it.att {
                    s.drv[t] = [0; 3];
                }
                if s.dec[t][a][0] == 0 {
                    s.dec[t][a] = [2, 0];
                }
            }
            COMM => self.apply_commit(s, g, it),
            ABRT => self.apply_abort(s, g, it),
            _ => self.apply_move(s, it),
        }
    }

    fn apply_write(&self, s: &mut St, g: usize, it: Item) {
        for o in 0..NO {
            if matches!(self.ops[o], Op::R(..) | Op::D(..))
                && s.ops[o].ph == 2
                && s.ops[o].got as usize == g
            {
                s.ops[o].aux = s.ops[o].aux.saturating_sub(1);
            }
        }
        let op = it.op as usize;
        if s.g[g].dd >> op & 1 == 1 {
            return;
        }
        let ks = self.keys_of(op);
        for k in 0..NK {
            if ks >> k & 1 == 1 && !self.owner(s, k, g) {
                return; // moved
            }
        }
        let last = if self.guard_key {
            (0..NK)
                .filter(|k| ks >> k & 1 == 1)
                .map(|k| Self::lastv(s, k))
                .max()
                .unwrap_or(0)
        } else {
            s.g[g].maxrev
        };
        if self.guard && it.rev <= last {
            return; // refused, gets a new grant
        }
        for k in 0..NK {
            if ks >> k & 1 == 1 && self.locked(s, g, k) {
                if self.parked && s.g[g].parked.kind == 0 {
                    s.g[g].parked = it;
                }
                return;
            }
        }
        self.execute(s, g, op, it.rev);
    }

    fn apply_prepare(&self, s: &mut St, g: usize, it: Item) {
        let (a, t) = (it.att as usize, it.op as usize % NT);
        let r = s.rec[g][t];
        if Self::prepared(s, g)
            || r.st != 0
            || s.g[g].dd >> t & 1 == 1
            || r.tomb >> a & 1 == 1
            || !self.owner(s, g, g)
        {
            return; // busy, or over
        }
        if g == 0 && s.dec[t][a][0] != 0 {
            return; // the coordinator has decided this attempt already
        }
        let rv = Self::lastv(s, g);
        s.rec[g][t] = Rec {
            st: 1,
            att: it.att,
            rv,
            yes: r.yes | 1 << a,
            lo: if self.watch { s.g[g].maxrev } else { 0 },
            ..r
        };
    }

    fn apply_decide(&self, s: &mut St, it: Item) {
        let (a, t) = (it.att as usize, it.op as usize % NT);
        if s.drv[t][1] == it.att {
            s.drv[t] = [0; 3];
        }
        if s.dec[t][a][0] != 0 || s.g[0].dd >> t & 1 == 1 {
            return; // first record wins
        }
        if self.coord_first && !(s.rec[0][t].st == 1 && s.rec[0][t].att == it.att) {
            return;
        }
        s.dec[t][a] = [1, it.rev];
        for r in 0..2 {
            if !(s.rec[r][t].st == 1 && s.rec[r][t].att == it.att) {
                s.bad = 8;
            }
        }
        if self.answer_early {
            s.rt = s.rt.max(it.rev);
        }
    }

    fn apply_commit(&self, s: &mut St, g: usize, it: Item) {
        let (a, t) = (it.att as usize, it.op as usize % NT);
        if !(s.rec[g][t].st == 1 && s.rec[g][t].att == it.att) {
            return;
        }
        if Self::lastv(s, g) != s.rec[g][t].rv {
            s.bad = 7;
        }
        if s.ops[t].ph == 9 {
            s.bad = 10;
        }
        s.rec[g][t].st = 2;
        s.rec[g][t].rv = 0;
        s.rec[g][t].lo = 0;
        if self.dedupe_parts || g == 0 {
            s.g[g].dd |= 1 << t;
        }
        self.push(s, g, g, it.rev);
        if s.rec[0][t].st == 2 && s.rec[1][t].st == 2 {
            s.dec[t][a][1] = 0;
            self.done_write(s, t, it.rev);
        }
        self.unpark(s, g);
    }

    fn apply_abort(&self, s: &mut St, g: usize, it: Item) {
        let (a, t) = (it.att as usize, it.op as usize % NT);
        if s.rec[g][t].st == 1 && s.rec[g][t].att == it.att {
            if s.dec[t][a][0] == 1 {
                s.bad = 9;
            }
            s.rec[g][t].st = 0;
            s.rec[g][t].rv = 0;
            s.rec[g][t].lo = 0;
        }
        if self.tomb {
            s.rec[g][t].tomb |= 1 << a;
        }
        self.unpark(s, g);
    }

    fn apply_move(&self, s: &mut St, it: Item) {
        match it.kind {
            ADOPT => {
                if s.dst == 0 {
                    s.dst = 1;
                }
            }
            CHUNK => {
                if s.dst == 1 {
                    s.cp = s.cp.max(it.rev);
                    s.cpd |= it.op;
                }
            }
            FREEZE => {
                if s.src == 0 && s.mvab == 0 {
                    s.src = 1;
                }
            }
            OWN => {
                if s.dst != 1 || self.own_complete && (s.cp != it.rev || s.cpd & it.op != it.op) {
                    return;
                }
                s.dst = 2;
                if s.src == 0 {
                    s.bad = 12;
                }
                if s.cp < s.hn[0] || Self::prepared(s, 0) {
                    s.bad = 13;
                }
                if self.mv_dedupe {
                    s.g[1].dd |= s.cpd;
                }
                let floor = [0, Self::lastv(s, 0), s.own_rev][self.own_floor as usize];
                s.g[1].maxrev = s.g[1].maxrev.max(floor);
            }
            MABORT => {
                if s.dst <= 1 {
                    s.dst = 3;
                }
            }
            UNFRZ => {
                if s.src == 1 {
                    s.src = 0;
                    if s.dst == 2 {
                        s.bad = 12;
                    }
                }
            }
            FORGET => {
                if s.src == 1 {
                    s.src = 2;
                }
            }
            _ => unreachable!(),
        }
    }
}
