//! What a transaction sees of a group, and what its compares and reads find there.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::shard::compare::{Relation, Target};
use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::problem::Kind as Trouble;
use caucus_api::shard::range_read::{Order, Target as By};
use caucus_api::shard::{Compare, Compared, Filter, Item, RangeRead, Ranged, Record, Span, Txn};
use caucus_ring::VnodeSet;

use super::ops::World;
use super::{Fault, Model};

/// A group before a transaction, and which of its vnodes the transaction may touch.
pub(super) struct Sight<'m> {
    pub(super) model: &'m Model,
    pub(super) mine: &'m VnodeSet,
    pub(super) revision: u64,
}

type Found = BTreeMap<Bytes, Record>;

impl Sight<'_> {
    pub(super) fn is_mine(&self, key: &[u8]) -> bool {
        self.mine.contains(self.model.vnode(key))
    }

    /// Whether a key is of a span, as far as this group has a part in it.
    fn covers(&self, span: &Span, key: &Bytes) -> bool {
        if !span.range {
            return *key == span.start && self.is_mine(key);
        }
        let named = VnodeSet::from_packed(&span.vnodes).unwrap_or_default();
        let inside = *key >= span.start && (span.end.is_empty() || *key < span.end);
        inside && self.is_mine(key) && named.contains(self.model.vnode(key))
    }

    /// The records of a span as they are in a world, or as they were.
    pub(super) fn find(&self, span: &Span, at: i64, world: &World) -> Result<Found, Trouble> {
        let model = self.model;
        let compacted = match model.has(Fault::NeverCompacted) {
            true => 0,
            false => model.compacted,
        };
        let oldest = i64::try_from(compacted).unwrap_or(i64::MAX);
        if at != 0 && compacted > 0 && at < oldest {
            return Err(Trouble::Compacted);
        }
        if at > 0 && at.unsigned_abs() >= self.revision {
            return Err(Trouble::FutureRevision);
        }
        if at <= 0 || model.has(Fault::NoPast) {
            let all = world.keys.iter().filter(|(key, _)| self.covers(span, key));
            return Ok(all
                .map(|(key, record)| (key.clone(), record.clone()))
                .collect());
        }
        let all = model.past.keys().filter(|key| self.covers(span, key));
        let was = all.filter_map(|key| Some((key.clone(), model.at(key, at.unsigned_abs())?)));
        Ok(was.collect())
    }

    /// What a compare finds in this group.
    fn look(&self, compare: &Compare, world: &World) -> Result<Compared, Trouble> {
        let Some(span) = &compare.span else {
            return Ok(Compared::default());
        };
        let found = self.find(span, 0, world)?;
        Ok(Compared {
            keys: found.len() as u64,
            failed: found.values().any(|record| !fits(compare, record)),
        })
    }

    /// The same of all compares of a tree.
    pub(super) fn look_all(&self, tree: &Txn, world: &World) -> Result<Vec<Compared>, Trouble> {
        let own = tree
            .compares
            .iter()
            .map(|compare| self.look(compare, world));
        let mut all = own.collect::<Result<Vec<_>, _>>()?;
        for operation in tree.then.iter().chain(&tree.otherwise) {
            if let Some(Asked::Txn(inner)) = &operation.operation {
                all.extend(self.look_all(inner, world)?);
            }
        }
        Ok(all)
    }

    /// Whether a compare holds where this group is all there is.
    pub(super) fn holds(&self, compare: &Compare, world: &World) -> Result<bool, Trouble> {
        let found = self.look(compare, world)?;
        Ok(match &compare.target {
            None => false,
            Some(Target::Count(count)) => related(compare.relation(), found.keys.cmp(count)),
            Some(Target::Value(_) | Target::Number(_)) if found.keys == 0 => false,
            // A key that isn't there has the version 0, and so on.
            Some(_) if found.keys == 0 => fits(compare, &Record::default()),
            Some(_) => !found.failed,
        })
    }

    /// What a read of a range answers where this group is all there is.
    pub(super) fn read(&self, range: &RangeRead, world: &World) -> Result<Ranged, Trouble> {
        let Some(span) = &range.span else {
            return Ok(Ranged::default());
        };
        let found = self.find(span, range.revision, world)?;
        let mut count = found.len() as u64;
        let first = first_only(range);
        if range.uncounted && !range.count_only && first {
            count = count.min(range.limit.saturating_add(1));
        }
        if range.count_only {
            return Ok(Ranged {
                count,
                ..Ranged::default()
            });
        }
        let mut items: Vec<Item> = found.into_iter().map(item).collect();
        items.retain(|item| passes(range.filter.as_ref(), item));
        let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
        if first {
            items.truncate(limit.saturating_add(1));
        }
        order(range, &mut items);
        let more = limit > 0 && items.len() > limit;
        if more {
            items.truncate(limit);
        }
        if range.keys_only {
            for item in &mut items {
                let record = item.record.take();
                item.record = record.map(|record| Record {
                    value: Bytes::new(),
                    ..record
                });
            }
        }
        Ok(Ranged { items, count, more })
    }

    /// What this group gives to an answer of several: all that may be in it.
    pub(super) fn share(&self, range: &RangeRead, world: &World) -> Result<Ranged, Trouble> {
        if range.count_only || !first_only(range) {
            let whole = RangeRead {
                keys_only: false,
                ..range.clone()
            };
            return self.read(&whole, world);
        }
        let Some(span) = &range.span else {
            return Ok(Ranged::default());
        };
        let found = self.find(span, range.revision, world)?;
        let mut count = found.len() as u64;
        if range.uncounted {
            count = count.min(range.limit.saturating_add(1));
        }
        let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
        let items = found.into_iter().map(item);
        Ok(Ranged {
            items: items.take(limit.saturating_add(1)).collect(),
            count,
            more: false,
        })
    }
}

