//! Raft messages over the links between nodes.

mod blank;
mod receive;
mod send;
mod snapshot_in;
mod snapshot_out;
#[cfg(test)]
mod snapshot_tests;
mod standing;

pub(crate) use blank::nothing_committed;
pub use receive::Inbox;
pub(crate) use receive::Seat;
pub(crate) use send::DialerFactory;
pub(crate) use standing::{Lines, Tally};

/// Where nodes are reached.
pub trait Directory: Send + Sync + 'static {
    /// The peer address (`host:port`) of a node, if it is known.
    fn peer_addr(&self, node: u32) -> Option<String>;
}
