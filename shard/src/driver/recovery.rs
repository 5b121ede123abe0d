//! Transactions that no driver of this leader works on: of a leader before, or of a client's router that
//! has gone. The coordinator aborts what isn't decided and completes what is; a participant asks the
//! coordinator. So an abandoned transaction ends once the groups concerned have majorities.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use caucus_api::shard::reply::Body;
use caucus_api::shard::request::Body as Ask;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Abort, Attempt, Commit, Fate, Forget, Prepare, Write};
use caucus_planted as planted;
use tokio::time::{Instant, sleep};

use super::attempt::step;
use super::{Driver, Live};

/// Between two looks.
const TURN: Duration = Duration::from_millis(250);
/// A participant asks after an attempt that has stood so long: most end by themselves before.
const ASK_AFTER: Duration = Duration::from_secs(1);
/// One attempt to end it.
const END_WAIT: Duration = Duration::from_secs(5);

impl Driver {
    /// Runs as long as the replica does; acts where it leads.
    pub(crate) async fn recover(self) {
        let mut first_seen: HashMap<u64, Instant> = HashMap::new();
        let mut leadership = self.parts.group.watch_leadership();
        let mut changed = self.parts.published.standing().watch();
        loop {
            // Before it is looked at: what comes afterwards is seen as a change.
            changed.borrow_and_update();
            let leads = leadership.borrow_and_update().here;
            let standing = match leads {
                true => self.parts.published.standing().all(),
                false => Vec::new(),
            };
            first_seen.retain(|name, _| standing.iter().any(|attempt| attempt.attempt == *name));
            let now = Instant::now();
            for attempt in standing {
                let since = *first_seen.entry(attempt.attempt).or_insert(now);
                let waits = match self.coordinates(&attempt) {
                    // A driver of this leader would hold it, unless it is just about to.
                    true => TURN,
                    false => ASK_AFTER,
                };
                if now.duration_since(since) >= waits
                    && let Some(live) = self.take(attempt.attempt)
                {
                    let this = self.clone();
                    tokio::spawn(async move { this.end(&attempt, live).await });
                }
            }
            // Where nothing stands there is nothing to look at again: idle groups cost nothing.
            let next = async {
                match first_seen.is_empty() {
                    true => _ = changed.changed().await,
                    false => sleep(TURN).await,
                }
            };
            tokio::select! {
                led = leadership.changed() => if led.is_err() {
                    return;
                },
                () = next => {}
            }
        }
    }

    fn coordinates(&self, attempt: &Attempt) -> bool {
        let prepare = attempt.prepare.as_ref();
        prepare.is_some_and(|prepare| prepare.coordinator == self.this_group())
    }

    async fn end(&self, attempt: &Arc<Attempt>, _live: Live) {
        let Some(prepare) = &attempt.prepare else {
            return;
        };
        planted::at(planted::TXN_RECOVERING);
        let write = Write {
            id: attempt.id,
            key: attempt.key.clone(),
            ..Write::default()
        };
        if self.coordinates(attempt) {
            return self.end_own(attempt, &write, prepare).await;
        }
        let deadline = Instant::now() + END_WAIT;
        let fate = Ask::Fate(Fate {
            attempt: attempt.attempt,
        });
        let Ok(Body::Fate(fate)) = self.there(prepare.coordinator, fate, deadline).await else {
            return;
        };
        let action = match fate.revision {
            0 if fate.aborted => Action::Abort(Abort {
                attempt: attempt.attempt,
            }),
            // The coordinator is at it.
            0 => return,
            revision => Action::Commit(Commit {
                attempt: attempt.attempt,
                revision,
                path: fate.path,
            }),
        };
        if self.here(step(&write, action), deadline).await.is_ok() {
            self.parts.meters.recovered.increment(1);
        }
    }

    async fn end_own(&self, attempt: &Attempt, write: &Write, prepare: &Prepare) {
        let name = attempt.attempt;
        if attempt.revision > 0 && planted::is(planted::DECISION_DROPPED_IN_RECOVERY) {
            let forget = step(write, Action::Forget(Forget { attempt: name }));
            _ = self.here(forget, Instant::now() + END_WAIT).await;
        } else if attempt.revision > 0 {
            let (revision, path) = (attempt.revision, &attempt.path);
            self.commit_others(write, prepare, name, revision, path)
                .await;
        } else {
            let abort = step(write, Action::Abort(Abort { attempt: name }));
            if self.here(abort, Instant::now() + END_WAIT).await.is_err() {
                return;
            }
        }
        self.parts.meters.recovered.increment(1);
    }
}
