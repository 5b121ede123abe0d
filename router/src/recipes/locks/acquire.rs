//! To take a lock: into the queue, and wait there.

use caucus_api::shard::Item;
use tokio::time::Instant;

use super::entry::{self, Entry};
use super::{Ask, Error, Held};
use crate::recipes::queue::{self, Attempt};
use crate::{RequestName, Router};

/// Takes a lock of a name, or waits for it. The same name of a request takes it once.
pub async fn acquire(
    router: &Router,
    lock: &str,
    ask: &Ask,
    name: Option<RequestName>,
    deadline: Instant,
) -> Result<Held, Error> {
    let until = Instant::now() + ask.wait;
    let queue = entry::queue(lock);
    let lease = match ask.lease {
        Some(lease) => lease,
        None => router.draw_beside(&queue.prefix, name, deadline).await?,
    };
    let entry = queue::Entry {
        key: queue.key(lease, ask.lease.is_none()),
        put: Entry::of(ask).put(lease),
        grant_s: match ask.lease {
            None => Some(ask.ttl_s.saturating_add(ask.delay_s)),
            Some(_) => None,
        },
    };
    let at_once = ask.wait.is_zero();
    let entered = Attempt::enter(router, &queue, entry, at_once, name, deadline);
    let (mut attempt, seen) = entered.await?;
    check_kinds(&seen.items, ask)?;
    let revision = attempt.wait(&queue, seen, Some(until)).await?;
    let held = Held {
        key: attempt.key.clone(),
        token: attempt.created,
        lease,
        revision,
    };
    attempt.keep();
    Ok(held)
}

fn check_kinds(items: &[Item], ask: &Ask) -> Result<(), Error> {
    let mut kinds = items.iter().filter_map(|item| {
        let record = item.record.as_ref()?;
        Some(Entry::read(record)?.kind)
    });
    match kinds.find(|kind| !kind.agrees(ask.kind)) {
        Some(kind) => Err(Error::OtherKind { used: kind.name() }),
        None => Ok(()),
    }
}
