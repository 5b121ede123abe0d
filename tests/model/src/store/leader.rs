//! What a group's leader does: grants, proposals, commits; and its change.

use super::*;

impl Cfg {
    pub(crate) fn group(&self, s: &St, g: usize, out: &mut Vec<(Act, St)>) {
        let gr = &s.g[g];
        if gr.seq.kind == WR && gr.seq.rev == 0 {
            let mut n = *s;
            n.next += 1;
            n.g[g].seq.rev = n.next;
            if self.prefetch && gr.spare == 0 {
                n.next += 1;
                n.g[g].spare = n.next;
            }
            out.push((
                Act::Grant {
                    group: g as u8,
                    rev: n.g[g].seq.rev,
                },
                n,
            ));
        }
        if gr.seq.kind == WR && gr.seq.rev > 0 && gr.qn < self.qcap {
            let mut n = *s;
            n.g[g].q[gr.qn as usize] = gr.seq;
            n.g[g].qn += 1;
            n.g[g].seq = NOI;
            out.push((Act::Propose { group: g as u8 }, n));
        }
        if gr.qn > 0 {
            let mut n = *s;
            let it = gr.q[0];
            n.g[g].q.copy_within(1.., 0);
            n.g[g].q[Q - 1] = NOI;
            n.g[g].qn -= 1;
            self.apply(&mut n, g, it);
            out.push((
                Act::Commit {
                    group: g as u8,
                    entry: pretty(it),
                },
                n,
            ));
        }
        if gr.lc < self.changes[g] {
            self.leader_change(s, g, out);
        }
        if self.keep_grant && gr.spare != 0 && gr.seq.kind == 0 {
            self.propose_spare(s, g, out);
        }
    }

    fn leader_change(&self, s: &St, g: usize, out: &mut Vec<(Act, St)>) {
        let gr = &s.g[g];
        let mut n = *s;
        n.g[g].lc += 1;
        n.g[g].q = [NOI; Q];
        n.g[g].qn = 0;
        if !self.keep_grant || gr.seq.rev == 0 {
            n.g[g].seq = NOI;
        }
        if self.keep_grant && gr.seq.rev > 0 {
            // the grant is remembered by the old node and comes back after the writes of the next leader
            n.g[g].spare = gr.seq.rev;
            n.g[g].parked = NOI;
            n.g[g].seq = NOI;
        } else {
            n.g[g].spare = 0;
        }
        if g == 0 {
            n.drv = [[0; 3]; NT];
        }
        for o in 0..NO {
            if let Op::R(..) | Op::D(..) = self.ops[o]
                && n.ops[o].ph == 2
                && n.ops[o].got as usize == g
            {
                if self.deposed_dead {
                    n.ops[o].aux = 0;
                } else {
                    n.ops[o] = OpS {
                        ph: 1,
                        floor: 0,
                        al: 0,
                        aux: 0,
                        v: [0; NK],
                        got: 0,
                        tries: 0,
                    };
                }
            }
        }
        if !self.snap_index || !self.f_index {
            for k in 0..NK {
                if (k == 0) == (g == 0) {
                    n.stale[k] = n.hn[k];
                }
            }
        }
        out.push((Act::LeaderChange { group: g as u8 }, n));
        if self.deposed_dead && gr.qn > 0 {
            self.step_down(s, g, out);
        }
    }

    /// The step-down is seen by the waiting snapshot: it reads without the proposals, which then survive.
    fn step_down(&self, s: &St, g: usize, out: &mut Vec<(Act, St)>) {
        let mut n = *s;
        let gr = s.g[g];
        for o in 0..NO {
            if let Op::S(mask, _) = self.ops[o] {
                let k = if g == 0 { 0 } else { 1 };
                if s.ops[o].ph == 2
                    && s.ops[o].got >> k & 1 == 0
                    && mask >> k & 1 == 1
                    && !self.locked(s, g, k)
                {
                    n.ops[o].v[k] = Self::version_at(s, k, s.ops[o].aux, s.hn[k]);
                    n.ops[o].got |= 1 << k;
                }
            }
        }
        n.g[g].lc += 1;
        n.g[g].seq = NOI;
        for it in &gr.q[..gr.qn as usize] {
            n.g[g].q.copy_within(1.., 0);
            n.g[g].q[Q - 1] = NOI;
            n.g[g].qn -= 1;
            self.apply(&mut n, g, *it);
        }
        if g == 0 {
            n.drv = [[0; 3]; NT];
        }
        out.push((
            Act::LeaderChange {
                group: g as u8 + 10,
            },
            n,
        ));
    }

    fn propose_spare(&self, s: &St, g: usize, out: &mut Vec<(Act, St)>) {
        let gr = &s.g[g];
        for o in 0..NO {
            if matches!(self.ops[o], Op::W(_))
                && self.wkey(o as u8) == g
                && s.ops[o].ph <= 1
                && s.ops[o].tries < self.tries
            {
                let mut n = *s;
                if n.ops[o].ph == 0 {
                    n.ops[o].ph = 1;
                    n.ops[o].floor = s.rt;
                }
                n.g[g].spare = 0;
                n.ops[o].tries += 1;
                n.g[g].seq = item(WR, o as u8, 0, gr.spare);
                out.push((
                    Act::ProposeSpare {
                        group: g as u8,
                        op: o as u8,
                    },
                    n,
                ));
            }
        }
    }
}
