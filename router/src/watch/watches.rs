//! All watches of one reader: a connection, a stream.

use std::collections::HashMap;

use bytes::Bytes;
use caucus_api::shard::Span;
use caucus_ring::{GroupId, Revision};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::catch_up::CatchUp;
use super::hub::Command;
use super::lanes::{LaneId, LaneSpec};
use super::merger::{Merger, Part};
use super::outlet::{Outlet, Parcel};
use crate::{Error, Outcome, Reason, Router};

/// What is watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchSpec {
    /// The key, or the first key of the range.
    pub start: Bytes,
    /// The first key after the range; empty: no end. `None`: `start` alone.
    pub end: Option<Bytes>,
    /// The first revision whose changes are told; `None`: the next one after all that is granted.
    pub from: Option<Revision>,
    /// With the record before each change.
    pub previous: bool,
    /// In the order of each group, without waiting for the others: there is no order between groups then, and
    /// what happened at one revision in several groups doesn't come together.
    pub by_group: bool,
}

/// The watches of one reader, which takes what they tell in turn.
pub struct Watches {
    router: Router,
    parcels: mpsc::UnboundedReceiver<Parcel>,
    outlets: mpsc::UnboundedSender<Parcel>,
    open: HashMap<u64, (u64, Open)>,
    /// Counts the watches.
    serial: u64,
}

/// A watch that is open.
enum Open {
    Lanes(Vec<(mpsc::UnboundedSender<Command>, LaneId)>),
    /// The way to tell its merger what is to be reached; closed, it ends.
    Merged(mpsc::UnboundedSender<u64>),
}

impl Router {
    /// No watches yet.
    pub fn watches(&self) -> Watches {
        let (outlets, parcels) = mpsc::unbounded_channel();
        Watches {
            router: self.clone(),
            parcels,
            outlets,
            open: HashMap::new(),
            serial: 0,
        }
    }
}

impl Watches {
    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether one is open.
    pub fn is_open(&self, watch: u64) -> bool {
        self.open.contains_key(&watch)
    }

    /// Opens a watch under a number of the reader's; the first revision that it tells of. One that is open
    /// under that number is closed.
    pub async fn open(
        &mut self,
        watch: u64,
        spec: &WatchSpec,
        deadline: Instant,
    ) -> Result<Revision, Error> {
        self.close(watch);
        let from = match spec.from {
            Some(from) => from,
            None => Revision(self.router.granted(deadline).await?.0 + 1),
        };
        let spans = self.spans(spec)?;
        let after = from.0.saturating_sub(1);
        self.serial += 1;
        let name = (watch, self.serial);
        let open = match spans.len() {
            1 => self.lanes(name, spans, spec, after).await?,
            _ if spec.by_group => self.lanes(name, spans, spec, after).await?,
            _ => self.merged(name, spans, spec, after).await?,
        };
        self.open.insert(watch, (self.serial, open));
        self.router.shared.metrics.watches.increment(1.0);
        Ok(from)
    }

    /// The groups of a watch, with what it watches in each.
    fn spans(&self, spec: &WatchSpec) -> Result<Vec<(GroupId, Span)>, Error> {
        let table = self.router.table();
        let table = table.ok_or_else(|| Error::no_map(Outcome::Read))?;
        let map = table.map();
        let Some(end) = &spec.end else {
            let (_, group) = map.locate(&spec.start);
            let span = Span {
                start: spec.start.clone(),
                ..Span::default()
            };
            return Ok(vec![(group, span)]);
        };
        let vnodes = map.route_range(&spec.start, end);
        let groups = map.split_by_group(&vnodes).into_iter();
        let span = |vnodes: caucus_ring::VnodeSet| Span {
            start: spec.start.clone(),
            end: end.clone(),
            range: true,
            vnodes: vnodes.to_packed().into(),
        };
        Ok(groups
            .map(|(group, vnodes)| (group, span(vnodes)))
            .collect())
    }

