//! What to do after an attempt that failed. Pure: time comes in, a decision comes out.
//!
//! Reads and writes alike are safe to send again, because a write carries the same request id each
//! time. What differs is the end: a write that is given up after an attempt that may have been
//! received has an unknown outcome, whatever later attempts said.

use std::time::Duration;

use caucus_api::Failure;
use caucus_client::CallError;
use caucus_planted as planted;
use caucus_ring::{Epoch, NodeId};
use tokio::time::Instant;

use crate::{Error, Outcome, Reason};

/// The first pause; each next one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(4);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(128);
/// Attempts without a pause between them: enough to see each replica of a group.
const REDIRECTS_MAX: u32 = 4;

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stumble {
    /// The node said why.
    Failure(Failure),
    /// The way to the node failed.
    Call(CallError),
    /// Nothing came back in the time of one attempt.
    NoAnswer,
    /// There is no cluster map yet, or no group of it serves the key.
    NoGroup,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send again at once, to the named node or to the next replica.
    Redirect(Option<NodeId>),
    /// Send again when a map of this epoch is there, and not later than after this pause.
    Refresh(Epoch, Duration),
    /// Send again after this pause.
    Pause(Duration),
    /// Answer so.
    GiveUp(Error),
}

/// What one request has been through.
#[derive(Debug, Clone)]
pub struct Retry {
    is_write: bool,
    /// Makes pauses of requests that failed together differ.
    seed: u64,
    pauses: u32,
    redirects: u32,
    /// An attempt may have been received and has no answer.
    unknown: bool,
    /// What to tell of, if the deadline passes while nothing comes back.
    seen: Option<Reason>,
}

impl Retry {
    /// A request that has not been sent yet.
    pub fn new(is_write: bool, seed: u64) -> Retry {
        Retry {
            is_write,
            seed,
            pauses: 0,
            redirects: 0,
            unknown: false,
            seen: None,
        }
    }

    /// Decides after a failed attempt.
    pub fn step(&mut self, stumble: Stumble, now: Instant, deadline: Instant) -> Step {
        self.unknown |= may_have_been_applied(&stumble);
        if let Some(reason) = final_reason(&stumble) {
            return self.give_up(reason);
        }
        let left = deadline.saturating_duration_since(now);
        match stumble {
            // A slow answer is no news about the group: what was seen before stays.
            Stumble::NoAnswer => {}
            Stumble::Failure(_) | Stumble::Call(_) | Stumble::NoGroup => {
                self.seen = Some(reason(&stumble));
            }
        }
        let step = match stumble {
            Stumble::Failure(Failure::NotLeader { leader }) => self.redirect(leader.map(NodeId)),
            Stumble::Failure(Failure::NoReplica)
            | Stumble::Call(CallError::Unreachable { .. } | CallError::Broken { .. })
            | Stumble::NoAnswer => self.redirect(None),
            Stumble::Failure(Failure::Moved { epoch }) => {
                Step::Refresh(Epoch(epoch), self.next_pause())
            }
            Stumble::NoGroup => Step::Refresh(Epoch(1), self.next_pause()),
            // Which epoch brings the rules isn't said; the map is followed anyway.
            Stumble::Failure(Failure::Rules) => Step::Refresh(Epoch(0), self.next_pause()),
            Stumble::Failure(_) | Stumble::Call(CallError::Busy { .. }) => {
                Step::Pause(self.next_pause())
            }
        };
        let wait = match &step {
            Step::Refresh(_, pause) | Step::Pause(pause) => *pause,
            Step::Redirect(_) | Step::GiveUp(_) => Duration::ZERO,
        };
        if wait >= left {
            let reason = self.seen.take().unwrap_or(Reason::Deadline);
            return self.give_up(reason);
        }
        step
    }

    fn redirect(&mut self, to: Option<NodeId>) -> Step {
        if self.redirects < REDIRECTS_MAX {
            self.redirects += 1;
            return Step::Redirect(to);
        }
        self.redirects = 0;
        Step::Pause(self.next_pause())
    }

