//! ZooKeeper over its own protocol: a session, `create`, `getData`, `setData`.
//!
//! Reads are what ZooKeeper gives by default: from the server that holds the session, perhaps
//! stale. Sessions send no pings; under load they never are silent.

mod jute;
mod session;

pub(super) use session::Session;
