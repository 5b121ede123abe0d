//! Watch: progress of the streams of two groups.

use super::*;

impl Cfg {
    pub(crate) fn watching(&self, s: &St, out: &mut Vec<(Act, St)>) {
        for st in 0..2usize {
            let groups: &[usize] = if st == 1 {
                &[1]
            } else if self.mv {
                &[0, 1]
            } else {
                &[0]
            };
            for &g in groups {
                if self.covers(s, st, g, out) {
                    self.marks(s, st, g, out);
                }
            }
        }
        if self.mv && s.sub == 0 && s.dst == 2 {
            let mut n = *s;
            n.sub = 1; // goes on from the vnode's own progress: its history has moved too
            if self.mv_resub_target {
                n.g[0].p = n.g[0].p.max(s.g[1].p);
                // what lies between the two positions is skipped
                if s.hist[0][..s.hn[0] as usize]
                    .iter()
                    .any(|r| *r > s.g[0].p && *r <= n.g[0].p)
                {
                    n.bad = 3;
                }
            }
            out.push((Act::Resubscribe, n));
        }
    }

    /// Whether a mark of the group says something about the stream.
    fn covers(&self, s: &St, st: usize, g: usize, out: &mut Vec<(Act, St)>) -> bool {
        if st == 0 && self.mv {
            if s.sub as usize != g {
                return false;
            }
            // a group's marks cover x only up to the point where it stopped to own it
            if !self.owner(s, 0, g) && self.mv_watch_sub {
                if g == 0 && s.src != 0 {
                    let r = Self::lastv(s, 0);
                    if r > s.g[0].p && !Self::prepared(s, 0) && s.dst < 2 {
                        let mut n = *s;
                        n.g[0].p = r;
                        out.push((
                            Act::Progress {
                                stream: 0,
                                group: 0,
                                r,
                            },
                            n,
                        ));
                    }
                }
                return false;
            }
        }
        true
    }

    fn marks(&self, s: &St, st: usize, g: usize, out: &mut Vec<(Act, St)>) {
        for on_demand in [true, false] {
            let r = if on_demand { s.next } else { s.g[g].maxrev };
            if r <= s.g[st].p || !on_demand && !self.f_passive {
                continue;
            }
            if on_demand && self.outstanding_le(s, g, r, self.f_asked) {
                continue;
            }
            if self.f_prepared && Self::prepared(s, g) {
                // held at what was applied when the oldest undecided one was prepared
                let lo = s.rec[g]
                    .iter()
                    .filter(|r| r.st == 1)
                    .map(|r| r.lo)
                    .min()
                    .unwrap_or(0);
                if !on_demand && lo > s.g[st].p {
                    let mut n = *s;
                    n.g[st].p = lo;
                    out.push((
                        Act::Progress {
                            stream: st as u8,
                            group: g as u8,
                            r: lo,
                        },
                        n,
                    ));
                }
                continue;
            }
            let mut n = *s;
            n.g[st].p = r;
            out.push((
                Act::Progress {
                    stream: st as u8,
                    group: g as u8,
                    r,
                },
                n,
            ));
        }
        if !self.f_index && s.g[g].lc > 0 {
            let r = s.next;
            if r > s.g[st].p {
                let mut n = *s;
                n.g[st].p = r;
                for k in 0..NK {
                    if (k == 0) == (st == 0)
                        && s.hist[k][s.stale[k] as usize..s.hn[k] as usize]
                            .iter()
                            .any(|v| *v > s.g[st].p && *v <= r)
                    {
                        n.bad = 3;
                    }
                }
                out.push((
                    Act::Progress {
                        stream: st as u8,
                        group: g as u8 + 10,
                        r,
                    },
                    n,
                ));
            }
        }
    }
}
