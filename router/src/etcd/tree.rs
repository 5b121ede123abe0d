//! etcd's transactions as the groups' own.

use bytes::Bytes;
use caucus_api::shard::compare::{Relation, Target};
use caucus_api::shard::operation::Operation as Kind;
use caucus_api::shard::range_read::{Order, Target as SortBy};
use caucus_api::shard::{Compare, Filter, Operation, Place, Put, RangeRead, Remove, Span, Txn};
use caucus_etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use caucus_etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use caucus_etcd::etcdserverpb::request_op::Request;
use caucus_etcd::etcdserverpb::{self as etcd, RangeRequest, RequestOp, TxnRequest};

/// The whole tree.
pub(super) fn txn(request: &TxnRequest) -> Txn {
    Txn {
        compares: request.compare.iter().filter_map(compare).collect(),
        then: request.success.iter().map(operation).collect(),
        otherwise: request.failure.iter().map(operation).collect(),
    }
}

/// The keys from `key` to `range_end` as etcd writes them: no end is the key itself, an end of one zero
/// byte is the end of all keys.
pub(super) fn span(key: &Bytes, range_end: &Bytes) -> Span {
    Span {
        start: key.clone(),
        end: match range_end.as_ref() {
            [0] => Bytes::new(),
            _ => range_end.clone(),
        },
        range: !range_end.is_empty(),
        vnodes: Bytes::new(),
    }
}

/// What a read asks for besides its span.
pub(super) fn range(request: &RangeRequest) -> RangeRead {
    let order = match request.sort_order() {
        SortOrder::None => Order::Unsorted,
        SortOrder::Ascend => Order::Ascend,
        SortOrder::Descend => Order::Descend,
    };
    let target = match request.sort_target() {
        SortTarget::Key => SortBy::Key,
        SortTarget::Version => SortBy::Version,
        SortTarget::Create => SortBy::Create,
        SortTarget::Mod => SortBy::Mod,
        SortTarget::Value => SortBy::Value,
    };
    RangeRead {
        span: Some(span(&request.key, &request.range_end)),
        revision: request.revision,
        limit: positive(request.limit),
        order: order.into(),
        target: target.into(),
        keys_only: request.keys_only,
        count_only: request.count_only,
        filter: filter(request),
        uncounted: false,
    }
}

fn filter(request: &RangeRequest) -> Option<Filter> {
    let filter = Filter {
        mod_min: positive(request.min_mod_revision),
        mod_max: maximum(request.max_mod_revision),
        create_min: positive(request.min_create_revision),
        create_max: maximum(request.max_create_revision),
    };
    (filter != Filter::default()).then_some(filter)
}

/// What isn't above 0 asks for nothing.
fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// As [`positive`]; but no record is at or below a maximum under 0, and none is at 1 either, the revision
/// of the empty store.
fn maximum(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(1)
}

/// `None` for one that etcd takes as true.
fn compare(compare: &etcd::Compare) -> Option<Compare> {
    let relation = match CompareResult::try_from(compare.result).ok()? {
        CompareResult::Equal => Relation::Equal,
        CompareResult::Greater => Relation::Greater,
        CompareResult::Less => Relation::Less,
        CompareResult::NotEqual => Relation::NotEqual,
    };
    let union = compare.target_union.as_ref();
    // A number of another kind than the target's, or none, is 0.
    let number = |of: fn(&TargetUnion) -> Option<i64>| union.and_then(of).unwrap_or(0);
    let target = match CompareTarget::try_from(compare.target).ok()? {
        CompareTarget::Version => Target::Version(number(|union| match union {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        })),
        CompareTarget::Create => Target::CreateRevision(number(|union| match union {
            TargetUnion::CreateRevision(revision) => Some(*revision),
            _ => None,
        })),
        CompareTarget::Mod => Target::ModRevision(number(|union| match union {
            TargetUnion::ModRevision(revision) => Some(*revision),
            _ => None,
        })),
        CompareTarget::Lease => Target::Lease(number(|union| match union {
            TargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        })),
        CompareTarget::Value => Target::Value(match union {
            Some(TargetUnion::Value(value)) => value.clone(),
            Some(_) | None => Bytes::new(),
        }),
    };
    Some(Compare {
        span: Some(span(&compare.key, &compare.range_end)),
        relation: relation.into(),
        target: Some(target),
    })
}

fn operation(op: &RequestOp) -> Operation {
    let operation = op.request.as_ref().map(|request| match request {
        Request::RequestRange(request) => Kind::Range(range(request)),
        Request::RequestPut(request) => Kind::Place(Place {
            key: request.key.clone(),
            put: Some(Put {
                value: request.value.clone(),
                content_type: String::new(),
                lease: request.lease as u64,
                ..Put::default()
            }),
            keep_value: request.ignore_value,
            keep_lease: request.ignore_lease,
            previous: request.prev_kv,
        }),
        Request::RequestDeleteRange(request) => Kind::Remove(Remove {
            span: Some(span(&request.key, &request.range_end)),
            previous: request.prev_kv,
            ..Remove::default()
        }),
        Request::RequestTxn(request) => Kind::Txn(txn(request)),
    });
    Operation { operation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_etcd() {
        let of = |key: &'static [u8], end: &'static [u8]| {
            let span = span(&Bytes::from_static(key), &Bytes::from_static(end));
            (span.range, span.end)
        };
        assert_eq!(of(b"a", b""), (false, Bytes::new()));
        assert_eq!(of(b"a", b"b"), (true, Bytes::from_static(b"b")));
        assert_eq!(of(b"a", b"\0"), (true, Bytes::new()));
    }

    #[test]
    fn a_compare_with_another_kind_of_number_is_one_with_zero() {
        let mut asked = etcd::Compare {
            key: Bytes::from_static(b"k"),
            target: CompareTarget::Version.into(),
            target_union: Some(TargetUnion::ModRevision(7)),
            ..etcd::Compare::default()
        };
        let target = |asked: &etcd::Compare| compare(asked).and_then(|compare| compare.target);
        assert_eq!(target(&asked), Some(Target::Version(0)));
        asked.target_union = Some(TargetUnion::Version(7));
        assert_eq!(target(&asked), Some(Target::Version(7)));
        asked.target = 17;
        assert_eq!(target(&asked), None, "etcd takes it as true");
    }
}
