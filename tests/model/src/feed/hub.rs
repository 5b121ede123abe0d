//! The router's hub: its position, what it takes of an answer, and its watches.

use super::*;
use session::Found;

impl Feed {
    /// A watch says that all of its events up to `to` came, and has got these.
    fn claim(&self, s: &mut State, keys: u8, from: u8, to: u8, got: u16) {
        let mask = (0..8).fold(0u16, |bits, revision| {
            bits | u16::from(keys) << (2 * revision)
        });
        let wanted = self.events(s, s.length, from, to, keys);
        if wanted & !got != 0 {
            s.bad = MISSING;
        } else if got & mask & !wanted != 0 {
            s.bad = EXTRA;
        }
    }

    pub(super) fn hub(&self, s: &State, out: &mut Vec<(Action, State)>) {
        for slot in 0..CALLS {
            let call = s.calls[slot];
            let mut n = *s;
            n.calls[slot] = Call::default();
            match call.state {
                EVENTS if self.older == Older::Dropped && call.version < s.hub.version => {
                    out.push((Action::HubDrops, n));
                }
                EVENTS => {
                    self.take(&mut n, call);
                    let (version, position) = (call.version, call.position);
                    out.push((Action::HubTakes { version, position }, n));
                }
                RESYNC => {
                    n.hub.full = true;
                    out.push((Action::HubResyncs, n));
                }
                COMPACTED => {
                    // Who is live is at the hub's position, and that is too old.
                    if n.hub.first == Phase::Live {
                        n.hub.first = Phase::Cut;
                    }
                    if n.hub.second.phase == Phase::Live {
                        n.hub.second = Watch {
                            phase: Phase::Cut,
                            ..Watch::default()
                        };
                    }
                    n.hub.position = n.hub.position.max(call.position);
                    n.hub.frontier = n.hub.frontier.max(call.frontier);
                    out.push((
                        Action::HubTakes {
                            version: call.version,
                            position: call.position,
                        },
                        n,
                    ));
                }
                _ => {}
            }
        }
        self.coming(s, out);
        self.catching(s, out);
    }

    fn take(&self, n: &mut State, call: Call) {
        let from = n.hub.position;
        n.hub.frontier = n.hub.frontier.max(call.frontier);
        if self.rises && call.position <= from {
            return;
        }
        let to = call.position;
        let below = if self.filters {
            (1u16 << (2 * (from + 1))) - 1
        } else {
            0
        };
        let events = call.events & !below;
        n.hub.position = to;
        if n.hub.first == Phase::Live {
            self.claim(n, self.first, from, to, events);
        }
        let mut watch = n.hub.second;
        if watch.phase != Phase::Live {
            return;
        }
        let mine = (0..8).fold(0u16, |bits, r| bits | u16::from(self.second) << (2 * r)) & events;
        let unknown = self.older == Older::Demotes && watch.since > call.version;
        let slow = mine != 0 && watch.full;
        if unknown || slow {
            watch.phase = Phase::Catching;
            watch.claimed = match self.demoted {
                Demoted::Read if slow => watch.read,
                Demoted::Position if slow => to,
                _ => from,
            };
            n.hub.second = watch;
            if watch.claimed != from {
                // What a claim that isn't the queue's leaves out or brings again.
                let (low, high) = (watch.claimed.min(from), watch.claimed.max(from));
                if self.events(n, n.length, low, high, self.second) != 0 {
                    n.bad = if watch.claimed > from { MISSING } else { EXTRA };
                }
            }
            return;
        }
        self.claim(n, self.second, from, to, events);
        watch.claimed = to;
        watch.full |= self.slow && mine != 0;
        n.hub.second = watch;
    }

    /// The second watch comes and goes; its client reads.
    fn coming(&self, s: &State, out: &mut Vec<(Action, State)>) {
        let watch = s.hub.second;
        let free = matches!(watch.phase, Phase::None | Phase::Cut);
        if free && s.left.watches > 0 {
            for start in 1..=s.granted + 1 {
                let mut n = *s;
                n.left.watches -= 1;
                let hub = &mut n.hub;
                let interests = hub.interests | self.second;
                if interests != hub.interests {
                    (hub.interests, hub.version) = (interests, hub.version + 1);
                }
                let live = start > hub.position;
                hub.second = Watch {
                    phase: if live { Phase::Live } else { Phase::Catching },
                    claimed: if live { hub.position } else { start - 1 },
                    read: start - 1,
                    since: if self.first & self.second == self.second {
                        1
                    } else {
                        hub.version
                    },
                    ..Watch::default()
                };
                // A start ahead of the position waits: nothing of it is older.
                if start <= hub.position + 1 {
                    out.push((Action::WatchComes { start }, n));
                }
            }
        }
        if !free && s.left.watches > 0 {
            let mut n = *s;
            let hub = &mut n.hub;
            hub.second = Watch::default();
            if hub.interests != self.first {
                (hub.interests, hub.version) = (self.first, hub.version + 1);
            }
            out.push((Action::WatchGoes, n));
        }
        if watch.full {
            let mut n = *s;
            n.hub.second.full = false;
            n.hub.second.read = watch.claimed;
            out.push((Action::ClientReads, n));
        }
    }

