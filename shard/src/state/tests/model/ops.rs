//! The operations of a transaction, on a copy of everything.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::shard::answer::Answer as Kind;
use caucus_api::shard::change::By;
use caucus_api::shard::lease_step::Kind as Step;
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::problem::Kind as Trouble;
use caucus_api::shard::{
    Change, Changed, Item, Lease, LeaseStep, LeaseStepped, Place, Placed, Put, Record, Remove,
    Removed, Sequence, Sequenced, Span,
};

use super::Fault;
use super::sight::{Sight, number_of};

/// What a transaction may change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct World {
    pub(super) keys: BTreeMap<Bytes, Record>,
    pub(super) leases: BTreeMap<u64, Lease>,
    pub(super) open: BTreeMap<u64, u64>,
}

impl World {
    /// When the lease was granted that a put names.
    pub(super) fn may_attach(&self, put: &Put, fault: Option<Fault>) -> Result<u64, Trouble> {
        if put.lease == 0 {
            return Ok(0);
        }
        match (self.leases.get(&put.lease), put.lease_open) {
            (Some(lease), _) if lease.ends && fault != Some(Fault::AttachesToEnding) => {
                Err(Trouble::LeaseNotFound)
            }
            (Some(lease), _) => Ok(lease.grant),
            (None, 0) => Err(Trouble::LeaseNotFound),
            (None, open) if self.open.get(&put.lease) == Some(&open) => Ok(put.lease_grant),
            (None, _) => Err(Trouble::LeaseNotOpen),
        }
    }

    pub(super) fn put(&mut self, key: &Bytes, put: Put, revision: u64) -> Record {
        let old = self.keys.get(key);
        let record = Record {
            create_revision: old.map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: 1 + old.map_or(0, |old| old.version),
            lease: put.lease,
            content_type: put.content_type,
            value: put.value,
            lease_grant: put.lease_grant,
        };
        self.keys.insert(key.clone(), record.clone());
        record
    }

    fn has_keys(&self, lease: u64) -> bool {
        self.keys.values().any(|record| record.lease == lease)
    }
}

fn is_others(sight: &Sight<'_>, span: Option<&Span>) -> bool {
    span.is_some_and(|span| !span.range && !sight.is_mine(&span.start))
}

/// Executes one operation. `alone`: this group's answer is the whole one.
pub(super) fn execute(
    asked: Option<&Asked>,
    sight: &Sight<'_>,
    world: &mut World,
    alone: bool,
) -> Result<Option<Kind>, Trouble> {
    Ok(match asked {
        Some(Asked::Range(range)) if is_others(sight, range.span.as_ref()) => None,
        Some(Asked::Remove(remove)) if is_others(sight, remove.span.as_ref()) => None,
        Some(Asked::Place(place)) if !sight.is_mine(&place.key) => None,
        Some(Asked::Change(change)) if !sight.is_mine(&change.key) => None,
        Some(Asked::Sequence(sequence)) if !sight.is_mine(&sequence.counter) => None,
        Some(Asked::Range(range)) if alone => Some(Kind::Ranged(sight.read(range, world)?)),
        Some(Asked::Range(range)) => Some(Kind::Ranged(sight.share(range, world)?)),
        Some(Asked::Place(place)) => Some(Kind::Placed(put(place, sight, world)?)),
        Some(Asked::Remove(remove)) => Some(Kind::Removed(delete(remove, sight, world)?)),
        Some(Asked::Change(change)) => Some(Kind::Changed(compute(change, sight, world)?)),
        Some(Asked::Sequence(sequence)) => Some(Kind::Sequenced(count(sequence, sight, world)?)),
        Some(Asked::Lease(step)) => lease(step, sight, world)?.map(Kind::Lease),
        Some(Asked::Txn(_)) | None => None,
    })
}

