//! A queue in memory. Pure.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use caucus_api::shard::{Item, Record};

use super::Share;

/// Entries in order.
#[derive(Debug)]
pub(crate) struct Line {
    share: fn(&Record) -> Share,
    entries: BTreeMap<u64, Share>,
    /// When each key was created.
    created: HashMap<Bytes, u64>,
}

impl Line {
    /// Nobody stands in it.
    pub(crate) fn new(share: fn(&Record) -> Share) -> Line {
        Line {
            share,
            entries: BTreeMap::new(),
            created: HashMap::new(),
        }
    }

    /// With these entries.
    pub(crate) fn of(share: fn(&Record) -> Share, items: &[Item]) -> Line {
        let mut line = Line::new(share);
        for item in items {
            line.set(&item.key, item.record.as_ref());
        }
        line
    }

    /// A key has changed; the entry that has gone with that.
    pub(super) fn set(&mut self, key: &Bytes, record: Option<&Record>) -> Option<u64> {
        let now = record.map(|record| record.create_revision);
        let before = match now {
            Some(created) => self.created.insert(key.clone(), created),
            None => self.created.remove(key),
        };
        let gone = before.filter(|before| Some(*before) != now);
        if let Some(gone) = gone {
            self.entries.remove(&gone);
        }
        if let (Some(created), Some(record)) = (now, record) {
            self.entries.insert(created, (self.share)(record));
        }
        gone
    }

    /// Whether an entry stands in it.
    pub(crate) fn has(&self, created: u64) -> bool {
        self.entries.contains_key(&created)
    }

    /// Those whose turn it is, in order: as many from the front as can be at the same time.
    pub(crate) fn holders(&self) -> impl Iterator<Item = u64> + '_ {
        let mut before = 0_u32;
        // The fewest places that any of them speaks of: who comes later can't make more of them.
        let mut places = u32::MAX;
        let first = self.entries.values().next().copied();
        let holders = self.entries.iter().take_while(move |(_, share)| {
            if let Share::Place { of } = share {
                places = places.min(*of);
            }
            let fits = match (first, share) {
                // Alone, whoever it is.
                _ if before == 0 => true,
                (Some(Share::Together), Share::Together) => true,
                (Some(Share::Place { .. }), Share::Place { .. }) => before < places,
                (_, _) => false,
            };
            before += 1;
            fits
        });
        holders.map(|(created, _)| *created)
    }

    /// Whether it is an entry's turn.
    pub(crate) fn holds(&self, created: u64) -> bool {
        let mut holders = self.holders();
        // They rise.
        holders.find(|holder| *holder >= created) == Some(created)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `w` alone, `r` together, a digit one of so many places.
    fn share(record: &Record) -> Share {
        match record.value[0] {
            b'w' => Share::Alone,
            b'r' => Share::Together,
            digit => Share::Place {
                of: u32::from(digit - b'0'),
            },
        }
    }

    fn record(created: u64, value: u8) -> Record {
        Record {
            create_revision: created,
            value: vec![value].into(),
            ..Record::default()
        }
    }

    fn line(text: &str) -> Line {
        let mut line = Line::new(share);
        for (at, letter) in text.bytes().enumerate() {
            let key = Bytes::from(format!("k{at}"));
            line.set(&key, Some(&record(at as u64 + 1, letter)));
        }
        line
    }

    #[test]
    fn as_many_hold_as_can_at_the_same_time() {
        for (text, holders) in [
            ("", 0),
            ("w", 1),
            ("www", 1),
            ("rrr", 3),
            ("rrwr", 2),
            ("wrr", 1),
            ("2222", 2),
            ("3232", 2),
            ("3w33", 1),
            ("1", 1),
            ("0", 1),
        ] {
            let line = line(text);
            assert_eq!(line.holders().count(), holders, "{text}");
            for at in 1..=text.len() as u64 {
                assert_eq!(line.holds(at), at <= holders as u64, "{text} {at}");
            }
        }
    }

    #[test]
    fn who_goes_makes_room() {
        let mut line = line("wrrw");
        assert_eq!(line.set(&Bytes::from("k0"), None), Some(1));
        assert_eq!(line.holders().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(line.set(&Bytes::from("k1"), None), Some(2));
        // Deleted and written again: another entry, at the end.
        assert_eq!(
            line.set(&Bytes::from("k2"), Some(&record(9, b'r'))),
            Some(3)
        );
        assert_eq!(line.holders().collect::<Vec<_>>(), [4]);
        assert!(!line.has(3) && line.has(9));
        // Written over: the same entry.
        assert_eq!(line.set(&Bytes::from("k2"), Some(&record(9, b'w'))), None);
        assert_eq!(line.set(&Bytes::from("unknown"), None), None);
        assert_eq!(line.set(&Bytes::from("k3"), None), Some(4));
        assert!(line.holds(9));
    }
}
