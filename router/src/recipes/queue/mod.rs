//! Queues: keys below a prefix, in the order in which they were created. Who is at the front has its turn.
//!
//! ```text
//!  create revision   7      9      12     15
//!                  holds  waits  waits  waits ─▶ wait(15): told when all before it have gone
//! ```
//!
//! Locks and elections are queues. The order is strict: nobody overtakes, so once it is an entry's turn it stays
//! so as long as the entry is there, and the create revision of who holds rises for ever (design.md §9.10).
//!
//! Each router follows a queue once, whoever waits in it: one watch, and a release wakes those alone whose turn
//! it is. What is told is as of some revision; whether the entry is there still, its owner has to find out.

mod attempt;
mod follow;
mod line;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use caucus_api::shard::{Item, Record};
use caucus_ring::Revision;
use tokio::sync::{mpsc, oneshot};

pub use self::attempt::Ended;
pub(crate) use self::attempt::{Attempt, Entry, give_back};
use self::follow::{Command, Follower};
pub(crate) use self::line::Line;
use crate::Router;

/// What an entry asks of its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Nobody else at the same time.
    Alone,
    /// Nobody but others like it.
    Together,
    /// One of so many places.
    Place {
        /// How many there are.
        of: u32,
    },
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is the entry's turn.
    Holds,
    /// The entry isn't there any more.
    Gone,
}

/// Which queue, and how its entries are read.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    /// All keys that begin with this are entries.
    pub(crate) prefix: Bytes,
    /// What an entry asks.
    pub(crate) share: fn(&Record) -> Share,
}

impl Queue {
    /// The key of an entry that a lease keeps: one that ends with it, or one of the caller's that goes on.
    pub(crate) fn key(&self, lease: u64, own: bool) -> Bytes {
        let mut key = self.prefix.to_vec();
        let own = if own { "" } else { SHARED };
        key.extend_from_slice(format!("{lease:016x}{own}").as_bytes());
        key.into()
    }

    /// The lease of an entry, and whether it ends with it; `None`: no entry of this queue has such a key.
    pub(crate) fn lease(&self, key: &Bytes) -> Option<(u64, bool)> {
        let name = std::str::from_utf8(key.strip_prefix(&self.prefix[..])?).ok()?;
        let (digits, own) = match name.strip_suffix(SHARED) {
            Some(digits) => (digits, false),
            None => (name, true),
        };
        let lease = u64::from_str_radix(digits, 16).ok()?;
        (self.key(lease, own) == *key).then_some((lease, own))
    }
}

/// What ends the key of an entry whose lease is the caller's.
const SHARED: &str = ".";

/// A queue as it was at a revision, or some of its entries.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) revision: Revision,
    pub(crate) items: Vec<Item>,
    /// It is all of it.
    pub(super) whole: bool,
}

/// The queues that somebody waits in.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    followed: Mutex<HashMap<Bytes, mpsc::UnboundedSender<Command>>>,
}

impl Queues {
    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, mpsc::UnboundedSender<Command>>> {
        self.followed.lock().expect("no panic under this lock")
    }
}

/// A wait for a turn; dropped, it waits no more.
pub(crate) struct Waiting {
    told: oneshot::Receiver<Turn>,
    created: u64,
    commands: mpsc::UnboundedSender<Command>,
}

impl Waiting {
    /// How it ends; `None`: the router is shutting down. Can be cancelled without loss.
    pub(crate) async fn turn(&mut self) -> Option<Turn> {
        (&mut self.told).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // If nobody follows any more there is nothing to forget.
        _ = self.commands.send(Command::Leave(self.created));
    }
}

impl Router {
    /// Whether somebody waits in a queue by this router.
    fn follows(&self, queue: &Queue) -> bool {
        self.shared.queues.lock().contains_key(&queue.prefix)
    }

    /// Waits for the turn of the entry that was created at a revision. `seen`: the whole queue at or after that,
    /// if it has been read.
    fn wait_in(&self, queue: &Queue, created: u64, seen: Option<Seen>) -> Waiting {
        let (tell, told) = oneshot::channel();
        let mut followed = self.shared.queues.lock();
        let known = followed.get(&queue.prefix).cloned();
        let commands = known.unwrap_or_else(|| {
            let (sender, commands) = mpsc::unbounded_channel();
            followed.insert(queue.prefix.clone(), sender.clone());
            let follower = Follower::new(self.clone(), queue.clone(), seen, commands);
            tokio::spawn(follower.run());
            sender
        });
        // Under the lock: a follower that ends looks for commands under it once more.
        _ = commands.send(Command::Wait { created, tell });
        Waiting {
            told,
            created,
            commands,
        }
    }
}
