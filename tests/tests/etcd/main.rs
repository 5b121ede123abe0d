//! etcd's v3 API, beside a real etcd where there is one.

mod errors;
mod import;
mod python;
mod script;
mod serial;
mod tool;

use caucus_tests::Cluster;
use tonic::transport::{Channel, Endpoint};

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
