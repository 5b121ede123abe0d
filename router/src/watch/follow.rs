//! One question to a group's leader, and the answer.

use std::sync::Arc;
use std::time::Duration;

use caucus_api::Failure;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::{Follow, Followed, Interest, Replay};
use caucus_client::Pending;
use caucus_ring::{GroupId, NodeId};
use tokio::time::{Instant, timeout_at};

use super::event::{Event, read};
use crate::attempt::{Sent, Stop, Target, learn};
use crate::retry::{Retry, Stumble};
use crate::router::nonsense;
use crate::{Error, Outcome, Reason, Router};

/// How long a leader keeps a question open when nothing happens.
const WAIT: Duration = Duration::from_secs(2);
/// How much longer an answer may take before the leader is given up.
const SLACK: Duration = Duration::from_secs(2);
/// How long the past is asked for before it is asked for again.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(10);

/// A question that is under way.
pub(super) struct Asked {
    sent: Sent,
    pending: Pending,
    asked: Instant,
}

/// Why a question has no answer.
pub(super) enum Trouble {
    /// What the session needs next is compacted up to here.
    Compacted(u64),
    /// Ask anew, the named node or any other, after a pause.
    Other {
        stumble: &'static str,
        next: Option<NodeId>,
    },
}

/// What a leader told.
pub(super) struct Heard {
    pub(super) events: Vec<Arc<Event>>,
    pub(super) position: u64,
}

impl Router {
    /// Sends a question to the leader of a group, or to the node wanted.
    pub(super) fn follow(
        &self,
        group: GroupId,
        mut follow: Follow,
        wanted: Option<NodeId>,
    ) -> Result<Asked, Trouble> {
        let Some(table) = self.table() else {
            return Err(Trouble::Other {
                stumble: Stumble::NoGroup.label(),
                next: None,
            });
        };
        follow.wait_ms = WAIT.as_millis() as u32;
        let body = Body::Follow(follow);
        let asked = Instant::now();
        let deadline = asked + WAIT + SLACK;
        let target = Target::Group(&table, group);
        match self.send(target, &body, 0, wanted, asked, deadline) {
            Ok((sent, pending)) => Ok(Asked {
                sent,
                pending,
                asked,
            }),
            Err((sent, stumble)) => Err(trouble(sent.as_ref(), &stumble)),
        }
    }

    /// Waits for the answer to a question.
    pub(super) async fn heard(&self, asked: &mut Asked) -> Result<Heard, Trouble> {
        let deadline = asked.asked + WAIT + SLACK;
        let answer = timeout_at(deadline, &mut asked.pending).await;
        let failed = |stumble: &Stumble| trouble(Some(&asked.sent), stumble);
        let reply = match self.judge(&asked.sent, answer, asked.asked) {
            Ok(reply) => reply,
            Err(Stumble::Failure(Failure::Compacted { revision })) => {
                return Err(Trouble::Compacted(revision));
            }
            Err(stumble) => return Err(failed(&stumble)),
        };
        match reply.body {
            Some(Answer::Followed(followed)) if !followed.out_of_step => {
                heard(followed).ok_or_else(|| failed(&Stumble::NoAnswer))
            }
            Some(_) | None => Err(failed(&Stumble::NoAnswer)),
        }
    }

    /// Reads what happened to keys of a group after a revision; all up to `through` is known to be
    /// applied. Asks until there is an answer, as long as the reason to fail may pass.
    pub(super) async fn replay(
        &self,
        group: GroupId,
        interest: &Interest,
        (after, through): (u64, u64),
    ) -> Result<Heard, Error> {
        let body = Body::Replay(Replay {
            interests: vec![interest.clone()],
            after,
            through,
        });
        let mut retry = Retry::new(false, after);
        loop {
            let deadline = Instant::now() + REPLAY_TIMEOUT;
            let stale = || Error {
                reason: Reason::Unavailable("the keys have moved".to_owned()),
                outcome: Outcome::Read,
            };
            let table = self.table().ok_or_else(stale)?;
            let target = Target::Group(&table, group);
            let asked = self.run_target(target, &body, 0, retry, deadline, None);
            match asked.await {
                Ok(reply) => {
                    let Some(Answer::Followed(followed)) = reply.body else {
                        return Err(nonsense(Outcome::Read));
                    };
                    return heard(followed).ok_or_else(|| nonsense(Outcome::Read));
                }
                Err(Stop::Stale) => return Err(stale()),
                Err(Stop::Failed(error)) => match error.reason {
                    Reason::Unavailable(_) | Reason::Busy(_) | Reason::Deadline => {}
                    _ => return Err(error),
                },
            }
            // Its patience was that of the deadline, which has passed.
            retry = Retry::new(false, after);
        }
    }
}

fn heard(followed: Followed) -> Option<Heard> {
    Some(Heard {
        events: read(followed.events)?,
        position: followed.position,
    })
}

fn trouble(sent: Option<&Sent>, stumble: &Stumble) -> Trouble {
    let next = match stumble {
        Stumble::Failure(Failure::NotLeader {
            leader: Some(leader),
        }) => Some(NodeId(*leader)),
        _ => None,
    };
    let other = sent.and_then(|sent| learn(sent, stumble));
    Trouble::Other {
        stumble: stumble.label(),
        next: next.or(other),
    }
}
