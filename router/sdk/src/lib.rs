//! Caucus for programs in Rust: keys, leases that are kept alive, locks and leaderships as guards, watches that go on
//! through nodes that go and come.
//!
//! ```no_run
//! # async fn example() -> Result<(), caucus_sdk::Error> {
//! use std::time::Duration;
//! let client = caucus_sdk::Client::new(&["http://127.0.0.1:7400".to_owned()])
//!     .expect("an address");
//! let lock = client.lock("jobs/daily").ttl(Duration::from_secs(10)).acquire().await?;
//! // Give `lock.token()` to whatever does the work: it rises with each holder.
//! tokio::select! {
//!     () = lock.lost() => {} // stop: somebody else may hold it now
//!     () = work(lock.token()) => {}
//! }
//! lock.release().await?;
//! # Ok(()) }
//! # async fn work(_: u64) {}
//! ```
//!
//! It speaks `/v1` over HTTP. A request that no node answers goes to the next one, if doing it twice does no harm: reads,
//! and writes that carry an idempotency key. Time counts from when a sign of life was *sent*, so a guard says that
//! it is lost before anybody else can hold it, as long as the clocks run alike.

mod client;
mod election;
mod endpoints;
mod lease;
mod lock;
mod watch;

pub use client::Client;
pub use election::{Campaign, Leadership};
pub use endpoints::{Ask, BadEndpoint, BadHeader, Endpoints, Error, Problem};
pub use lease::Lease;
pub use lock::{Lock, LockRequest};
pub use watch::{Lines, Watch};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A key or a name as it stands in a path or a query.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}
