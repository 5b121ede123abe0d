//! A lean HTTP/1.1 client: the same one for Caucus and for etcd's JSON gateway.
//!
//! It shares the cores with the servers under load, so it does what a benchmark needs and no more:
//! keep-alive, one request in flight, one write and usually one read a request.

mod caucus;
mod connection;
mod etcd_gateway;
mod response;

pub(super) use caucus::Caucus;
pub(super) use connection::HttpConnection;
pub(super) use etcd_gateway::EtcdGateway;
