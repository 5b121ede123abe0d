//! What the driver needs of a protocol.

use super::args::Args;
use super::error::Failure;
use super::keyspace::Pair;
use super::workload::Request;

/// One connection to one server, with one request in flight.
pub(super) trait Connection: Sized + 'static {
    /// Opens it.
    async fn open(args: &Args, endpoint: &str) -> Result<Self, Failure>;

    /// Another handle of the same connection, if the protocol carries many requests at once.
    fn share(&self) -> Option<Self>;

    /// Sends a request and waits for its answer. After [`Failure::Broken`] the next call connects
    /// again.
    async fn execute(&mut self, request: &Request<'_>) -> Result<(), Failure>;

    /// Makes the key exist before the load.
    async fn preload(&mut self, pair: Pair<'_>) -> Result<(), Failure> {
        self.execute(&Request::Put(pair)).await
    }

    /// Says goodbye, where the protocol has a word for it.
    async fn close(&mut self) {}
}
