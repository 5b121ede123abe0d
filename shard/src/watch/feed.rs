//! What has changed in a group, in the order of revisions, for those who watch.
//!
//! ```text
//!  apply, in the order of the log ─▶ held ──(frontier passes)──▶ ring, by revision ─▶ watchers
//!                                                                  └ older ones: the index of changes
//! ```
//!
//! A transaction that is prepared commits later, at a revision that may be lower than what is applied
//! meanwhile. So changes above the *frontier* are held: it is the highest revision applied, or what that
//! was when the oldest undecided Prepare was applied (protocols.md §7). The frontier follows from the log
//! alone; so it may be told by any replica, also by a deposed leader. The leader can raise the position
//! further with a mark (`watch/mark.rs`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::watch;

/// One change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Bytes,
    /// The new record, encoded; `None`: the key was deleted.
    pub(crate) record: Option<Bytes>,
    /// The record before, encoded; `None`: there was none.
    pub(crate) previous: Option<Bytes>,
}

impl Change {
    /// What it takes of memory, about.
    pub(crate) fn size(&self) -> usize {
        let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        128 + self.key.len() + size(&self.record) + size(&self.previous)
    }
}

/// Bytes of changes that the ring keeps.
const RING_BYTES_MAX: usize = 1 << 20;
/// Bytes of changes that wait for the frontier.
const HELD_BYTES_MAX: usize = 4 << 20;

/// The changes of one replica.
#[derive(Debug)]
pub(crate) struct Feed {
    inner: Mutex<Inner>,
    position: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    ring: VecDeque<Arc<Change>>,
    ring_bytes: usize,
    /// All changes above this and up to the position are in the ring.
    from: u64,
    /// Above the position, in the order of the log.
    held: Vec<Arc<Change>>,
    held_bytes: usize,
    /// There was no room for changes up to this revision: until the position has passed it, the ring
    /// is no use.
    lost: Option<u64>,
    /// No change at or below it follows.
    position: u64,
}

/// The changes after a revision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// All of them, up to a position.
    Changes(Vec<Arc<Change>>, u64),
    /// Some aren't in memory any more; the index has them.
    Older,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed {
            inner: Mutex::default(),
            position: watch::channel(0).0,
        }
    }
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic under this lock")
    }

    /// No change at or below it follows.
    pub(crate) fn position(&self) -> u64 {
        self.lock().position
    }

    /// Tells of each rise of the position.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.position.subscribe()
    }

    /// The state was read anew, with all up to `highest` applied: what memory has of it is of no use. Changes
    /// between the frontier and that were applied before, and won't come here when the frontier passes.
    pub(crate) fn begin(&self, frontier: u64, highest: u64) {
        let mut inner = self.lock();
        let position = inner.position.max(frontier);
        *inner = Inner {
            from: position,
            position,
            lost: Some(highest).filter(|highest| *highest > position),
            ..Inner::default()
        };
        drop(inner);
        self.tell(position);
    }

    /// Takes what a round of applies has changed; to be called after the engine has it.
    pub(crate) fn push(&self, changes: impl Iterator<Item = Change>, frontier: u64) {
        let mut inner = self.lock();
        for change in changes {
            inner.held_bytes += change.size();
            inner.held.push(Arc::new(change));
        }
        if inner.held_bytes > HELD_BYTES_MAX {
            inner.lose();
        }
        let position = inner.advance(frontier);
        drop(inner);
        self.tell(position);
    }

    /// Nothing at or below `revision` follows, for another reason than the frontier.
    pub(crate) fn mark(&self, revision: u64) {
        let position = self.lock().advance(revision);
        self.tell(position);
    }

    fn tell(&self, position: u64) {
        self.position.send_if_modified(|told| {
            let rises = *told < position;
            *told = position.max(*told);
            rises
        });
    }

    /// The changes above a revision, up to the position.
    pub(crate) fn since(&self, after: u64) -> Since {
        let inner = self.lock();
        if after >= inner.position {
            return Since::Changes(Vec::new(), inner.position);
        }
        if inner.lost.is_some() || after < inner.from {
            return Since::Older;
        }
        let first = inner
            .ring
            .partition_point(|change| change.revision <= after);
        let changes = inner.ring.range(first..).cloned().collect();
        Since::Changes(changes, inner.position)
    }
}

impl Inner {
    fn lose(&mut self) {
        let highest = self.held.iter().map(|change| change.revision).max();
        self.lost = self.lost.max(highest);
        self.held.clear();
        self.held_bytes = 0;
        self.ring.clear();
        self.ring_bytes = 0;
    }

