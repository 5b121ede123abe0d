//! The watches of one group: which there are, and who is told what.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use caucus_api::interests::Interests;
use caucus_api::shard::{Interest, Span};

use super::event::{End, Event, Told};
use super::outlet::{Offered, Outlet};

/// The number of a lane, never used twice by a hub.
pub(super) type LaneId = u64;

/// What a lane is to be.
#[derive(Debug, Clone)]
pub(super) struct LaneSpec {
    /// The keys, and of a range the vnodes of this group.
    pub(super) span: Span,
    /// With the record before each change.
    pub(super) previous: bool,
    /// Only changes above this.
    pub(super) after: u64,
    pub(super) outlet: Outlet,
}

/// A watch in one group.
struct Lane {
    spec: LaneSpec,
    /// Whether it is passed on what the leader tells; else it catches up.
    live: bool,
    /// What it is to be told with the next delivery.
    ready: Vec<Arc<Event>>,
}

/// Who watches one span.
struct Watched {
    /// With its vnodes.
    span: Span,
    lanes: HashSet<LaneId>,
    previous: bool,
    /// The question that tells the leader of it; 0: one before the last answer, or none yet if it waits to
    /// be told.
    since_turn: u64,
}

/// All lanes of a group.
#[derive(Default)]
pub(super) struct Lanes {
    all: HashMap<LaneId, Lane>,
    interests: Interests<Watched>,
    /// What the leader isn't told yet: spans with and without the record before, and spans that nobody
    /// watches any more.
    untold: HashMap<Name, Option<Interest>>,
    last: LaneId,
}

/// Changes of what is watched, for the leader.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) add: Vec<Interest>,
    pub(super) remove: Vec<Span>,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Adds a lane, which begins by catching up.
    pub(super) fn add(&mut self, spec: LaneSpec) -> LaneId {
        self.last += 1;
        let (id, previous) = (self.last, spec.previous);
        let known = match self.interests.get_mut(&spec.span) {
            Some(watched) => {
                watched.lanes.insert(id);
                let enough = watched.previous || !previous;
                watched.previous |= previous;
                enough
            }
            None => {
                let watched = Watched {
                    span: spec.span.clone(),
                    lanes: HashSet::from([id]),
                    previous,
                    since_turn: 0,
                };
                self.interests.insert(&spec.span, watched);
                false
            }
        };
        if !known {
            self.tell_later(&spec.span);
        }
        let lane = Lane {
            spec,
            live: false,
            ready: Vec::new(),
        };
        self.all.insert(id, lane);
        id
    }

    fn tell_later(&mut self, span: &Span) {
        let watched = self.interests.get_mut(span);
        let interest = watched.map(|watched| Interest {
            span: Some(watched.span.clone()),
            previous: watched.previous,
        });
        self.untold.insert(name(span), interest);
    }

    pub(super) fn remove(&mut self, id: LaneId) -> Option<LaneSpec> {
        let lane = self.all.remove(&id)?;
        let span = &lane.spec.span;
        if let Some(watched) = self.interests.get_mut(span) {
            watched.lanes.remove(&id);
            if watched.lanes.is_empty() {
                self.interests.remove(span);
                self.tell_later(span);
            }
        }
        Some(lane.spec)
    }

    pub(super) fn spec(&self, id: LaneId) -> Option<&LaneSpec> {
        self.all.get(&id).map(|lane| &lane.spec)
    }

    /// Whether the leader tells of a lane's keys all that comes after the answer to the question
    /// `answered`.
    pub(super) fn is_told_of(&mut self, id: LaneId, answered: u64) -> bool {
        let Some(lane) = self.all.get(&id) else {
            return false;
        };
        if self.untold.contains_key(&name(&lane.spec.span)) {
            return false;
        }
        let watched = self.interests.get_mut(&lane.spec.span);
        watched.is_some_and(|watched| watched.since_turn <= answered + 1)
    }

    /// From now on it is passed on what the leader tells, above what it has read by itself: that may be
    /// more than the hub has been told.
    pub(super) fn go_live(&mut self, id: LaneId, at: u64) {
        if let Some(lane) = self.all.get_mut(&id) {
            lane.spec.after = lane.spec.after.max(at);
            lane.live = true;
        }
    }

    pub(super) fn is_live(&self, id: LaneId) -> bool {
        self.all.get(&id).is_some_and(|lane| lane.live)
    }

    /// The next changes for the leader, at most so many, which the question `turn` will carry.
    pub(super) fn take_untold(&mut self, max: usize, turn: u64) -> Changes {
        let mut changes = Changes::default();
        let names: Vec<_> = self.untold.keys().take(max).cloned().collect();
        for key in names {
            let span = |(start, end, range)| Span {
                start,
                end,
                range,
                ..Span::default()
            };
            match self.untold.remove(&key) {
                Some(Some(interest)) => {
                    if let Some(watched) = self.interests.get_mut(&span(key)) {
                        watched.since_turn = turn;
                    }
                    changes.add.push(interest);
                }
                Some(None) => changes.remove.push(span(key)),
                None => {}
            }
        }
        changes
    }

    /// Forgets what the leader was told: it will be told all.
    pub(super) fn tell_all(&mut self) {
        let all = self.interests.iter().map(|(span, watched)| {
            let interest = Interest {
                span: Some(watched.span.clone()),
                previous: watched.previous,
            };
            (name(&span), Some(interest))
        });
        self.untold = all.collect();
    }

    /// Passes on what the leader told, up to `through`. Lanes whose outlets are full stop being live, and
    /// those whose reader has gone are removed; both are returned.
    pub(super) fn deliver(
        &mut self,
        events: &[Arc<Event>],
        through: u64,
    ) -> (Vec<LaneId>, Vec<LaneId>) {
        let mut touched = Vec::new();
        let all = &mut self.all;
        for event in events {
            self.interests.each(&event.key, |watched| {
                for id in &watched.lanes {
                    let Some(lane) = all.get_mut(id) else {
                        continue;
                    };
                    if !lane.live || event.revision <= lane.spec.after {
                        continue;
                    }
                    if lane.ready.is_empty() {
                        touched.push(*id);
                    }
                    lane.ready.push(event.clone());
                }
            });
        }
        let (mut full, mut gone) = (Vec::new(), Vec::new());
        for id in touched {
            let Some(lane) = self.all.get_mut(&id) else {
                continue;
            };
            let events = std::mem::take(&mut lane.ready);
            let through = through.max(lane.spec.after);
            match lane.spec.outlet.offer(Told::Events { events, through }) {
                Offered::Taken => {}
                Offered::Full => {
                    lane.live = false;
                    full.push(id);
                }
                Offered::Gone => gone.push(id),
            }
        }
        (full, gone)
    }

    /// Tells some lanes how far they have got. Those that can't be told are returned as by
    /// [`deliver`](Self::deliver).
    pub(super) fn deliver_position(&mut self, lanes: &[LaneId], through: u64) -> Vec<LaneId> {
        let mut full = Vec::new();
        for id in lanes {
            let Some(lane) = self.all.get_mut(id).filter(|lane| lane.live) else {
                continue;
            };
            let told = Told::Events {
                events: Vec::new(),
                through: through.max(lane.spec.after),
            };
            if let Offered::Full = lane.spec.outlet.offer(told) {
                lane.live = false;
                full.push(*id);
            }
        }
        full
    }

    /// Ends the live lanes, which have missed what is compacted now.
    pub(super) fn end_live(&mut self, end: &End) {
        let live: HashSet<LaneId> = self
            .all
            .iter()
            .filter(|(_, lane)| lane.live)
            .map(|(id, _)| *id)
            .collect();
        for id in live {
            if let Some(spec) = self.remove(id) {
                spec.outlet.end(end.clone());
            }
        }
    }
}

