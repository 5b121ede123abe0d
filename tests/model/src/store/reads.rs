//! Linearizable reads of a key or a directory, and snapshot reads.

use super::*;

impl Cfg {
    pub(crate) fn read(&self, s: &St, o: usize, mask: u8, r: u8, out: &mut Vec<(Act, St)>) {
        let q = s.ops[o];
        if q.ph < 2 {
            self.read_arrives(s, o, mask, r, out);
        } else if q.ph == 2 && q.aux == 0 {
            self.read_answers(s, o, mask, r, out);
        }
    }

    fn read_arrives(&self, s: &St, o: usize, mask: u8, r: u8, out: &mut Vec<(Act, St)>) {
        let k = mask.trailing_zeros() as usize;
        for g in 0..2 {
            if !(self.owner(s, k, g)
                || self.mv && !self.freeze_reads && k == 0 && g == 0 && s.src == 1)
            {
                continue;
            }
            let mut n = *s;
            let al = s.seen[(r % self.routers) as usize];
            n.ops[o].ph = 2;
            n.ops[o].floor = s.rt;
            n.ops[o].al = al;
            n.ops[o].got = g as u8;
            let gr = &s.g[g];
            let mut pos = 0;
            let mut waits = 0;
            for (j, it) in gr.q[..gr.qn as usize].iter().chain([&gr.seq]).enumerate() {
                if it.kind != WR {
                    continue;
                }
                pos += 1;
                let is_seq = j == gr.qn as usize;
                let relevant = match self.wait {
                    Wait::None => false,
                    Wait::AtLeast => it.rev > 0 && it.rev <= al && (!is_seq || self.asked_counts),
                    Wait::Key => {
                        self.keys_of(it.op as usize) & mask != 0 && (!is_seq || self.asked_counts)
                    }
                };
                if relevant {
                    waits = pos;
                }
            }
            n.ops[o].aux = waits;
            out.push((
                Act::ReadArrives {
                    op: o as u8,
                    group: g as u8,
                    waits,
                },
                n,
            ));
        }
    }

    fn read_answers(&self, s: &St, o: usize, mask: u8, r: u8, out: &mut Vec<(Act, St)>) {
        let q = s.ops[o];
        let k = mask.trailing_zeros() as usize;
        let keys = (0..NK).filter(move |k| mask >> k & 1 == 1);
        let g = q.got as usize;
        if self.locks_read && keys.clone().any(|k| self.locked(s, g, k)) {
            return;
        }
        if self.mv && k == 0 && !self.owner(s, 0, g) && (self.freeze_reads || g == 1) {
            // answered `moved`: the router tries again
            let mut n = *s;
            n.ops[o] = OpS {
                ph: 1,
                floor: 0,
                al: 0,
                aux: 0,
                v: [0; NK],
                got: 0,
                tries: 0,
            };
            out.push((Act::Move("read answered: moved"), n));
            return;
        }
        let mut n = *s;
        let v = if self.mv && !self.freeze_reads && k == 0 && g == 0 && s.dst == 2 {
            s.hist[0][..s.cp as usize].last().copied().unwrap_or(0)
        } else {
            keys.clone().map(|k| Self::lastv(s, k)).max().unwrap()
        };
        let l = q.floor.max(v);
        let rr = q.al.max(if self.reply_max_applied {
            s.g[g].maxrev
        } else {
            v
        });
        for k in keys {
            let saw = if mask.count_ones() == 1 {
                v
            } else {
                Self::lastv(s, k)
            };
            if Self::version_at(s, k, l, s.hn[k]) != saw {
                n.bad = 11;
            }
            n.rf[k] = n.rf[k].max(l).max(rr);
        }
        n.rt = n.rt.max(l);
        let i = (r % self.routers) as usize;
        n.seen[i] = n.seen[i].max(rr);
        n.ops[o].ph = 9;
        out.push((
            Act::ReadAnswers {
                op: o as u8,
                group: g as u8,
                saw: v,
                reply_rev: rr,
            },
            n,
        ));
    }

    pub(crate) fn snapshot(&self, s: &St, o: usize, mask: u8, r: u8, out: &mut Vec<(Act, St)>) {
        let q = s.ops[o];
        if q.ph == 0 {
            let mut n = *s;
            n.ops[o].ph = 2;
            n.ops[o].floor = s.rt;
            n.ops[o].aux = s.next;
            out.push((
                Act::SnapshotGetsR {
                    op: o as u8,
                    r: s.next,
                },
                n,
            ));
        } else if q.ph == 2 {
            for g in 0..2 {
                // keys of the mask served by g and not read yet
                let mut ks = 0u8;
                for k in 0..NK {
                    if mask >> k & 1 == 1 && q.got >> k & 1 == 0 && self.owner(s, k, g) {
                        ks |= 1 << k;
                    }
                }
                if ks == 0 {
                    continue;
                }
                for old in [false, true] {
                    self.snapshot_at(s, o, (mask, r), (g, ks, old), out);
                }
            }
        }
    }

    /// The part that one group answers; `old`: a deposed leader does.
    fn snapshot_at(
        &self,
        s: &St,
        o: usize,
        (mask, r): (u8, u8),
        (g, ks, old): (usize, u8, bool),
        out: &mut Vec<(Act, St)>,
    ) {
        let q = s.ops[o];
        let mut n = *s;
        if old && (self.snap_index || s.g[g].lc == 0) {
            return;
        }
        if !old {
            if self.snap_grants && self.outstanding_le(s, g, q.aux, self.asked_counts) {
                return;
            }
            if self.locks_read && (0..NK).any(|k| ks >> k & 1 == 1 && self.locked(s, g, k)) {
                return;
            }
        }
        for k in 0..NK {
            if ks >> k & 1 == 1 {
                n.ops[o].v[k] =
                    Self::version_at(s, k, q.aux, if old { s.stale[k] } else { s.hn[k] });
            }
        }
        n.ops[o].got |= ks;
        if n.ops[o].got == mask {
            if q.aux < q.floor {
                n.bad = 5;
            }
            for k in 0..NK {
                if mask >> k & 1 == 1 {
                    if Self::version_at(&n, k, q.aux, n.hn[k]) != n.ops[o].v[k] {
                        n.bad = 6;
                    }
                    n.rf[k] = n.rf[k].max(q.aux);
                }
            }
            n.rt = n.rt.max(q.aux);
            let i = (r % self.routers) as usize;
            n.seen[i] = n.seen[i].max(q.aux);
            n.ops[o].ph = 9;
        }
        out.push((
            Act::SnapshotReads {
                op: o as u8,
                group: g as u8,
            },
            n,
        ));
    }
}
