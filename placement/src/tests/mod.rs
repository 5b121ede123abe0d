//! Tests of what drives the pure parts: the oracle's memory, the controller's decisions, and whole
//! placement groups over loopback.

mod bytes;
mod cluster;
mod controller;
mod grants;
mod groups;
mod oracle;