    /// Half of the pause is certain, half is chance.
    fn next_pause(&mut self) -> Duration {
        let whole = PAUSE_MIN
            .saturating_mul(1 << self.pauses.min(16))
            .min(PAUSE_MAX);
        self.pauses += 1;
        let chance = scramble(self.seed.wrapping_add(u64::from(self.pauses)));
        let half = whole / 2;
        half + half.mul_f64((chance >> 11) as f64 / (1u64 << 53) as f64)
    }

    fn give_up(&self, reason: Reason) -> Step {
        let outcome = match (self.is_write, self.unknown) {
            (false, _) => Outcome::Read,
            (true, false) => Outcome::NotApplied,
            (true, true) if planted::is(planted::UNKNOWN_TOLD_AS_FAILED) => Outcome::NotApplied,
            (true, true) => Outcome::Unknown,
        };
        Step::GiveUp(Error { reason, outcome })
    }
}

impl Stumble {
    /// One of a few words, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Stumble::Failure(failure) => match failure {
                Failure::NotLeader { .. } => "not_leader",
                Failure::Moved { .. } => "moved",
                Failure::Busy(_) => "busy",
                Failure::Unavailable { .. } => "unavailable",
                Failure::NoReplica => "no_replica",
                Failure::Internal(_) => "internal",
                Failure::Rules => "rules",
                Failure::NoSpace
                | Failure::Expired
                | Failure::FutureRevision
                | Failure::Compacted { .. }
                | Failure::Conflict
                | Failure::NameTaken
                | Failure::Invalid(_)
                | Failure::Deadline { .. } => "final",
            },
            Stumble::Call(CallError::Unreachable { .. }) => "unreachable",
            Stumble::Call(CallError::Broken { .. }) => "broken",
            Stumble::Call(CallError::Busy { .. }) => "busy",
            Stumble::NoAnswer => "no_answer",
            Stumble::NoGroup => "no_group",
        }
    }
}

fn may_have_been_applied(stumble: &Stumble) -> bool {
    match stumble {
        Stumble::Failure(failure) => failure.is_unknown(),
        Stumble::Call(error) => !error.is_unsent(),
        Stumble::NoAnswer => true,
        Stumble::NoGroup => false,
    }
}

fn final_reason(stumble: &Stumble) -> Option<Reason> {
    match stumble {
        Stumble::Failure(failure) => match failure {
            Failure::NoSpace => Some(Reason::NoSpace),
            Failure::Expired => Some(Reason::Expired),
            Failure::FutureRevision => Some(Reason::FutureRevision),
            Failure::Compacted { revision } => Some(Reason::Compacted {
                revision: *revision,
            }),
            Failure::Conflict => Some(Reason::Conflict),
            Failure::NameTaken => Some(Reason::NameTaken),
            Failure::Invalid(why) => Some(Reason::Invalid(why.clone())),
            Failure::Deadline { .. } => Some(Reason::Deadline),
            Failure::NotLeader { .. }
            | Failure::Moved { .. }
            | Failure::Busy(_)
            | Failure::Unavailable { .. }
            | Failure::NoReplica
            | Failure::Internal(_)
            | Failure::Rules => None,
        },
        Stumble::Call(_) | Stumble::NoAnswer | Stumble::NoGroup => None,
    }
}

/// What the caller is told if the deadline passes after this.
fn reason(stumble: &Stumble) -> Reason {
    match stumble {
        Stumble::Failure(Failure::Busy(what)) => Reason::Busy(what.clone()),
        Stumble::Failure(failure) => Reason::Unavailable(failure.to_string()),
        Stumble::Call(error @ CallError::Busy { .. }) => Reason::Busy(error.to_string()),
        Stumble::Call(error) => Reason::Unavailable(error.to_string()),
        Stumble::NoAnswer => Reason::Deadline,
        Stumble::NoGroup => {
            Reason::Unavailable("no group is known to serve the key yet".to_owned())
        }
    }
}

/// SplitMix64's output function.
fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
