//! Move of key x from group 0 to group 1.

use super::*;

impl Cfg {
    pub(crate) fn moving(&self, s: &St, out: &mut Vec<(Act, St)>) {
        let xdd = (0..NO)
            .filter(|o| self.keys_of(*o) & 1 == 1)
            .fold(0u8, |m, o| m | 1 << o)
            & s.g[0].dd;
        self.moving_there(s, xdd, out);
        self.aborting(s, out);
    }

    fn moving_there(&self, s: &St, xdd: u8, out: &mut Vec<(Act, St)>) {
        let mut step = |name, n: Option<St>| {
            if let Some(n) = n {
                out.push((Act::Move(name), n));
            }
        };
        let it = |kind, len, dd| Item {
            kind,
            op: dd,
            att: 0,
            rev: len,
        };
        if s.dst == 0 && s.mvab == 0 {
            step("adopt", self.enqueue(s, 1, it(ADOPT, 0, 0)));
        }
        if s.dst == 1 && s.src < 2 && (s.cp < s.hn[0] || xdd & !s.cpd != 0) {
            step("send content", self.enqueue(s, 1, it(CHUNK, s.hn[0], xdd)));
        }
        if s.src == 0 && s.dst == 1 && s.mvab == 0 {
            step("freeze", self.enqueue(s, 0, it(FREEZE, 0, 0)));
        }
        let drained = !Self::prepared(s, 0) || !self.own_drain;
        if s.dst == 1 && s.own_sent == 0 && s.src == 1 && drained {
            let mut n = *s;
            n.own_sent = 1 + s.hn[0];
            if self.own_floor == 2 {
                n.next += 1;
                n.own_rev = n.next;
            }
            step("send own", Some(n));
        }
        if s.own_sent != 0 && s.dst == 1 {
            step(
                "propose own",
                self.enqueue(
                    s,
                    1,
                    it(OWN, s.own_sent - 1, if self.mv_dedupe { xdd } else { 0 }),
                ),
            );
        }
        if s.dst == 2 && s.map == 0 {
            let mut n = *s;
            n.map = 1;
            step("flip", Some(n));
        }
        if s.map == 1 && s.src == 1 {
            step("forget", self.enqueue(s, 0, it(FORGET, 0, 0)));
        }
    }

    fn aborting(&self, s: &St, out: &mut Vec<(Act, St)>) {
        let mut step = |name, n: Option<St>| {
            if let Some(n) = n {
                out.push((Act::Move(name), n));
            }
        };
        let it = |kind| Item {
            kind,
            op: 0,
            att: 0,
            rev: 0,
        };
        match self.mv_abort {
            1 => {
                if s.dst <= 1 && s.mvab == 0 && s.dst == 1 {
                    step("abort at target", self.enqueue(s, 1, it(MABORT)));
                }
                if s.dst == 3 && s.src == 1 {
                    let mut n = *s;
                    n.mvab = 1;
                    step("unfreeze", self.enqueue(&n, 0, it(UNFRZ)));
                }
            }
            2 => {
                if s.dst == 1 && s.mvab == 0 {
                    let mut n = *s;
                    n.mvab = 1;
                    step("abort: decides to unfreeze", Some(n));
                }
                if s.mvab == 1 && s.src == 1 {
                    step("unfreeze", self.enqueue(s, 0, it(UNFRZ)));
                }
            }
            _ => {}
        }
    }
}
