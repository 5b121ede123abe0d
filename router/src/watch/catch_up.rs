//! A lane that reads the past by itself, until it is where its hub is.

use caucus_api::shard::Interest;
use caucus_ring::GroupId;
use tokio::sync::{mpsc, oneshot};

use super::event::{End, Told};
use super::follow::Heard;
use super::hub::Command;
use super::lanes::{LaneId, LaneSpec};
use super::outlet::Offered;
use crate::{Reason, Router};

/// What it needs for that.
pub(super) struct CatchUp {
    router: Router,
    group: GroupId,
    hub: mpsc::UnboundedSender<Command>,
    lane: LaneId,
    spec: LaneSpec,
}

impl CatchUp {
    pub(super) fn new(
        router: Router,
        group: GroupId,
        hub: mpsc::UnboundedSender<Command>,
        lane: LaneId,
        spec: LaneSpec,
    ) -> CatchUp {
        CatchUp {
            router,
            group,
            hub,
            lane,
            spec,
        }
    }

    /// Reads on after a revision, in a task of its own.
    pub(super) fn spawn(self, at: u64) {
        tokio::spawn(async move {
            if let Some(end) = self.run(at).await {
                self.spec.outlet.end(end);
                let _ = self.hub.send(Command::Remove(self.lane));
            }
        });
    }

    /// Until the lane is live or its reader gone; else why it ended.
    async fn run(&self, mut at: u64) -> Option<End> {
        let interest = Interest {
            span: Some(self.spec.span.clone()),
            previous: self.spec.previous,
        };
        loop {
            let (told, promoted) = oneshot::channel();
            if self
                .hub
                .send(Command::Promote(self.lane, at, told))
                .is_err()
            {
                return Some(End::Lagging { resume: at + 1 });
            }
            // Without an answer the lane was removed.
            let through = match promoted.await.ok()? {
                Ok(()) => return None,
                Err(position) => position,
            };
            let read = self.router.replay(self.group, &interest, (at, through));
            let read = tokio::select! {
                read = read => read,
                // Nobody waits for it any more, and the group may be away for long.
                () = self.spec.outlet.closed() => return self.gone(),
            };
            let Heard { events, position } = match read {
                Ok(heard) => heard,
                Err(error) => return Some(end(error, at)),
            };
            let told = Told::Events {
                events,
                through: position,
            };
            match self.spec.outlet.send(told).await {
                Offered::Taken => at = position,
                Offered::Full => return Some(End::Lagging { resume: at + 1 }),
                Offered::Gone => return self.gone(),
            }
        }
    }

    /// Its reader has gone.
    fn gone(&self) -> Option<End> {
        // If the hub has gone too, so has the lane.
        let _ = self.hub.send(Command::Remove(self.lane));
        None
    }
}

fn end(error: crate::Error, at: u64) -> End {
    match error.reason {
        Reason::Compacted { revision } => End::Compacted { revision },
        Reason::Unavailable(_) | Reason::Busy(_) | Reason::Deadline => {
            End::Lagging { resume: at + 1 }
        }
        reason => End::Refused(reason.to_string()),
    }
}
