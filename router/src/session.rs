//! The numbers of this process's writes, and how far they are finished.

use std::collections::VecDeque;

const WORD_BITS: u64 = 64;

/// Hands out sequence numbers and keeps the smallest that is not finished: what groups may forget.
///
/// Finished numbers are bits; whole words of them are dropped from the front, so both operations
/// take constant time over the life of a session, and memory goes with the distance from the oldest
/// unfinished request to the newest, which deadlines bound.
///
/// Invariant: the bit of a number below `base` is taken for set; no bit at or above `next` is set.
#[derive(Debug)]
pub struct Session {
    next: u64,
    /// The number of the first bit of `words`.
    base: u64,
    words: VecDeque<u64>,
}

impl Default for Session {
    fn default() -> Self {
        Session::new()
    }
}

impl Session {
    /// Numbers begin at 1, so that 0 can mean none.
    pub fn new() -> Session {
        Session {
            next: 1,
            base: 0,
            words: VecDeque::from([1]),
        }
    }

    /// The first of `count` numbers in a row; each is to be finished.
    pub fn begin(&mut self, count: u64) -> u64 {
        let first = self.next;
        self.next += count;
        first
    }

    /// The `count` numbers from `first` will never be sent again. A number is finished once.
    pub fn finish(&mut self, first: u64, count: u64) {
        debug_assert!(first >= self.finished_below() && first + count <= self.next);
        for sequence in first..first + count {
            let bit = sequence - self.base;
            let word = (bit / WORD_BITS) as usize;
            while self.words.len() <= word {
                self.words.push_back(0);
            }
            self.words[word] |= 1 << (bit % WORD_BITS);
        }
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.base += WORD_BITS;
        }
    }

    /// The smallest number that is not finished.
    pub fn finished_below(&self) -> u64 {
        let ones = self.words.front().map_or(0, |word| word.trailing_ones());
        self.base + u64::from(ones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_is_the_smallest_unfinished() {
        let mut session = Session::new();
        assert_eq!(session.finished_below(), 1);
        assert_eq!(session.begin(1), 1);
        assert_eq!(session.begin(2), 2);
        session.finish(2, 1);
        assert_eq!(session.finished_below(), 1, "1 is open");
        session.finish(1, 1);
        assert_eq!(session.finished_below(), 3, "2 was finished before");
        session.finish(3, 1);
        assert_eq!(session.finished_below(), 4);
    }

    #[test]
    fn it_agrees_with_a_set_in_any_order() {
        // A full-cycle step through the numbers is an order without pattern at word borders.
        for step in [1, 7, 191, 383] {
            let mut session = Session::new();
            let count = 640;
            session.begin(count);
            let mut finished = std::collections::BTreeSet::new();
            for turn in 0..count {
                let sequence = 1 + (turn * step + 5) % count;
                session.finish(sequence, 1);
                finished.insert(sequence);
                let smallest = (1..).find(|n| !finished.contains(n));
                assert_eq!(Some(session.finished_below()), smallest);
            }
            assert!(session.words.len() <= 2, "finished words are dropped");
        }
    }

    #[test]
    fn one_old_request_holds_the_watermark_not_the_memory_of_others() {
        let mut session = Session::new();
        session.begin(1);
        for _ in 0..100_000 {
            let first = session.begin(3);
            session.finish(first, 3);
        }
        assert_eq!(session.finished_below(), 1);
        assert!(session.words.len() < 300_000 / 64 + 2);
        session.finish(1, 1);
        assert_eq!(session.finished_below(), 300_002);
        assert!(session.words.len() <= 1);
    }
}
