//! Two-phase commit over the groups' logs.

use super::*;

impl Cfg {
    pub(crate) fn txn(&self, s: &St, t: usize, out: &mut Vec<(Act, St)>) {
        self.starting(s, t, out);
        self.preparing(s, t, out);
        self.driving(s, t, out);
        self.asking(s, t, out);
        self.ending(s, t, out);
    }

    fn starting(&self, s: &St, t: usize, out: &mut Vec<(Act, St)>) {
        // the coordinator's leader starts an attempt, or goes on with one that it finds prepared
        if s.drv[t][0] == 0
            && s.ops[t].ph != 9
            && s.sent[t] < self.attempts
            && s.rec[0][t].st != 1
            && s.g[0].dd >> t & 1 == 0
            && (!self.mv || s.map == 0)
        {
            let mut n = *s;
            n.drv[t] = [1, s.sent[t], 0];
            n.sent[t] += 1;
            if s.ops[t].ph == 0 {
                n.ops[t].ph = 1;
                n.ops[t].floor = s.rt;
            }
            out.push((
                Act::StartTxn {
                    t: t as u8,
                    attempt: s.sent[t],
                },
                n,
            ));
        }
        if self.resume
            && s.drv[t][0] == 0
            && s.rec[0][t].st == 1
            && s.dec[t][s.rec[0][t].att as usize][0] == 0
        {
            let mut n = *s;
            n.drv[t] = [1, s.rec[0][t].att, 0];
            out.push((
                Act::ResumeTxn {
                    attempt: s.rec[0][t].att,
                },
                n,
            ));
        }
    }

    fn preparing(&self, s: &St, t: usize, out: &mut Vec<(Act, St)>) {
        // prepare messages stay deliverable for ever
        for g in 0..2 {
            for a in 0..s.sent[t] {
                let refused = s.rec[g][t].tomb >> a & 1 == 1
                    || s.g[g].dd >> t & 1 == 1
                    || s.rec[g][t].st != 0
                    || g == 0 && s.dec[t][a as usize][0] != 0;
                if self.lossy
                    && !refused
                    && s.rec[g][t].yes >> a & 1 == 0
                    && s.rec[g][t].lost >> a & 1 == 0
                {
                    let mut n = *s;
                    n.rec[g][t].lost |= 1 << a;
                    out.push((Act::Lose { group: g as u8 }, n));
                }
                if refused
                    || s.rec[g][t].lost >> a & 1 == 1
                    || self.coord_first && g == 1 && s.rec[0][t].yes >> a & 1 == 0
                {
                    continue;
                }
                if self.coord_first && g == 0 && s.rec[0][t].yes >> a & 1 == 1 {
                    continue; // the position of the coordinator's Prepare is the attempt's name: it can't come twice
                }
                if let Some(n) = self.enqueue(s, g, item(PREP, t as u8, a, 0)) {
                    out.push((
                        Act::ProposePrepare {
                            group: g as u8,
                            attempt: a,
                        },
                        n,
                    ));
                }
            }
        }
    }

    fn driving(&self, s: &St, t: usize, out: &mut Vec<(Act, St)>) {
        let prepared = |g: usize, a: u8| s.rec[g][t].st == 1 && s.rec[g][t].att == a;
        let [d, a, c] = s.drv[t];
        let all_yes = if self.fresh_votes {
            s.votes[t] == 3
        } else {
            (0..2).all(|g| s.rec[g][t].yes >> a & 1 == 1)
        };
        if self.fresh_votes && d == 1 {
            for g in 0..2 {
                if prepared(g, a) && s.votes[t] >> g & 1 == 0 {
                    let mut n = *s;
                    n.votes[t] |= 1 << g;
                    out.push((Act::Vote { group: g as u8 }, n));
                }
            }
        }
        if d == 1 && (all_yes || self.early_c) {
            let mut n = *s;
            n.drv[t][0] = 2;
            out.push((Act::AskCommitRev, n));
        }
        if d == 2 {
            let mut n = *s;
            n.next += 1;
            n.drv[t] = [3, a, n.next];
            out.push((Act::GrantCommitRev { c: n.next }, n));
        }
        if d == 3
            && all_yes
            && let Some(mut n) = self.enqueue(s, 0, item(DECC, t as u8, a, c))
        {
            n.drv[t] = [4, a, 0];
            out.push((
                Act::ProposeDecide {
                    commit: true,
                    attempt: a,
                    c,
                },
                n,
            ));
        }
        if (1..=3).contains(&d)
            && s.dec[t][a as usize][0] == 0
            && let Some(mut n) = self.enqueue(s, 0, item(DECA, t as u8, a, 0))
        {
            n.drv[t] = [4, a, 0];
            out.push((
                Act::ProposeDecide {
                    commit: false,
                    attempt: a,
                    c: 0,
                },
                n,
            ));
        }
    }

    fn asking(&self, s: &St, t: usize, out: &mut Vec<(Act, St)>) {
        let d = s.drv[t][0];
        // the coordinator's own prepared record with nobody driving it, and a participant that asks
        for g in 0..2 {
            if s.rec[g][t].st != 1 || self.no_recovery && g == 1 {
                continue;
            }
            let a = s.rec[g][t].att;
            if s.dec[t][a as usize][0] == 0 && (g == 1 || d == 0) {
                if self.abort_free && g == 1 {
                    if let Some(n) = self.enqueue(s, 1, item(ABRT, t as u8, a, 0)) {
                        out.push((
                            Act::ProposeAbortPart {
                                group: 1,
                                attempt: a,
                            },
                            n,
                        ));
                    }
                } else if let Some(n) = self.enqueue(s, 0, item(DECA, t as u8, a, 0)) {
                    out.push((
                        Act::ParticipantAsksCoordinatorProposesAbort { attempt: a },
                        n,
                    ));
                }
            }
        }
    }

    fn ending(&self, s: &St, t: usize, out: &mut Vec<(Act, St)>) {
        let prepared = |g: usize, a: u8| s.rec[g][t].st == 1 && s.rec[g][t].att == a;
        for g in 0..2 {
            for a in 0..s.sent[t] {
                let d = s.dec[t][a as usize];
                if d[0] == 1
                    && prepared(g, a)
                    && let Some(n) = self.enqueue(s, g, item(COMM, t as u8, a, d[1]))
                {
                    out.push((
                        Act::ProposeCommit {
                            group: g as u8,
                            c: d[1],
                        },
                        n,
                    ));
                }
                if d[0] == 2
                    && (prepared(g, a) || self.tomb && s.rec[g][t].tomb >> a & 1 == 0)
                    && let Some(n) = self.enqueue(s, g, item(ABRT, t as u8, a, 0))
                {
                    out.push((
                        Act::ProposeAbortPart {
                            group: g as u8,
                            attempt: a,
                        },
                        n,
                    ));
                }
            }
        }
        if self.gc {
            for a in 0..s.sent[t] {
                let in_flight = s.g.iter().any(|g| {
                    g.q[..g.qn as usize]
                        .iter()
                        .any(|i| i.kind != WR && i.op as usize == t && i.att == a)
                });
                if s.dec[t][a as usize][0] != 0 && !prepared(0, a) && !prepared(1, a) && !in_flight
                {
                    let mut n = *s;
                    n.dec[t][a as usize] = [0, 0];
                    if !self.tomb {
                        n.rec[0][t].tomb &= !(1 << a);
                        n.rec[1][t].tomb &= !(1 << a);
                    }
                    out.push((Act::Gc { attempt: a }, n));
                }
            }
        }
    }
}
