//! Leases: granted, kept alive, looked at and ended at the group that is their home; and what a write needs
//! that attaches a key to one.
//!
//! The id says where its home is (`Ring::lease_vnode`); who may choose the id chooses the home.

mod attach;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use caucus_api::limits::LEASE_TTL_S_MAX;
use caucus_api::shard::answer::Answer as Did;
use caucus_api::shard::lease_call::Call;
use caucus_api::shard::lease_step::Kind;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::{
    AttachedTo, LeaseCall, LeaseIds, LeaseNow, LeaseStep, Operation, Txn, Unit,
};
use caucus_ring::{GroupId, Revision};
use futures::future::try_join_all;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use self::attach::{OPENINGS_MAX, Opened, is_lease_missing, is_not_open};
use crate::attempt::{Stop, Target};
use crate::retry::{Retry, Step, Stumble};
use crate::route::Table;
use crate::router::nonsense;
use crate::{Outcome, RequestName, Router};

/// Keys of a lease that are asked for at a time.
const KEYS_PAGE: u32 = 1000;

/// A lease that was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Its id.
    pub id: u64,
    /// How long it lives without a sign of life.
    pub ttl: Duration,
    /// The revision at which it was granted.
    pub revision: Revision,
}

/// A lease as its home knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Its id.
    pub id: u64,
    /// How long it lives without a sign of life.
    pub ttl: Duration,
    /// How much of that is left.
    pub rest: Duration,
    /// When it was granted; 0 where that wasn't asked.
    pub grant: Revision,
    /// Where keys may be attached to it.
    groups: Vec<u32>,
}

/// Why nothing was done to a lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// There is no such lease, or it is over.
    #[error("there is no such lease")]
    NotFound,
    /// The id is in use.
    #[error("a lease with this id lives already")]
    Exists,
}

impl Router {
    /// Grants a lease with an id that the caller or, if it is `None`, the router has chosen. `ttl_s`: from 1 to
    /// [`LEASE_TTL_S_MAX`] seconds.
    pub async fn grant(
        &self,
        id: Option<u64>,
        ttl_s: u64,
        deadline: Instant,
    ) -> Result<Granted, LeaseError> {
        let ttl_s = ttl_s.clamp(1, LEASE_TTL_S_MAX);
        loop {
            let drawn = id.unwrap_or_else(|| self.draw());
            let step = LeaseStep {
                ttl_s,
                ..lease_step(Kind::Grant, drawn)
            };
            let done = self.txn(alone(step), deadline).await?.done;
            match done.problem.map(|problem| problem.kind()) {
                None => {
                    return Ok(Granted {
                        id: drawn,
                        ttl: Duration::from_secs(ttl_s),
                        revision: Revision(done.revision),
                    });
                }
                // Drawn by chance; once more.
                Some(_) if id.is_none() => {}
                Some(_) => return Err(LeaseError::Exists),
            }
        }
    }

    /// An id that nobody has, as far as chance goes: positive also where it is taken as a signed number.
    fn draw(&self) -> u64 {
        let mut seed = [0; 16];
        let ticket = self.begin(1);
        seed[..8].copy_from_slice(&self.session_number().to_le_bytes());
        seed[8..].copy_from_slice(&ticket.first.to_le_bytes());
        (xxh3_64(&seed) >> 1).max(1)
    }

    /// As [`draw`](Self::draw), of a lease that is at home where a key is. The same for the same name.
    pub(crate) async fn draw_beside(
        &self,
        key: &[u8],
        name: Option<RequestName>,
        deadline: Instant,
    ) -> Result<u64, crate::Error> {
        let table = self.serving_table(deadline).await?;
        let vnode = table.map().vnode(key);
        let vnodes = u64::from(table.map().ring().vnodes());
        let drawn = match name {
            Some(name) => name.id(Revision(0)).sequence >> 1,
            None => self.draw(),
        };
        let id = drawn - drawn % vnodes + u64::from(vnode.0);
        Ok(match id {
            0 => vnodes,
            id => id,
        })
    }

    /// Gives a lease all of its time again, from when this arrives; how long that is.
    pub async fn keep_alive(&self, id: u64, deadline: Instant) -> Result<Duration, LeaseError> {
        let call = Call::KeepAlive(LeaseIds { ids: vec![id] });
        match self.call_home(id, call, deadline).await? {
            Answer::Leases(found) => match found.leases.first() {
                Some(lease) => Ok(Duration::from_secs(lease.ttl_s)),
                None => Err(LeaseError::NotFound),
            },
            _ => Err(nonsense(Outcome::Read).into()),
        }
    }

    /// The same for many at once, one call a group; those that have gone have no time.
    pub async fn keep_all_alive(
        &self,
        ids: Vec<u64>,
        deadline: Instant,
    ) -> Result<Vec<(u64, Option<Duration>)>, LeaseError> {
        let table = self.serving_table(deadline).await?;
        let mut by_home: BTreeMap<GroupId, Vec<u64>> = BTreeMap::new();
        for id in &ids {
            by_home.entry(home(&table, *id)).or_default().push(*id);
        }
        let asked = by_home.into_values().map(|ids| async move {
            let first = ids.first().copied().unwrap_or_default();
            let call = Call::KeepAlive(LeaseIds { ids });
            match self.call_home(first, call, deadline).await? {
                Answer::Leases(found) => Ok(found.leases),
                _ => Err(nonsense(Outcome::Read)),
            }
        });
        let alive = try_join_all(asked).await?;
        let alive: HashMap<u64, u64> = alive
            .into_iter()
            .flatten()
            .map(|lease| (lease.id, lease.ttl_s))
            .collect();
        let ttl = |id: &u64| alive.get(id).map(|ttl_s| Duration::from_secs(*ttl_s));
        Ok(ids.iter().map(|id| (*id, ttl(id))).collect())
    }

