//! Ports that nobody uses.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which Linux takes ports of outgoing connections: such a one could sit on a
/// port of a node that is down and about to start again.
const RANGE: std::ops::Range<u32> = 11_000..31_000;
/// More than the nodes of a cluster span.
const STEP: u32 = 200;

static TRIED: AtomicU32 = AtomicU32::new(0);

/// A base port such that `caucus dev` finds the two ports of each of its nodes free.
pub fn free_base(nodes: u32) -> u16 {
    let slots = (RANGE.end - RANGE.start) / STEP;
    for _ in 0..slots {
        // Test processes that run side by side begin at different places.
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let slot = std::process::id().wrapping_mul(31).wrapping_add(tried) % slots;
        let base = u16::try_from(RANGE.start + slot * STEP).expect("the range is of ports");
        if (0..nodes).all(|index| is_free(base, index)) {
            return base;
        }
    }
    panic!("no {nodes} pairs of free ports");
}

fn is_free(base: u16, index: u32) -> bool {
    let client = base + 10 * u16::try_from(index).expect("few nodes");
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    bind(client).is_ok() && bind(client + 1).is_ok()
}
