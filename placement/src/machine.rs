//! The catalog as the state machine of the placement group.
//!
//! Two records in the engine, because the ceiling rises all the time and the catalog is large. They
//! are written once a round of applies, not once a command.

use std::sync::Arc;

use bytes::Bytes;
use caucus_engine::{Error, keys};
use caucus_raft::{Position, Reply, StateMachine, StateView, Txn};
use caucus_ring::Revision;

use crate::catalog::{Answer, Catalog, Changed, Command, Refusal};
use crate::view::CatalogView;

/// `record` of [`keys::meta`]: the catalog without its ceiling. For ever.
const META_CATALOG: u8 = 16;
/// `record` of [`keys::meta`]: the ceiling, a big-endian u64. For ever.
const META_CEILING: u8 = 17;

/// What the proposer of a command learns.
pub type ApplyResult = Result<Answer, Refusal>;

/// A state machine for one replica of the placement group, and what readers see of it.
pub fn machine() -> (Machine, Arc<CatalogView>) {
    let view = Arc::new(CatalogView::new());
    let machine = Machine {
        catalog: Catalog::new(),
        changed: Changed::default(),
        view: view.clone(),
    };
    (machine, view)
}

/// See [`machine()`].
#[derive(Debug)]
pub struct Machine {
    catalog: Catalog,
    /// In this round of applies.
    changed: Changed,
    view: Arc<CatalogView>,
}

impl StateMachine for Machine {
    fn open(&mut self, state: &StateView) -> Result<(), Error> {
        let storage = state.storage();
        let ceiling = match state.get(&keys::meta(storage, META_CEILING))? {
            Some(bytes) => u64::from_be_bytes(
                bytes[..]
                    .try_into()
                    .map_err(|_| corrupt("the ceiling has not eight bytes"))?,
            ),
            None => 0,
        };
        let catalog = state.get(&keys::meta(storage, META_CATALOG))?;
        self.catalog = Catalog::decode(&catalog.unwrap_or_default(), Revision(ceiling))
            .map_err(|error| corrupt(&error.to_string()))?;
        self.changed = Changed::default();
        Ok(())
    }

    fn apply(
        &mut self,
        _txn: &mut Txn,
        _at: Position,
        command: Bytes,
        wanted: bool,
    ) -> Result<Reply, Error> {
        // Of a version that this process doesn't know: to skip it would make a state that no other
        // replica has.
        let command = Command::decode(&command).map_err(|error| corrupt(&error.to_string()))?;
        let outcome = self.catalog.apply(command);
        self.changed.catalog |= outcome.changed.catalog;
        self.changed.ceiling |= outcome.changed.ceiling;
        Ok(match wanted {
            true => Reply::new::<ApplyResult>(outcome.answer),
            false => Reply::none(),
        })
    }

    fn finish(&mut self, txn: &mut Txn) -> Result<(), Error> {
        let changed = std::mem::take(&mut self.changed);
        if changed.catalog {
            txn.put(
                keys::meta(txn.storage(), META_CATALOG),
                self.catalog.encode(),
            );
        }
        if changed.ceiling {
            let ceiling = self.catalog.ceiling().0.to_be_bytes();
            txn.put(
                keys::meta(txn.storage(), META_CEILING),
                Bytes::copy_from_slice(&ceiling),
            );
        }
        Ok(())
    }

    fn published(&mut self, at: Position) {
        self.view.publish(&self.catalog, at);
    }
}

fn corrupt(reason: &str) -> Error {
    Error::Corruption {
        context: format!("the catalog: {reason}"),
    }
}
