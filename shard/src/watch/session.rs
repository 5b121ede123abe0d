//! What a group's leader knows of one router that watches.

use std::sync::Arc;

use caucus_api::interests::Interests;
use caucus_api::shard::reply::Body;
use caucus_api::shard::{Event, Follow, Followed, Interest, Reply};
use caucus_api::{Failure, ReplyTo};
use caucus_planted as planted;
use tokio::time::Instant;

use super::feed::{Feed, Since};
use crate::state::Scope;

/// Bytes of events in one answer; those of one revision are never divided.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A question that waits for its answer.
pub(super) struct Waiting {
    pub(super) call: u64,
    pub(super) at_least: u64,
    pub(super) reply: ReplyTo,
    /// Answered by then, with or without events.
    pub(super) until: Instant,
    /// Answered when nothing at or below this is missing; 0: only when there are events.
    pub(super) reach: u64,
}

impl Waiting {
    pub(super) fn answer(self, followed: Followed) {
        (self.reply)(Reply {
            call: self.call,
            revision: self.at_least.max(followed.position),
            body: Some(Body::Followed(followed)),
        });
    }

    pub(super) fn fail(self, failure: Failure) {
        (self.reply)(Reply {
            call: self.call,
            revision: self.at_least,
            body: Some(Body::Error(failure.into())),
        });
    }
}

/// One router.
pub(super) struct Session {
    /// The number of its last question.
    pub(super) turn: u64,
    /// What it watches, and whether with the record before.
    pub(super) interests: Arc<Interests<bool>>,
    /// It has been told all up to here.
    pub(super) at: u64,
    pub(super) waiting: Option<Waiting>,
    /// What isn't in memory is being read for it: the number of that work.
    pub(super) reading: Option<u64>,
    /// When it asked last.
    pub(super) heard: Instant,
}

impl Session {
    pub(super) fn new(follow: &Follow, position: u64, now: Instant) -> Session {
        let after = follow.after + u64::from(planted::is(planted::RESUMED_TOO_FAR));
        Session {
            turn: follow.turn,
            interests: Arc::default(),
            at: if follow.now { position } else { after },
            waiting: None,
            reading: None,
            heard: now,
        }
    }

    /// Takes up what else it watches, and what it doesn't any more.
    pub(super) fn adjust(&mut self, follow: &Follow) {
        if follow.remove.is_empty() && follow.add.is_empty() {
            return;
        }
        let interests = Arc::make_mut(&mut self.interests);
        for span in &follow.remove {
            interests.remove(span);
        }
        for interest in &follow.add {
            if let Some(span) = &interest.span {
                interests.insert(span, interest.previous);
            }
        }
        // What is being read is read for those of before.
        self.reading = None;
    }

    /// Answers the question that waits, if there is something to say or its time is over. `Err`: there
    /// is, and it isn't in memory any more.
    pub(super) fn serve(&mut self, feed: &Feed, now: Instant) -> Result<(), ()> {
        if self.reading.is_some() {
            return Ok(());
        }
        let Some(waiting) = &self.waiting else {
            return Ok(());
        };
        let (reach, until) = (waiting.reach, waiting.until);
        let events = self.gather(feed)?;
        let reached = reach > 0 && self.at >= reach;
        if events.is_empty() && !reached && now < until {
            return Ok(());
        }
        self.tell(events);
        Ok(())
    }

    /// The events that it hasn't been told, as many as fit; moves on behind them.
    fn gather(&mut self, feed: &Feed) -> Result<Vec<Event>, ()> {
        let (changes, position) = match feed.since(self.at) {
            Since::Changes(changes, position) => (changes, position),
            Since::Older => return Err(()),
        };
        let mut events = Vec::new();
        let mut bytes = 0;
        for change in changes {
            if bytes >= ANSWER_BYTES_MAX && change.revision > self.at {
                return Ok(events);
            }
            if change.revision == self.at && planted::is(planted::REVISION_CUT) {
                continue;
            }
            self.at = change.revision;
            let Some(with_previous) = wants(&self.interests, &change.key) else {
                continue;
            };
            let previous = change.previous.as_ref().filter(|_| with_previous);
            let event = Event {
                revision: change.revision,
                key: change.key.clone(),
                record: change.record.clone().unwrap_or_default(),
                previous: previous.cloned().unwrap_or_default(),
            };
            bytes += size(&event);
            events.push(event);
        }
        self.at = self.at.max(position);
        Ok(events)
    }

    /// Answers the question that waits.
    pub(super) fn tell(&mut self, events: Vec<Event>) {
        if let Some(waiting) = self.waiting.take() {
            if !events.is_empty() && planted::fails(planted::WATCH_TELLING) {
                return waiting.fail(Failure::NotLeader { leader: None });
            }
            waiting.answer(Followed {
                events,
                position: self.at,
                out_of_step: false,
            });
        }
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        if let Some(waiting) = self.waiting.take() {
            waiting.fail(failure);
        }
    }
}

/// What a router watches, if the vnodes that it names are all this group's.
pub(crate) fn interests(
    scope: &Scope,
    asked: &[Interest],
    rules_version: u64,
) -> Result<Interests<bool>, Failure> {
    let mut interests = Interests::default();
    for interest in asked {
        let Some(span) = &interest.span else {
            return Err(Failure::Invalid("an interest in nothing".to_owned()));
        };
        match span.range {
            true => _ = scope.vnodes(&span.vnodes, rules_version)?,
            false => _ = scope.vnode(&span.start, rules_version)?,
        }
        interests.insert(span, interest.previous);
    }
    Ok(interests)
}

/// Whether a key is watched, and if so, with the record before.
pub(crate) fn wants(interests: &Interests<bool>, key: &[u8]) -> Option<bool> {
    let mut wanted = None;
    interests.each(key, |with_previous| {
        wanted = Some(wanted.unwrap_or(false) || *with_previous);
    });
    wanted
}

fn size(event: &Event) -> usize {
    64 + event.key.len() + event.record.len() + event.previous.len()
}
