//! The time of leases under one leader. Pure: the present comes with each call.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use caucus_api::shard::Lease;
use caucus_planted as planted;
use tokio::time::Instant;

/// A lease is taken as over only so long after its time, beside a part of it: clocks of clients and servers
/// don't run quite alike.
const MARGIN_MIN: Duration = Duration::from_millis(100);
/// The part: 1/64, more than any clock that works at all is off.
const MARGIN_PART: u32 = 64;
/// Checkpoints of a lease aren't closer than this.
const CHECKPOINT_MIN: Duration = Duration::from_secs(1);
/// Longer times are as good as endless; instants can't be so far away.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The leases of a group in one term of its leader.
pub(super) struct Reign {
    pub(super) term: u64,
    leases: HashMap<u64, Live>,
    /// At most one place for each lease, by id and grant; never later than its next turn.
    due: BinaryHeap<Reverse<(Instant, u64, u64)>>,
}

struct Live {
    grant: u64,
    ttl: Duration,
    until: Instant,
    /// What a new leader would take as its rest: the TTL, or what was recorded.
    recorded: Duration,
    /// Less than the TTL was recorded: it is renewed through the log.
    is_checkpointed: bool,
    /// Something of it is under way in the log.
    busy: bool,
    /// It has begun to end.
    ends: bool,
    /// It has a place.
    placed: bool,
}

/// What is to be done for a lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Checkpoint { grant: u64, rest: Duration },
    End { grant: u64 },
}

/// What a keepalive finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Alive {
    /// It has all of its time again.
    Prolonged { ttl: Duration },
    /// It has when this is in the log.
    Renew { grant: u64 },
    /// Later: something else is under way.
    Busy,
    /// There is no such lease, or it is ending.
    Gone,
}

impl Live {
    fn new(lease: &Lease, now: Instant) -> Live {
        let ttl = Duration::from_secs(lease.ttl_s).min(FOREVER);
        let recorded = match lease.rest_ms {
            0 => ttl,
            rest => Duration::from_millis(rest).min(ttl),
        };
        Live {
            grant: lease.grant,
            ttl,
            // One that is ending has no time left.
            until: match lease.ends {
                true => now,
                false => now + recorded,
            },
            recorded,
            is_checkpointed: lease.rest_ms != 0,
            busy: false,
            ends: lease.ends,
            placed: false,
        }
    }

    fn ends_at(&self) -> Instant {
        self.until + MARGIN_MIN.max(self.ttl / MARGIN_PART)
    }

    /// When half of what is recorded has passed.
    fn checkpoint_at(&self) -> Option<Instant> {
        let half = self.recorded / 2;
        (half >= CHECKPOINT_MIN).then(|| self.until - half)
    }

    fn next(&self) -> Instant {
        let ends = self.ends_at();
        self.checkpoint_at().map_or(ends, |at| at.min(ends))
    }
}

impl Reign {
    pub(super) fn new(term: u64, leases: Vec<(u64, Lease)>, now: Instant) -> Reign {
        let mut reign = Reign {
            term,
            leases: HashMap::with_capacity(leases.len()),
            due: BinaryHeap::with_capacity(leases.len()),
        };
        for (id, lease) in leases {
            let mut live = Live::new(&lease, now);
            if planted::is(planted::LEASE_SHORTENED_BY_NEW_LEADER) {
                live.until = now + live.recorded / 2;
            }
            reign.take(id, live);
        }
        reign
    }

    fn take(&mut self, id: u64, mut live: Live) {
        live.placed = true;
        self.due.push(Reverse((live.next(), id, live.grant)));
        self.leases.insert(id, live);
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Takes in what was applied.
    pub(super) fn hear(&mut self, news: Vec<(u64, Option<Lease>)>, now: Instant) {
        for (id, lease) in news {
            match lease {
                None => _ = self.leases.remove(&id),
                Some(lease) => match self.leases.get_mut(&id) {
                    // What else is applied to it was asked for here, and is noted where it is answered.
                    Some(known) if known.grant == lease.grant => known.ends |= lease.ends,
                    Some(_) | None => self.take(id, Live::new(&lease, now)),
                },
            }
        }
    }

    /// A lease for which something is to be done, which is under way from then on.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<(u64, Due)> {
        while let Some(Reverse((at, id, grant))) = self.due.peek().copied() {
            if at > now {
                return None;
            }
            self.due.pop();
            let live = self.leases.get_mut(&id);
            let Some(live) = live.filter(|live| live.grant == grant) else {
                continue;
            };
            live.placed = false;
            if live.busy {
                // Whoever is at it gives it a place again.
                continue;
            }
            if live.ends_at() <= now {
                live.busy = true;
                return Some((id, Due::End { grant: live.grant }));
            }
            if live.checkpoint_at().is_some_and(|at| at <= now) {
                live.busy = true;
                let due = Due::Checkpoint {
                    grant: live.grant,
                    rest: live.until.saturating_duration_since(now),
                };
                return Some((id, due));
            }
            live.placed = true;
            self.due.push(Reverse((live.next(), id, grant)));
        }
        None
    }

