//! What entries of the home group and of the groups with keys do.

use super::*;

impl Lease {
    pub(crate) fn push(&self, s: &St, e: E) -> Option<St> {
        let mut n = *s;
        if n.qn == 2 || n.q[..n.qn as usize].contains(&e) {
            return None;
        }
        n.q[n.qn as usize] = e;
        n.qn += 1;
        Some(n)
    }

    pub(crate) fn gpush(&self, s: &St, g: usize, e: E) -> Option<St> {
        let mut n = *s;
        let q = &mut n.g[g];
        if q.qn == 2 || q.q[..q.qn as usize].contains(&e) {
            return None;
        }
        q.q[q.qn as usize] = e;
        q.qn += 1;
        Some(n)
    }

    pub(crate) fn visible(&self, s: &mut St) {
        if s.st == 3 && s.g.iter().any(|g| g.key != 0) {
            s.bad = 1;
        }
    }

    pub(crate) fn home_apply(&self, s: &mut St, e: E) {
        match e.kind {
            BEGIN => {
                s.begin_fl = 0;
                if s.st == 1 {
                    s.st = 2;
                    if e.arg == 0 && s.now < s.promise {
                        s.bad = 2;
                    }
                }
            }
            ENDE => {
                if s.st == 2 {
                    s.st = 3;
                    self.visible(s);
                }
            }
            REG => {
                let g = e.arg & 15;
                if s.st == 1 {
                    s.mask |= 1 << g;
                    s.g[g as usize].ok |= 1 << (e.arg >> 4);
                }
            }
            MREG => {
                if s.st != 3 {
                    s.mask |= 2;
                    if self.mv_rule == 2 {
                        s.acked &= !2;
                        s.mv = 3;
                    }
                }
            }
            CKPT => {
                s.ck_fl = 0;
                s.ckpt = e.arg;
            }
            RENEW => {
                if s.st == 1 {
                    s.ckpt = 0;
                    s.deadline = s.now + self.ttl;
                    if s.ka == 3 {
                        s.promise = s.promise.max(s.ka_t + self.ttl);
                    }
                }
                s.ka = 0;
            }
            _ => unreachable!(),
        }
    }

    pub(crate) fn group_apply(&self, s: &mut St, g: usize, e: E) {
        let frozen = g == 0 && s.mv >= 1;
        let q = &mut s.g[g];
        match e.kind {
            OPEN => {
                if q.rec == 0 && !frozen {
                    q.rec = 1;
                    q.turn += 1;
                }
            }
            ATT => {
                let ok = match self.attach {
                    Attach::Late | Attach::NoHome => true,
                    Attach::Tombstone => q.rec != 3,
                    Attach::Open => (q.rec == 1 || q.rec == 2) && q.turn == e.arg,
                };
                q.wait = 0;
                if ok && !frozen {
                    q.rec = 2;
                    q.key = 1;
                    q.left = q.left.saturating_sub(1);
                }
                self.visible(s);
            }
            DROP => {
                if frozen && self.mv_rule != 0 && s.mv < 4 {
                    return; // not acknowledged: the source has frozen the key and not yet forgotten it
                }
                if self.drop_inc && e.arg != s.inc {
                    return;
                }
                if q.key == 1 && s.st == 1 {
                    s.bad = 3;
                }
                q.key = 0;
                q.rec = if self.attach == Attach::Tombstone {
                    3
                } else {
                    0
                };
                if e.arg == s.inc {
                    s.acked |= 1 << g;
                }
            }
            _ => unreachable!(),
        }
    }
}
