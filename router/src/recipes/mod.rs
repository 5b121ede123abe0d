//! What people coordinate with, made of keys, transactions, leases and watches: each in a directory of its
//! own, `/@kind/name/`, and so in one group.
//!
//! There is no second state machine: what a recipe has done can be read, watched and listed as keys. What
//! it says of the outcome is decided by one transaction.
//!
//! Deliberately absent: forms of protocols. [`http`](crate::http) and [`etcd`](crate::etcd) call these.

pub mod barriers;
pub mod config;
pub mod counters;
pub mod elections;
pub mod locks;
pub mod members;
pub(crate) mod mirror;
mod place;
pub mod queue;
pub mod services;
mod steps;
pub mod topics;

pub(crate) use mirror::{Changes, Mirror};
pub(crate) use place::directory;
pub(crate) use steps::Steps;
