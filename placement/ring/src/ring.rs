//! The ring: V points on the circle of 2^64 positions, fixed for the life of a
//! cluster.

use std::fmt;

use hashring::HashRing;

use crate::hash::{FrozenHash, Point, point};
use crate::{RoutingKey, Vnode};

/// Vnodes of a cluster unless its creator says otherwise.
pub const VNODES_DEFAULT: u32 = 4096;
/// The fewest vnodes: with one, its arc of 2^64 wouldn't fit its own length.
pub const VNODES_MIN: u32 = 2;
/// The most vnodes: what a [`Vnode`] can number.
pub const VNODES_MAX: u32 = 65536;

/// A number of vnodes that a ring can't have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ring has {VNODES_MIN} to {VNODES_MAX} vnodes, not {vnodes}")]
pub struct RingError {
    /// What was asked for.
    pub vnodes: u32,
}

/// Which vnode a routing key falls on: the first point at or after its hash,
/// clockwise. A vnode's arc is what ends at its point, that included.
#[derive(Clone)]
pub struct Ring {
    ring: HashRing<Point, FrozenHash>,
    vnodes: u32,
    /// By vnode; they add up to 2^64.
    arcs: Vec<u64>,
}

impl Ring {
    /// The ring of `vnodes` points. The same number always gives the same ring,
    /// and the points of a smaller ring are among those of a larger one.
    pub fn new(vnodes: u32) -> Result<Ring, RingError> {
        if !(VNODES_MIN..=VNODES_MAX).contains(&vnodes) {
            return Err(RingError { vnodes });
        }
        let mut ring = HashRing::with_hasher(FrozenHash);
        ring.batch_add(numbers(vnodes).map(Point).collect());
        Ok(Ring {
            ring,
            vnodes,
            arcs: arcs(vnodes),
        })
    }

    /// How many vnodes there are.
    pub fn vnodes(&self) -> u32 {
        self.vnodes
    }

    /// All vnodes, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Vnode> + use<> {
        numbers(self.vnodes)
    }

    /// The vnode that a routing key falls on.
    pub fn vnode(&self, routing_key: RoutingKey<'_>) -> Vnode {
        // Never empty: `new` sees to that.
        self.ring
            .get(&routing_key)
            .map_or(Vnode(0), |point| point.0)
    }

    /// The length of a vnode's arc, of the 2^64 positions of the circle. `None`
    /// if there is no such vnode.
    pub fn arc(&self, vnode: Vnode) -> Option<u64> {
        self.arcs.get(usize::from(vnode.0)).copied()
    }

    /// The lengths of all arcs, by vnode. They add up to exactly 2^64.
    pub fn arcs(&self) -> &[u64] {
        &self.arcs
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} vnodes)", self.vnodes)
    }
}

fn numbers(vnodes: u32) -> impl Iterator<Item = Vnode> + use<> {
    // At most VNODES_MAX, so the last number is at most u16::MAX.
    (0..=u16::MAX).take(vnodes as usize).map(Vnode)
}

fn arcs(vnodes: u32) -> Vec<u64> {
    let mut points: Vec<(u64, Vnode)> = numbers(vnodes).map(|v| (point(v), v)).collect();
    points.sort_unstable();
    let mut arcs = vec![0; points.len()];
    let mut previous = points.last().map_or(0, |last| last.0);
    for (position, vnode) in points {
        arcs[usize::from(vnode.0)] = position.wrapping_sub(previous);
        previous = position;
    }
    arcs
}
