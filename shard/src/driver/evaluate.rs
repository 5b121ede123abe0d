//! A transaction read as of a revision: what its compares find, where its path leads, what its operations
//! answer; in all groups, and without changing anything.

use std::collections::BTreeMap;

use caucus_api::Failure;
use caucus_api::shard::reply::Body;
use caucus_api::shard::request::Body as Ask;
use caucus_api::shard::{Evaluate, Participant, Prepare, Problem, Txn, TxnDone, Write};
use caucus_ring::VnodeSet;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::Driver;
use crate::reads::What;
use crate::state::txn;

impl Driver {
    /// What a transaction would answer on the state as of `base`, without a revision of its own; `None` if
    /// the groups' parts don't make an answer.
    pub(super) async fn evaluate(
        &self,
        write: &Write,
        prepare: &Prepare,
        base: u64,
        deadline: Instant,
    ) -> Result<Option<TxnDone>, Failure> {
        let Some(tree) = &prepare.txn else {
            return Ok(None);
        };
        let evaluate = Evaluate {
            txn: Some(tree.clone()),
            base,
            revision: base.saturating_add(1),
            ..Evaluate::default()
        };
        let path = match txn::has_compares(tree) {
            // Nothing is to be known before the branch is.
            false => txn::path(tree, &[]),
            true => {
                let found = self.ask_all(write, prepare, &evaluate, deadline).await?;
                let parts = found.into_iter().map(|body| match body {
                    Body::Prepared(part) => Some(part),
                    _ => None,
                });
                let Some(parts) = parts.collect::<Option<Vec<_>>>() else {
                    return Ok(None);
                };
                txn::path(tree, &txn::holds(tree, &txn::merge_parts(&parts)))
            }
        };
        let evaluate = Evaluate {
            answers: true,
            path: path.clone(),
            ..evaluate
        };
        let (mut parts, mut problems) = (Vec::new(), Vec::<Problem>::new());
        for body in self.ask_all(write, prepare, &evaluate, deadline).await? {
            let Body::Txn(done) = body else {
                return Ok(None);
            };
            problems.extend(done.problem);
            parts.push(done.answers);
        }
        if parts.len() < prepare.participants.len() {
            return Ok(None);
        }
        if let Some(problem) = txn::first_problem(tree, &path, &problems) {
            return Ok(Some(TxnDone {
                problem: Some(problem),
                ..TxnDone::default()
            }));
        }
        Ok(Some(TxnDone {
            answers: txn::merge_answers(tree, &path, parts),
            path,
            ..TxnDone::default()
        }))
    }

    /// A transaction of this group, as one over groups with a single participant.
    pub(super) fn alone(&self, tree: &Txn) -> Result<Prepare, Failure> {
        let scope = self.parts.published.scope();
        let routing = scope.routing.as_ref().ok_or(Failure::Moved { epoch: 0 })?;
        let vnodes: VnodeSet =
            txn::vnodes(tree, routing).map_err(|error| Failure::Invalid(error.to_string()))?;
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

    /// What each participant's group answers.
    async fn ask_all(
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
