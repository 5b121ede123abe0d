//! The answer to a transaction that was executed before, read again in the history below its revision.

use std::collections::BTreeMap;

use caucus_api::Failure;
use caucus_api::shard::reply::Body;
use caucus_api::shard::request::Body as Ask;
use caucus_api::shard::write::Action;
use caucus_api::shard::{Evaluate, Participant, Prepare, Txn, TxnDone, Write};
use caucus_ring::VnodeSet;
use futures::future::try_join_all;
use prost::Message;
use tokio::time::Instant;

use super::Driver;
use crate::reads::What;
use crate::sequencer::WriteJob;
use crate::state::txn;

impl Driver {
    pub(super) async fn answer_again(&self, job: WriteJob, revision: u64) {
        let answer = match Write::decode(job.encoded.clone()) {
            Ok(write) => {
                self.read_request_again(&write, revision, job.deadline)
                    .await
            }
            Err(error) => Err(Failure::Internal(error.to_string())),
        };
        match answer {
            Ok(done) => job.answer(Body::Txn(done), revision),
            Err(failure) => job.fail(failure),
        }
    }

    async fn read_request_again(
        &self,
        write: &Write,
        revision: u64,
        deadline: Instant,
    ) -> Result<TxnDone, Failure> {
        match &write.action {
            Some(Action::Prepare(prepare)) => {
                self.read_again(write, prepare, revision, deadline).await
            }
            Some(Action::Txn(tree)) => {
                let prepare = self.alone(tree)?;
                self.read_again(write, &prepare, revision, deadline).await
            }
            // An id that was used for something else.
            Some(_) | None => Ok(forgotten(revision)),
        }
    }

    /// A transaction of this group, as one over groups with a single participant.
    pub(super) fn alone(&self, tree: &Txn) -> Result<Prepare, Failure> {
        let scope = self.parts.published.scope();
        let routing = scope.routing.as_ref().ok_or(Failure::Moved { epoch: 0 })?;
        let vnodes: VnodeSet = txn::vnodes(tree, |key| routing.vnode(key))
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        Ok(Prepare {
            txn: Some(tree.clone()),
            coordinator: self.this_group(),
            participants: vec![Participant {
                group: self.this_group(),
                vnodes: vnodes.to_packed().into(),
            }],
            ..Prepare::default()
        })
    }

    pub(super) async fn read_again(
        &self,
        write: &Write,
        prepare: &Prepare,
        revision: u64,
        deadline: Instant,
    ) -> Result<TxnDone, Failure> {
        let Some(tree) = &prepare.txn else {
            return Ok(forgotten(revision));
        };
        let evaluate = Evaluate {
            txn: Some(tree.clone()),
            base: revision.saturating_sub(1),
            revision,
            ..Evaluate::default()
        };
        let found = self.evaluate_all(write, prepare, &evaluate, deadline).await;
        let mut parts = Vec::new();
        for body in known(found)?.unwrap_or_default() {
            match body {
                Body::Prepared(part) => parts.push(part),
                _ => return Ok(forgotten(revision)),
            }
        }
        if parts.len() < prepare.participants.len() {
            return Ok(forgotten(revision));
        }
        let path = txn::path(tree, &txn::holds(tree, &txn::merge_parts(&parts)));
        let evaluate = Evaluate {
            answers: true,
            path: path.clone(),
            ..evaluate
        };
        let found = self.evaluate_all(write, prepare, &evaluate, deadline).await;
        let mut parts = Vec::new();
        for body in known(found)?.unwrap_or_default() {
            match body {
                Body::Txn(done) if done.problem.is_none() => parts.push(done.answers),
                _ => return Ok(forgotten(revision)),
            }
        }
        if parts.len() < prepare.participants.len() {
            return Ok(forgotten(revision));
        }
        Ok(TxnDone {
            revision,
            answers: txn::merge_answers(tree, &path, parts),
            path,
            ..TxnDone::default()
        })
    }

    /// What each participant's group answers.
    pub(super) async fn evaluate_all(
        &self,
        write: &Write,
        prepare: &Prepare,
        evaluate: &Evaluate,
        deadline: Instant,
    ) -> Result<Vec<Body>, Failure> {
        let shares: BTreeMap<u32, _> = prepare
            .participants
            .iter()
            .map(|participant| (participant.group, participant.vnodes.clone()))
            .collect();
        let asks = shares.into_iter().map(|(group, vnodes)| {
            let asked = Evaluate {
                vnodes,
                ..evaluate.clone()
            };
            async move {
                if group != self.this_group() {
                    return self.there(group, Ask::Evaluate(asked), deadline).await;
                }
                let footprint = asked.txn.as_ref().map(txn::footprint).unwrap_or_default();
                let what = What::Evaluate(asked, footprint);
                self.look(what, write.rules_version, deadline).await
            }
        });
        try_join_all(asks).await
    }
}

/// `None`: it can't be read any more.
fn known(found: Result<Vec<Body>, Failure>) -> Result<Option<Vec<Body>>, Failure> {
    match found {
        Ok(bodies) => Ok(Some(bodies)),
        Err(Failure::Compacted { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// It was executed at a revision; what it answered isn't known any more.
fn forgotten(revision: u64) -> TxnDone {
    TxnDone {
        revision,
        forgotten: true,
        ..TxnDone::default()
    }
}
