//! The service registry: instances with their addresses, and whether they are well.
//!
//! ```text
//!  /@service/name/i/id    the instance, under a lease of its time and of how long it may be critical
//!  /@service/name/h/id    its health, under a lease of its time: without it the instance is critical
//!  /@checks/all/name,id   that the nodes are to check it
//! ```
//!
//! An instance says itself that it is well, or a node finds out ([`check`]); either way that renews both leases. When
//! nobody does the health goes first: the instance is critical, and listed so. Is it critical for too long, it
//! goes as well. Nothing else has to watch over it.

pub mod check;
mod instance;
mod register;
mod show;

pub use self::instance::{Check, Health, Instance, Probe, Status};
pub use self::register::{deregister, heartbeat, register};
pub use self::show::{Registered, Watch, show};

use bytes::Bytes;

use super::directory;

/// The kind of the directory.
const KIND: &str = "service";

/// Why nothing was done to an instance.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store gave up.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// There is no such instance.
    #[error("there is no such instance")]
    NotFound,
    /// Somebody else has changed it at the same time, again and again.
    #[error("the instance is changed by others at the same time")]
    Contended,
}

impl From<crate::LeaseError> for Error {
    fn from(error: crate::LeaseError) -> Error {
        match error {
            crate::LeaseError::Store(error) => Error::Store(error),
            crate::LeaseError::NotFound | crate::LeaseError::Exists => Error::NotFound,
        }
    }
}

fn inside(service: &str, what: &str, id: &str) -> Bytes {
    let mut key = directory(KIND, service).to_vec();
    key.extend_from_slice(what.as_bytes());
    key.extend_from_slice(id.as_bytes());
    key.into()
}

fn instance_key(service: &str, id: &str) -> Bytes {
    inside(service, "i/", id)
}

fn health_key(service: &str, id: &str) -> Bytes {
    inside(service, "h/", id)
}
