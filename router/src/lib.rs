//! The front door: finds the group of a key and its leader, sends, retries, merges.
//!
//! ```text
//!  HTTP ─▶ http ─▶ Router ─▶ route (key ▶ vnode ▶ group ▶ leader) ─▶ NodeLinks ─▶ groups
//!                    ▲ retry (pure): again, elsewhere, later, or give up ◀────────────╯
//! ```
//!
//! A router keeps nothing that can't be lost: a cluster map that never goes to a smaller epoch, hints
//! of who leads, and the highest revision that it has seen in any reply. Every read asks for at
//! least that revision, so what a client sees through one router never goes back.
//!
//! Every write carries a request id that groups remember, the same at each attempt; so it is sent
//! again whenever an attempt fails, and is applied once. Every request has a deadline. A write that
//! is given up says whether it may have been applied.
//!
//! Deliberately absent: caches of values, and knowledge of Raft.

mod attempt;
mod batch;
mod compact;
mod error;
pub mod etcd;
mod granted;
pub mod http;
mod leases;
mod list;
mod merge;
pub mod metrics;
mod name;
mod others;
mod ready;
pub mod recipes;
mod retention;
mod retry;
mod route;
mod router;
mod session;
mod txn;
pub mod watch;

pub use error::{Error, Outcome, Reason};
pub use granted::PlacementFacts;
pub use leases::{Granted, LeaseError, LeaseStatus};
pub use list::{Listing, Page};
pub use name::RequestName;
pub use ready::Readiness;
pub use retention::Retention;
pub use retry::{Retry, Step, Stumble};
pub use router::{Op, OpAnswer, Read, Router, RouterOptions, Written};
pub use session::Session;
pub use txn::Transacted;
