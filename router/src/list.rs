//! Listings: one question to each group that can hold keys of the range, one merged page.

use std::sync::Arc;

use bytes::Bytes;
use caucus_api::limits::PAGE_BYTES_MAX;
use caucus_api::shard::reply::Body as Answer;
use caucus_api::shard::request::Body;
use caucus_api::shard::{self, Filter, Item, Reply};
use caucus_planted as planted;
use caucus_ring::{GroupId, Revision, VnodeSet};
use futures::future::try_join_all;
use tokio::time::{Instant, sleep};

use crate::attempt::{Stop, Target};
use crate::merge::merge;
use crate::retry::{Retry, Step, Stumble};
use crate::route::Table;
use crate::router::nonsense;
use crate::{Error, Outcome, Router};

/// No group's part of a page is smaller than this.
const GROUP_BYTES_MIN: usize = 64 << 10;

/// Which keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The first key.
    pub start: Bytes,
    /// The first key after the range; empty: no end.
    pub end: Bytes,
    /// Items of the page, folded ones included.
    pub limit: usize,
    /// Records without their values.
    pub keys_only: bool,
    /// Keys that hold this after the first `prefix_length` bytes are folded; empty: none are.
    pub delimiter: Bytes,
    /// How many bytes of `start` all keys have in common.
    pub prefix_length: usize,
    /// As of this revision: one snapshot of all groups. `None`: as each group is.
    pub revision: Option<Revision>,
    /// Only records within these bounds, whatever their keys.
    pub filter: Option<Filter>,
    /// Count all keys from `start` on, also those beyond the page and outside the filter.
    pub count: bool,
    /// Nothing but the count.
    pub count_only: bool,
    /// The hash of all records of the range as well.
    pub hash: bool,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// In ascending order; folded prefixes have no record.
    pub items: Vec<Item>,
    /// Where the next page starts; `None`: this was the last.
    pub next: Option<Bytes>,
    /// All changes up to this revision are in what was read.
    pub revision: Revision,
    /// Keys of the range, if that was asked for.
    pub count: u64,
    /// The sum of the hashes of all records of the range, if that was asked for.
    pub hash: u64,
    /// The highest revision below which nothing can be read in some group that was asked.
    pub compacted: Revision,
}

impl Router {
    /// Reads a page of a range, from all groups that can hold keys of it.
    ///
    /// Each group is read linearizably, but not all at one revision; so the page's revision is the
    /// smallest of theirs: whoever goes on from there misses nothing. It is never below `at_least`, nor
    /// below what the groups that were asked first showed. With a revision in the listing, all are read
    /// as of that.
    pub async fn list(
        &self,
        listing: &Listing,
        at_least: Revision,
        deadline: Instant,
    ) -> Result<Page, Error> {
        if let Some(revision) = listing.revision {
            self.check_granted(revision, deadline).await?;
        }
        let mut retry = Retry::new(false, listing.start.len() as u64);
        loop {
            let stumble = match self.table() {
                None => Stumble::NoGroup,
                Some(table) => {
                    match self.list_groups(&table, listing, at_least, deadline).await {
                        Ok(replies) => {
                            let mut page = page(replies, listing.limit, at_least)?;
                            page.revision = listing.revision.unwrap_or(page.revision);
                            return Ok(page);
                        }
                        Err(Stop::Failed(error)) => return Err(error),
                        // It has waited for the map already; this counts the turn.
                        Err(Stop::Stale) => Stumble::NoGroup,
                    }
                }
            };
            match retry.step(stumble, Instant::now(), deadline) {
                Step::GiveUp(error) => return Err(error),
                Step::Refresh(_, pause) | Step::Pause(pause) => sleep(pause).await,
                Step::Redirect(_) => {}
            }
        }
    }

