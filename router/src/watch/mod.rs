//! Watches: every change of keys and ranges, from a revision on, over all groups.
//!
//! ```text
//!  leader of a group ◀─ Follow, one at a time ─ Hub of the group ─┬─▶ lane ──────────────▶ Watches
//!                     ── Followed: events once ▶  (a task)        ├─▶ lane ─┐                ▲
//!                                                                 │         ├─▶ Merger ──────┘
//!  leader of another ◀──────────────────────▶ Hub ────────────────┴─▶ lane ─┘  all of a revision together
//! ```
//!
//! A *lane* is a watch in one group. It is *live* when the hub passes on to it what the leader tells; a
//! new one, and one whose reader was too slow, first *catches up*: it reads the past from the group's
//! index, page by page, no faster than its reader takes it, until it is where the hub is. So nothing is
//! buffered without a bound, and nothing is lost as long as it isn't compacted.
//!
//! A watch of one directory is one lane. One over several groups needs an order: what happened at
//! revision r is told when all of its groups have been told up to r. A group in which nothing happens is
//! asked to show that (`reach`), and as there is one question at a time, those who wait share it.

mod catch_up;
mod event;
mod follow;
mod hub;
mod lanes;
mod merger;
mod outlet;
mod watches;

pub use event::{End, Event, Told};
pub(crate) use hub::Hubs;
pub use outlet::Parcel;
pub use watches::{WatchSpec, Watches};