    /// What is known of a lease.
    pub async fn lease(&self, id: u64, deadline: Instant) -> Result<LeaseStatus, LeaseError> {
        let call = Call::Show(LeaseIds { ids: vec![id] });
        match self.call_home(id, call, deadline).await? {
            Answer::Leases(found) => {
                let mut found = found.leases.into_iter();
                found.next().map(status).ok_or(LeaseError::NotFound)
            }
            _ => Err(nonsense(Outcome::Read).into()),
        }
    }

    /// The keys that are attached to a lease, in ascending order.
    pub async fn lease_keys(
        &self,
        lease: &LeaseStatus,
        deadline: Instant,
    ) -> Result<Vec<bytes::Bytes>, LeaseError> {
        let table = self.serving_table(deadline).await?;
        let home = home(&table, lease.id);
        let others = lease.groups.iter().map(|group| GroupId(*group));
        let groups = others.filter(|group| *group != home).chain([home]);
        let asked = groups.map(|group| self.keys_in(group, lease.id, deadline));
        let mut keys = try_join_all(asked).await?.concat();
        keys.sort_unstable();
        Ok(keys)
    }

    async fn keys_in(
        &self,
        group: GroupId,
        id: u64,
        deadline: Instant,
    ) -> Result<Vec<bytes::Bytes>, crate::Error> {
        let (mut keys, mut start) = (Vec::new(), bytes::Bytes::new());
        loop {
            let call = Call::Attached(AttachedTo {
                id,
                start,
                limit: KEYS_PAGE,
            });
            let Answer::Attached(page) = self.call_group(|_| group, call, deadline).await? else {
                return Err(nonsense(Outcome::Read));
            };
            keys.extend(page.keys.into_iter().map(|attached| attached.key));
            match keys.last().filter(|_| page.more) {
                Some(last) => start = [&last[..], &[0]].concat().into(),
                None => return Ok(keys),
            }
        }
    }

    /// All leases, by id.
    pub async fn leases(&self, deadline: Instant) -> Result<Vec<LeaseStatus>, LeaseError> {
        let table = self.serving_table(deadline).await?;
        let groups = table.groups().iter().map(|group| group.id());
        let asked = groups.map(|group| async move {
            let call = Call::List(Unit {});
            match self.call_group(|_| group, call, deadline).await? {
                Answer::Leases(found) => Ok(found.leases),
                _ => Err(nonsense(Outcome::Read)),
            }
        });
        let all = try_join_all(asked).await?;
        let mut all: Vec<LeaseStatus> = all.into_iter().flatten().map(status).collect();
        all.sort_unstable_by_key(|lease| lease.id);
        Ok(all)
    }

    /// Ends a lease: when this is answered none of its keys is to be seen any more.
    pub async fn revoke(&self, id: u64, deadline: Instant) -> Result<(), LeaseError> {
        match self.call_home(id, Call::Revoke(id), deadline).await? {
            Answer::Outcome(_) => Ok(()),
            Answer::Leases(_) => Err(LeaseError::NotFound),
            _ => Err(nonsense(Outcome::Unknown).into()),
        }
    }

    async fn call_home(
        &self,
        id: u64,
        call: Call,
        deadline: Instant,
    ) -> Result<Answer, crate::Error> {
        self.call_group(|table| home(table, id), call, deadline)
            .await
    }

    /// Asks a group, by the newest map at each attempt. Each call may be asked twice.
    async fn call_group(
        &self,
        group: impl Fn(&Table) -> GroupId,
        call: Call,
        deadline: Instant,
    ) -> Result<Answer, crate::Error> {
        let body = Body::Lease(LeaseCall { call: Some(call) });
        let mut retry = Retry::new(false, 0);
        loop {
            let table = self.serving_table(deadline).await?;
            let target = Target::Group(&table, group(&table));
            let sent = self.run_target(target, &body, 0, retry.clone(), deadline, None);
            let stumble = match sent.await {
                Ok(reply) => return reply.body.ok_or_else(|| nonsense(Outcome::Read)),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Stale) => Stumble::NoGroup,
            };
            match retry.step(stumble, Instant::now(), deadline) {
                Step::GiveUp(error) => return Err(error),
                Step::Refresh(_, pause) | Step::Pause(pause) => sleep(pause).await,
                Step::Redirect(_) => {}
            }
        }
    }
}

fn home(table: &Table, id: u64) -> GroupId {
    let map = table.map();
    map.owner(map.ring().lease_vnode(id))
}

fn status(lease: LeaseNow) -> LeaseStatus {
    LeaseStatus {
        id: lease.id,
        ttl: Duration::from_secs(lease.ttl_s),
        rest: Duration::from_millis(lease.rest_ms),
        grant: Revision(lease.grant),
        groups: lease.groups,
    }
}

pub(crate) fn lease_step(kind: Kind, id: u64) -> LeaseStep {
    LeaseStep {
        kind: kind as i32,
        id,
        ..LeaseStep::default()
    }
}

fn alone(step: LeaseStep) -> Txn {
    Txn {
        then: vec![Operation {
            operation: Some(Asked::Lease(step)),
        }],
        ..Txn::default()
    }
}