    async fn lanes(
        &self,
        name: (u64, u64),
        spans: Vec<(GroupId, Span)>,
        spec: &WatchSpec,
        after: u64,
    ) -> Result<Open, Error> {
        let mut lanes = Vec::with_capacity(spans.len());
        for (group, span) in spans {
            let outlet = Outlet::new(name, group.0, self.outlets.clone());
            let lane = self.lane((group, span), spec.previous, after, outlet);
            lanes.push(lane.await?);
        }
        Ok(Open::Lanes(lanes))
    }

    /// Adds a lane to the hub of a group and lets it catch up.
    async fn lane(
        &self,
        (group, span): (GroupId, Span),
        previous: bool,
        after: u64,
        outlet: Outlet,
    ) -> Result<(mpsc::UnboundedSender<Command>, LaneId), Error> {
        let spec = LaneSpec {
            span,
            previous,
            after,
            outlet,
        };
        let hub = self.router.shared.hubs.of(&self.router, group);
        let (added, lane) = oneshot::channel();
        let gone = || Error {
            reason: Reason::Unavailable("the router is shutting down".to_owned()),
            outcome: Outcome::Read,
        };
        hub.send(Command::Add(spec.clone(), added))
            .map_err(|_| gone())?;
        let lane = lane.await.map_err(|_| gone())?;
        CatchUp::new(self.router.clone(), group, hub.clone(), lane, spec).spawn(after);
        Ok((hub, lane))
    }

    async fn merged(
        &self,
        name: (u64, u64),
        spans: Vec<(GroupId, Span)>,
        spec: &WatchSpec,
        after: u64,
    ) -> Result<Open, Error> {
        let (inlet, parcels) = mpsc::unbounded_channel();
        let mut merger = Merger {
            parts: Vec::with_capacity(spans.len()),
            outlet: Outlet::new(name, 0, self.outlets.clone()),
            pending: Default::default(),
            told: after,
            wanted: None,
        };
        for (group, span) in spans {
            let outlet = Outlet::new(name, group.0, inlet.clone());
            let lane = self.lane((group, span), spec.previous, after, outlet);
            let (hub, lane) = lane.await?;
            merger.parts.push(Part {
                group: group.0,
                hub,
                lane,
                position: 0,
                asked: 0,
            });
        }
        let (wants, wanted) = mpsc::unbounded_channel();
        tokio::spawn(merger.run(parcels, wanted));
        Ok(Open::Merged(wants))
    }

    /// Closes a watch: nothing more of it comes. Whether it was open.
    pub fn close(&mut self, watch: u64) -> bool {
        let Some((_, open)) = self.open.remove(&watch) else {
            return false;
        };
        self.router.shared.metrics.watches.decrement(1.0);
        if let Open::Lanes(lanes) = open {
            for (hub, lane) in lanes {
                // If the hub has gone, so has the lane.
                let _ = hub.send(Command::Remove(lane));
            }
        }
        true
    }

    /// Lets a watch tell when nothing at or below a revision follows, which must have been granted.
    pub fn reach(&self, watch: u64, revision: Revision) {
        match self.open.get(&watch) {
            Some((_, Open::Lanes(lanes))) => {
                for (hub, lane) in lanes {
                    let _ = hub.send(Command::Reach(*lane, revision.0));
                }
            }
            Some((_, Open::Merged(wants))) => _ = wants.send(revision.0),
            None => {}
        }
    }

    /// The next that any of them tells. Can be cancelled without loss.
    pub async fn next(&mut self) -> Parcel {
        loop {
            // This holds a sender itself, so the channel is never closed.
            let Some(parcel) = self.parcels.recv().await else {
                return std::future::pending().await;
            };
            let open = self.open.get(&parcel.watch);
            if open.is_none_or(|(serial, _)| *serial != parcel.serial) {
                continue;
            }
            if let super::Told::Ended(_) = parcel.told {
                self.close(parcel.watch);
            }
            return parcel;
        }
    }
}

impl Watches {
    /// The next that is there already.
    pub fn try_next(&mut self) -> Option<Parcel> {
        futures::FutureExt::now_or_never(self.next())
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        let open: Vec<u64> = self.open.keys().copied().collect();
        for watch in open {
            self.close(watch);
        }
    }
}
