//! Compaction without being asked: how much of the past is kept.
//!
//! Off unless one of its limits is set, as in etcd. One node acts, the one that leads the placement group;
//! the others follow, so that whoever leads next knows how old revisions are.

use std::collections::VecDeque;
use std::time::Duration;

use caucus_ring::{NodeId, Revision};
use tokio::time::{Instant, sleep};

use crate::{Reason, Router};

/// Between two looks, and between two samples of the age.
const TURN_MAX: Duration = Duration::from_secs(60);
const TURN_MIN: Duration = Duration::from_secs(1);
/// Looks in the time that is kept: so much more may be kept than asked for.
const TURNS: u32 = 20;
/// One compaction.
const LIMIT: Duration = Duration::from_secs(30);

/// How much is kept: what either limit keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many revisions below the newest; 0: no limit of this kind.
    pub revisions: u64,
    /// What was replaced within this time; zero: no limit of this kind.
    pub age: Duration,
}

impl Retention {
    /// Whether anything is to be compacted at all.
    pub fn is_on(&self) -> bool {
        self.revisions > 0 || !self.age.is_zero()
    }

    fn turn(&self) -> Duration {
        let turn = match self.age.is_zero() {
            true => TURN_MAX / TURNS,
            false => self.age / TURNS,
        };
        turn.clamp(TURN_MIN, TURN_MAX)
    }
}

/// The revisions of the time that is kept, oldest first.
#[derive(Debug)]
struct Past {
    keeps: Retention,
    samples: VecDeque<(Instant, Revision)>,
}

impl Past {
    /// Notes the newest revision; up to where may be compacted.
    fn due(&mut self, now: Instant, newest: Revision) -> Option<Revision> {
        let by_count = match self.keeps.revisions {
            0 => None,
            keep => Some(Revision(newest.0.saturating_sub(keep))),
        };
        let by_age = match self.keeps.age.is_zero() {
            true => None,
            false => Some(self.older_than(now, newest)),
        };
        let due = match (by_count, by_age) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other)?,
        };
        Some(due).filter(|due| due.0 > 0)
    }

    /// The newest revision that is older than what is kept; 0 if none is known to be.
    fn older_than(&mut self, now: Instant, newest: Revision) -> Revision {
        self.samples.push_back((now, newest));
        let is_old = |sample: &(Instant, Revision)| now - sample.0 >= self.keeps.age;
        while self.samples.get(1).is_some_and(is_old) {
            self.samples.pop_front();
        }
        let oldest = self.samples.front().filter(|sample| is_old(sample));
        oldest.map_or(Revision(0), |(_, revision)| *revision)
    }
}

impl Router {
    /// Compacts as `keeps` says while this node leads the placement group; runs until it is dropped.
    pub async fn compact_by(self, keeps: Retention, own: NodeId) {
        let mut past = Past {
            keeps,
            samples: VecDeque::new(),
        };
        let mut done = Revision(0);
        loop {
            sleep(keeps.turn()).await;
            let deadline = Instant::now() + LIMIT;
            let Ok(newest) = self.granted(deadline).await else {
                continue;
            };
            let due = past.due(Instant::now(), newest);
            let Some(due) = due.filter(|due| *due > done) else {
                continue;
            };
            if self.placement_facts().leader != u64::from(own.0) {
                continue;
            }
            match self.compact(due, deadline).await {
                Ok(()) => tracing::info!(revision = due.0, "compacted"),
                // By hand, or by the leader before.
                Err(error) if matches!(error.reason, Reason::Compacted { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, revision = due.0, "compaction is tried again");
                    continue;
                }
            }
            done = due;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(revisions: u64, age: u64) -> Past {
        Past {
            keeps: Retention {
                revisions,
                age: Duration::from_secs(age),
            },
            samples: VecDeque::new(),
        }
    }

    #[test]
    fn by_count() {
        let now = Instant::now();
        let mut past = past(100, 0);
        assert_eq!(past.due(now, Revision(100)), None);
        assert_eq!(past.due(now, Revision(150)), Some(Revision(50)));
    }

    #[test]
    fn by_age_what_is_known_to_be_old_goes() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut past = past(0, 60);
        assert_eq!(past.due(at(0), Revision(10)), None);
        assert_eq!(past.due(at(40), Revision(20)), None);
        assert_eq!(past.due(at(60), Revision(30)), Some(Revision(10)));
        assert_eq!(past.due(at(99), Revision(40)), Some(Revision(10)));
        assert_eq!(past.due(at(100), Revision(50)), Some(Revision(20)));
        assert!(past.samples.len() <= 4);
    }

    #[test]
    fn of_two_limits_each_keeps() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut past = past(100, 60);
        assert_eq!(past.due(at(0), Revision(500)), None);
        assert_eq!(past.due(at(60), Revision(550)), Some(Revision(450)));
        assert_eq!(past.due(at(61), Revision(900)), Some(Revision(500)));
    }
}
