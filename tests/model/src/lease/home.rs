//! The home group: ticks, changes of leader, keepalives, begin, checkpoint and end.

use super::*;

impl Lease {
    pub(crate) fn time(&self, s: &St, out: &mut Vec<(Act, St)>) {
        let mut add = |a, n: Option<St>| out.extend(n.map(|n| (a, n)));
        if s.now < self.end {
            let mut n = *s;
            n.now += 1;
            add(Act::Tick(n.now), Some(n));
        }
        if s.lc < self.home_changes {
            let mut n = *s;
            n.lc += 1;
            n.q = [E::default(); 2];
            n.qn = 0;
            n.deadline = s.now
                + if s.ckpt > 0 {
                    s.ckpt
                } else if self.new_full {
                    self.ttl
                } else {
                    1
                };
            let needs_log = self.ka_hold && (s.begin_fl == 1 || s.st != 1)
                || self.ka_clears && (s.ckpt != 0 || self.ka_inflight && s.ck_fl != 0);
            n.begin_fl = 0;
            n.ck_fl = 0;
            if s.ka == 2 && !needs_log {
                n.ka_old = 1;
            } else {
                n.ka = 0;
            }
            add(
                Act::HomeLeaderChange {
                    deadline: n.deadline,
                },
                Some(n),
            );
        }
        if s.qn > 0 {
            let mut n = *s;
            let e = s.q[0];
            n.q = [s.q[1], E::default()];
            n.qn -= 1;
            self.home_apply(&mut n, e);
            add(Act::HomeCommit(e), Some(n));
        }
    }

    pub(crate) fn keepalive(&self, s: &St, out: &mut Vec<(Act, St)>) {
        let mut add = |a, n: Option<St>| out.extend(n.map(|n| (a, n)));
        // keepalive
        if s.ka == 0 && s.kas > 0 {
            let mut n = *s;
            n.kas -= 1;
            n.ka = 1;
            n.ka_t = s.now;
            n.ka_old = 0;
            add(Act::KeepaliveArrives, Some(n));
        }
        if s.ka == 1 {
            let mut n = *s;
            n.ka = 2;
            add(Act::KeepaliveConfirmed, Some(n));
        }
        if s.ka == 2 {
            let base = if self.from_arrival { s.ka_t } else { s.now };
            if s.ka_old == 1 {
                let mut n = *s;
                n.ka = 0;
                n.promise = n.promise.max(base + self.ttl);
                add(
                    Act::KeepaliveAnswered {
                        promised_until: n.promise,
                    },
                    Some(n),
                );
            } else if s.st != 1 || self.ka_hold && s.begin_fl == 1 {
                let mut n = *s;
                n.ka = 0;
                add(Act::KeepaliveRefused, Some(n));
            } else if self.ka_clears && (s.ckpt != 0 || self.ka_inflight && s.ck_fl != 0) {
                if let Some(mut n) = self.push(s, entry(RENEW, 0)) {
                    n.ka = 3;
                    add(Act::Propose("renew"), Some(n));
                }
            } else {
                let mut n = *s;
                n.ka = 0;
                n.deadline = s.now + self.ttl;
                n.promise = n.promise.max(base + self.ttl);
                add(
                    Act::KeepaliveAnswered {
                        promised_until: n.promise,
                    },
                    Some(n),
                );
            }
        }
    }

    pub(crate) fn home(&self, s: &St, out: &mut Vec<(Act, St)>) {
        let mut add = |a, n: Option<St>| out.extend(n.map(|n| (a, n)));
        // the home leader
        let renew_fl = s.q[..s.qn as usize].iter().any(|e| e.kind == RENEW);
        if s.st == 1
            && s.begin_fl == 0
            && s.now >= s.deadline
            && !renew_fl
            && let Some(mut n) = self.push(s, entry(BEGIN, 0))
        {
            n.begin_fl = 1;
            add(Act::Propose("begin (expired)"), Some(n));
        }
        if s.st == 1
            && s.begin_fl == 0
            && s.revoked == 0
            && let Some(mut n) = self.push(s, entry(BEGIN, 1))
        {
            n.begin_fl = 1;
            add(Act::Propose("begin (revoke)"), Some(n));
        }
        if s.st == 1
            && s.ckpts > 0
            && !(self.serial && renew_fl)
            && s.deadline > s.now
            && s.deadline - s.now < self.ttl
            && let Some(mut n) = self.push(s, entry(CKPT, s.deadline - s.now))
        {
            n.ckpts -= 1;
            n.ck_fl = 1;
            add(Act::Propose("checkpoint"), Some(n));
        }
        if s.st == 2 && (s.mask & !s.acked == 0 || !self.end_waits) {
            add(Act::Propose("end"), self.push(s, entry(ENDE, 0)));
        }
        if s.st == 3 && self.regrant && s.inc == 1 {
            let mut n = *s;
            n.st = 1;
            n.inc = 2;
            n.mask = 0;
            n.acked = 0;
            n.ckpt = 0;
            n.ka = 0;
            n.deadline = s.now + self.ttl;
            n.promise = n.deadline;
            for g in &mut n.g {
                g.left = self.attaches;
                g.ok = 0;
                g.sent = 0;
            }
            add(Act::Regrant, Some(n));
        }
    }
}
