//! A set of vnodes: small for one vnode, a bitmap for many.

use std::fmt;

use crate::{VNODES_MAX, Vnode};

const WORD_BITS: usize = 64;
const PACKED_BYTES_MAX: usize = VNODES_MAX as usize / 8;

/// A set of vnodes.
///
/// It keeps only the words of the bitmap from the first to the last that has a
/// member, so that the set of one vnode (nearly every request) is one word.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct VnodeSet {
    /// Where `words` begins in the whole bitmap, in words; 0 if there are none.
    first: usize,
    /// Neither the first nor the last is zero, so equal sets are equal values.
    words: Vec<u64>,
}

/// Bytes that aren't a packed set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are not a packed set of vnodes")]
pub struct InvalidVnodeSet {
    /// How many bytes there were.
    pub bytes: usize,
}

impl VnodeSet {
    /// The empty set.
    pub fn new() -> VnodeSet {
        VnodeSet::default()
    }

    /// The set of one vnode.
    pub fn single(vnode: Vnode) -> VnodeSet {
        let (word, bit) = place(vnode);
        VnodeSet {
            first: word,
            words: vec![bit],
        }
    }

    /// The set of all vnodes below `vnodes`, the whole of a ring.
    pub fn full(vnodes: u32) -> VnodeSet {
        let vnodes = vnodes.min(VNODES_MAX) as usize;
        let mut words = vec![u64::MAX; vnodes / WORD_BITS];
        if !vnodes.is_multiple_of(WORD_BITS) {
            words.push((1 << (vnodes % WORD_BITS)) - 1);
        }
        VnodeSet { first: 0, words }
    }

    /// Puts a vnode in; says whether it is new.
    pub fn insert(&mut self, vnode: Vnode) -> bool {
        let (word, bit) = place(vnode);
        self.reach(word, word + 1);
        let slot = &mut self.words[word - self.first];
        let new = *slot & bit == 0;
        *slot |= bit;
        new
    }

    /// Takes a vnode out; says whether it was there.
    pub fn remove(&mut self, vnode: Vnode) -> bool {
        if !self.contains(vnode) {
            return false;
        }
        let (word, bit) = place(vnode);
        self.words[word - self.first] &= !bit;
        self.trim();
        true
    }

    /// Whether a vnode is in it.
    pub fn contains(&self, vnode: Vnode) -> bool {
        let (word, bit) = place(vnode);
        self.word(word) & bit != 0
    }

    /// How many vnodes are in it.
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether no vnode is in it.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The only vnode in it, if there is exactly one.
    pub fn only(&self) -> Option<Vnode> {
        let mut vnodes = self.iter();
        let first = vnodes.next()?;
        vnodes.next().is_none().then_some(first)
    }