    /// Asks every group of the range. A group answers with its own highest revision, which may lie far
    /// below what another one shows, and nothing says then that it is complete up to there: it is asked
    /// once more, for an answer at or above that.
    async fn list_groups(
        &self,
        table: &Arc<Table>,
        listing: &Listing,
        at_least: Revision,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Stop> {
        let vnodes = table.map().route_range(&listing.start, &listing.end);
        let mut groups = table.map().split_by_group(&vnodes);
        if groups.is_empty() && listing.revision.is_some() {
            // Whether that revision is kept is told even of a range that can't hold anything.
            let any = table.groups().iter().find(|group| group.can_serve());
            groups.extend(any.map(|group| (group.id(), VnodeSet::new())));
        }
        let parts = groups.len();
        let ask = &|(group, vnodes), at_least| {
            self.list_group(table, group, vnodes, parts, listing, at_least, deadline)
        };
        let first = groups.iter().cloned().map(|group| ask(group, at_least));
        let mut replies = try_join_all(first).await?;
        if listing.revision.is_some() {
            return Ok(replies);
        }
        let newest = replies.iter().filter_map(newest_item).max().unwrap_or(0);
        let asked = replies.iter_mut().zip(groups);
        let behind = asked.filter(|(reply, _)| reply.revision < newest);
        let again = behind.map(|(reply, group)| async move {
            *reply = ask(group, Revision(newest)).await?;
            Ok::<(), Stop>(())
        });
        try_join_all(again).await?;
        Ok(replies)
    }

    #[allow(clippy::too_many_arguments)]
    async fn list_group(
        &self,
        table: &Arc<Table>,
        group: GroupId,
        vnodes: VnodeSet,
        parts: usize,
        listing: &Listing,
        at_least: Revision,
        deadline: Instant,
    ) -> Result<Reply, Stop> {
        let body = Body::List(shard::List {
            start: listing.start.clone(),
            end: listing.end.clone(),
            vnodes: vnodes.to_packed().into(),
            // Any one group may hold the whole page.
            limit: listing.limit as u32,
            keys_only: listing.keys_only,
            delimiter: listing.delimiter.clone(),
            prefix_length: listing.prefix_length as u32,
            bytes_max: (PAGE_BYTES_MAX / parts).max(GROUP_BYTES_MIN) as u32,
            revision: match planted::is(planted::LISTING_NOT_AT_REVISION) {
                true => 0,
                false => listing.revision.map_or(0, |revision| revision.0),
            },
            filter: listing.filter,
            count: listing.count,
            count_only: listing.count_only,
            hash: listing.hash,
        });
        let retry = Retry::new(false, u64::from(group.0));
        let target = Target::Group(table, group);
        self.run_target(target, &body, at_least.0, retry, deadline, None)
            .await
    }
}

/// The revision of the newest key that a group listed.
fn newest_item(reply: &Reply) -> Option<u64> {
    let Some(Answer::Listed(listed)) = &reply.body else {
        return None;
    };
    let records = listed.items.iter().filter_map(|item| item.record.as_ref());
    records.map(|record| record.mod_revision).max()
}

fn page(replies: Vec<Reply>, limit: usize, at_least: Revision) -> Result<Page, Error> {
    let revision = replies.iter().map(|reply| reply.revision).min();
    let mut pages = Vec::with_capacity(replies.len());
    let (mut count, mut hash, mut compacted) = (0, 0_u64, 0);
    for reply in replies {
        match reply.body {
            Some(Answer::Listed(listed)) => {
                count += listed.count;
                hash = hash.wrapping_add(listed.hash);
                compacted = listed.compacted.max(compacted);
                pages.push(listed);
            }
            Some(_) | None => return Err(nonsense(Outcome::Read)),
        }
    }
    let merged = merge(pages, limit).ok_or_else(|| nonsense(Outcome::Read))?;
    Ok(Page {
        items: merged.items,
        next: merged.next,
        revision: revision.map_or(at_least, Revision),
        count,
        hash,
        compacted: Revision(compacted),
    })
}
