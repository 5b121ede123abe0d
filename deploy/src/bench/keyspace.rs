//! The keys and values of a run: the same for every system, from the options alone.

use super::Args;

/// Longer than any value is wide, so that neighbouring values differ.
const POOL_BYTES: usize = 64 * 1024;

/// One key and the value to be written to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    /// Full key, beginning with a slash.
    pub(super) key: &'a str,
    /// Letters and digits: no protocol has to escape them.
    pub(super) value: &'a str,
}

/// What is listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing<'a> {
    /// All keys begin with it; it ends with a slash.
    pub(super) prefix: &'a str,
    /// How many keys there must be.
    pub(super) keys: usize,
}

/// All keys, and a pool of random letters that values are cut from.
#[derive(Debug)]
pub(super) struct Keyspace {
    prefix: String,
    keys: Vec<String>,
    directories: usize,
    pool: String,
    value_size: usize,
}

impl Keyspace {
    /// Lays the keys out over the directories in turn: with the default routing rule the directory
    /// decides the vnode, so that many directories load all data groups.
    pub(super) fn new(args: &Args) -> Self {
        let keys = (0..args.keys)
            .map(|index| format!("{}/{}/{index}", args.key_prefix, index % args.directories))
            .collect();
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut random = Random::new(0);
        let pool = (0..POOL_BYTES + args.value_size)
            .map(|_| char::from(letters[random.below(letters.len())]))
            .collect();
        Keyspace {
            prefix: format!("{}/", args.key_prefix),
            keys,
            directories: args.directories,
            pool,
            value_size: args.value_size,
        }
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of an index below [`Keyspace::len`], with a value drawn from the pool.
    pub(super) fn pair(&self, index: usize, random: &mut Random) -> Pair<'_> {
        let start = random.below(POOL_BYTES);
        Pair {
            key: &self.keys[index],
            value: &self.pool[start..start + self.value_size],
        }
    }

    /// Any key, each equally often.
    pub(super) fn any_pair(&self, random: &mut Random) -> Pair<'_> {
        let index = random.below(self.keys.len());
        self.pair(index, random)
    }

    /// Any two keys of different directories, of which there are at least two.
    pub(super) fn any_two(&self, random: &mut Random) -> [Pair<'_>; 2] {
        let first = random.below(self.keys.len());
        let second = loop {
            let index = random.below(self.keys.len());
            if index % self.directories != first % self.directories {
                break index;
            }
        };
        [self.pair(first, random), self.pair(second, random)]
    }

    /// All keys of the run, and no others of the store.
    pub(super) fn listing(&self) -> Listing<'_> {
        Listing {
            prefix: &self.prefix,
            keys: self.keys.len(),
        }
    }
}

/// SplitMix64: small, fast, and the same sequence for the same seed.
#[derive(Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A sequence of its own for every seed. Mixed, because steps of the generator from one seed must
    /// not lead to what another one begins with: clients would follow each other through the same keys.
    pub(super) fn new(seed: u64) -> Self {
        Random { state: mix(seed) }
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // The upper half of the 128-bit product scales without division.
        ((u128::from(mix(self.state)) * bound as u128) >> 64) as usize
    }
}

/// SplitMix64's output function.
fn mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_the_bound_and_reach_all_of_it() {
        let mut random = Random::new(7);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[random.below(10)] = true;
        }
        assert_eq!(seen, [true; 10]);
    }

    #[test]
    fn no_seed_follows_another() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(move |_| random.below(usize::MAX))
        };
        let all: std::collections::HashSet<usize> = (0..50).flat_map(numbers).collect();
        assert_eq!(all.len(), 50 * 100);
    }

    #[test]
    fn two_keys_are_of_different_directories() {
        let keyspace = Keyspace {
            prefix: "/p/".to_owned(),
            keys: (0..7).map(|key| format!("/p/{}/{key}", key % 2)).collect(),
            directories: 2,
            pool: "x".repeat(POOL_BYTES + 1),
            value_size: 1,
        };
        let mut random = Random::new(3);
        for _ in 0..100 {
            let [one, other] = keyspace.any_two(&mut random);
            assert_ne!(one.key[..4], other.key[..4]);
        }
        assert_eq!(keyspace.listing().keys, 7);
    }

    #[test]
    fn seeds_give_different_sequences() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.below(1 << 30)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
