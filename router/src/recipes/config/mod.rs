//! The configuration centre: values by path, each with the versions that it had.
//!
//! ```text
//!  /@config/namespace/v/path           the value as it is
//!  /@config/namespace/n/path           its newest version: number, author, comment, time
//!  /@config/namespace/h/path,version   the value that a version set
//!  /@config/namespace/m/path,version   who set it, and why
//!  /@config/namespace/r/path,request   which version a request with an idempotency key has published
//!  /@config/namespace/p                how many versions are kept, and how long
//! ```
//!
//! All that a publication changes is changed by one transaction, also over namespaces. Versions are counted 1, 2, 3
//! for each path, for ever: a path that was deleted goes on counting. They are live keys, so that the store may
//! forget its own history (compaction) without theirs; what the limits let go is removed by the publications.

mod diff;
mod path;
mod publish;
mod read;
mod stored;

pub use self::diff::{Difference, compare};
pub use self::path::Path;
pub use self::publish::{Edit, Publication, Published, publish, set_policy};
pub use self::read::{Entry, Version, Watch, effective, get, history, list, policy, version};
pub use self::stored::{Meta, Policy};

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
    #[error("others publish the same paths at the same time")]
    Contended,
}
