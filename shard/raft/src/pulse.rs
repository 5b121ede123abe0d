//! When openraft's own clocks run: only where they have something to decide.
//!
//! openraft ticks twenty times a second in every replica, to notice a silent leader and to send
//! heartbeats. With many groups a node that nobody uses is busy with that alone. So:
//!
//! - A follower that has heard its leader lately doesn't tick: no election can be due. Once the
//!   leader has been silent for half of the shortest election timeout it ticks, and openraft decides
//!   as ever. No timeout gets longer by this.
//! - A leader doesn't tick. The node asks all leaders for their heartbeats in one go, so that those
//!   for one peer leave in one write and arrive in one read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Group, Options};

/// When a replica last heard its leader.
#[derive(Debug)]
pub(crate) struct Heard {
    born: Instant,
    /// Milliseconds from `born`, plus one; zero: never.
    at: AtomicU64,
}

impl Heard {
    pub(crate) fn never() -> Heard {
        Heard {
            born: Instant::now(),
            at: AtomicU64::new(0),
        }
    }

    /// openraft has just taken an append or a heartbeat of the leader, and put off its election.
    pub(crate) fn now(&self) {
        let at = self.born.elapsed().as_millis() as u64 + 1;
        self.at.store(at, Ordering::Relaxed);
    }

    fn within(&self, span: Duration) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        at > 0 && self.born + Duration::from_millis(at) + span > Instant::now()
    }
}

/// Beats until `shutdown`; `groups` names the running replicas.
pub(crate) async fn beat(
    options: Options,
    groups: impl Fn() -> Vec<Group>,
    shutdown: CancellationToken,
) {
    let heartbeat_every = Duration::from_millis(options.heartbeat_interval_ms);
    let quiet = Duration::from_millis(options.election_timeout_ms_min / 2);
    let period = quiet.min(heartbeat_every) / 4;
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heartbeats_at = Instant::now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let mut leaders = Vec::new();
        for group in groups() {
            let leads = group.leadership().here;
            let ticks = !leads && !group.heard.within(quiet);
            group.raft().runtime_config().tick(ticks);
            if leads {
                leaders.push(group);
            }
        }
        if Instant::now() < heartbeats_at {
            continue;
        }
        heartbeats_at = Instant::now() + heartbeat_every;
        let asked = leaders.iter().map(|group| async {
            // Fails only where the replica has stopped, which its users hear elsewhere.
            let _ = group.raft().trigger().heartbeat().await;
        });
        // One whose queue is full is not to hold up the others.
        let all = futures::future::join_all(asked);
        let _ = tokio::time::timeout(period, all).await;
    }
}
