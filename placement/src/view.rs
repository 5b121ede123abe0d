//! What readers see of the catalog as applied here: on every replica, not only the leader.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use caucus_raft::Position;
use caucus_ring::{ClusterMap, Epoch, Revision};
use tokio::sync::watch;

use crate::catalog::Catalog;

/// How far this replica has applied the log, and the oracle's ceiling as of there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The last applied entry.
    pub at: Position,
    /// The oracle's ceiling, with all entries up to `at`.
    pub ceiling: Revision,
}

/// The read side of a [`Machine`](crate::Machine).
#[derive(Debug)]
pub struct CatalogView {
    state: Mutex<State>,
    /// Epochs rise in it.
    map: watch::Sender<Option<Arc<ClusterMap>>>,
}

#[derive(Debug)]
struct State {
    catalog: Arc<Catalog>,
    applied: Applied,
    /// The bytes of the newest map, made when first asked for.
    encoded: Option<(Epoch, Bytes)>,
}

impl CatalogView {
    pub(crate) fn new() -> CatalogView {
        CatalogView {
            state: Mutex::new(State {
                catalog: Arc::default(),
                applied: Applied {
                    at: Position { term: 0, index: 0 },
                    ceiling: Revision(0),
                },
                encoded: None,
            }),
            map: watch::channel(None).0,
        }
    }

    /// The catalog as of its last change of epoch. Its ceiling is that of then: see
    /// [`CatalogView::applied`].
    pub fn catalog(&self) -> Arc<Catalog> {
        self.lock().catalog.clone()
    }

    /// How far the log is applied here.
    pub fn applied(&self) -> Applied {
        self.lock().applied
    }

    /// The cluster map; `None` before the cluster is initialized.
    pub fn map(&self) -> Option<Arc<ClusterMap>> {
        self.map.borrow().clone()
    }

    /// Follows the cluster map. It changes exactly when the catalog's epoch does.
    pub fn watch_map(&self) -> watch::Receiver<Option<Arc<ClusterMap>>> {
        self.map.subscribe()
    }

    /// The bytes of a map, made once for all who ask for the newest one.
    pub(crate) fn encoded(&self, map: &ClusterMap) -> Bytes {
        let known = self.lock().encoded.clone();
        match known {
            Some((epoch, bytes)) if epoch == map.epoch() => bytes,
            Some(_) | None => {
                let bytes = Bytes::from(map.encode());
                self.lock().encoded = Some((map.epoch(), bytes.clone()));
                bytes
            }
        }
    }

    /// Shows readers what is in the engine now.
    pub(crate) fn publish(&self, catalog: &Catalog, at: Position) {
        let epoch = {
            let mut state = self.lock();
            state.applied = Applied {
                at,
                ceiling: catalog.ceiling(),
            };
            state.catalog.epoch()
        };
        if catalog.epoch() <= epoch {
            return;
        }
        let before = self.map();
        let map = catalog.cluster_map_on(before.as_ref().map(|map| map.ring()));
        // The catalog first: who is woken by the map reads a catalog that is as new.
        self.lock().catalog = Arc::new(catalog.clone());
        self.map.send_replace(map.map(Arc::new));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}
