//! The frozen hash of the ring: xxh3-64 with a fixed seed, over explicit bytes.
//!
//! **These bytes are for ever.** A key's vnode is a function of this file; to
//! change anything here is to lose every key of every existing cluster. The
//! golden vectors in `tests/golden.rs` pin it.
//!
//! Why newtypes: `Hash for [u8]` also writes the length as a native `usize`, and
//! integers write native byte order, so derived hashes differ between machines.
//! Every type that is hashed here calls [`Hasher::write`] exactly once with bytes
//! that are spelt out.

use std::hash::{BuildHasher, Hash, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Vnode;

/// Names this file's seed and byte layout; travels with the cluster map, so that
/// a process which computes differently refuses the map instead of misrouting.
pub const SEED_VERSION: u32 = 1;

/// `caucus-1`, little-endian.
const SEED: u64 = u64::from_le_bytes(*b"caucus-1");

/// Keeps the hashes of ring points apart from those of ordinary routing keys.
const VNODE_TAG: [u8; 12] = *b"caucus-vnode";

/// Builds the frozen hasher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrozenHash;

/// The hasher behind [`FrozenHash`]. One `write` gives xxh3-64 of its bytes; a
/// second one would be chained on the first.
#[derive(Clone, Debug)]
pub struct FrozenHasher(u64);

impl BuildHasher for FrozenHash {
    type Hasher = FrozenHasher;

    fn build_hasher(&self) -> FrozenHasher {
        FrozenHasher(SEED)
    }
}

impl Hasher for FrozenHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A vnode as a point of the ring: its tag and number, 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point(pub(crate) Vnode);

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&VNODE_TAG);
        bytes[12..].copy_from_slice(&u32::from(self.0.0).to_le_bytes());
        state.write(&bytes);
    }
}

/// Where on the circle a vnode's point lies.
pub fn point(vnode: Vnode) -> u64 {
    FrozenHash.hash_one(Point(vnode))
}

/// Where on the circle the bytes of a routing key lie.
pub fn position(routing_key: &[u8]) -> u64 {
    let mut hasher = FrozenHash.build_hasher();
    hasher.write(routing_key);
    hasher.finish()
}
