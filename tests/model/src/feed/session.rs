//! `Follow` calls: sent, arrived, answered, lost; and the session that a replica keeps in memory.

use super::*;

/// What a replica has for a reader.
pub(super) enum Found {
    Ring(u16),
    /// The index must be read.
    Index,
}

impl Feed {
    /// Looks into the ring.
    pub(super) fn look(&self, s: &State, r: u8, after: u8, through: u8, keys: u8) -> Found {
        let replica = s.replica[usize::from(r)];
        if after < replica.ring_from {
            return Found::Index;
        }
        let through = if self.cut { through } else { u8::MAX };
        let all = self.events(s, replica.applied, after, through, keys);
        let held = (0..8).filter(|revision| replica.memory >> revision & 1 == 1);
        let memory = held.fold(0, |bits, revision| bits | 0b11 << (2 * revision));
        Found::Ring(all & memory)
    }

    /// Reads the index; none if it is compacted there.
    pub(super) fn index(&self, s: &State, r: u8, after: u8, through: u8, keys: u8) -> Option<u16> {
        let replica = s.replica[usize::from(r)];
        let through = if self.cut { through } else { u8::MAX };
        if after >= replica.compacted {
            return Some(self.events(s, replica.applied, after, through, keys));
        }
        if self.says_compacted {
            return None;
        }
        let after = replica.compacted;
        Some(self.events(s, replica.applied, after, through, keys))
    }

    /// The interests changed, or nothing is outstanding.
    fn may_send(s: &State) -> Option<usize> {
        let out = s
            .calls
            .iter()
            .filter(|call| !matches!(call.state, FREE | GHOST));
        let newest = out.map(|call| call.version).max();
        if newest.is_some_and(|version| version >= s.hub.version) {
            return None;
        }
        s.calls.iter().position(|call| call.state == FREE)
    }

    pub(super) fn calling(&self, s: &State, out: &mut Vec<(Action, State)>) {
        if let Some(slot) = Self::may_send(s) {
            let led = self.left.changes > s.left.changes;
            for to in (0..2).filter(|to| *to == s.leader || led) {
                self.send(s, slot, to, 0, out);
                if s.left.marks > 0 && s.granted > s.hub.position {
                    self.send(s, slot, to, s.granted, out);
                }
            }
        }
        for slot in 0..CALLS {
            let call = s.calls[slot];
            match call.state {
                SENT | GHOST => self.arrive(s, slot, out),
                WAITS | READING => self.answer(s, slot, out),
                _ => {}
            }
            let mut n = *s;
            if call.state == GHOST {
                n.calls[slot] = Call::default();
                out.push((Action::TimeOut, n));
            } else if call.state != FREE && s.left.timeouts > 0 {
                n.left.timeouts -= 1;
                if call.state == SENT {
                    n.calls[slot].state = GHOST;
                } else {
                    n.calls[slot] = Call::default();
                }
                out.push((Action::TimeOut, n));
            }
        }
    }

    fn send(&self, s: &State, slot: usize, to: u8, mark: u8, out: &mut Vec<(Action, State)>) {
        let mut n = *s;
        let hub = &mut n.hub;
        let (base, version, full) = (hub.sent_version, hub.version, hub.full);
        let known = if full { 0 } else { hub.sent_interests };
        let after = hub.position;
        n.calls[slot] = Call {
            state: SENT,
            to,
            base,
            version,
            full,
            add: hub.interests & !known,
            remove: known & !hub.interests,
            after,
            mark,
            ..Call::default()
        };
        (hub.sent_version, hub.sent_interests, hub.full) = (version, hub.interests, false);
        n.left.marks -= u8::from(mark > 0);
        out.push((
            Action::Follow {
                to,
                base,
                version,
                full,
                after,
                mark,
            },
            n,
        ));
    }

    fn arrive(&self, s: &State, slot: usize, out: &mut Vec<(Action, State)>) {
        let mut n = *s;
        let call = s.calls[slot];
        let session = &mut n.replica[usize::from(call.to)];
        let kept = if call.full {
            let kept = call.version >= session.version || !self.full_rises;
            if kept {
                session.interests = call.add;
            }
            kept
        } else if session.version == call.version {
            true
        } else {
            let kept = session.version == call.base || !self.versions;
            if kept {
                session.interests = (session.interests | call.add) & !call.remove;
            }
            kept
        };
        if kept {
            session.version = call.version;
        }
        n.calls[slot] = match (call.state, kept) {
            (GHOST, _) => Call::default(),
            (_, true) => Call {
                state: WAITS,
                to: call.to,
                version: call.version,
                after: call.after,
                mark: call.mark,
                ..Call::default()
            },
            (_, false) => Call {
                state: RESYNC,
                version: call.version,
                ..Call::default()
            },
        };
        let (at, version) = (call.to, call.version);
        out.push((Action::Arrives { at, version, kept }, n));
    }

    /// From the ring in one step; from the index in two: the position, the changes.
    fn answer(&self, s: &State, slot: usize, out: &mut Vec<(Action, State)>) {
        let call = s.calls[slot];
        let (r, replica) = (call.to, s.replica[usize::from(call.to)]);
        let frontier = self.frontier(s, replica.applied);
        if call.state == READING {
            let mut answer = call;
            let found = if self.position_first {
                self.index(s, r, call.after, call.frontier, replica.interests)
            } else {
                (answer.position, answer.frontier) = (frontier, frontier);
                Some(call.events)
            };
            self.reply(s, slot, answer, found, out);
            return;
        }
        let marked = self.may_mark(s, r, call.mark);
        let position = if marked {
            frontier.max(call.mark)
        } else {
            frontier
        };
        // A newer call relieves this one.
        if position <= call.after && replica.version <= call.version {
            return;
        }
        let answer = Call {
            position,
            frontier,
            ..call
        };
        match self.look(s, r, call.after, frontier, replica.interests) {
            Found::Ring(events) => self.reply(s, slot, answer, Some(events), out),
            Found::Index => {
                let mut n = *s;
                n.calls[slot] = Call {
                    state: READING,
                    ..answer
                };
                if !self.position_first {
                    let read = self.index(s, r, call.after, u8::MAX, replica.interests);
                    n.calls[slot].events = read.unwrap_or(0);
                }
                out.push((Action::Loads(r), n));
            }
        }
    }

    fn reply(
        &self,
        s: &State,
        slot: usize,
        answer: Call,
        found: Option<u16>,
        out: &mut Vec<(Action, State)>,
    ) {
        let mut n = *s;
        let by = answer.to;
        let used = s.replica[usize::from(by)].version;
        let version = if self.names_used {
            used
        } else {
            answer.version
        };
        n.calls[slot] = Call {
            state: if found.is_some() { EVENTS } else { COMPACTED },
            version,
            position: answer.position,
            frontier: answer.frontier,
            events: found.unwrap_or(0),
            ..Call::default()
        };
        let events = found.map_or("compacted".to_owned(), listed);
        let position = answer.position;
        out.push((
            Action::Answer {
                by,
                version,
                position,
                events,
            },
            n,
        ));
    }
}
