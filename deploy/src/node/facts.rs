//! What this node says of itself through etcd's API.

use std::sync::Arc;

use caucus_engine::{Engine, SpaceState};
use caucus_ring::NodeId;
use caucus_router::etcd::{Database, NodeFacts};
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

/// The node and its engine.
pub(super) struct Facts {
    node: NodeId,
    engine: Arc<dyn Engine>,
    /// One defragmentation at a time: another one would only make both slower.
    defragmenting: Arc<Semaphore>,
}

impl Facts {
    pub(super) fn new(node: NodeId, engine: Arc<dyn Engine>) -> Facts {
        Facts {
            node,
            engine,
            defragmenting: Arc::new(Semaphore::new(1)),
        }
    }
}

impl NodeFacts for Facts {
    fn node(&self) -> NodeId {
        self.node
    }

    fn database(&self) -> Database {
        let stats = self.engine.stats();
        Database {
            bytes: stats.disk_bytes + stats.wal_bytes,
            data_bytes: stats.disk_bytes,
            is_full: self.engine.space() == SpaceState::Low,
        }
    }

    fn defragment(&self) -> BoxFuture<'static, Result<(), String>> {
        let engine = self.engine.clone();
        let turn = self.defragmenting.clone().try_acquire_owned();
        Box::pin(async move {
            let Ok(turn) = turn else {
                return Err("the database is being defragmented already".to_owned());
            };
            let compacted = tokio::task::spawn_blocking(move || {
                let done = engine.compact();
                drop(turn);
                done
            });
            match compacted.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the database could not be defragmented".to_owned()),
            }
        })
    }
}
