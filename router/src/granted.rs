//! The last revision that was granted, asked from the oracle once for all who wait.
//!
//! An answer serves those who were there before it was asked for: who comes while one is under way waits
//! for the next. So however many reads there are, one question of this router is open at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use caucus_api::placement::request::Body as Ask;
use caucus_api::placement::response::Body as Told;
use caucus_api::placement::{LastGranted, LastGrantedIs};
use caucus_ring::Revision;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::{Error, Outcome, Reason, Router};

type Waiting = oneshot::Sender<Result<Revision, Error>>;

/// Who waits, and what was told last besides.
#[derive(Default)]
pub(crate) struct Granted {
    waiting: Mutex<Queue>,
    leader: AtomicU64,
    term: AtomicU64,
    applied: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// A task asks, and takes those who wait when it is back.
    asking: bool,
    waiting: Vec<Waiting>,
}

/// The placement group, as it was told last; all 0 before it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlacementFacts {
    /// The node that leads it.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// What the leader has applied.
    pub index: u64,
}

impl Router {
    /// The last revision granted anywhere, confirmed by the oracle after this was called.
    pub async fn granted(&self, deadline: Instant) -> Result<Revision, Error> {
        let (told, answer) = oneshot::channel();
        let begins = {
            let mut queue = self.queue();
            queue.waiting.push(told);
            !std::mem::replace(&mut queue.asking, true)
        };
        if begins {
            tokio::spawn(self.clone().ask_for_all());
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unavailable("the question was dropped".to_owned())),
            Err(_) => Err(unavailable(
                "the oracle has not answered in time".to_owned(),
            )),
        }
    }

    /// What is known of the placement group.
    pub fn placement_facts(&self) -> PlacementFacts {
        let granted = &self.shared.granted;
        PlacementFacts {
            leader: granted.leader.load(Ordering::Relaxed),
            term: granted.term.load(Ordering::Relaxed),
            index: granted.applied.load(Ordering::Relaxed),
        }
    }

    async fn ask_for_all(self) {
        loop {
            let waiting = {
                let mut queue = self.queue();
                let waiting = std::mem::take(&mut queue.waiting);
                queue.asking = !waiting.is_empty();
                waiting
            };
            if waiting.is_empty() {
                return;
            }
            let deadline = Instant::now() + self.options().timeout;
            let answer = self.ask_oracle(deadline).await;
            for waits in waiting {
                // Who is gone has passed its deadline.
                let _ = waits.send(answer.clone());
            }
        }
    }

    async fn ask_oracle(&self, deadline: Instant) -> Result<Revision, Error> {
        let question = Ask::LastGranted(LastGranted {});
        match self.shared.placement.ask(question, deadline).await {
            Ok(Told::LastGranted(last)) => {
                self.shared.granted.note(&last);
                // So that a read at it needn't ask whether it was granted.
                self.saw(last.revision);
                Ok(Revision(last.revision))
            }
            Ok(_) => Err(unavailable(
                "the oracle answered another question".to_owned(),
            )),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        let waiting = &self.shared.granted.waiting;
        waiting.lock().expect("no panic under this lock")
    }
}

impl Granted {
    /// Terms never go back; what belongs to an older one is no news.
    fn note(&self, last: &LastGrantedIs) {
        if self.term.fetch_max(last.term, Ordering::Relaxed) <= last.term {
            self.leader.store(u64::from(last.leader), Ordering::Relaxed);
        }
        self.applied
            .fetch_max(last.applied_index, Ordering::Relaxed);
    }
}

fn unavailable(why: String) -> Error {
    Error {
        reason: Reason::Unavailable(why),
        outcome: Outcome::Read,
    }
}