/// Whether an operation can be executed on what is there.
pub(super) fn check(
    asked: Option<&Asked>,
    sight: &Sight<'_>,
    world: &World,
) -> Result<(), Trouble> {
    match asked {
        // The revision is wrong in every group, also in those that don't have the key.
        Some(Asked::Range(range)) => {
            let found = range
                .span
                .as_ref()
                .map(|span| sight.find(span, range.revision, world));
            found.transpose()?;
        }
        // Those of leases are found out when they are executed.
        Some(Asked::Lease(_)) => {}
        Some(Asked::Sequence(sequence)) if sight.is_mine(&sequence.counter) => {
            numbers(sequence, world.keys.get(&sequence.counter))?;
        }
        asked => _ = execute(asked, sight, &mut world.clone(), false)?,
    }
    Ok(())
}

fn put(place: &Place, sight: &Sight<'_>, world: &mut World) -> Result<Placed, Trouble> {
    let old = world.keys.get(&place.key).cloned();
    if old.is_none() && (place.keep_value || place.keep_lease) {
        return Err(Trouble::KeyNotFound);
    }
    let mut put = place.put.clone().unwrap_or_default();
    let kept = old.clone().unwrap_or_default();
    if place.keep_lease {
        (put.lease, put.lease_grant) = (kept.lease, kept.lease_grant);
    } else {
        put.lease_grant = world.may_attach(&put, sight.model.fault)?;
    }
    if place.keep_value {
        (put.value, put.content_type) = (kept.value, kept.content_type);
    }
    world.put(&place.key, put, sight.revision);
    Ok(Placed {
        previous: old.filter(|_| place.previous),
    })
}

fn delete(remove: &Remove, sight: &Sight<'_>, world: &mut World) -> Result<Removed, Trouble> {
    let Some(span) = &remove.span else {
        return Ok(Removed::default());
    };
    let mut found = sight.find(span, 0, world)?;
    let attached =
        |record: &Record| (record.lease, record.lease_grant) == (remove.lease, remove.lease_grant);
    found.retain(|_, record| remove.lease == 0 || attached(record));
    world.keys.retain(|key, _| !found.contains_key(key));
    let items = found.iter().map(|(key, record)| Item {
        key: key.clone(),
        record: Some(record.clone()),
    });
    Ok(Removed {
        count: found.len() as u64,
        previous: items.filter(|_| remove.previous).collect(),
    })
}

fn compute(change: &Change, sight: &Sight<'_>, world: &mut World) -> Result<Changed, Trouble> {
    let old = world.keys.get(&change.key).cloned();
    let kept = old.clone().unwrap_or_default();
    let before = match &old {
        Some(old) => number_of(&old.value),
        None => Some(0),
    };
    let before = before.ok_or(Trouble::NotAnInteger);
    let number = match &change.by {
        Some(By::Add(add)) => Some(before?.checked_add(*add).ok_or(Trouble::Overflow)?),
        Some(By::Min(new) | By::Max(new)) if old.is_none() => Some(*new),
        Some(By::Min(new)) => Some(before?.min(*new)),
        Some(By::Max(new)) => Some(before?.max(*new)),
        Some(By::Append(_)) => None,
        None => return Err(Trouble::NotAnInteger),
    };
    let (value, content_type) = match (number, &change.by) {
        (None, Some(By::Append(tail))) => {
            let value = [&kept.value[..], &tail[..]].concat();
            (value.into(), kept.content_type)
        }
        (number, _) => (
            Bytes::from(number.unwrap_or_default().to_string()),
            "application/vnd.caucus.integer".to_owned(),
        ),
    };
    let put = Put {
        value,
        content_type,
        lease: kept.lease,
        lease_grant: kept.lease_grant,
        lease_open: 0,
    };
    Ok(Changed {
        record: Some(world.put(&change.key, put, sight.revision)),
        previous: old.filter(|_| change.previous),
    })
}