    fn promotes(&self, s: &State) -> bool {
        let (hub, watch) = (s.hub, s.hub.second);
        match self.promoted {
            Promoted::Frontier => watch.claimed >= hub.frontier,
            Promoted::Position => watch.claimed == hub.position,
            Promoted::LastPage => watch.claimed >= hub.position,
        }
    }

    fn catching(&self, s: &State, out: &mut Vec<(Action, State)>) {
        let (hub, watch) = (s.hub, s.hub.second);
        if watch.phase != Phase::Catching {
            return;
        }
        let mut n = *s;
        let page = &mut n.hub.second.page;
        match watch.page.state {
            FREE if self.promotes(s) => {
                n.hub.second.phase = Phase::Live;
                self.claim(&mut n, self.second, watch.claimed, hub.position, 0);
                // What is claimed above the position comes again.
                let again = self.events(s, s.length, hub.position, watch.claimed, self.second);
                if again != 0 {
                    n.bad = EXTRA;
                }
                n.hub.second.claimed = hub.position;
                out.push((Action::GoesLive { at: hub.position }, n));
            }
            FREE if !watch.full => {
                (page.state, page.through) = (SENT, hub.position);
                if !self.page_capped {
                    page.through = u8::MAX;
                }
                let (from, through) = (watch.claimed, page.through);
                out.push((Action::AskPage { from, through }, n));
            }
            SENT => {
                let led = self.left.changes > s.left.changes;
                for r in (0..2).filter(|r| *r == s.leader || led) {
                    self.page(s, r, out);
                }
            }
            READING => self.page(s, watch.page.replica, out),
            EVENTS => {
                let got = watch.page.events;
                let to = watch.page.through;
                *page = Page::default();
                self.claim(&mut n, self.second, watch.claimed, to, got);
                let watch = &mut n.hub.second;
                watch.full |= self.slow && got != 0;
                watch.claimed = to;
                out.push((Action::TakePage, n));
            }
            COMPACTED => {
                n.hub.second = Watch {
                    phase: Phase::Cut,
                    ..Watch::default()
                };
                out.push((Action::TakePage, n));
            }
            _ => {}
        }
    }

    /// A page has all changes up to where it ends, or those of one revision if it is full then.
    fn page(&self, s: &State, r: u8, out: &mut Vec<(Action, State)>) {
        let (watch, keys) = (s.hub.second, self.second);
        let page = watch.page;
        let mut n = *s;
        let frontier = self.frontier(s, s.replica[usize::from(r)].applied);
        let mut through = page.through.min(frontier).max(watch.claimed);
        if page.state == READING {
            through = page.through;
        }
        let found = match self.look(s, r, watch.claimed, through, keys) {
            Found::Ring(events) if page.state == SENT => Some(events),
            _ if page.state == SENT => {
                n.hub.second.page = Page {
                    state: READING,
                    replica: r,
                    through,
                    events: 0,
                };
                out.push((Action::Loads(r), n));
                return;
            }
            _ => self.index(s, r, watch.claimed, through, keys),
        };
        // A replica that is behind has nothing to say: the page is asked again, of another.
        if through == watch.claimed && found == Some(0) && page.through > through {
            if self.promoted != Promoted::LastPage {
                return;
            }
            through = s.hub.position;
        }
        let mut ends = vec![(through, found.unwrap_or(0))];
        let (_, events) = ends[0];
        if events.count_ones() > 1 {
            // The page is full.
            let first = events.trailing_zeros() as u8;
            let whole = if self.page_whole {
                0b11 << (first / 2 * 2)
            } else {
                1 << first
            };
            ends.push((first / 2, events & whole));
        }
        for (through, events) in ends {
            n.hub.second.page = Page {
                state: if found.is_some() { EVENTS } else { COMPACTED },
                replica: 0,
                through,
                events,
            };
            let events = found.map_or("compacted".to_owned(), |_| listed(events));
            let by = r;
            out.push((
                Action::AnswerPage {
                    by,
                    through,
                    events,
                },
                n,
            ));
        }
    }
}
