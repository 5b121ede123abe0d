//! What a request must be before it may enter a queue or a log.

use bytes::Bytes;
use caucus_api::shard::request::Body;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Prepare, Put, Txn, Write};
use caucus_api::{Failure, limits};
use caucus_engine::SpaceState;
use caucus_planted as planted;
use prost::Message;

use crate::reads::What;
use crate::sequencer::{Step, Touches};
use crate::state::txn;

/// A write that may enter the log.
pub(crate) struct Checked {
    pub(crate) touches: Touches,
    pub(crate) step: Option<Step>,
    pub(crate) session: u64,
    /// A client named it.
    pub(crate) is_named: bool,
    /// A transaction that writes in no branch.
    pub(crate) reads_only: bool,
}

/// Checks a write.
pub(crate) fn check_write(encoded: &Bytes, space: SpaceState) -> Result<Checked, Failure> {
    let write = Write::decode(encoded.clone())
        .map_err(|error| Failure::Invalid(format!("the write cannot be read: {error}")))?;
    let id = write
        .id
        .ok_or_else(|| Failure::Invalid("the write has no request id".to_owned()))?;
    let (touches, step) = match &write.action {
        Some(Action::Put(put)) => {
            check_key(&write.key)?;
            check_put(put)?;
            check_space(space)?;
            (Touches::Key(write.key.clone()), None)
        }
        // Deletes go on: they are how space is made.
        Some(Action::Delete(_)) => {
            check_key(&write.key)?;
            (Touches::Key(write.key.clone()), None)
        }
        Some(Action::Txn(tree)) => (check_txn(tree, space)?, None),
        // Also where there is no space: it may be what makes some.
        Some(Action::Own(tree)) => (check_txn(tree, SpaceState::Ok)?, None),
        Some(Action::Prepare(prepare)) => {
            let tree = prepare.txn.as_ref();
            let tree = tree.ok_or_else(|| invalid("there is no transaction"))?;
            (check_txn(tree, space)?, Some(check_prepare(prepare)?))
        }
        // They end what is in the state already.
        Some(Action::Commit(_)) => {
            planted::at(planted::TXN_PARTICIPANT_COMMITTING);
            (Touches::Nothing, Some(Step::Commit))
        }
        Some(Action::Decide(_) | Action::Abort(_) | Action::Forget(_)) => {
            (Touches::Nothing, Some(Step::Follow))
        }
        None => return Err(invalid("an unknown write")),
    };
    Ok(Checked {
        touches,
        step,
        session: id.session,
        is_named: write.fingerprint != 0,
        reads_only: reads_only(&write),
    })
}

/// One that was named is remembered, so it goes through the log as others do.
fn reads_only(write: &Write) -> bool {
    let tree = match &write.action {
        Some(Action::Txn(tree)) => Some(tree),
        Some(Action::Prepare(prepare)) if prepare.attempt == 0 => prepare.txn.as_ref(),
        Some(_) | None => None,
    };
    write.fingerprint == 0 && tree.is_some_and(caucus_api::txn::reads_only)
}

fn invalid(why: &str) -> Failure {
    Failure::Invalid(why.to_owned())
}

fn check_key(key: &[u8]) -> Result<(), Failure> {
    match key.is_empty() || key.len() > limits::KEY_BYTES_MAX {
        true => Err(Failure::Invalid(format!(
            "a key has 1 to {} bytes",
            limits::KEY_BYTES_MAX
        ))),
        false => Ok(()),
    }
}

fn check_put(put: &Put) -> Result<(), Failure> {
    match put.value.len() > limits::VALUE_BYTES_MAX {
        true => Err(Failure::Invalid(format!(
            "a value has at most {} bytes",
            limits::VALUE_BYTES_MAX
        ))),
        false => Ok(()),
    }
}

fn check_space(space: SpaceState) -> Result<(), Failure> {
    match space {
        SpaceState::Low => Err(Failure::NoSpace),
        SpaceState::Ok => Ok(()),
    }
}

fn check_txn(tree: &Txn, space: SpaceState) -> Result<Touches, Failure> {
    let checked = txn::check(
        tree,
        |key| check_key(key).is_ok(),
        |put| check_put(put).is_ok(),
    );
    let has_puts = checked.map_err(Failure::Invalid)?;
    if has_puts {
        check_space(space)?;
    }
    Ok(Touches::Many(txn::footprint(tree)))
}

fn check_prepare(prepare: &Prepare) -> Result<Step, Failure> {
    let named = |group| prepare.participants.iter().any(|p| p.group == group);
    if !named(prepare.coordinator) {
        return Err(invalid("the coordinator is no participant"));
    }
    Ok(match prepare.attempt {
        0 => Step::Drive,
        _ => Step::Join {
            attempt: prepare.attempt,
            age: prepare.age,
        },
    })
}

/// What a request that is no write reads.
pub(crate) fn read_job(body: Option<Body>) -> Result<What, Failure> {
    match body {
        Some(Body::Get(get)) => Ok(What::Get(get)),
        Some(Body::List(list)) => Ok(What::List(list)),
        Some(Body::History(history)) => Ok(What::History(history)),
        Some(Body::Fate(fate)) => Ok(What::Fate(fate)),
        Some(Body::Evaluate(evaluate)) => {
            let footprint = evaluate.txn.as_ref().map(txn::footprint);
            Ok(What::Evaluate(evaluate, footprint.unwrap_or_default()))
        }
        Some(Body::Replay(replay)) => Ok(What::Replay(replay)),
        Some(
            Body::Write(_) | Body::Hash(_) | Body::Compact(_) | Body::Follow(_) | Body::Lease(_),
        )
        | None => Err(invalid("an unknown request")),
    }
}
