//! A state that arrives: under a storage id of its own until it takes over.

use std::sync::Arc;

use caucus_engine::{Engine, Error, Space, WriteBatch, keys};

use super::Places;

/// A storage id that no replica points to yet. Whoever drops it before it took over (a transfer that
/// broke off, a snapshot that openraft refused) removes what is stored there.
pub(crate) struct Staged {
    engine: Arc<dyn Engine>,
    storage: keys::StorageId,
    kept: bool,
}

impl Staged {
    pub(crate) fn new(engine: Arc<dyn Engine>, places: &Places) -> Result<Staged, Error> {
        Ok(Staged {
            storage: places.allocate()?,
            engine,
            kept: false,
        })
    }

    pub(crate) fn storage(&self) -> keys::StorageId {
        self.storage
    }

    /// A replica points to it from now on, or may do so after a crash.
    pub(crate) fn keep(mut self) -> keys::StorageId {
        self.kept = true;
        self.storage
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut batch = WriteBatch::new();
        batch.delete_range(Space::State, keys::prefix_range(self.storage));
        if let Err(error) = self.engine.write(batch.essential()) {
            // The sweep at the next start removes it.
            tracing::warn!(%error, "an unfinished snapshot cannot be removed now");
        }
    }
}