    /// The vnodes in it, rising.
    pub fn iter(&self) -> impl Iterator<Item = Vnode> + '_ {
        let words = self.words.iter().enumerate();
        words.flat_map(move |(index, word)| bits(*word, (self.first + index) * WORD_BITS))
    }

    /// Adds all of `other`.
    pub fn union_with(&mut self, other: &VnodeSet) {
        if other.is_empty() {
            return;
        }
        self.reach(other.first, other.first + other.words.len());
        let skip = other.first - self.first;
        for (mine, theirs) in self.words[skip..].iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &VnodeSet) -> VnodeSet {
        self.map_words(|index, word| word & other.word(index))
    }

    /// What is in this one only.
    #[must_use]
    pub fn difference(&self, other: &VnodeSet) -> VnodeSet {
        self.map_words(|index, word| word & !other.word(index))
    }

    /// Whether some vnode is in both.
    pub fn intersects(&self, other: &VnodeSet) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Whether all of this is in `other`.
    pub fn is_subset(&self, other: &VnodeSet) -> bool {
        self.difference(other).is_empty()
    }

    /// Packs it: two bytes (little-endian) say which byte of the whole bitmap the
    /// rest begins with; no zero byte at either end of the rest. The empty set is
    /// no bytes, one vnode is three. Equal sets give equal bytes, for ever.
    pub fn to_packed(&self) -> Vec<u8> {
        let bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let Some(start) = bytes.iter().position(|b| *b != 0) else {
            return Vec::new();
        };
        let end = bytes
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |last| last + 1);
        // At most PACKED_BYTES_MAX, so it fits.
        let offset = (self.first * (WORD_BITS / 8) + start) as u16;
        let mut packed = offset.to_le_bytes().to_vec();
        packed.extend_from_slice(&bytes[start..end]);
        packed
    }

    /// Reads what [`to_packed`](Self::to_packed) wrote, and nothing else.
    pub fn from_packed(packed: &[u8]) -> Result<VnodeSet, InvalidVnodeSet> {
        let invalid = InvalidVnodeSet {
            bytes: packed.len(),
        };
        let (offset, bitmap) = match packed {
            [] => return Ok(VnodeSet::new()),
            [low, high, bitmap @ ..] => (usize::from(u16::from_le_bytes([*low, *high])), bitmap),
            [_] => return Err(invalid),
        };
        let trimmed = bitmap.first().is_some_and(|b| *b != 0) && bitmap.last() != Some(&0);
        if !trimmed || offset + bitmap.len() > PACKED_BYTES_MAX {
            return Err(invalid);
        }
        let first = offset / 8;
        let mut words = vec![0; (offset + bitmap.len()).div_ceil(8) - first];
        for (index, byte) in bitmap.iter().enumerate() {
            let at = offset + index;
            words[at / 8 - first] |= u64::from(*byte) << (at % 8 * 8);
        }
        Ok(VnodeSet { first, words })
    }

    fn word(&self, index: usize) -> u64 {
        let slot = index
            .checked_sub(self.first)
            .and_then(|at| self.words.get(at));
        slot.copied().unwrap_or(0)
    }

    /// Makes `words` hold the words from `from` to `to`; the caller sees to it
    /// that the ends don't stay zero.
    fn reach(&mut self, from: usize, to: usize) {
        if self.words.is_empty() {
            self.first = from;
        }
        if from < self.first {
            let missing = self.first - from;
            self.words.splice(..0, std::iter::repeat_n(0, missing));
            self.first = from;
        }
        let length = self.words.len().max(to - self.first);
        self.words.resize(length, 0);
    }

    fn trim(&mut self) {
        let end = self
            .words
            .iter()
            .rposition(|word| *word != 0)
            .map_or(0, |last| last + 1);
        self.words.truncate(end);
        let start = self.words.iter().position(|word| *word != 0).unwrap_or(0);
        self.words.drain(..start);
        self.first = if self.words.is_empty() {
            0
        } else {
            self.first + start
        };
    }

    fn map_words(&self, f: impl Fn(usize, u64) -> u64) -> VnodeSet {
        let words = self.words.iter().enumerate();
        let words = words
            .map(|(index, word)| f(self.first + index, *word))
            .collect();
        let mut set = VnodeSet {
            first: self.first,
            words,
        };
        set.trim();
        set
    }
}

impl FromIterator<Vnode> for VnodeSet {
    fn from_iter<I: IntoIterator<Item = Vnode>>(vnodes: I) -> VnodeSet {
        let mut set = VnodeSet::new();
        set.extend(vnodes);
        set
    }
}

impl Extend<Vnode> for VnodeSet {
    fn extend<I: IntoIterator<Item = Vnode>>(&mut self, vnodes: I) {
        for vnode in vnodes {
            self.insert(vnode);
        }
    }
}

/// As ranges: `{0-3,7}`.
impl fmt::Display for VnodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        let mut vnodes = self.iter().map(|vnode| vnode.0).peekable();
        let mut separator = "";
        while let Some(start) = vnodes.next() {
            let mut end = start;
            while let Some(next) = vnodes.next_if(|next| *next == end + 1) {
                end = next;
            }
            write!(f, "{separator}{start}")?;
            if end > start {
                write!(f, "-{end}")?;
            }
            separator = ",";
        }
        f.write_str("}")
    }
}

impl fmt::Debug for VnodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn place(vnode: Vnode) -> (usize, u64) {
    let number = usize::from(vnode.0);
    (number / WORD_BITS, 1 << (number % WORD_BITS))
}

fn bits(mut word: u64, base: usize) -> impl Iterator<Item = Vnode> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros() as usize;
        word &= word - 1;
        // Below VNODES_MAX, as `place` made it.
        Some(Vnode((base + bit) as u16))
    })
}
