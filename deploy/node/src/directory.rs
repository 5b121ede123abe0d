//! Where nodes are: as configured until the cluster map says more.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use caucus_raft::Directory;
use caucus_ring::ClusterMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use caucus_placement::Voter;

/// Peer addresses by node.
pub(crate) struct AddressBook {
    addresses: ArcSwap<HashMap<u32, String>>,
}

impl AddressBook {
    /// The first members of the placement group.
    pub(crate) fn new(voters: &[Voter]) -> AddressBook {
        let addresses = voters
            .iter()
            .map(|v| (v.node, v.peer_addr.clone()))
            .collect();
        AddressBook {
            addresses: ArcSwap::from_pointee(addresses),
        }
    }

    /// Takes over what each new map says.
    pub(crate) async fn follow(
        self: Arc<Self>,
        mut maps: watch::Receiver<Option<Arc<ClusterMap>>>,
        shutdown: CancellationToken,
    ) {
        loop {
            let map = maps.borrow_and_update().clone();
            if let Some(map) = map {
                let mut addresses = HashMap::clone(&self.addresses.load());
                for node in map.nodes() {
                    addresses.insert(node.id.0, node.peer_address.clone());
                }
                self.addresses.store(Arc::new(addresses));
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = maps.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Directory for AddressBook {
    fn peer_addr(&self, node: u32) -> Option<String> {
        self.addresses.load().get(&node).cloned()
    }
}
