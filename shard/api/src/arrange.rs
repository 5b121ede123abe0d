//! What a read of a range makes of the records that it found. Pure, and the same in a transaction and
//! in a router.

use std::cmp::Ordering;

use crate::shard::range_read::{Order, Target};
use crate::shard::{Filter, Item, RangeRead, Ranged};

/// Filters, sorts and cuts what was found, in the order in which etcd does it: the limit counts what
/// the filter leaves. `count` is that of the whole span.
pub fn arrange(range: &RangeRead, mut items: Vec<Item>, count: u64) -> Ranged {
    if range.count_only {
        return Ranged {
            count,
            ..Ranged::default()
        };
    }
    if let Some(filter) = &range.filter {
        items.retain(|item| passes(filter, item));
    }
    if cuts_first(range) {
        first(range, &mut items);
    }
    sort(range, &mut items);
    let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
    let more = limit > 0 && items.len() > limit;
    if more {
        items.truncate(limit);
    }
    Ranged { items, count, more }
}

/// What one group of several gives to [`arrange`]: enough for any answer.
pub fn part(range: &RangeRead, mut items: Vec<Item>, count: u64) -> Ranged {
    if range.count_only || !cuts_first(range) {
        return arrange(range, items, count);
    }
    first(range, &mut items);
    Ranged {
        items,
        count,
        more: false,
    }
}

/// Where no order is asked for, etcd takes one key more than the limit in the order of keys, sorts these,
/// and drops the last.
pub fn cuts_first(range: &RangeRead) -> bool {
    range.order() == Order::Unsorted && range.filter.is_none() && range.limit > 0
}

/// How many keys of the span have to be looked at; `None`: all.
pub fn enough(range: &RangeRead) -> Option<usize> {
    let cut = range.uncounted && !range.count_only && cuts_first(range);
    let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
    cut.then(|| limit.saturating_add(1))
}

fn first(range: &RangeRead, items: &mut Vec<Item>) {
    items.sort_by(|a, b| a.key.cmp(&b.key));
    let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
    items.truncate(limit.saturating_add(1));
}

/// Whether a record lies within a filter's bounds.
pub fn passes(filter: &Filter, item: &Item) -> bool {
    let Some(record) = &item.record else {
        return true;
    };
    let within = |value: u64, min: u64, max: u64| value >= min && (max == 0 || value <= max);
    within(record.mod_revision, filter.mod_min, filter.mod_max)
        && within(record.create_revision, filter.create_min, filter.create_max)
}

fn sort(range: &RangeRead, items: &mut [Item]) {
    let by = |a: &Item, b: &Item| -> Ordering {
        let (one, other) = (a.record.as_ref(), b.record.as_ref());
        let (Some(one), Some(other)) = (one, other) else {
            return a.key.cmp(&b.key);
        };
        match range.target() {
            Target::Key => a.key.cmp(&b.key),
            Target::Version => one.version.cmp(&other.version),
            Target::Create => one.create_revision.cmp(&other.create_revision),
            Target::Mod => one.mod_revision.cmp(&other.mod_revision),
            Target::Value => one.value.cmp(&other.value),
        }
    };
    // By key first: equals keep that order, so the answer doesn't depend on which group was first.
    items.sort_by(|a, b| a.key.cmp(&b.key));
    match range.order() {
        Order::Unsorted if range.target() == Target::Key => {}
        Order::Unsorted | Order::Ascend => items.sort_by(by),
        Order::Descend => items.sort_by(|a, b| by(b, a)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::shard::Record;

    /// `a3` is key `a` at revision 3 with value `3`.
    fn items(text: &str) -> Vec<Item> {
        let item = |word: &str| {
            let (key, revision) = word.split_at(1);
            Item {
                key: Bytes::copy_from_slice(key.as_bytes()),
                record: Some(Record {
                    mod_revision: revision.parse().unwrap(),
                    value: Bytes::copy_from_slice(revision.as_bytes()),
                    ..Record::default()
                }),
            }
        };
        text.split_whitespace().map(item).collect()
    }

    fn arranged(
        order: Order,
        target: Target,
        limit: u64,
        filter: Option<Filter>,
    ) -> (String, bool) {
        let asked = RangeRead {
            order: order.into(),
            target: target.into(),
            limit,
            filter,
            ..RangeRead::default()
        };
        let ranged = arrange(&asked, items("c5 a9 d7 b7"), 4);
        assert_eq!(ranged.count, 4);
        let keys = ranged.items.iter().map(|item| item.key[0] as char);
        (keys.collect(), ranged.more)
    }

    #[test]
    fn sorted_filtered_and_cut_in_this_order() {
        let all = |order, target| arranged(order, target, 0, None).0;
        assert_eq!(all(Order::Unsorted, Target::Key), "abcd");
        assert_eq!(all(Order::Descend, Target::Key), "dcba");
        assert_eq!(all(Order::Unsorted, Target::Mod), "cbda");
        assert_eq!(all(Order::Ascend, Target::Value), "cbda");
        assert_eq!(all(Order::Descend, Target::Mod), "abdc");
        // The first three keys, sorted, without the last of them.
        let unsorted = arranged(Order::Unsorted, Target::Mod, 2, None);
        assert_eq!(unsorted, ("cb".to_owned(), true));
        let filter = Filter {
            mod_min: 6,
            mod_max: 8,
            ..Filter::default()
        };
        let cut = |limit| arranged(Order::Ascend, Target::Key, limit, Some(filter));
        assert_eq!(cut(2), ("bd".to_owned(), false));
        assert_eq!(cut(1), ("b".to_owned(), true));
    }
}
