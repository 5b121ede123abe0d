//! The open requests of one node: who waits for which reply.

use std::collections::HashSet;

use caucus_api::shard::Reply;
use tokio::sync::oneshot;

use crate::CallError;

pub(crate) type Answer = Result<Reply, CallError>;

/// Open requests by number. A number is a place in the table and the count of its users before, so
/// it is found without hashing, and a number that was given up finds nobody.
///
/// Invariant: `open` and `bytes` are the count and the sum over the occupied places.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    places: Vec<Place>,
    free: Vec<u32>,
    open: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Place {
    users: u32,
    bytes: usize,
    waiting: Option<oneshot::Sender<Answer>>,
}

impl Calls {
    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// How large the open requests are together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes a request; returns its number.
    pub(crate) fn insert(&mut self, waiting: oneshot::Sender<Answer>, bytes: usize) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                users: 0,
                bytes: 0,
                waiting: None,
            });
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.users = place.users.wrapping_add(1);
        place.bytes = bytes;
        place.waiting = Some(waiting);
        self.open += 1;
        self.bytes += bytes;
        number(index, place.users)
    }

    /// Takes a request out; `None` if it is not open (any more).
    pub(crate) fn remove(&mut self, call: u64) -> Option<oneshot::Sender<Answer>> {
        let index = call as u32;
        let place = self.places.get_mut(index as usize)?;
        if number(index, place.users) != call {
            return None;
        }
        let waiting = place.waiting.take()?;
        self.open -= 1;
        self.bytes -= place.bytes;
        self.free.push(index);
        Some(waiting)
    }

    /// Takes out all but `kept`.
    pub(crate) fn drain_but(&mut self, kept: &HashSet<u64>) -> Vec<oneshot::Sender<Answer>> {
        let open: Vec<u64> = self
            .places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.waiting.is_some())
            .map(|(index, place)| number(index as u32, place.users))
            .filter(|call| !kept.contains(call))
            .collect();
        open.into_iter()
            .filter_map(|call| self.remove(call))
            .collect()
    }
}

fn number(index: u32, users: u32) -> u64 {
    u64::from(users) << 32 | u64::from(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_finds_its_own_caller_only() {
        let mut calls = Calls::default();
        let (first, _first) = oneshot::channel();
        let (second, _second) = oneshot::channel();
        let a = calls.insert(first, 10);
        assert!(calls.remove(a).is_some());
        let b = calls.insert(second, 20);
        assert_ne!(a, b, "the place is used again, the number is not");
        assert!(calls.remove(a).is_none(), "a late reply");
        assert_eq!((calls.open(), calls.bytes()), (1, 20));
        assert!(calls.remove(b).is_some());
        assert!(calls.remove(b).is_none(), "a second reply");
        assert!(calls.remove(u64::MAX).is_none(), "nonsense");
        assert_eq!((calls.open(), calls.bytes()), (0, 0));
    }

    #[test]
    fn what_is_kept_stays_open() {
        let mut calls = Calls::default();
        let numbers: Vec<u64> = (0..4)
            .map(|_| calls.insert(oneshot::channel().0, 1))
            .collect();
        let kept = HashSet::from([numbers[1], numbers[3]]);
        assert_eq!(calls.drain_but(&kept).len(), 2);
        assert_eq!(calls.open(), 2);
        assert!(calls.remove(numbers[0]).is_none());
        assert!(calls.remove(numbers[3]).is_some());
    }
}
