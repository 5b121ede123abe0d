//! The log and its replicas: what is appended, applied, released and forgotten.

use super::*;

impl Feed {
    /// Keys that an entry changes.
    fn keys(&self, entry: Entry) -> u8 {
        match entry.kind {
            WRITE => entry.arg,
            COMMIT => self.txn_keys,
            _ => 0,
        }
    }

    /// Changes of the keys among the first entries, with revisions in (after, through].
    pub(super) fn events(&self, s: &State, first: u8, after: u8, through: u8, keys: u8) -> u16 {
        let entries = &s.log[..usize::from(first)];
        let within = |entry: &&Entry| entry.revision > after && entry.revision <= through;
        let bits = entries
            .iter()
            .filter(within)
            .map(|entry| u16::from(self.keys(*entry) & keys) << (2 * entry.revision));
        bits.fold(0, |all, bits| all | bits)
    }

    fn highest(s: &State, first: u8) -> u8 {
        let entries = &s.log[..usize::from(first)];
        entries
            .iter()
            .map(|entry| entry.revision)
            .max()
            .unwrap_or(0)
    }

    /// The floors of undecided transactions, and the highest revision, of the first entries.
    fn floors(s: &State, first: u8) -> ([Option<u8>; 2], u8) {
        let (mut floors, mut highest) = ([None; 2], 0);
        for entry in &s.log[..usize::from(first)] {
            match entry.kind {
                PREPARE => floors[usize::from(entry.arg)] = Some(highest),
                COMMIT | ABORT => floors[usize::from(entry.arg)] = None,
                _ => {}
            }
            highest = highest.max(entry.revision);
        }
        (floors, highest)
    }

    /// Up to this a replica with so many entries applied releases.
    pub(super) fn frontier(&self, s: &State, first: u8) -> u8 {
        let (floors, highest) = Self::floors(s, first);
        let floors = floors.into_iter().flatten();
        let held = match self.held {
            Held::Oldest => floors.min(),
            Held::Newest => floors.max(),
            Held::Nothing => None,
        };
        held.unwrap_or(highest)
    }

    /// Whether the leader may say now that nothing at or below the mark follows.
    pub(super) fn may_mark(&self, s: &State, r: u8, mark: u8) -> bool {
        let applied = s.replica[usize::from(r)].applied;
        let (floors, _) = Self::floors(s, applied);
        let undecided = floors.into_iter().flatten().any(|floor| floor < mark);
        mark > 0 && r == s.leader && applied == s.length && !undecided
    }

    fn append(&self, s: &State, what: &'static str, entry: Entry, out: &mut Vec<(Action, State)>) {
        let mut n = *s;
        n.log[usize::from(s.length)] = entry;
        n.length += 1;
        n.granted = n.granted.max(entry.revision);
        let keys = self.keys(entry);
        let late = |phase, claimed, watched: u8| {
            matches!(phase, Phase::Live | Phase::Catching)
                && watched & keys != 0
                && claimed >= entry.revision
        };
        let (hub, second) = (&s.hub, &s.hub.second);
        if late(hub.first, hub.position, self.first)
            || late(second.phase, second.claimed, self.second)
        {
            n.bad = LATE;
        }
        out.push((Action::Log(s.length, what, entry.revision), n));
    }