    /// Releases what the new position covers.
    fn advance(&mut self, to: u64) -> u64 {
        if to <= self.position {
            return self.position;
        }
        self.position = to;
        let held = std::mem::take(&mut self.held);
        let (mut released, held): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|change| change.revision <= to);
        self.held_bytes = held.iter().map(|change| change.size()).sum();
        self.held = held;
        match self.lost {
            None => {
                // Mostly they are in order already.
                released.sort_by_key(|change| change.revision);
                for change in released {
                    self.ring_bytes += change.size();
                    self.ring.push_back(change);
                }
                self.trim();
            }
            Some(lost) if lost <= to => {
                self.lost = None;
                self.from = to;
            }
            Some(_) => {}
        }
        to
    }

    /// Drops the oldest, whole revisions only.
    fn trim(&mut self) {
        while self.ring_bytes > RING_BYTES_MAX
            && let Some(oldest) = self.ring.pop_front()
        {
            self.ring_bytes -= oldest.size();
            self.from = oldest.revision;
        }
        while let Some(oldest) = self.ring.front()
            && oldest.revision <= self.from
            && let Some(oldest) = self.ring.pop_front()
        {
            self.ring_bytes -= oldest.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, size: usize) -> Change {
        Change {
            revision,
            key: Bytes::from_static(b"k"),
            record: Some(vec![0; size].into()),
            previous: None,
        }
    }

    fn push(feed: &Feed, revisions: &[u64], frontier: u64) {
        feed.push(
            revisions.iter().map(|revision| change(*revision, 1)),
            frontier,
        );
    }

    fn since(feed: &Feed, after: u64) -> Option<(Vec<u64>, u64)> {
        match feed.since(after) {
            Since::Changes(changes, position) => {
                Some((changes.iter().map(|c| c.revision).collect(), position))
            }
            Since::Older => None,
        }
    }

    #[test]
    fn changes_come_in_the_order_of_revisions() {
        let feed = Feed::default();
        feed.begin(10, 10);
        // A transaction was prepared at 12: what comes above is held.
        push(&feed, &[11], 11);
        push(&feed, &[15, 16], 11);
        assert_eq!(since(&feed, 10), Some((vec![11], 11)));
        // It commits at 14.
        push(&feed, &[14, 14], 16);
        assert_eq!(since(&feed, 10), Some((vec![11, 14, 14, 15, 16], 16)));
        assert_eq!(since(&feed, 14), Some((vec![15, 16], 16)));
        assert_eq!(since(&feed, 16), Some((vec![], 16)));
        assert_eq!(since(&feed, 20), Some((vec![], 16)));
        assert_eq!(since(&feed, 9), None, "memory begins at 10");
    }

    #[test]
    fn a_mark_raises_the_position_and_nothing_lowers_it() {
        let feed = Feed::default();
        let mut seen = feed.watch();
        feed.begin(10, 10);
        feed.mark(20);
        assert_eq!(*seen.borrow_and_update(), 20);
        push(&feed, &[21, 22], 22);
        feed.mark(15);
        assert_eq!(since(&feed, 10), Some((vec![21, 22], 22)));
        feed.begin(5, 5);
        assert_eq!(feed.position(), 22);
        assert_eq!(since(&feed, 21), None);
    }

    #[test]
    fn the_ring_drops_the_oldest_and_says_so() {
        let feed = Feed::default();
        feed.begin(0, 0);
        let size = RING_BYTES_MAX / 4;
        for revision in 1..=8 {
            feed.push(
                [change(revision, size), change(revision, 1)].into_iter(),
                revision,
            );
        }
        assert_eq!(since(&feed, 4), None);
        assert_eq!(since(&feed, 5), Some((vec![6, 6, 7, 7, 8, 8], 8)));
        assert!(feed.lock().ring_bytes <= RING_BYTES_MAX);
    }

    #[test]
    fn what_was_applied_before_the_start_is_left_to_the_index() {
        let feed = Feed::default();
        // A transaction was prepared at 5, and 8 applied, before the node started again.
        feed.begin(5, 8);
        push(&feed, &[9], 5);
        // It commits at 7.
        push(&feed, &[7], 9);
        assert_eq!(since(&feed, 5), None, "8 isn't here");
        assert_eq!(since(&feed, 9), Some((vec![], 9)));
        push(&feed, &[10], 10);
        assert_eq!(since(&feed, 9), Some((vec![10], 10)));
    }

    #[test]
    fn what_waits_for_too_long_is_left_to_the_index() {
        let feed = Feed::default();
        feed.begin(0, 0);
        for revision in 5..=10 {
            feed.push([change(revision, HELD_BYTES_MAX / 4)].into_iter(), 0);
        }
        assert_eq!(feed.lock().lost, Some(8));
        feed.push([change(3, 1)].into_iter(), 6);
        assert_eq!(since(&feed, 4), None);
        push(&feed, &[11], 11);
        assert_eq!(since(&feed, 10), None, "what passed with the lost ones too");
        push(&feed, &[12], 12);
        assert_eq!(since(&feed, 11), Some((vec![12], 12)));
    }
}
