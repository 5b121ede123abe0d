//! What routers and groups both have to know of a transaction. Pure.

use crate::shard::Txn;
use crate::shard::operation::Operation;

/// Whether it writes in no branch: then it needs no entry in a log.
pub fn reads_only(txn: &Txn) -> bool {
    let mut operations = txn.then.iter().chain(&txn.otherwise);
    operations.all(|operation| match &operation.operation {
        Some(Operation::Range(_)) => true,
        Some(Operation::Txn(inner)) => reads_only(inner),
        Some(
            Operation::Place(_)
            | Operation::Remove(_)
            | Operation::Change(_)
            | Operation::Lease(_)
            | Operation::Sequence(_),
        )
        | None => false,
    })
}