fn item((key, record): (Bytes, Record)) -> Item {
    Item {
        key,
        record: Some(record),
    }
}

/// Whether only the first keys count, whatever the order is by.
fn first_only(range: &RangeRead) -> bool {
    range.order() == Order::Unsorted && range.filter.is_none() && range.limit > 0
}

fn passes(filter: Option<&Filter>, item: &Item) -> bool {
    let (Some(filter), Some(record)) = (filter, &item.record) else {
        return true;
    };
    let low = record.mod_revision < filter.mod_min || record.create_revision < filter.create_min;
    let above = |value: u64, most: u64| most != 0 && value > most;
    let high = above(record.mod_revision, filter.mod_max)
        || above(record.create_revision, filter.create_max);
    !low && !high
}

/// Equals stay in the order of keys.
fn order(range: &RangeRead, items: &mut [Item]) {
    let by = |item: &Item| {
        let record = item.record.clone().unwrap_or_default();
        match range.target() {
            By::Key => (0, item.key.clone()),
            By::Version => (record.version, Bytes::new()),
            By::Create => (record.create_revision, Bytes::new()),
            By::Mod => (record.mod_revision, Bytes::new()),
            By::Value => (0, record.value),
        }
    };
    match range.order() {
        Order::Descend => items.sort_by_key(|item| std::cmp::Reverse(by(item))),
        Order::Unsorted | Order::Ascend => items.sort_by_key(by),
    }
}

fn fits(compare: &Compare, record: &Record) -> bool {
    let of = |mine: u64, theirs: &i64| i128::from(mine).cmp(&i128::from(*theirs));
    let ordering = match &compare.target {
        Some(Target::Version(version)) => of(record.version, version),
        Some(Target::CreateRevision(revision)) => of(record.create_revision, revision),
        Some(Target::ModRevision(revision)) => of(record.mod_revision, revision),
        Some(Target::Lease(lease)) => of(record.lease, lease),
        Some(Target::Value(value)) => record.value.cmp(value),
        Some(Target::Number(number)) => match number_of(&record.value) {
            Some(mine) => mine.cmp(number),
            None => return false,
        },
        Some(Target::Count(_)) => return true,
        None => return false,
    };
    related(compare.relation(), ordering)
}

fn related(relation: Relation, ordering: Ordering) -> bool {
    matches!(
        (relation, ordering),
        (Relation::Equal, Ordering::Equal)
            | (Relation::Greater, Ordering::Greater)
            | (Relation::Less, Ordering::Less)
            | (Relation::NotEqual, Ordering::Greater | Ordering::Less)
    )
}

/// The number that a value is: the one that is written so.
pub(super) fn number_of(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