    pub(super) fn logging(&self, s: &State, out: &mut Vec<(Action, State)>) {
        let entry = |kind, arg, revision| Entry {
            kind,
            arg,
            revision,
        };
        if s.left.others > 0 {
            let mut n = *s;
            n.left.others -= 1;
            n.granted += 1;
            out.push((Action::OtherGroupTakes(n.granted), n));
        }
        // A decision always has its place: what is prepared ends.
        let undecided = s.txn.iter().filter(|txn| **txn == 1).count();
        let room = self.entries.saturating_sub(s.length) > undecided as u8;
        for (bit, keys, what) in [
            (1, 1, "write a"),
            (2, 2, "write b"),
            (4, 3, "write a and b"),
        ] {
            if room && self.writes & bit != 0 {
                self.append(s, what, entry(WRITE, keys, s.granted + 1), out);
            }
        }
        for t in 0..2u8 {
            let (phase, commit) = (s.txn[usize::from(t)], s.commit[usize::from(t)]);
            let mut n = *s;
            // The transactions are alike: the second comes after the first.
            let turn = t == 0 || s.txn[0] > 0;
            if phase == 0 && turn && self.entries.saturating_sub(s.length) > undecided as u8 + 1 {
                n.txn[usize::from(t)] = 1;
                self.append(&n, "prepare", entry(PREPARE, t, 0), out);
            }
            if phase == 1 {
                n.txn[usize::from(t)] = 2;
                n.commit[usize::from(t)] = 0;
                if commit == 0 {
                    self.append(&n, "abort", entry(ABORT, t, 0), out);
                } else {
                    self.append(&n, "commit", entry(COMMIT, t, commit), out);
                }
            }
            let applied = s.replica[usize::from(s.leader)].applied;
            let voted = Self::floors(s, applied).0[usize::from(t)].is_some();
            if phase == 1 && commit == 0 && voted {
                let mut n = *s;
                n.granted += 1;
                n.commit[usize::from(t)] = n.granted;
                out.push((Action::CommitRevision(n.granted), n));
            }
        }
    }

    pub(super) fn replicas(&self, s: &State, out: &mut Vec<(Action, State)>) {
        for r in 0..2u8 {
            let replica = s.replica[usize::from(r)];
            if replica.applied < s.length {
                let mut n = *s;
                let entry = s.log[usize::from(replica.applied)];
                let after = &mut n.replica[usize::from(r)];
                after.applied += 1;
                if self.keys(entry) != 0 {
                    after.memory |= 1 << entry.revision;
                }
                let frontier = self.frontier(s, after.applied);
                let entry = replica.applied;
                out.push((
                    Action::Apply {
                        replica: r,
                        entry,
                        frontier,
                    },
                    n,
                ));
            }
            self.forgetting(s, r, out);
        }
        if s.left.changes > 0 {
            let mut n = *s;
            n.left.changes -= 1;
            n.leader ^= 1;
            out.push((Action::LeaderChange { to: n.leader }, n));
        }
    }

    /// A replica restarts, installs a snapshot, trims its ring, or its index is compacted.
    fn forgetting(&self, s: &State, r: u8, out: &mut Vec<(Action, State)>) {
        let replica = s.replica[usize::from(r)];
        let frontier = self.frontier(s, replica.applied);
        let begin = |applied| {
            if self.ring_at_applied {
                Self::highest(s, applied)
            } else {
                self.frontier(s, applied)
            }
        };
        if s.left.restarts > 0 {
            let mut n = *s;
            n.left.restarts -= 1;
            n.replica[usize::from(r)] = Replica {
                ring_from: begin(replica.applied),
                memory: 0,
                version: 0,
                interests: 0,
                ..replica
            };
            for call in &mut n.calls {
                if matches!(call.state, WAITS | READING) && call.to == r {
                    *call = Call::default();
                }
            }
            if n.hub.second.page.state == READING && n.hub.second.page.replica == r {
                n.hub.second.page = Page::default();
            }
            out.push((Action::Restart(r), n));
        }
        if s.left.installs > 0 && replica.applied < s.length {
            let mut n = *s;
            n.left.installs -= 1;
            let after = &mut n.replica[usize::from(r)];
            after.applied = s.length;
            if self.install_empties {
                (after.ring_from, after.memory) = (begin(s.length), 0);
            }
            out.push((Action::Install(r), n));
        }
        if s.left.trims > 0 && frontier > replica.ring_from {
            let mut n = *s;
            n.left.trims -= 1;
            n.replica[usize::from(r)].ring_from = frontier;
            out.push((
                Action::Trim {
                    replica: r,
                    ring_from: frontier,
                },
                n,
            ));
        }
        if s.left.compactions > 0 && frontier > replica.compacted {
            let mut n = *s;
            n.left.compactions -= 1;
            n.replica[usize::from(r)].compacted = frontier;
            out.push((
                Action::Compact {
                    replica: r,
                    at: frontier,
                },
                n,
            ));
        }
    }
}
