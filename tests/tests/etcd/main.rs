//! etcd's v3 API, beside a real etcd where there is one.

mod coordination;
mod errors;
mod import;
mod python;
mod script;
mod serial;
mod tool;
mod watch;

use caucus_etcd::real::Etcd;
use caucus_tests::{Cluster, say_skipped};
use tonic::transport::{Channel, Endpoint};

/// A real etcd to compare with; none, and a word about it, where there is none.
fn real_etcd() -> Option<Etcd> {
    let etcd = run(Etcd::start());
    if etcd.is_none() {
        say_skipped("there is no etcd to compare with");
    }
    etcd
}

/// A channel to one address, which connects when it has to.
fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    endpoint.expect("an address").connect_lazy()
}

fn node(cluster: &Cluster, node: u32) -> Channel {
    channel(&cluster.address(node))
}

/// Runs a test's client side.
fn run<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(work)
}
