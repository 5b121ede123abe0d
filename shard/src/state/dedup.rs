//! What the group remembers of requests, so that each id executes at most once.
//!
//! The rule (protocols.md §3): nothing is forgotten before everything that could still name it is
//! refused. An outcome is forgotten when its session said that it is finished, and from then on the
//! session's sequences below are refused; or when the table is full, and then the *request floor* rises
//! to the revision of what is forgotten: a request stamped below it is refused, and one stamped at or
//! above it can't have been executed by then. A session is forgotten when all its stamps lie below the
//! floor and no entry that is still stored names it: what a replica reads when it starts must be what
//! another one, which didn't stop, remembers.
//!
//! Pure: changes are returned, not written.

use std::collections::{BTreeMap, HashMap};

use caucus_api::shard::{Outcome, RequestId, SessionProgress};
use caucus_planted as planted;

use super::record::{DedupItem, DedupRecord, SessionRecord};

/// Outcomes that a group remembers at most.
pub(super) const ITEMS_MAX: usize = 100_000;

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Known {
    /// It was never executed here.
    Fresh,
    /// It was, with this outcome.
    Done(Outcome),
    /// It may have been; the group doesn't know any more.
    Expired,
}

/// What changed in the table besides what was recorded.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Forgotten {
    /// Entries all of whose items are forgotten.
    pub(super) entries: Vec<u64>,
    /// Sessions that are forgotten.
    pub(super) sessions: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Dedup {
    sessions: HashMap<u64, Session>,
    /// By log index: items still remembered, and the highest revision among all.
    entries: BTreeMap<u64, Entry>,
    items: usize,
    items_max: usize,
    floor: u64,
}

#[derive(Debug, Default)]
struct Session {
    record: SessionRecord,
    items: BTreeMap<u64, Item>,
    /// How often `Dedup::entries` name it, with requests that are forgotten already.
    named: usize,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    entry: u64,
    outcome: Outcome,
}

#[derive(Debug)]
struct Entry {
    live: usize,
    revision: u64,
    ids: Vec<(u64, u64)>,
}

impl Dedup {
    pub(super) fn new(floor: u64, items_max: usize) -> Dedup {
        Dedup {
            floor,
            items_max,
            ..Dedup::default()
        }
    }