    /// When `next_due` may have something.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _, _))| *at)
    }

    /// A keepalive arrived, and this replica has led since.
    pub(super) fn keep_alive(&mut self, id: u64, arrived: Instant) -> Alive {
        let Some(live) = self.leases.get_mut(&id) else {
            return Alive::Gone;
        };
        if (live.ends || live.busy) && planted::is(planted::KEEPALIVE_OF_ENDING) {
            return Alive::Prolonged { ttl: live.ttl };
        }
        if live.ends {
            return Alive::Gone;
        }
        if live.busy {
            return Alive::Busy;
        }
        if live.is_checkpointed && !planted::is(planted::RENEWAL_NOT_LOGGED) {
            live.busy = true;
            return Alive::Renew { grant: live.grant };
        }
        live.until = live.until.max(arrived + live.ttl);
        Alive::Prolonged { ttl: live.ttl }
    }

    /// A renewal through the log has ended; whether the lease has all of its time again.
    pub(super) fn renewed(&mut self, id: u64, grant: u64, arrived: Instant, applied: bool) -> bool {
        self.end_turn(id, grant, |live| {
            if applied {
                live.is_checkpointed = false;
                live.recorded = live.ttl;
                live.until = live.until.max(arrived + live.ttl);
            }
        });
        applied
    }

    /// A checkpoint has ended; `None`: it isn't known to be applied, and so may be.
    pub(super) fn checkpointed(&mut self, id: u64, grant: u64, recorded: Option<Duration>) {
        self.end_turn(id, grant, |live| {
            live.is_checkpointed = true;
            live.recorded = recorded.unwrap_or(live.recorded / 2);
        });
    }

    /// Takes the turn of a lease, to end it; `None`: there is none such. `Some(None)`: something else is
    /// under way.
    pub(super) fn claim(&mut self, id: u64) -> Option<Option<u64>> {
        let live = self.leases.get_mut(&id)?;
        if live.busy {
            return Some(None);
        }
        live.busy = true;
        Some(Some(live.grant))
    }

    /// What was claimed goes on as before.
    pub(super) fn release(&mut self, id: u64, grant: u64) {
        self.end_turn(id, grant, |_| {});
    }

    fn end_turn(&mut self, id: u64, grant: u64, change: impl FnOnce(&mut Live)) {
        if let Some(live) = self.leases.get_mut(&id).filter(|live| live.grant == grant) {
            change(live);
            live.busy = false;
            if !live.placed {
                live.placed = true;
                self.due.push(Reverse((live.next(), id, grant)));
            }
        }
    }

    /// How much time a lease has left.
    pub(super) fn rest(&self, id: u64, now: Instant) -> Option<Duration> {
        let live = self.leases.get(&id)?;
        Some(live.until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn lease(grant: u64, ttl_s: u64) -> Lease {
        Lease {
            grant,
            ttl_s,
            ..Lease::default()
        }
    }

    fn reign(leases: &[(u64, Lease)]) -> (Reign, Instant) {
        let begun = Instant::now();
        (Reign::new(5, leases.to_vec(), begun), begun)
    }

    #[test]
    fn a_lease_ends_after_its_time_and_not_before() {
        let (mut reign, begun) = reign(&[(7, lease(3, 1))]);
        assert_eq!(reign.next_due(begun + S), None);
        assert_eq!(reign.next_due(begun + S + 99 * MS), None);
        let end = Due::End { grant: 3 };
        assert_eq!(reign.next_due(begun + S + 100 * MS), Some((7, end)));
        assert_eq!(reign.next_due(begun + 10 * S), None, "it is under way");
        assert_eq!(reign.keep_alive(7, begun + 2 * S), Alive::Busy);
        // It couldn't be ended: its turn comes again.
        reign.release(7, 3);
        let again = reign.next_due(begun + 10 * S);
        assert_eq!(again, Some((7, Due::End { grant: 3 })));
        reign.hear(vec![(7, None)], begun);
        assert_eq!(reign.keep_alive(7, begun), Alive::Gone);
        assert_eq!(reign.len(), 0);
    }

    #[test]
    fn a_keepalive_counts_from_when_it_arrived() {
        let (mut reign, begun) = reign(&[(7, lease(3, 1))]);
        let prolonged = Alive::Prolonged { ttl: S };
        assert_eq!(reign.keep_alive(7, begun + 900 * MS), prolonged);
        // A late answer to an earlier one takes nothing away.
        assert_eq!(reign.keep_alive(7, begun + 100 * MS), prolonged);
        assert_eq!(reign.next_due(begun + 1900 * MS), None);
        assert_eq!(reign.rest(7, begun + 1000 * MS), Some(900 * MS));
        let due = reign.next_due(begun + 2000 * MS);
        assert_eq!(due, Some((7, Due::End { grant: 3 })));
    }

    #[test]
    fn what_is_recorded_is_never_twice_what_is_left() {
        let (mut reign, begun) = reign(&[(7, lease(3, 8))]);
        let checkpoint = |rest| Some((7, Due::Checkpoint { grant: 3, rest }));
        assert_eq!(reign.next_due(begun + 4 * S), checkpoint(4 * S));
        assert_eq!(reign.keep_alive(7, begun + 4 * S), Alive::Busy);
        reign.checkpointed(7, 3, Some(4 * S));
        assert_eq!(reign.next_due(begun + 6 * S), checkpoint(2 * S));
        reign.checkpointed(7, 3, Some(2 * S));
        // Through the log, for a new leader would go by what is recorded.
        assert_eq!(
            reign.keep_alive(7, begun + 7 * S),
            Alive::Renew { grant: 3 }
        );
        assert!(reign.renewed(7, 3, begun + 7 * S, true));
        assert_eq!(reign.next_due(begun + 10 * S), None);
        assert_eq!(reign.next_due(begun + 11 * S), checkpoint(4 * S));
        reign.checkpointed(7, 3, None);
        // It may be recorded.
        assert_eq!(
            reign.keep_alive(7, begun + 12 * S),
            Alive::Renew { grant: 3 }
        );
        assert!(!reign.renewed(7, 3, begun + 12 * S, false));
        assert_eq!(reign.rest(7, begun + 12 * S), Some(3 * S));
    }

    #[test]
    fn a_new_leader_goes_by_what_is_recorded() {
        let half = Lease {
            rest_ms: 1500,
            ..lease(3, 8)
        };
        let ending = Lease {
            ends: true,
            ..lease(4, 8)
        };
        let (mut reign, begun) = reign(&[(7, half), (8, ending), (9, lease(5, 8))]);
        assert_eq!(reign.rest(7, begun), Some(1500 * MS));
        assert_eq!(reign.rest(9, begun), Some(8 * S));
        assert_eq!(reign.keep_alive(8, begun), Alive::Gone);
        assert_eq!(reign.keep_alive(7, begun), Alive::Renew { grant: 3 });
        let ended = reign.next_due(begun + 200 * MS);
        assert_eq!(ended, Some((8, Due::End { grant: 4 })));
    }

    #[test]
    fn an_id_that_is_granted_again_is_another_lease() {
        let (mut reign, begun) = reign(&[(7, lease(3, 1))]);
        assert_eq!(reign.claim(7), Some(Some(3)));
        assert_eq!(reign.claim(7), Some(None));
        reign.hear(vec![(7, Some(lease(9, 1)))], begun + S);
        // Of the one before.
        reign.release(7, 3);
        reign.checkpointed(7, 3, Some(MS));
        assert_eq!(reign.rest(7, begun + S), Some(S));
        assert_eq!(reign.next_due(begun + 1500 * MS), None);
        let due = reign.next_due(begun + 2200 * MS);
        assert_eq!(due, Some((7, Due::End { grant: 9 })));
        assert_eq!(reign.next_due(begun + 20 * S), None);
        assert_eq!(reign.claim(8), None);
    }

    #[test]
    fn each_lease_has_one_place() {
        let (mut reign, begun) = reign(&[(7, lease(3, 4))]);
        for second in 0..100 {
            let now = begun + second * S;
            assert_eq!(reign.keep_alive(7, now), Alive::Prolonged { ttl: 4 * S });
            assert_eq!(reign.next_due(now), None);
            assert_eq!(reign.due.len(), 1);
        }
    }
}