/// A span without its vnodes.
type Name = (Bytes, Bytes, bool);

fn name(span: &Span) -> Name {
    (span.start.clone(), span.end.clone(), span.range)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn event(revision: u64) -> Arc<Event> {
        Arc::new(Event {
            revision,
            key: Bytes::from_static(b"k"),
            record: None,
            previous: None,
        })
    }

    fn spec(outlet: Outlet, after: u64) -> LaneSpec {
        LaneSpec {
            span: Span {
                start: Bytes::from_static(b"k"),
                ..Span::default()
            },
            previous: false,
            after,
            outlet,
        }
    }

    #[test]
    fn what_a_lane_has_read_by_itself_is_not_told_again() {
        let (parcels, mut queue) = mpsc::unbounded_channel();
        let mut lanes = Lanes::default();
        let lane = lanes.add(spec(Outlet::new((1, 1), 2, parcels), 3));
        assert!(!lanes.is_told_of(lane, 4), "the leader doesn't know yet");
        let told = lanes.take_untold(10, 5);
        assert_eq!(told.add.len(), 1);
        assert!(lanes.is_told_of(lane, 4));
        lanes.deliver(&[event(4)], 4);
        assert!(queue.try_recv().is_err(), "it isn't live");
        // It has read up to 6, the hub was told up to 4.
        lanes.go_live(lane, 6);
        lanes.deliver(&[event(5), event(6)], 6);
        assert!(queue.try_recv().is_err());
        lanes.deliver(&[event(7)], 8);
        let told = queue.try_recv().unwrap().told;
        let events = vec![event(7)];
        assert_eq!(told, Told::Events { events, through: 8 });
    }

    #[test]
    fn who_watches_the_same_is_told_of_once() {
        let (parcels, _queue) = mpsc::unbounded_channel();
        let outlet = Outlet::new((1, 1), 2, parcels);
        let mut lanes = Lanes::default();
        let first = lanes.add(spec(outlet.clone(), 0));
        let second = lanes.add(spec(outlet.clone(), 0));
        assert_eq!(lanes.take_untold(10, 1).add.len(), 1);
        let previous = LaneSpec {
            previous: true,
            ..spec(outlet, 0)
        };
        let third = lanes.add(previous);
        let more = lanes.take_untold(10, 2);
        assert!(more.add[0].previous, "now with the record before");
        lanes.remove(first);
        lanes.remove(third);
        assert!(!lanes.has_untold());
        lanes.tell_all();
        assert!(!lanes.is_told_of(second, 2), "a new leader knows nothing");
        assert_eq!(lanes.take_untold(10, 3).add.len(), 1);
        assert!(lanes.is_told_of(second, 2));
        lanes.remove(second);
        let changes = lanes.take_untold(10, 3);
        assert_eq!((changes.add.len(), changes.remove.len()), (0, 1));
        assert!(lanes.is_empty());
    }
}
