//! The keys below a prefix, as they are and as they change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use caucus_api::limits::PAGE_KEYS_MAX;
use caucus_api::range::prefix_end;
use caucus_api::shard::Record;
use caucus_ring::Revision;
use tokio::time::Instant;

use crate::watch::{End, Event, Told, WatchSpec, Watches};
use crate::{Error, Listing, Outcome, Reason, Router};

/// The only watch.
const WATCH: u64 = 0;

/// Changes of the keys of a range, in order and none missing; those of one revision together.
pub(crate) struct Changes {
    watches: Watches,
    /// What was told, and isn't taken yet.
    ahead: VecDeque<Arc<Event>>,
}

impl Changes {
    /// From a revision on.
    pub(crate) async fn open(
        router: &Router,
        (start, end): (Bytes, Bytes),
        from: Revision,
        deadline: Instant,
    ) -> Result<Changes, Error> {
        let spec = WatchSpec {
            start,
            end: Some(end),
            from: Some(from),
            ..WatchSpec::default()
        };
        let mut watches = router.watches();
        watches.open(WATCH, &spec, deadline).await?;
        Ok(Changes {
            watches,
            ahead: VecDeque::new(),
        })
    }

    /// What happened next, and at which revision. Can be cancelled without loss.
    pub(crate) async fn next(&mut self) -> Result<(Revision, Vec<Arc<Event>>), Error> {
        while self.ahead.is_empty() {
            match self.watches.next().await.told {
                Told::Events { events, .. } => self.ahead.extend(events),
                Told::Ended(end) => return Err(ended(end)),
            }
        }
        let revision = self.ahead.front().map_or(0, |event| event.revision);
        let of_it = |event: &Arc<Event>| event.revision == revision;
        let mut events = Vec::new();
        while self.ahead.front().is_some_and(of_it) {
            events.extend(self.ahead.pop_front());
        }
        Ok((Revision(revision), events))
    }
}

/// A prefix in memory: first as it was at one revision, then change by change.
pub(crate) struct Mirror {
    changes: Changes,
    keys: BTreeMap<Bytes, Record>,
    revision: Revision,
}

/// A change of a key, with what that was before.
type Changed = (Arc<Event>, Option<Record>);

impl Mirror {
    /// Reads all keys that begin with `prefix`, at the revision granted last.
    pub(crate) async fn open(
        router: &Router,
        prefix: &Bytes,
        deadline: Instant,
    ) -> Result<Mirror, Error> {
        let revision = router.granted(deadline).await?;
        let end = prefix_end(prefix).unwrap_or_default();
        let mut listing = Listing {
            start: prefix.clone(),
            end: end.clone(),
            limit: PAGE_KEYS_MAX,
            revision: Some(revision),
            ..Listing::default()
        };
        let mut keys = BTreeMap::new();
        loop {
            let page = router.list(&listing, Revision(0), deadline).await?;
            let items = page.items.into_iter();
            keys.extend(items.filter_map(|item| Some((item.key, item.record?))));
            match page.next {
                Some(next) => listing.start = next,
                None => break,
            }
        }
        let from = Revision(revision.0 + 1);
        Ok(Mirror {
            changes: Changes::open(router, (prefix.clone(), end), from, deadline).await?,
            keys,
            revision,
        })
    }

    /// The keys as they are at [`revision`](Self::revision).
    pub(crate) fn keys(&self) -> &BTreeMap<Bytes, Record> {
        &self.keys
    }

    /// Up to where changes have been taken in.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Takes in what happened next. Can be cancelled without loss.
    pub(crate) async fn next(&mut self) -> Result<Vec<Changed>, Error> {
        let (revision, events) = self.changes.next().await?;
        let events = events.into_iter().map(|event| {
            let before = match &event.record {
                Some(record) => self.keys.insert(event.key.clone(), record.clone()),
                None => self.keys.remove(&event.key),
            };
            (event, before)
        });
        let changed = events.collect();
        self.revision = revision;
        Ok(changed)
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
