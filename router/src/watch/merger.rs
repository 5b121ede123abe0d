//! A watch over several groups: tells what happened at a revision when all groups have got so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use caucus_planted as planted;
use tokio::sync::mpsc;

use super::event::{End, Event, Told};
use super::hub::Command;
use super::lanes::LaneId;
use super::outlet::{Offered, Outlet, Parcel};

/// Bytes of events that wait for groups that are behind.
const PENDING_BYTES_MAX: usize = 16 << 20;

/// The watch in one group.
pub(super) struct Part {
    pub(super) group: u32,
    pub(super) hub: mpsc::UnboundedSender<Command>,
    pub(super) lane: LaneId,
    /// It has told all up to here.
    pub(super) position: u64,
    /// Up to where it has been asked to get.
    pub(super) asked: u64,
}

/// Puts the lanes of one watch into one order.
pub(super) struct Merger {
    pub(super) parts: Vec<Part>,
    pub(super) outlet: Outlet,
    pub(super) pending: Pending,
    /// All up to here has been told.
    pub(super) told: u64,
    /// Somebody wants to hear when it has got so far, also if it has.
    pub(super) wanted: Option<u64>,
}

/// Events by revision.
#[derive(Debug, Default)]
pub(super) struct Pending {
    events: BTreeMap<u64, Vec<Arc<Event>>>,
    bytes: usize,
}

impl Merger {
    /// Runs until the watch ends. `wants`: revisions that are to be reached.
    pub(super) async fn run(
        mut self,
        mut parcels: mpsc::UnboundedReceiver<Parcel>,
        mut wants: mpsc::UnboundedReceiver<u64>,
    ) {
        loop {
            let parcel = tokio::select! {
                parcel = parcels.recv() => parcel,
                wanted = wants.recv() => match wanted {
                    Some(wanted) => {
                        self.wanted = self.wanted.max(Some(wanted));
                        None
                    }
                    // The watch was closed.
                    None => return,
                }
            };
            let stepped = match parcel {
                Some(parcel) => self.take(parcel),
                None => Ok(()),
            };
            let stepped = match stepped {
                Ok(()) => self.tell().await,
                Err(end) => Err(end),
            };
            if let Err(end) = stepped {
                return self.outlet.end(end);
            }
            self.ask();
        }
    }

    fn take(&mut self, parcel: Parcel) -> Result<(), End> {
        let (events, through) = match parcel.told {
            Told::Events { events, through } => (events, through),
            // The others may be ahead of what it was told.
            Told::Ended(End::Lagging { .. }) => return Err(self.lagging()),
            Told::Ended(end) => return Err(end),
        };
        self.pending.add(events);
        let mut parts = self.parts.iter_mut();
        if let Some(part) = parts.find(|part| part.group == parcel.group) {
            part.position = part.position.max(through);
        }
        match self.pending.bytes > PENDING_BYTES_MAX {
            true => Err(self.lagging()),
            false => Ok(()),
        }
    }

    fn lagging(&self) -> End {
        End::Lagging {
            resume: self.told + 1,
        }
    }

    /// Tells what all groups have got to.
    async fn tell(&mut self) -> Result<(), End> {
        let positions = self.parts.iter().map(|part| part.position);
        let through = match planted::is(planted::GROUPS_NOT_MERGED) {
            true => positions.max(),
            false => positions.min(),
        };
        let through = through.unwrap_or(0);
        let events = self.pending.up_to(through);
        if self.wanted.is_some_and(|wanted| through >= wanted) {
            self.wanted = None;
        } else if events.is_empty() {
            return Ok(());
        }
        match self.outlet.send(Told::Events { events, through }).await {
            Offered::Taken => {
                self.told = through;
                Ok(())
            }
            Offered::Full | Offered::Gone => Err(self.lagging()),
        }
    }

    /// Asks groups that are behind to show how far they are.
    fn ask(&mut self) {
        let newest = self.pending.events.last_key_value();
        let newest = newest.map_or(0, |(revision, _)| *revision);
        let wanted = newest.max(self.wanted.unwrap_or(0));
        for part in &mut self.parts {
            if part.position < wanted && part.asked < wanted {
                part.asked = wanted;
                // If it has gone, so has everything.
                let _ = part.hub.send(Command::Reach(part.lane, wanted));
            }
        }
    }
}

impl Drop for Merger {
    fn drop(&mut self) {
        for part in &self.parts {
            let _ = part.hub.send(Command::Remove(part.lane));
        }
    }
}

impl Pending {
    fn add(&mut self, events: Vec<Arc<Event>>) {
        for event in events {
            self.bytes += event.size();
            self.events.entry(event.revision).or_default().push(event);
        }
    }

    fn up_to(&mut self, through: u64) -> Vec<Arc<Event>> {
        let later = self.events.split_off(&through.saturating_add(1));
        let ready = std::mem::replace(&mut self.events, later);
        let ready: Vec<Arc<Event>> = ready.into_values().flatten().collect();
        self.bytes -= ready.iter().map(|event| event.size()).sum::<usize>();
        ready
    }
}
