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

/// A prefix in memory: first as it was at one revision, then change by change, in order and none missing.
pub(crate) struct Mirror {
    watches: Watches,
    keys: BTreeMap<Bytes, Record>,
    revision: Revision,
    /// What was told, and isn't taken in yet.
    ahead: VecDeque<Arc<Event>>,
}

/// What happened at one revision.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) revision: Revision,
    /// Each key, with what it was before.
    pub(crate) events: Vec<(Arc<Event>, Option<Record>)>,
}

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
        let spec = WatchSpec {
            start: prefix.clone(),
            end: Some(end),
            from: Some(Revision(revision.0 + 1)),
            ..WatchSpec::default()
        };
        let mut watches = router.watches();
        watches.open(WATCH, &spec, deadline).await?;
        Ok(Mirror {
            watches,
            keys,
            revision,
            ahead: VecDeque::new(),
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
    pub(crate) async fn next(&mut self) -> Result<Changed, Error> {
        while self.ahead.is_empty() {
            match self.watches.next().await.told {
                Told::Events { events, .. } => self.ahead.extend(events),
                Told::Ended(end) => return Err(ended(end)),
            }
        }
        let revision = self.ahead.front().map_or(0, |event| event.revision);
        let mut changed = Changed {
            revision: Revision(revision),
            events: Vec::new(),
        };
        while self
            .ahead
            .front()
            .is_some_and(|event| event.revision == revision)
            && let Some(event) = self.ahead.pop_front()
        {
            let before = match &event.record {
                Some(record) => self.keys.insert(event.key.clone(), record.clone()),
                None => self.keys.remove(&event.key),
            };
            changed.events.push((event, before));
        }
        self.revision = changed.revision;
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
