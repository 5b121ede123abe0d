//! What routers ask about leases.

use caucus_api::shard::lease_call::Call;
use caucus_api::shard::lease_step::Kind;
use caucus_api::shard::reply::Body;
use caucus_api::shard::{
    Attached, AttachedKey, AttachedTo, LeaseCall, LeaseNow, Leases, Outcome, Reply,
};
use caucus_api::{Failure, ReplyTo, limits};
use caucus_planted as planted;
use tokio::time::{Instant, timeout_at};

use super::reign::Alive;
use super::{Lessor, alone, over, step};
use crate::reads;
use crate::sequencer::Touches;
use crate::state::leases;
use crate::state::versions::{self, When};

/// Leases of one call.
const IDS_MAX: usize = 10_000;

/// A call that waits.
pub(crate) struct LeaseJob {
    pub(crate) call: u64,
    pub(crate) at_least: u64,
    pub(crate) rules_version: u64,
    pub(crate) deadline: Instant,
    pub(crate) reply: ReplyTo,
}

impl Lessor {
    /// Takes a call: it is answered by a task of its own.
    pub(crate) fn take(&self, asked: LeaseCall, job: LeaseJob) -> Result<(), (Failure, ReplyTo)> {
        let arrived = Instant::now();
        let Some(call) = asked.call else {
            return Err((Failure::Invalid("an unknown request".to_owned()), job.reply));
        };
        if let Err(failure) = self.check(&call, job.rules_version) {
            return Err((failure, job.reply));
        }
        let this = self.clone();
        tokio::spawn(async move {
            let answered = timeout_at(job.deadline, this.answer(call, arrived, job.deadline)).await;
            let late = Err(Failure::Deadline { unknown: true });
            let body = match answered.unwrap_or(late) {
                Ok(body) => body,
                Err(failure) => Body::Error(failure.into()),
            };
            let highest = this.parts.published.highest();
            (job.reply)(Reply {
                call: job.call,
                revision: highest.max(job.at_least),
                body: Some(body),
            });
        });
        Ok(())
    }

    /// Whether this group is the home of the leases that are named.
    fn check(&self, call: &Call, rules_version: u64) -> Result<(), Failure> {
        let ids = match call {
            Call::KeepAlive(named) | Call::Show(named) => &named.ids[..],
            Call::Revoke(id) => std::slice::from_ref(id),
            Call::List(_) | Call::Attached(_) => &[],
        };
        if ids.len() > IDS_MAX {
            let why = format!("a call names at most {IDS_MAX} leases");
            return Err(Failure::Invalid(why));
        }
        let scope = self.parts.published.scope();
        let routing = scope.routing(rules_version)?;
        let mut vnodes = ids.iter().map(|id| routing.ring.lease_vnode(*id));
        match vnodes.all(|vnode| scope.owned.contains(vnode)) {
            true => Ok(()),
            false => Err(Failure::Moved { epoch: 0 }),
        }
    }

