//! Reads of ranges.

use caucus_api::arrange::{arrange, cuts_first};
use caucus_api::limits::PAGE_KEYS_MAX;
use caucus_api::shard::range_read::{Order, Target};
use caucus_api::shard::{Item, RangeRead, Ranged};
use caucus_etcd::etcdserverpb::RangeRequest;
use caucus_ring::Revision;
use tokio::time::Instant;
use tonic::Status;

use super::reply::refused;
use super::tree;
use crate::{Listing, Router};

/// Keys and values of one answer, which is one message. etcd has no limit of its own; its clients read
/// up to 2 GiB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Reads one key, and the revision for the header.
pub(super) async fn one(
    router: &Router,
    request: &RangeRequest,
    at: u64,
    current: Revision,
    deadline: Instant,
) -> Result<(Ranged, Revision), Status> {
    let key = request.key.clone();
    let head = request.keys_only || request.count_only;
    let at = (at > 0).then_some(Revision(at));
    let read = router.get_at(key.clone(), head, at, current, deadline);
    let read = read.await.map_err(refused)?;
    let record = read.record;
    let count = u64::from(record.is_some());
    let items = record.map(|record| Item {
        key,
        record: Some(record),
    });
    let asked = tree::range(request);
    let ranged = arrange(&asked, items.into_iter().collect(), count);
    Ok((ranged, read.revision))
}

/// Reads a range in all groups at one revision, which is that of the header unless it lies in the past.
pub(super) async fn many(
    router: &Router,
    request: &RangeRequest,
    at: u64,
    current: Revision,
    deadline: Instant,
) -> Result<(Ranged, Revision), Status> {
    let asked = tree::range(request);
    let at = match at {
        0 => current,
        at => Revision(at),
    };
    let in_order = asked.target() == Target::Key && asked.order() != Order::Descend;
    let wanted = match usize::try_from(asked.limit) {
        // One more, to know whether there are more.
        Ok(limit) if limit > 0 && (in_order || cuts_first(&asked)) => limit.saturating_add(1),
        Ok(_) | Err(_) => usize::MAX,
    };
    let by_value = asked.target() == Target::Value;
    let span = asked.span.clone().unwrap_or_default();
    let mut listing = Listing {
        start: span.start,
        end: span.end,
        keys_only: request.keys_only && !by_value,
        revision: Some(at),
        filter: asked.filter,
        count: true,
        count_only: request.count_only,
        ..Listing::default()
    };
    let mut items = Vec::new();
    let mut count = None;
    let mut bytes = 0;
    loop {
        listing.limit = (wanted - items.len()).min(PAGE_KEYS_MAX);
        let page = router.list(&listing, current, deadline).await;
        let page = page.map_err(refused)?;
        count.get_or_insert(page.count);
        bytes += page.items.iter().map(size).sum::<usize>();
        if bytes > ANSWER_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "caucus: an answer has at most {ANSWER_BYTES_MAX} bytes; ask with a limit"
            )));
        }
        items.extend(page.items);
        match page.next {
            Some(next) if items.len() < wanted => listing.start = next,
            Some(_) | None => break,
        }
        listing.count = false;
    }
    let ranged = cut(&asked, items, count.unwrap_or(0), in_order);
    Ok((ranged, current))
}

/// What is in order already is only cut.
fn cut(asked: &RangeRead, mut items: Vec<Item>, count: u64, in_order: bool) -> Ranged {
    if !in_order {
        let mut ranged = arrange(asked, items, count);
        if asked.keys_only {
            let records = ranged.items.iter_mut();
            let records = records.filter_map(|item| item.record.as_mut());
            records.for_each(|record| record.value.clear());
        }
        return ranged;
    }
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let more = limit > 0 && items.len() > limit;
    if more {
        items.truncate(limit);
    }
    Ranged { items, count, more }
}

fn size(item: &Item) -> usize {
    let value = item.record.as_ref().map_or(0, |record| record.value.len());
    item.key.len() + value
}
