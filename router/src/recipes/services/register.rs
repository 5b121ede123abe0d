//! Instances come, show that they live, and go.

use bytes::Bytes;
use caucus_api::shard::{Put, Record};
use caucus_ring::Revision;
use tokio::time::Instant;

use super::check::index_key;
use super::{Error, Health, Instance, Status, health_key, instance_key};
use crate::recipes::Steps;
use crate::{LeaseError, Router};

/// Attempts when others change the same instance.
const ATTEMPTS_MAX: usize = 8;

/// An instance as it stands.
struct Found {
    instance: Option<Record>,
    health: Option<Record>,
}

impl Found {
    fn created(&self) -> u64 {
        self.instance.as_ref().map_or(0, |found| found.mod_revision)
    }

    /// Leases that are there, if any.
    fn leases(&self) -> Vec<u64> {
        let leases = [&self.instance, &self.health].into_iter().flatten();
        let leases = leases.map(|record| record.lease);
        leases.filter(|lease| *lease != 0).collect()
    }
}

async fn find(
    router: &Router,
    keys: (&Bytes, &Bytes),
    deadline: Instant,
) -> Result<Found, crate::Error> {
    let steps = Steps::new().read(keys.0).read(keys.1);
    let mut done = steps.run(router, None, deadline).await?;
    Ok(Found {
        instance: done.record(0),
        health: done.record(1),
    })
}

/// Registers an instance, or takes its place. `health`: how it is until it is heard of.
pub async fn register(
    router: &Router,
    service: &str,
    id: &str,
    instance: &Instance,
    health: &Health,
    deadline: Instant,
) -> Result<Revision, Error> {
    let keys = (instance_key(service, id), health_key(service, id));
    for _ in 0..ATTEMPTS_MAX {
        let found = find(router, (&keys.0, &keys.1), deadline).await?;
        let mut steps = Steps::new().if_changed(&keys.0, found.created());
        let lease = match instance.lease_s() {
            None => 0,
            Some(ttl_s) => {
                let lease = router.draw_beside(&keys.0, None, deadline).await?;
                steps = steps.grant(lease, ttl_s);
                lease
            }
        };
        steps = steps.put(&keys.0, instance.put(lease));
        steps = match health.status {
            Status::Critical => steps.remove(&keys.1),
            Status::Passing | Status::Warning => {
                let alive = router.draw_beside(&keys.1, None, deadline).await?;
                let steps = steps.grant(alive, instance.ttl);
                steps.put(&keys.1, health.put(alive))
            }
        };
        let done = steps.run(router, None, deadline).await?;
        if !done.held || done.problem.is_some() {
            continue;
        }
        for before in found.leases() {
            end(router, before, deadline).await?;
        }
        let index = index_key(service, id);
        let index = match &instance.check {
            Some(_) => Steps::new().put(
                &index,
                Put {
                    lease,
                    ..Put::default()
                },
            ),
            None => Steps::new().remove(&index),
        };
        index.run(router, None, deadline).await?;
        return Ok(done.store);
    }
    Err(Error::Contended)
}

async fn end(router: &Router, lease: u64, deadline: Instant) -> Result<(), Error> {
    match router.revoke(lease, deadline).await {
        Ok(()) | Err(LeaseError::NotFound | LeaseError::Exists) => Ok(()),
        Err(LeaseError::Store(error)) => Err(error.into()),
    }
}

/// A sign of life, and how it is.
pub async fn heartbeat(
    router: &Router,
    service: &str,
    id: &str,
    health: &Health,
    deadline: Instant,
) -> Result<Revision, Error> {
    let keys = (instance_key(service, id), health_key(service, id));
    for _ in 0..ATTEMPTS_MAX {
        let found = find(router, (&keys.0, &keys.1), deadline).await?;
        let record = found.instance.as_ref().ok_or(Error::NotFound)?;
        let instance = Instance::read(record).ok_or(Error::NotFound)?;
        let known = found.health.as_ref().and_then(Health::read);
        if known.as_ref() == Some(health) && health.status != Status::Critical {
            let alive = router.keep_all_alive(found.leases(), deadline).await?;
            if alive.iter().all(|(_, ttl)| ttl.is_some()) {
                return Ok(router.highest());
            }
            continue;
        }
        let mut steps = Steps::new().if_changed(&keys.0, record.mod_revision);
        match (health.status, &found.health) {
            (Status::Critical, None) => return Ok(router.highest()),
            // Its own time goes on from the last sign of life.
            (Status::Critical, Some(alive)) => {
                steps = steps.remove(&keys.1).drop(alive.lease);
            }
            (_, Some(alive)) => steps = steps.put(&keys.1, health.put(alive.lease)),
            (_, None) => {
                let alive = router.draw_beside(&keys.1, None, deadline).await?;
                steps = steps.grant(alive, instance.ttl);
                steps = steps.put(&keys.1, health.put(alive));
            }
        }
        let done = steps.run(router, None, deadline).await?;
        if done.held && done.problem.is_none() {
            if health.status != Status::Critical {
                router.keep_all_alive(found.leases(), deadline).await?;
            }
            return Ok(done.store);
        }
    }
    Err(Error::Contended)
}

/// Removes an instance.
pub async fn deregister(
    router: &Router,
    service: &str,
    id: &str,
    deadline: Instant,
) -> Result<Revision, Error> {
    let keys = (instance_key(service, id), health_key(service, id));
    let found = find(router, (&keys.0, &keys.1), deadline).await?;
    let steps = Steps::new()
        .if_changed(&keys.0, found.created())
        .remove(&keys.0)
        .remove(&keys.1);
    let done = steps.run(router, None, deadline).await?;
    for lease in found.leases() {
        end(router, lease, deadline).await?;
    }
    let steps = Steps::new().remove(&index_key(service, id));
    steps.run(router, None, deadline).await?;
    match found.instance {
        Some(_) if done.held => Ok(done.store),
        Some(_) => Err(Error::Contended),
        None => Err(Error::NotFound),
    }
}
