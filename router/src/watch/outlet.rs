//! From lanes to who reads them: no lane takes more than its share of the queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::event::{End, Told};

/// What a lane may have in the queue: so many parcels, or so many times [`CREDIT_BYTES`].
const CREDITS: u32 = 16;
/// Bytes of events that cost as much as a parcel.
const CREDIT_BYTES: usize = 64 << 10;
/// A reader that takes nothing for so long is left.
const STALL_MAX: Duration = Duration::from_secs(30);

/// What a watch is told, by which lane.
#[derive(Debug)]
pub struct Parcel {
    /// The watch, as whoever opened it calls it.
    pub watch: u64,
    /// The group that it comes from; 0 if from several.
    pub group: u32,
    /// What it is told.
    pub told: Told,
    /// Of the watch: a reader may use its own number again.
    pub(super) serial: u64,
    _credit: Option<Credit>,
}

/// Gives the lane's share back when the parcel has been taken.
#[derive(Debug)]
struct Credit {
    of: Arc<Semaphore>,
    cost: u32,
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.of.add_permits(self.cost as usize);
    }
}

/// The way from a lane to its reader. What all lanes together have in the queue is bounded by their
/// number; so the queue itself needs no bound.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    watch: u64,
    serial: u64,
    group: u32,
    parcels: mpsc::UnboundedSender<Parcel>,
    credits: Arc<Semaphore>,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    /// The reader is behind.
    Full,
    /// There is no reader any more.
    Gone,
}

impl Outlet {
    /// `watch`: as its reader calls it, and its serial number there.
    pub(super) fn new(
        (watch, serial): (u64, u64),
        group: u32,
        parcels: mpsc::UnboundedSender<Parcel>,
    ) -> Outlet {
        Outlet {
            watch,
            serial,
            group,
            parcels,
            credits: Arc::new(Semaphore::new(CREDITS as usize)),
        }
    }

    /// Passes on, if the reader isn't behind.
    pub(super) fn offer(&self, told: Told) -> Offered {
        let cost = cost(&told);
        match self.credits.try_acquire_many(cost) {
            Ok(permits) => permits.forget(),
            Err(_) if self.parcels.is_closed() => return Offered::Gone,
            Err(_) => return Offered::Full,
        }
        self.pass(told, cost)
    }

    /// Passes on when the reader has taken enough of what was before; `Full`: it doesn't.
    pub(super) async fn send(&self, told: Told) -> Offered {
        let cost = cost(&told);
        let acquired = tokio::select! {
            acquired = timeout(STALL_MAX, self.credits.acquire_many(cost)) => acquired,
            () = self.closed() => return Offered::Gone,
        };
        match acquired {
            Ok(Ok(permits)) => permits.forget(),
            Ok(Err(_)) | Err(_) => return Offered::Full,
        }
        self.pass(told, cost)
    }

    /// Waits until there is no reader any more.
    pub(super) async fn closed(&self) {
        self.parcels.closed().await;
    }

    fn pass(&self, told: Told, cost: u32) -> Offered {
        let credit = Credit {
            of: self.credits.clone(),
            cost,
        };
        let parcel = Parcel {
            watch: self.watch,
            serial: self.serial,
            group: self.group,
            told,
            _credit: Some(credit),
        };
        match self.parcels.send(parcel) {
            Ok(()) => Offered::Taken,
            Err(_) => Offered::Gone,
        }
    }

    /// Says that nothing more comes; once for a lane, whether or not its reader is behind.
    pub(super) fn end(&self, end: End) {
        // Nobody is told if nobody reads.
        let _ = self.parcels.send(Parcel {
            watch: self.watch,
            serial: self.serial,
            group: self.group,
            told: Told::Ended(end),
            _credit: None,
        });
    }
}

fn cost(told: &Told) -> u32 {
    let Told::Events { events, .. } = told else {
        return 1;
    };
    let bytes: usize = events.iter().map(|event| event.size()).sum();
    let cost = 1 + bytes / CREDIT_BYTES;
    u32::try_from(cost).unwrap_or(CREDITS).min(CREDITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        Told::Events {
            events: Vec::new(),
            through: 1,
        }
    }

    #[tokio::test]
    async fn a_lane_takes_its_share_and_no_more() {
        let (parcels, mut queue) = mpsc::unbounded_channel();
        let lane = Outlet::new((1, 1), 2, parcels.clone());
        let other = Outlet::new((3, 2), 2, parcels);
        for _ in 0..CREDITS {
            assert_eq!(lane.offer(told()), Offered::Taken);
        }
        assert_eq!(lane.offer(told()), Offered::Full);
        let mut sending = std::pin::pin!(lane.send(told()));
        assert!(futures::poll!(&mut sending).is_pending());
        assert_eq!(other.offer(told()), Offered::Taken);
        assert_eq!(queue.recv().await.unwrap().told, told());
        assert_eq!(sending.await, Offered::Taken);
        lane.end(End::Lagging { resume: 2 });
        drop(queue);
        assert_eq!(lane.offer(told()), Offered::Gone);
        assert_eq!(lane.send(told()).await, Offered::Gone);
    }
}
