//! Client operations: which are under way, writes, and the transaction of one group that a moved one becomes.

use super::*;

impl Cfg {
    pub(crate) fn clients(&self, s: &St, out: &mut Vec<(Act, St)>) {
        for o in 0..NO {
            match self.ops[o] {
                Op::W(_) | Op::RW(..) => self.write(s, o, out),
                Op::R(k, r) => self.read(s, o, 1 << k, r, out),
                Op::D(mask, r) => self.read(s, o, mask, r, out),
                Op::S(mask, r) => self.snapshot(s, o, mask, r, out),
                Op::T => self.moved_txn(s, o, out),
                Op::None => {}
            }
        }
    }

    fn write(&self, s: &St, o: usize, out: &mut Vec<(Act, St)>) {
        let q = s.ops[o];
        if q.ph == 9 && q.tries == 0 || q.tries >= self.tries {
            return;
        }
        for g in 0..2 {
            let k = self.wkey(o as u8);
            let mine = if k == 0 && self.mv {
                true
            } else {
                self.owner(s, k, g)
            };
            if !mine || s.g[g].seq.kind != 0 {
                continue;
            }
            if k == 0 && self.mv && g == 1 && s.dst == 0 {
                continue;
            }
            if self.locked(s, g, k) {
                continue;
            }
            let mut n = *s;
            n.ops[o].tries += 1;
            if q.ph == 0 {
                n.ops[o].ph = 1;
                n.ops[o].floor = s.rt;
            }
            n.g[g].seq = item(WR, o as u8, 0, 0);
            out.push((
                Act::Ask {
                    op: o as u8,
                    group: g as u8,
                },
                n,
            ));
            if self.prefetch && s.g[g].spare != 0 {
                let mut n2 = n;
                n2.g[g].seq.rev = s.g[g].spare;
                n2.g[g].spare = 0;
                out.push((
                    Act::ProposeSpare {
                        group: g as u8,
                        op: o as u8,
                    },
                    n2,
                ));
            }
        }
    }

    fn moved_txn(&self, s: &St, o: usize, out: &mut Vec<(Act, St)>) {
        let q = s.ops[o];
        // after the move: one group, one entry (also a retry by a router with the new map)
        if self.mv && s.map == 1 && q.tries < 1 && s.g[1].seq.kind == 0 && !self.locked(s, 1, 1) {
            let mut n = *s;
            n.ops[o].tries += 1;
            if q.ph == 0 {
                n.ops[o].ph = 1;
                n.ops[o].floor = s.rt;
            }
            n.g[1].seq = item(WR, o as u8, 0, 0);
            out.push((
                Act::Ask {
                    op: o as u8,
                    group: 1,
                },
                n,
            ));
        }
    }
}
