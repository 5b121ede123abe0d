//! The configuration centre: values by path, each with the versions that it had.
//!
//! ```text
//!  /@config/namespace/v/path           the value as it is
//!  /@config/namespace/v/path,          its newest version: number, author, comment, time
//!  /@config/namespace/h/path,version   the value that a version set
//!  /@config/namespace/m/path,version   who set it, and why
//!  /@config/namespace/p                how many versions are kept, and how long
//!  /@config/namespace/r/request        what a request with an idempotency key has published
//!  /@config/namespace/a/time,request   when that was
//! ```
//!
//! The comma stands for a zero byte, which no path has: what is known of a path follows it at once. All that a
//! publication changes is changed by one transaction, also over namespaces. Versions are counted 1, 2, 3 for each
//! path, for ever: a path that was deleted goes on counting. They are live keys, so that the store may forget its
//! own history (compaction) without theirs; what the limits let go is removed by the publications.

mod diff;
mod path;
mod publish;
mod read;
mod stored;
mod turns;
mod watch;

pub use self::diff::{Difference, JsonChange, compare};
pub use self::path::Path;
pub use self::publish::{Edit, Expect, Publication, Published, publish, set_policy};
pub use self::read::{Entry, Listed, Version, effective, get, history, list, policy, version};
pub use self::stored::{Meta, Policy};
pub(crate) use self::turns::Turns;
pub use self::watch::{Change, Watch};

/// The kind of the directory.
const KIND: &str = "config";

/// Why nothing was published or found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// There is no value.
    #[error("there is no value at `{0}`")]
    NotFound(String),
    /// Not kept any more.
    #[error("version {version} of `{path}` isn't kept any more: the oldest is {oldest}")]
    VersionGone {
        /// Of what.
        path: String,
        /// The version that was asked for.
        version: u64,
        /// The oldest that is kept.
        oldest: u64,
    },
    /// There never was such a version.
    #[error("`{path}` has no version {version} yet: the newest is {newest}")]
    NoVersion {
        /// Of what.
        path: String,
        /// The version that was asked for.
        version: u64,
        /// The newest there is.
        newest: u64,
    },
    /// It isn't at the version that the caller expected.
    #[error("`{path}` is at version {found}")]
    OtherVersion {
        /// Of what.
        path: String,
        /// Where it is.
        found: u64,
    },
    /// Others have published the same again and again.
    #[error("others publish the same paths at the same time: there was no turn left")]
    Contended,
    /// There is too much of it for one answer.
    #[error("an effective configuration has at most {entries} values of {bytes} bytes in all")]
    TooLarge {
        /// How many values it may have.
        entries: usize,
        /// How large they may be together.
        bytes: usize,
    },
    /// Two versions are too large to be compared now.
    #[error("the versions couldn't be compared in time")]
    TooSlow,
}
