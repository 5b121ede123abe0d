//! To read a topic, from an offset on.

use std::collections::VecDeque;

use caucus_api::range::prefix_end;
use caucus_ring::Revision;
use tokio::time::Instant;

use super::batch::{Batch, MESSAGES_MAX, Stored};
use super::{Error, From, inside, messages_at, offset_of, retain};
use crate::watch::{End, Told, WatchSpec, Watches};
use crate::{Listing, Router};

/// The only watch.
const WATCH: u64 = 0;
/// Publications that are read at a time.
const PAGE: usize = 64;

/// Messages from where on; at most `limit`. The offset after them, and the next that will be published.
pub async fn page(
    router: &Router,
    topic: &str,
    from: From,
    limit: usize,
    deadline: Instant,
) -> Result<(Vec<Stored>, u64, u64), Error> {
    let (offset, next) = begin(router, topic, from, deadline).await?;
    let mut offset = offset;
    let mut messages = Vec::new();
    while messages.len() < limit && offset < next {
        let (found, _, _) = read(router, topic, offset, None, deadline).await?;
        let Some(last) = found.last() else { break };
        offset = last.offset + 1;
        messages.extend(found);
    }
    messages.truncate(limit);
    let after = messages.last().map_or(offset, |last| last.offset + 1);
    Ok((messages, after, next))
}

/// The offset to begin at, if it is there or will be the next one; and the next.
async fn begin(
    router: &Router,
    topic: &str,
    from: From,
    deadline: Instant,
) -> Result<(u64, u64), Error> {
    let standing = retain::show(router, topic, deadline).await?;
    let (first, next) = (standing.first, standing.next);
    match from {
        From::First => Ok((first, next)),
        From::Last => Ok((next, next)),
        From::Offset(offset) if offset < first => Err(Error::Gone { offset, first }),
        From::Offset(offset) if offset > next => Err(Error::Beyond { offset, next }),
        From::Offset(offset) => Ok((offset, next)),
    }
}

/// Some messages from an offset on, as of a revision or as they are; whether more follow, and the revision.
async fn read(
    router: &Router,
    topic: &str,
    offset: u64,
    at: Option<Revision>,
    deadline: Instant,
) -> Result<(Vec<Stored>, bool, Revision), Error> {
    // The publication that the offset is in began at most so many before.
    let begins = (offset + 1).saturating_sub(MESSAGES_MAX as u64);
    let mut listing = Listing {
        start: messages_at(topic, begins),
        end: prefix_end(&inside(topic, "m/")).unwrap_or_default(),
        limit: PAGE,
        revision: at,
        ..Listing::default()
    };
    loop {
        let page = router.list(&listing, Revision(0), deadline).await?;
        let mut messages = Vec::new();
        for item in &page.items {
            let first = offset_of(topic, &item.key);
            let record = item.record.as_ref();
            if let (Some(first), Some(record)) = (first, record) {
                messages.extend(Batch::read(&record.value).from(first, offset));
            }
        }
        match page.next {
            // All of these lie before it.
            Some(next) if messages.is_empty() => listing.start = next,
            next => return Ok((messages, next.is_some(), page.revision)),
        }
    }
}

/// Messages from an offset on, and all that follow: each once, in order.
pub struct Subscription {
    router: Router,
    topic: String,
    /// The next that is told.
    offset: u64,
    stage: Stage,
    ahead: VecDeque<Stored>,
}

enum Stage {
    /// What is there, as of a revision.
    Past(Revision),
    /// What is published after that.
    Follow(Watches),
}

impl Subscription {
    /// Begins where it is wanted.
    pub async fn open(
        router: &Router,
        topic: &str,
        from: From,
        deadline: Instant,
    ) -> Result<Subscription, Error> {
        let (offset, _) = begin(router, topic, from, deadline).await?;
        let revision = router.granted(deadline).await?;
        Ok(Subscription {
            router: router.clone(),
            topic: topic.to_owned(),
            offset,
            stage: Stage::Past(revision),
            ahead: VecDeque::new(),
        })
    }

    /// The next offset that will be told.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next messages, as many as are there. Errors with [`Error::Gone`] if they were let go before they were
    /// told; it goes on at the first that is kept then.
    pub async fn next(&mut self) -> Result<Vec<Stored>, Error> {
        loop {
            if !self.ahead.is_empty() {
                return Ok(self.take());
            }
            let deadline = Instant::now() + self.router.options().timeout;
            match &mut self.stage {
                Stage::Past(revision) => {
                    let revision = *revision;
                    self.past(revision, deadline).await?;
                }
                Stage::Follow(watches) => match watches.next().await.told {
                    Told::Events { events, .. } => {
                        for event in events {
                            let first = offset_of(&self.topic, &event.key);
                            let record = event.record.as_ref();
                            if let (Some(first), Some(record)) = (first, record) {
                                let batch = Batch::read(&record.value);
                                self.ahead.extend(batch.from(first, self.offset));
                            }
                        }
                    }
                    // Messages are kept longer than changes: what was missed is read again.
                    Told::Ended(End::Compacted { .. } | End::Lagging { .. }) => {
                        let revision = self.router.granted(deadline).await?;
                        self.stage = Stage::Past(revision);
                    }
                    Told::Ended(End::Refused(why)) => {
                        return Err(Error::Store(crate::Error {
                            reason: crate::Reason::Invalid(why),
                            outcome: crate::Outcome::Read,
                        }));
                    }
                },
            }
        }
    }

    async fn past(&mut self, revision: Revision, deadline: Instant) -> Result<(), Error> {
        let at = Some(revision);
        let found = read(&self.router, &self.topic, self.offset, at, deadline).await;
        let (messages, more, _) = match found {
            // The revision is compacted: the messages are still there.
            Err(Error::Store(error)) if matches!(error.reason, crate::Reason::Compacted { .. }) => {
                let revision = self.router.granted(deadline).await?;
                self.stage = Stage::Past(revision);
                return Ok(());
            }
            found => found?,
        };
        if let Some(first) = messages.first().map(|message| message.offset)
            && first > self.offset
        {
            let offset = std::mem::replace(&mut self.offset, first);
            return Err(Error::Gone { offset, first });
        }
        self.ahead.extend(messages);
        if !more {
            let prefix = inside(&self.topic, "m/");
            let spec = WatchSpec {
                end: Some(prefix_end(&prefix).unwrap_or_default()),
                start: prefix,
                from: Some(Revision(revision.0 + 1)),
                ..WatchSpec::default()
            };
            let mut watches = self.router.watches();
            watches.open(WATCH, &spec, deadline).await?;
            self.stage = Stage::Follow(watches);
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<Stored> {
        let messages: Vec<Stored> = self.ahead.drain(..).collect();
        if let Some(last) = messages.last() {
            self.offset = last.offset + 1;
        }
        messages
    }
}