    async fn answer(
        &self,
        call: Call,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Body, Failure> {
        match call {
            Call::KeepAlive(named) => {
                let term = match planted::is(planted::KEEPALIVE_NOT_CONFIRMED) {
                    true => self.parts.group.leadership().term,
                    false => self.confirm().await?,
                };
                let mut alive = Vec::with_capacity(named.ids.len());
                for id in named.ids {
                    alive.extend(self.keep_alive(term, id, arrived, deadline).await?);
                }
                planted::at(planted::LEASE_ANSWERING);
                Ok(Body::Leases(Leases { leases: alive }))
            }
            Call::Show(named) => {
                let term = self.confirm().await?;
                self.now(term, named.ids.into_iter())
            }
            Call::List(_) => {
                let term = self.confirm().await?;
                let all = self.parts.published.leases().all();
                self.now(term, all.into_iter().map(|(id, _)| id))
            }
            Call::Revoke(id) => self.revoke(id, deadline).await,
            Call::Attached(asked) => {
                self.confirm().await?;
                self.attaching_over(asked.id).await;
                self.attached(&asked)
            }
        }
    }

    async fn confirm(&self) -> Result<u64, Failure> {
        let confirmed = self.parts.group.confirm().await;
        Ok(confirmed.map_err(reads::failure)?.term)
    }

    /// Prolongs a lease; `None`: there is none such.
    async fn keep_alive(
        &self,
        term: u64,
        id: u64,
        arrived: Instant,
        deadline: Instant,
    ) -> Result<Option<LeaseNow>, Failure> {
        let mut settled = self.parts.settled.subscribe();
        loop {
            settled.borrow_and_update();
            let found = self.with(term, |reign| reign.keep_alive(id, arrived));
            match found.ok_or_else(over)? {
                Alive::Gone => return Ok(None),
                Alive::Prolonged { ttl } => {
                    self.parts.meters.keepalives.increment(1);
                    return Ok(Some(LeaseNow {
                        id,
                        ttl_s: ttl.as_secs(),
                        rest_ms: ttl.as_millis() as u64,
                        ..LeaseNow::default()
                    }));
                }
                Alive::Busy => _ = settled.changed().await,
                Alive::Renew { grant } => {
                    let this = self.clone();
                    // Whoever asks may go away: it is finished all the same.
                    let renewing = tokio::spawn(async move {
                        let renew = alone(step(Kind::Renew, id, grant));
                        let done = this.parts.driver.own(renew, term, deadline).await;
                        let applied = matches!(&done, Ok(done) if done.problem.is_none());
                        let known =
                            this.with(term, |reign| reign.renewed(id, grant, arrived, applied));
                        this.settle();
                        known.ok_or_else(over)?;
                        done.map(|_| ())
                    });
                    // Then it is prolonged, or has gone.
                    renewing.await.unwrap_or_else(|_| Err(over()))?;
                }
            }
        }
    }

    /// What is known of leases; those that there aren't are left out.
    fn now(&self, term: u64, ids: impl Iterator<Item = u64>) -> Result<Body, Failure> {
        let table = self.parts.published.leases();
        let now = Instant::now();
        let shown = self.with(term, |reign| {
            let now = ids.filter_map(|id| {
                let lease = table.get(id)?;
                let rest = reign.rest(id, now)?;
                Some(LeaseNow {
                    id,
                    grant: lease.grant,
                    ttl_s: lease.ttl_s,
                    rest_ms: rest.as_millis() as u64,
                    ends: lease.ends,
                    groups: lease.groups,
                })
            });
            now.collect()
        });
        let leases = shown.ok_or_else(over)?;
        Ok(Body::Leases(Leases { leases }))
    }

    /// Ends a lease now; answered with an empty list if there is none such.
    async fn revoke(&self, id: u64, deadline: Instant) -> Result<Body, Failure> {
        let term = self.confirm().await?;
        let mut settled = self.parts.settled.subscribe();
        let grant = loop {
            settled.borrow_and_update();
            match self.with(term, |reign| reign.claim(id)).ok_or_else(over)? {
                None => return Ok(Body::Leases(Leases::default())),
                Some(Some(grant)) => break grant,
                Some(None) => _ = settled.changed().await,
            }
        };
        let this = self.clone();
        let ending = tokio::spawn(async move {
            let ended = this.end(term, id, grant, deadline).await;
            this.with(term, |reign| reign.release(id, grant));
            this.settle();
            ended
        });
        ending.await.unwrap_or_else(|_| Err(over()))?;
        self.parts.meters.leases_revoked.increment(1);
        Ok(Body::Outcome(Outcome::default()))
    }

    /// Waits until no transaction stands prepared that attaches a key: its client may have been told already
    /// that it is committed.
    async fn attaching_over(&self, id: u64) {
        let lock = Touches::Key(leases::lock_key(id));
        let standing = self.parts.published.standing();
        while let Some(holder) = standing.in_the_way(&lock) {
            standing.unlocked(holder.attempt).await;
        }
    }

    fn attached(&self, asked: &AttachedTo) -> Result<Body, Failure> {
        let limit = (asked.limit as usize).clamp(1, limits::PAGE_KEYS_MAX);
        let engine_failure = |error: caucus_engine::Error| Failure::Internal(error.to_string());
        let view = self.parts.group.view();
        let snapshot = view.engine().snapshot();
        let (reader, storage) = (snapshot.as_ref(), view.storage());
        let (found, more) = leases::attached(reader, storage, asked.id, &asked.start, limit)
            .map_err(engine_failure)?;
        let scope = self.parts.published.scope();
        let routing = scope.routing.as_ref().ok_or(Failure::Moved { epoch: 0 })?;
        let mut keys = Vec::with_capacity(found.len());
        for key in found {
            let vnode = routing.vnode(&key);
            let record = versions::get(reader, storage, vnode, &key, When::Now);
            let record = record.map_err(engine_failure)?.unwrap_or_default();
            keys.push(AttachedKey {
                key,
                lease_grant: record.lease_grant,
            });
        }
        Ok(Body::Attached(Attached { keys, more }))
    }
}