    /// The request floor.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn look_up(&self, id: &RequestId) -> Known {
        let session = self.sessions.get(&id.session);
        if let Some(item) = session.and_then(|session| session.items.get(&id.sequence)) {
            return Known::Done(item.outcome);
        }
        let finished = session.map_or(0, |session| session.record.finished_below);
        match id.stamp < self.floor || id.sequence < finished {
            true => Known::Expired,
            false => Known::Fresh,
        }
    }

    /// Remembers what the entry at `index` executed.
    pub(super) fn record(&mut self, index: u64, record: &DedupRecord) {
        let mut revision = 0;
        for item in &record.items {
            revision = revision.max(item.outcome.revision);
            let kept = Item {
                entry: index,
                outcome: item.outcome,
            };
            let session = self.sessions.entry(item.session).or_default();
            session.items.insert(item.sequence, kept);
            session.named += 1;
        }
        self.items += record.items.len();
        let ids = |item: &DedupItem| (item.session, item.sequence);
        self.entries.insert(
            index,
            Entry {
                live: record.items.len(),
                revision,
                ids: record.items.iter().map(ids).collect(),
            },
        );
    }

    /// Takes over a session's stored progress.
    pub(super) fn restore(&mut self, session: u64, record: SessionRecord) {
        self.sessions.entry(session).or_default().record = record;
    }

    /// After all is restored: forgets again what sessions had finished.
    pub(super) fn restored(&mut self) {
        let all: Vec<_> = self
            .sessions
            .iter()
            .map(|(id, session)| (*id, session.record.finished_below))
            .collect();
        for (session, below) in all {
            self.forget_below(session, below, &mut Forgotten::default());
        }
    }

    /// Notes how far a session has got; gives back its record if that is news.
    pub(super) fn progress(
        &mut self,
        progress: &SessionProgress,
        forgotten: &mut Forgotten,
    ) -> Option<SessionRecord> {
        let session = self.sessions.entry(progress.session).or_default();
        let record = SessionRecord {
            finished_below: session.record.finished_below.max(progress.finished_below),
            stamp: session.record.stamp.max(progress.stamp),
        };
        if record == session.record {
            return None;
        }
        session.record = record;
        self.forget_below(progress.session, record.finished_below, forgotten);
        Some(record)
    }

    /// Forgets the oldest entries while there are too many items; raises the floor over them.
    pub(super) fn limit(&mut self, forgotten: &mut Forgotten) {
        let before = self.floor;
        let items_max = match planted::is(planted::DEDUP_FORGOTTEN_EARLY) {
            true => 2,
            false => self.items_max,
        };
        while self.items > items_max
            && let Some((index, entry)) = self.entries.pop_first()
        {
            if !planted::is(planted::DEDUP_FORGOTTEN_EARLY) {
                self.floor = self.floor.max(entry.revision);
            }
            for (session, sequence) in entry.ids {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.named -= 1;
                    self.items -= usize::from(session.items.remove(&sequence).is_some());
                }
            }
            forgotten.entries.push(index);
        }
        if self.floor == before {
            return;
        }
        let floor = self.floor;
        let mut ended: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.named == 0 && session.record.stamp < floor)
            .map(|(id, _)| *id)
            .collect();
        ended.sort_unstable();
        for id in &ended {
            self.sessions.remove(id);
        }
        forgotten.sessions.append(&mut ended);
    }

    fn forget_below(&mut self, session: u64, below: u64, forgotten: &mut Forgotten) {
        let Some(session) = self.sessions.get_mut(&session) else {
            return;
        };
        let kept = session.items.split_off(&below);
        let finished = std::mem::replace(&mut session.items, kept);
        self.items -= finished.len();
        for item in finished.into_values() {
            let Some(entry) = self.entries.get_mut(&item.entry) else {
                continue;
            };
            entry.live -= 1;
            if entry.live == 0
                && let Some(entry) = self.entries.remove(&item.entry)
            {
                for (session, _) in entry.ids {
                    if let Some(session) = self.sessions.get_mut(&session) {
                        session.named -= 1;
                    }
                }
                forgotten.entries.push(item.entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use caucus_api::shard::outcome::Kind;

    use super::*;

    fn id(session: u64, sequence: u64, stamp: u64) -> RequestId {
        RequestId {
            session,
            sequence,
            stamp,
        }
    }

    fn entry(items: &[(u64, u64, u64)]) -> DedupRecord {
        let item = |(session, sequence, revision): &(u64, u64, u64)| DedupItem {
            session: *session,
            sequence: *sequence,
            vnode: 0,
            outcome: Outcome {
                kind: Kind::Put as i32,
                revision: *revision,
                ..Outcome::default()
            },
        };
        DedupRecord {
            items: items.iter().map(item).collect(),
        }
    }

    fn progress(dedup: &mut Dedup, session: u64, below: u64, stamp: u64) -> Forgotten {
        let mut forgotten = Forgotten::default();
        let progress = SessionProgress {
            session,
            finished_below: below,
            stamp,
        };
        dedup.progress(&progress, &mut forgotten);
        forgotten
    }

    #[test]
    fn a_finished_id_is_refused_after_it_is_forgotten() {
        let mut dedup = Dedup::new(0, 10);
        assert_eq!(dedup.look_up(&id(1, 1, 0)), Known::Fresh);
        dedup.record(5, &entry(&[(1, 1, 10), (1, 2, 11)]));
        assert!(matches!(dedup.look_up(&id(1, 1, 0)), Known::Done(_)));
        assert!(progress(&mut dedup, 1, 2, 10).entries.is_empty());
        assert_eq!(dedup.look_up(&id(1, 1, 0)), Known::Expired);
        assert!(matches!(dedup.look_up(&id(1, 2, 0)), Known::Done(_)));
        assert_eq!(progress(&mut dedup, 1, 3, 11).entries, [5]);
        assert_eq!(dedup.look_up(&id(1, 2, 11)), Known::Expired);
        assert_eq!(dedup.look_up(&id(1, 3, 11)), Known::Fresh);
        assert_eq!(dedup.items, 0);
    }

    #[test]
    fn a_full_table_raises_the_floor_over_what_it_forgets() {
        let mut dedup = Dedup::new(0, 3);
        dedup.record(1, &entry(&[(1, 1, 10), (2, 1, 11)]));
        dedup.record(2, &entry(&[(1, 2, 12), (1, 3, 13)]));
        let mut forgotten = Forgotten::default();
        dedup.limit(&mut forgotten);
        assert_eq!(forgotten.entries, [1]);
        assert_eq!(dedup.floor(), 11);
        assert_eq!(dedup.look_up(&id(1, 1, 9)), Known::Expired);
        assert_eq!(dedup.look_up(&id(1, 1, 10)), Known::Expired);
        // Stamped at the floor or later: it can't have run before revision 11.
        assert_eq!(dedup.look_up(&id(3, 1, 11)), Known::Fresh);
        assert!(matches!(dedup.look_up(&id(1, 2, 0)), Known::Done(_)));
        assert_eq!(forgotten.sessions, [2], "session 2 has nothing left");
    }

    #[test]
    fn restoring_gives_the_same_table() {
        let mut dedup = Dedup::new(0, 10);
        dedup.record(1, &entry(&[(1, 1, 10), (1, 2, 11)]));
        progress(&mut dedup, 1, 2, 10);
        let mut again = Dedup::new(0, 10);
        again.record(1, &entry(&[(1, 1, 10), (1, 2, 11)]));
        again.restore(
            1,
            SessionRecord {
                finished_below: 2,
                stamp: 10,
            },
        );
        again.restored();
        for sequence in 1..4 {
            let id = id(1, sequence, 20);
            assert_eq!(dedup.look_up(&id), again.look_up(&id));
        }
        assert_eq!(dedup.items, again.items);
        assert_eq!(
            progress(&mut dedup, 1, 3, 12),
            progress(&mut again, 1, 3, 12)
        );
    }
}
