//! The checkers held against servers that others wrote, whose faults are known: Debian's etcd 3.4.23 and ZooKeeper
//! 3.8.0. Who finds nothing in those would find nothing in Caucus either.
//!
//! | file | shows |
//! |---|---|
//! | `keys` | etcd's keys pass everything while members are killed and stopped; its watches don't |
//! | `watches` | each fault of etcd's watches by itself |
//! | `leases` | leases that an old leader takes from those who renew them |
//! | `locks` | etcd's lock alone keeps nobody out; with its token checked it does |
//! | `reads` | ZooKeeper's reads aren't linearizable, and its writes are |
//!
//! It is always a checker of `caucus-history` that says no; the tests only say which one has to, and that no other does.

mod clients;
mod ensemble;
mod gateway;
mod keys;
mod leases;
mod locks;
mod members;
mod reads;
mod scene;
mod watchers;
mod watches;
