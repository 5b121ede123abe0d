//! Who leads, as that changes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use caucus_api::limits::PAGE_KEYS_MAX;
use caucus_api::range::prefix_end;
use caucus_api::shard::Record;
use caucus_ring::Revision;
use tokio::time::Instant;

use super::{Leader, Queue};
use crate::watch::{End, Event, Told, WatchSpec, Watches};
use crate::{Error, Listing, Outcome, Reason, Router};

/// The only watch.
const WATCH: u64 = 0;

/// Tells who leads and what it proclaims: first as it is, then each change, in order and none missing.
pub struct Observer {
    watches: Watches,
    /// By create revision.
    candidates: BTreeMap<u64, Leader>,
    created: HashMap<Bytes, u64>,
    /// What was told last: create revision and revision of the leader, 0 for none.
    told: (u64, u64),
    changes: VecDeque<(Revision, Option<Leader>)>,
}

impl Observer {
    /// Observes an election by its name.
    pub async fn of(router: &Router, election: &str, deadline: Instant) -> Result<Observer, Error> {
        Observer::begin(router, &super::queue(election), deadline).await
    }

    /// Observes the election whose candidates are in a queue.
    pub(crate) async fn begin(
        router: &Router,
        queue: &Queue,
        deadline: Instant,
    ) -> Result<Observer, Error> {
        let revision = router.granted(deadline).await?;
        let mut observer = Observer {
            watches: router.watches(),
            candidates: BTreeMap::new(),
            created: HashMap::new(),
            told: (0, 0),
            changes: VecDeque::new(),
        };
        let mut listing = Listing {
            start: queue.prefix.clone(),
            end: prefix_end(&queue.prefix).unwrap_or_default(),
            limit: PAGE_KEYS_MAX,
            revision: Some(revision),
            ..Listing::default()
        };
        let spec = WatchSpec {
            start: listing.start.clone(),
            end: Some(listing.end.clone()),
            from: Some(Revision(revision.0 + 1)),
            ..WatchSpec::default()
        };
        loop {
            let page = router.list(&listing, Revision(0), deadline).await?;
            for item in page.items {
                observer.set(item.key, item.record);
            }
            match page.next {
                Some(next) => listing.start = next,
                None => break,
            }
        }
        observer.note(revision);
        observer.watches.open(WATCH, &spec, deadline).await?;
        Ok(observer)
    }

    /// The next that is to be told; `None` as leader: nobody leads. Can be cancelled without loss.
    pub async fn next(&mut self) -> Result<(Revision, Option<Leader>), Error> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            match self.watches.next().await.told {
                Told::Events { events, .. } => self.take(&events),
                Told::Ended(end) => return Err(ended(end)),
            }
        }
    }

    /// Whether the next is there already.
    pub fn has_news(&self) -> bool {
        !self.changes.is_empty()
    }

    fn take(&mut self, events: &[Arc<Event>]) {
        for (at, event) in events.iter().enumerate() {
            self.set(event.key.clone(), event.record.clone());
            let next = events.get(at + 1);
            if next.is_none_or(|next| next.revision != event.revision) {
                self.note(Revision(event.revision));
            }
        }
    }

    fn set(&mut self, key: Bytes, record: Option<Record>) {
        if let Some(before) = self.created.remove(&key) {
            self.candidates.remove(&before);
        }
        if let Some(record) = record {
            self.created.insert(key.clone(), record.create_revision);
            let created = record.create_revision;
            self.candidates.insert(created, Leader { key, record });
        }
    }

    fn now(&self) -> (u64, u64) {
        let first = self.candidates.first_key_value();
        first.map_or((0, 0), |(created, leader)| {
            (*created, leader.record.mod_revision)
        })
    }

    /// Tells who leads, if that has changed.
    fn note(&mut self, revision: Revision) {
        let now = self.now();
        if now != self.told {
            self.told = now;
            let leader = self.candidates.values().next().cloned();
            self.changes.push_back((revision, leader));
        }
    }
}

fn ended(end: End) -> Error {
    Error {
        reason: match end {
            End::Compacted { revision } => Reason::Compacted { revision },
            End::Lagging { .. } => Reason::Busy("the reader is too slow".to_owned()),
            End::Refused(why) => Reason::Invalid(why),
        },
        outcome: Outcome::Read,
    }
}
