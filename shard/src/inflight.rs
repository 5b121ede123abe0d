//! Which keys have writes under way on the leader, so that a read waits for just those.
//!
//! A read must see every operation on its keys that had been asked a revision for, been granted or
//! proposed when it arrived (protocols.md §5): `at_least` alone gives a true cycle with two routers.
//! At any time only a few *tickets* are open (one ask, and the entries under way), so a read asks each
//! of them.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::state::txn::Footprint;

/// What became of the writes of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Applied, refused, or void: they can't get a revision from this ask any more.
    Yes,
    /// Leadership was lost with them under way: nobody here knows.
    Lost,
}

/// The writes under way in one group.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    open: Mutex<Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    id: u64,
    touched: Footprint,
    settled: watch::Receiver<Option<Settled>>,
}

/// Writes that share an ask, from the ask until they are applied or refused. Dropped unsettled, it is
/// lost.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: u64,
    book: Arc<InFlight>,
    settled: watch::Sender<Option<Settled>>,
}

/// What a read has to wait for.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    tickets: Vec<watch::Receiver<Option<Settled>>>,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().expect("no panic under this lock")
    }

    /// Opens a ticket for writes that touch these keys; to be called before their revisions are asked for.
    pub(crate) fn open(self: &Arc<Self>, touched: Footprint) -> Ticket {
        let (settled, seen) = watch::channel(None);
        let mut open = self.lock();
        let id = open.last().map_or(0, |last| last.id + 1);
        open.push(Open {
            id,
            touched,
            settled: seen,
        });
        Ticket {
            id,
            book: self.clone(),
            settled,
        }
    }

    /// What a read of `key` has to wait for.
    pub(crate) fn on_key(&self, key: &[u8]) -> Wait {
        self.matching(|touched| touched.writes_key(key))
    }

    /// What a read of `start..end` has to wait for; an empty `end` is open.
    pub(crate) fn on_range(&self, start: &[u8], end: &[u8]) -> Wait {
        self.matching(|touched| touched.writes_in(start, end))
    }

    /// What has to be over before nothing older than now can follow.
    pub(crate) fn on_everything(&self) -> Wait {
        self.matching(|_| true)
    }

    /// What a read of all that a transaction touches has to wait for.
    pub(crate) fn on_all(&self, reads: &Footprint) -> Wait {
        self.matching(|touched| touched.clashes_with_reads(reads))
    }

    fn matching(&self, matches: impl Fn(&Footprint) -> bool) -> Wait {
        let open = self.lock();
        let tickets = open.iter().filter(|open| matches(&open.touched));
        Wait {
            tickets: tickets.map(|open| open.settled.clone()).collect(),
        }
    }
}

impl Ticket {
    /// Nothing more comes of this ask.
    pub(crate) fn settle(self) {
        self.settled.send_replace(Some(Settled::Yes));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.book.lock().retain(|open| open.id != self.id);
        self.settled.send_if_modified(|settled| {
            let lost = settled.is_none();
            settled.get_or_insert(Settled::Lost);
            lost
        });
    }
}

impl Wait {
    /// Whether there is nothing to wait for.
    pub(crate) fn is_over(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Waits; `Lost` if the fate of any of the writes is unknown here.
    pub(crate) async fn over(self) -> Settled {
        for mut ticket in self.tickets {
            let settled = match ticket.wait_for(Option::is_some).await {
                Ok(settled) => settled.unwrap_or(Settled::Lost),
                Err(_) => Settled::Lost,
            };
            if settled == Settled::Lost {
                return Settled::Lost;
            }
        }
        Settled::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&'static str]) -> Footprint {
        let mut touched = Footprint::default();
        for key in keys {
            touched.key(&bytes::Bytes::from_static(key.as_bytes()), true);
        }
        touched
    }

    #[tokio::test]
    async fn a_read_waits_for_its_keys_only() {
        let book = Arc::new(InFlight::default());
        let first = book.open(keys(&["a", "b"]));
        let second = book.open(keys(&["b", "m"]));
        assert!(book.on_key(b"c").is_over());
        assert!(book.on_range(b"c", b"m").is_over());
        assert!(!book.on_range(b"c", b"").is_over());
        let mut b = std::pin::pin!(book.on_key(b"b").over());
        second.settle();
        assert!(
            futures::poll!(&mut b).is_pending(),
            "the first is still open"
        );
        first.settle();
        assert_eq!(b.await, Settled::Yes);
        assert!(book.on_key(b"b").is_over());
    }

    #[tokio::test]
    async fn a_dropped_ticket_is_lost() {
        let book = Arc::new(InFlight::default());
        let ticket = book.open(keys(&["a"]));
        let wait = book.on_key(b"a");
        drop(ticket);
        assert_eq!(wait.over().await, Settled::Lost);
        assert!(book.on_key(b"a").is_over());
    }
}