fn numbers(sequence: &Sequence, counter: Option<&Record>) -> Result<(u64, i64), Trouble> {
    let first = match counter {
        Some(counter) => number_of(&counter.value).ok_or(Trouble::NotAnInteger)?,
        None => 0,
    };
    let next = i128::from(first) + i128::from(sequence.count);
    let next = i64::try_from(next).map_err(|_| Trouble::Overflow)?;
    let first = u64::try_from(first).map_err(|_| Trouble::NotAnInteger)?;
    Ok((first, next))
}

fn count(sequence: &Sequence, sight: &Sight<'_>, world: &mut World) -> Result<Sequenced, Trouble> {
    let (first, next) = numbers(sequence, world.keys.get(&sequence.counter))?;
    let mut key = sequence.prefix.to_vec();
    key.extend_from_slice(format!("{first:020}").as_bytes());
    let key = Bytes::from(key);
    if !sight.is_mine(&key) {
        return Err(Trouble::KeyNotFound);
    }
    let put = sequence.put.clone().unwrap_or_default();
    world.put(&key, put, sight.revision);
    let number = Put {
        value: next.to_string().into(),
        content_type: "application/vnd.caucus.integer".to_owned(),
        ..Put::default()
    };
    world.put(&sequence.counter, number, sight.revision);
    Ok(Sequenced { key, first })
}

/// A step of a lease; `None`: of one that is at home in another group.
fn lease(
    step: &LeaseStep,
    sight: &Sight<'_>,
    world: &mut World,
) -> Result<Option<LeaseStepped>, Trouble> {
    let id = step.id;
    match step.kind() {
        Step::Open => {
            let open = *world.open.entry(id).or_insert(sight.revision);
            return Ok(Some(LeaseStepped {
                open,
                ..LeaseStepped::default()
            }));
        }
        Step::Close => {
            world.open.remove(&id);
            return Ok(Some(LeaseStepped::default()));
        }
        _ => {}
    }
    if !sight.mine.contains(sight.model.ring.lease_vnode(id)) {
        return Ok(None);
    }
    if step.kind() == Step::Grant {
        if world.leases.contains_key(&id) {
            return Err(Trouble::LeaseExists);
        }
        let lease = Lease {
            grant: sight.revision,
            ttl_s: step.ttl_s,
            ..Lease::default()
        };
        world.leases.insert(id, lease);
        return Ok(Some(LeaseStepped {
            grant: sight.revision,
            ttl_s: step.ttl_s,
            open: 0,
        }));
    }
    let has_keys = world.has_keys(id) && !sight.model.has(Fault::DropsWithKeys);
    let Some(lease) = world.leases.get_mut(&id) else {
        return Err(Trouble::LeaseNotFound);
    };
    if step.grant != 0 && step.grant != lease.grant {
        return Err(Trouble::LeaseNotFound);
    }
    let stepped = LeaseStepped {
        grant: lease.grant,
        ttl_s: lease.ttl_s,
        open: 0,
    };
    match (step.kind(), lease.ends) {
        (Step::Register | Step::Checkpoint | Step::Renew, true) => {
            return Err(Trouble::LeaseNotFound);
        }
        (Step::Register, false) if lease.groups.contains(&step.group) => {}
        (Step::Register, false) => lease.groups.push(step.group),
        (Step::Checkpoint, false) => lease.rest_ms = step.rest_ms,
        (Step::Renew, false) => lease.rest_ms = 0,
        (Step::Begin, _) => lease.ends = true,
        (Step::Drop, ends) if ends || !lease.groups.is_empty() || has_keys => {
            return Err(Trouble::LeaseHasKeys);
        }
        (Step::End, ends) if !ends || has_keys => return Err(Trouble::LeaseHasKeys),
        (Step::Drop | Step::End, _) => _ = world.leases.remove(&id),
        (Step::None | Step::Grant | Step::Open | Step::Close, _) => {}
    }
    Ok(Some(stepped))
}
