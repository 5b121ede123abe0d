//! Which instances there are, and how they are.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::shard::Record;
use caucus_ring::Revision;
use tokio::time::Instant;

use super::{Health, Instance, KIND, Status};
use crate::Router;
use crate::recipes::steps::below;
use crate::recipes::{Mirror, Steps, directory};

/// An instance that is registered.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// Its id.
    pub id: String,
    /// What it is.
    pub instance: Instance,
    /// How it is.
    pub health: Health,
    /// When it was registered, or last anew.
    pub revision: u64,
}

/// All instances of a service, by id, and the revision at which that was so.
pub async fn show(
    router: &Router,
    service: &str,
    deadline: Instant,
) -> Result<(Vec<Registered>, Revision), crate::Error> {
    let steps = Steps::new().range(caucus_api::shard::RangeRead {
        span: Some(below(&directory(KIND, service))),
        ..Default::default()
    });
    let mut done = steps.run(router, None, deadline).await?;
    let items = done.ranged(0).items.into_iter();
    let keys = items.filter_map(|item| Some((item.key, item.record?)));
    Ok((read(service, &keys.collect()), done.store))
}

fn read(service: &str, keys: &BTreeMap<Bytes, Record>) -> Vec<Registered> {
    let place = directory(KIND, service);
    let instances = keys.iter().filter_map(|(key, record)| {
        let id = key.strip_prefix(&place[..])?.strip_prefix(b"i/")?;
        let health = [&place[..], b"h/", id].concat();
        let health = keys.get(&health[..]).and_then(Health::read);
        Some(Registered {
            id: String::from_utf8(id.to_vec()).ok()?,
            instance: Instance::read(record)?,
            health: health.unwrap_or(Health {
                status: Status::Critical,
                note: String::new(),
            }),
            revision: record.mod_revision,
        })
    });
    instances.collect()
}

/// The instances of a service as they come, change and go.
pub struct Watch {
    service: String,
    mirror: Mirror,
}

impl Watch {
    /// Begins with the instances as they are.
    pub async fn open(
        router: &Router,
        service: &str,
        deadline: Instant,
    ) -> Result<Watch, crate::Error> {
        Ok(Watch {
            service: service.to_owned(),
            mirror: Mirror::open(router, &directory(KIND, service), deadline).await?,
        })
    }

    /// All instances as they are, and the revision.
    pub fn instances(&self) -> (Vec<Registered>, Revision) {
        let instances = read(&self.service, self.mirror.keys());
        (instances, self.mirror.revision())
    }

    /// Waits until something has changed. Can be cancelled without loss.
    pub async fn changed(&mut self) -> Result<(), crate::Error> {
        self.mirror.next().await?;
        Ok(())
    }
}
