//! Dense renumbering of revisions, so that states that differ in nothing else are one.

use super::*;

impl Cfg {
    /// Dense renumbering of revisions and erasure of what can't matter any more.
    pub(crate) fn canon(&self, s: &mut St) {
        let mut unborn = false;
        let mut snap = u8::MAX;
        let mut reads_to_come = [false; 2];
        for o in 0..NO {
            let q = &mut s.ops[o];
            if self.ops[o] == Op::None {
                continue;
            }
            if q.ph == 9 {
                *q = OpS {
                    ph: 9,
                    floor: 0,
                    al: 0,
                    aux: 0,
                    v: [0; NK],
                    got: 0,
                    tries: q.tries,
                };
                if !matches!(self.ops[o], Op::W(_) | Op::RW(..) | Op::T) {
                    q.tries = 0;
                }
            } else if q.ph == 0 {
                unborn = true;
            }
            match self.ops[o] {
                Op::S(..) if q.ph == 2 => snap = snap.min(q.aux),
                Op::R(_, r) | Op::D(_, r) if q.ph < 2 => {
                    reads_to_come[(r % self.routers) as usize] = true
                }
                _ => {}
            }
            if matches!(self.ops[o], Op::R(..) | Op::D(..)) && q.ph == 1 {
                unborn = true; // takes its floor again
            }
        }
        if !unborn {
            s.rt = 0;
        }
        for (r, to_come) in reads_to_come.into_iter().enumerate() {
            if !to_come {
                s.seen[r] = 0;
            }
        }
        if !self.mv {
            for k in 0..NK {
                while s.hn[k] > 1 && s.hist[k][1] <= snap && s.stale[k] == 0 {
                    let n = s.hn[k] as usize;
                    s.hist[k].copy_within(1..n, 0);
                    s.hist[k][n - 1] = 0;
                    s.hn[k] -= 1;
                }
                if s.rf[k] <= Self::lastv(s, k) {
                    s.rf[k] = 0;
                }
            }
        }
        for t in 0..NT {
            if s.drv[t][0] == 0 {
                s.votes[t] = 0;
            }
        }
        let mut used = 0u64;
        self.revs(s, |r| used |= 1 << *r);
        used |= 1;
        self.revs(s, |r| *r = (used & ((1u64 << *r) - 1)).count_ones() as u8);
        s.next = used.count_ones() as u8 - 1;
    }

    fn revs(&self, s: &mut St, mut f: impl FnMut(&mut u8)) {
        f(&mut s.rt);
        f(&mut s.own_rev);
        s.seen.iter_mut().for_each(&mut f);
        for o in 0..NO {
            let snap = matches!(self.ops[o], Op::S(..));
            let q = &mut s.ops[o];
            f(&mut q.floor);
            f(&mut q.al);
            if snap {
                f(&mut q.aux);
            }
            q.v.iter_mut().for_each(&mut f);
        }
        for g in &mut s.g {
            for i in g.q.iter_mut().chain([&mut g.seq, &mut g.parked]) {
                if matches!(i.kind, WR | DECC | COMM) {
                    f(&mut i.rev);
                }
            }
            f(&mut g.spare);
            f(&mut g.maxrev);
            f(&mut g.p);
        }
        for k in 0..NK {
            for i in 0..s.hn[k] as usize {
                f(&mut s.hist[k][i]);
            }
            f(&mut s.rf[k]);
        }
        for r in s.rec.iter_mut().flatten() {
            f(&mut r.rv);
            f(&mut r.lo);
        }
        for d in &mut s.drv {
            f(&mut d[2]);
        }
        for d in s.dec.iter_mut().flatten() {
            f(&mut d[1]);
        }
    }
}
