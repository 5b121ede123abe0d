//! Tests of the parts that openraft drives, and of whole groups over loopback sockets.

mod apply_ahead;
mod bytes;
mod cluster;
mod cluster_faults;
mod contract;
mod crash;
mod damage;
mod places;
mod reads;
mod snapshots;
mod standing;
mod support;
mod support_cluster;
mod writer;
