//! What the layer above implements.

use bytes::Bytes;

use super::{StateView, Txn};
use crate::types::Reply;

/// Where an entry stands in its group's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The term of the leader that proposed it.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// A deterministic state machine: the same commands make the same state on every replica.
///
/// No clock, no randomness, no input or output but through [`Txn`]. An error is one of the engine
/// and stops the replica; what a command may not do is part of its reply.
pub trait StateMachine: Send + Sync + 'static {
    /// Reads what it keeps in memory: at start and after a snapshot took the place of the state.
    fn open(&mut self, state: &StateView) -> Result<(), caucus_engine::Error>;

    /// Executes one command. `wanted`: somebody here waits for the reply.
    fn apply(
        &mut self,
        txn: &mut Txn,
        at: Position,
        command: Bytes,
        wanted: bool,
    ) -> Result<Reply, caucus_engine::Error>;

    /// What was applied up to `at` is in the engine now: readers may know of it.
    fn published(&mut self, at: Position);

    /// Called before the batch of one round of applies is written: adds what is kept once a round.
    fn finish(&mut self, txn: &mut Txn) -> Result<(), caucus_engine::Error> {
        let _ = txn;
        Ok(())
    }
}
