//! Transactions as commands: in one group, or step by step over several (protocols.md §6).
//!
//! ```text
//!  coordinator   Prepare ───────────────▶ Decide (and commit) ──────────▶ Forget
//!                   │ attempt = its revision     ▲ all said yes   │           ▲ all confirmed
//!  participant      └──▶ Prepare ────────────────┘                └▶ Commit ──┘
//! ```
//!
//! The coordinator's own Prepare comes first and its revision names the attempt; Decide is applied only
//! while exactly that Prepare stands. So "no record in the coordinator" means aborted, and nothing has to
//! be remembered of what was aborted.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::shard::outcome::Kind;
use caucus_api::shard::{self as api};
use caucus_api::shard::{Answer, Attempt, Commit, Decide, Outcome, Part, Prepare, TxnDone, Write};
use caucus_engine::Error;
use caucus_raft::Txn;
use caucus_ring::VnodeSet;

use super::leases::LeaseChanges;
use super::machine::{GroupState, Refusal, Verdict};
use super::published::Routing;
use super::record::DedupRecord;
use super::txn::{self, Part as Own, Trouble, View};
use super::versions::When;

/// Transactions over groups that one group holds at a time.
const ATTEMPTS_MAX: usize = 4096;

/// What a transaction did to a view.
struct Written {
    keys: BTreeMap<Bytes, Option<api::Record>>,
    leases: LeaseChanges,
}

impl GroupState {
    /// A transaction of this group alone.
    pub(super) fn transact(
        &mut self,
        txn: &mut Txn,
        write: &Write,
        tree: &api::Txn,
        revision: u64,
        executed: &mut DedupRecord,
    ) -> Result<Verdict, Error> {
        let (routing, vnodes) = match self.place(write, tree) {
            Ok(place) => place,
            Err(refusal) => return Ok(Verdict::Refused(refusal)),
        };
        let id = write.id.unwrap_or_default();
        if let Some(verdict) = self.seen(&id, write.fingerprint, executed) {
            return Ok(verdict);
        }
        let verdict = self.execute_alone(txn, &routing, &vnodes, tree, revision)?;
        if let Verdict::Txn(_) = verdict {
            let did = (routing.home_vnode(&write.key), outcome(revision));
            self.remember(txn, &id, write.fingerprint, did, executed);
        }
        Ok(verdict)
    }

    /// A transaction that the leader makes by itself.
    pub(super) fn own(
        &mut self,
        txn: &mut Txn,
        write: &Write,
        tree: &api::Txn,
        revision: u64,
    ) -> Result<Verdict, Error> {
        match self.place(write, tree) {
            Ok((routing, vnodes)) => self.execute_alone(txn, &routing, &vnodes, tree, revision),
            Err(refusal) => Ok(Verdict::Refused(refusal)),
        }
    }

    /// The vnodes of a transaction, all of which are this group's. The sender's key is one of them: it may
    /// only be there to find the group.
    fn place(&self, write: &Write, tree: &api::Txn) -> Result<(Routing, VnodeSet), Refusal> {
        let routing = self.routing.clone().ok_or(Refusal::Moved)?;
        if write.rules_version != routing.rules.version() {
            return Err(Refusal::Rules);
        }
        let vnodes = txn::vnodes(tree, &routing).map_err(|_| Refusal::Malformed)?;
        let names = |key: &[u8]| key.is_empty() || self.vnodes.owns(routing.home_vnode(key));
        match self.vnodes.owns_all(&vnodes) && names(&write.key) {
            true => Ok((routing, vnodes)),
            false => Err(Refusal::Moved),
        }
    }

    fn execute_alone(
        &mut self,
        txn: &mut Txn,
        routing: &Routing,
        vnodes: &VnodeSet,
        tree: &api::Txn,
        revision: u64,
    ) -> Result<Verdict, Error> {
        if revision <= self.highest {
            return Ok(Verdict::Refused(Refusal::Overtaken));
        }
        if let Some(holder) = self.attempts.in_the_way(&txn::footprint(tree)) {
            return Ok(Verdict::Refused(Refusal::Locked(holder)));
        }
        let (done, written) = match self.evaluate(txn, routing, vnodes, tree, revision) {
            Ok(evaluated) => evaluated,
            Err(Trouble::Problem(problem)) => {
                return Ok(Verdict::Refused(Refusal::Problem(problem)));
            }
            Err(Trouble::Engine(error)) => return Err(error),
        };
        let mut effects = self.effects(txn);
        effects.install_all(routing, written.keys, revision)?;
        effects.install_leases(routing, written.leases);
        self.highest = revision;
        Ok(Verdict::Txn(done))
    }

    fn evaluate(
        &self,
        txn: &Txn,
        routing: &Routing,
        vnodes: &VnodeSet,
        tree: &api::Txn,
        revision: u64,
    ) -> Result<(TxnDone, Written), Trouble> {
        let occupied = self.published.occupied();
        let own = self.part(txn, routing, vnodes, &occupied);
        let mut view = View::new(own, When::Now, revision);
        let found = txn::survey(tree, &view)?;
        let path = txn::path(tree, &txn::holds(tree, &found));
        let answers = match txn::answer(tree, &path, &mut view) {
            Err(Trouble::Problem(problem)) => {
                let before = View::new(own, When::Now, revision);
                let problems = txn::problems(tree, &before)?;
                let first = txn::first_problem(tree, &path, &problems);
                return Err(Trouble::Problem(first.unwrap_or(problem)));
            }
            answered => answered?,
        };
        let done = TxnDone {
            revision,
            answers: txn::merge_answers(tree, &path, vec![answers]),
            path,
            ..TxnDone::default()
        };
        let written = Written {
            keys: view.written,
            leases: view.leases,
        };
        Ok((done, written))
    }

    fn part<'a>(
        &'a self,
        txn: &'a Txn,
        routing: &'a Routing,
        vnodes: &'a VnodeSet,
        occupied: &'a VnodeSet,
    ) -> Own<'a> {
        Own {
            reader: txn,
            storage: txn.storage(),
            routing,
            vnodes,
            occupied,
            compacted: self.compacted,
            leases: Some(self.published.leases()),
        }
    }

    /// Locks this group's part of a transaction over groups, and says what its compares find.
    pub(super) fn prepare(
        &mut self,
        txn: &mut Txn,
        write: &Write,
        prepare: &Prepare,
        revision: u64,
        executed: &DedupRecord,
    ) -> Result<Verdict, Error> {
        let Some(routing) = self.routing.clone() else {
            return Ok(Verdict::Refused(Refusal::Moved));
        };
        if write.rules_version != routing.rules.version() {
            return Ok(Verdict::Refused(Refusal::Rules));
        }
        let (Some(tree), Some(vnodes)) = (&prepare.txn, self.share(prepare)) else {
            return Ok(Verdict::Refused(Refusal::Malformed));
        };
        if !self.vnodes.owns_all(&vnodes) {
            return Ok(Verdict::Refused(Refusal::Moved));
        }
        let coordinates = prepare.coordinator == self.group;
        let attempt = match coordinates {
            true => revision,
            false => prepare.attempt,
        };
        let age = match prepare.age {
            0 => attempt,
            age => age,
        };
        if self.attempts.get(attempt).is_none() {
            let id = write.id.unwrap_or_default();
            if coordinates && let Some(verdict) = self.seen(&id, write.fingerprint, executed) {
                return Ok(verdict);
            }
            if revision <= self.highest {
                return Ok(Verdict::Refused(Refusal::Overtaken));
            }
            if let Some(holder) = self.attempts.in_the_way(&txn::footprint(tree)) {
                return Ok(Verdict::Refused(Refusal::Locked(holder)));
            }
            if self.attempts.len() >= ATTEMPTS_MAX {
                return Ok(Verdict::Refused(Refusal::Full));
            }
        }
        let part = match self.look(txn, &routing, &vnodes, tree, revision) {
            Ok(part) => part,
            Err(Trouble::Engine(error)) => return Err(error),
            Err(Trouble::Problem(problem)) => {
                return Ok(Verdict::Refused(Refusal::Problem(problem)));
            }
        };
        if self.attempts.get(attempt).is_none() {
            let record = Attempt {
                id: write.id,
                key: write.key.clone(),
                prepare: Some(prepare.clone()),
                attempt,
                age,
                floor: self.highest,
                revision: 0,
                path: Vec::new(),
                fingerprint: write.fingerprint,
            };
            let standing = self.published.standing();
            self.attempts.prepare(txn, record, standing);
            self.highest = revision;
        }
        Ok(Verdict::Prepared { attempt, age, part })
    }

    /// The vnodes that a transaction has in this group.
    fn share(&self, prepare: &Prepare) -> Option<VnodeSet> {
        let mut participants = prepare.participants.iter();
        let own = participants.find(|participant| participant.group == self.group)?;
        VnodeSet::from_packed(&own.vnodes).ok()
    }

    fn look(
        &self,
        txn: &Txn,
        routing: &Routing,
        vnodes: &VnodeSet,
        tree: &api::Txn,
        revision: u64,
    ) -> Result<Part, Trouble> {
        let occupied = self.published.occupied();
        let own = self.part(txn, routing, vnodes, &occupied);
        let view = View::new(own, When::Now, revision);
        Ok(Part {
            compared: txn::survey(tree, &view)?,
            problems: txn::problems(tree, &view)?,
        })
    }

    /// The point of no return: this revision is the transaction's.
    pub(super) fn decide(
        &mut self,
        txn: &mut Txn,
        decide: &Decide,
        revision: u64,
        executed: &mut DedupRecord,
    ) -> Result<Verdict, Error> {
        let Some(attempt) = self.attempts.get(decide.attempt).cloned() else {
            return Ok(Verdict::Refused(Refusal::Aborted));
        };
        if attempt.revision > 0 {
            return Ok(Verdict::Committed {
                revision: attempt.revision,
                path: attempt.path.clone(),
                answers: None,
            });
        }
        if !self.coordinates(&attempt) {
            return Ok(Verdict::Refused(Refusal::Malformed));
        }
        if revision <= self.highest {
            return Ok(Verdict::Refused(Refusal::Overtaken));
        }
        let id = attempt.id.unwrap_or_default();
        let seen = self.seen(&id, attempt.fingerprint, executed);
        if seen.is_some() {
            // Executed in another way since it was prepared, or given up by its session: an id executes
            // once, and what is remembered of it is the same after a restart. The driver begins anew,
            // and is told.
            self.attempts.remove(txn, decide.attempt);
            return Ok(Verdict::Refused(Refusal::Aborted));
        }
        let answers = self.execute(txn, &attempt, &decide.path, revision)?;
        if let Some(routing) = self.routing.clone() {
            let home = routing.home_vnode(&attempt.key);
            let did = (home, outcome(revision));
            self.remember(txn, &id, attempt.fingerprint, did, executed);
        }
        let path = decide.path.clone();
        self.attempts
            .decide(txn, decide.attempt, revision, path.clone());
        self.highest = revision;
        Ok(Verdict::Committed {
            revision,
            path,
            answers,
        })
    }

    fn coordinates(&self, attempt: &Attempt) -> bool {
        let prepare = attempt.prepare.as_ref();
        prepare.is_some_and(|prepare| prepare.coordinator == self.group)
    }

    /// Executes this group's part of what was decided elsewhere. Its keys are locked, so its revision
    /// may lie below what was applied meanwhile.
    pub(super) fn commit(&mut self, txn: &mut Txn, commit: &Commit) -> Result<Verdict, Error> {
        let Some(attempt) = self.attempts.get(commit.attempt).cloned() else {
            return Ok(Verdict::Committed {
                revision: commit.revision,
                path: commit.path.clone(),
                answers: None,
            });
        };
        if self.coordinates(&attempt) {
            return Ok(Verdict::Refused(Refusal::Malformed));
        }
        let answers = self.execute(txn, &attempt, &commit.path, commit.revision)?;
        self.attempts.remove(txn, commit.attempt);
        self.highest = self.highest.max(commit.revision);
        Ok(Verdict::Committed {
            revision: commit.revision,
            path: commit.path.clone(),
            answers,
        })
    }

    /// Executes this group's part; its answers, unless one can't be had any more.
    fn execute(
        &mut self,
        txn: &mut Txn,
        attempt: &Attempt,
        path: &[bool],
        revision: u64,
    ) -> Result<Option<Vec<Answer>>, Error> {
        let prepare = attempt.prepare.as_ref();
        let parts = prepare.and_then(|prepare| Some((prepare.txn.as_ref()?, self.share(prepare)?)));
        let (Some((tree, vnodes)), Some(routing)) = (parts, self.routing.clone()) else {
            return Ok(Some(Vec::new()));
        };
        let occupied = self.published.occupied();
        let own = self.part(txn, &routing, &vnodes, &occupied);
        let mut view = View::new(own, When::Now, revision);
        let answers = txn::answer_decided(tree, path, &mut view)?;
        let (written, leases) = (view.written, view.leases);
        let mut effects = self.effects(txn);
        effects.install_all(&routing, written, revision)?;
        effects.install_leases(&routing, leases);
        Ok(answers)
    }

    /// Drops an attempt that isn't decided.
    pub(super) fn abort(&mut self, txn: &mut Txn, attempt: u64) -> Verdict {
        match self.attempts.get(attempt) {
            Some(decided) if decided.revision > 0 => Verdict::Committed {
                revision: decided.revision,
                path: decided.path.clone(),
                answers: None,
            },
            Some(_) => {
                self.attempts.remove(txn, attempt);
                Verdict::Stepped
            }
            None => Verdict::Stepped,
        }
    }

    /// Drops a decision that all participants have confirmed.
    pub(super) fn forget(&mut self, txn: &mut Txn, attempt: u64) -> Verdict {
        let decided = self.attempts.get(attempt);
        if decided.is_some_and(|decided| decided.revision > 0) {
            self.attempts.remove(txn, attempt);
        }
        Verdict::Stepped
    }
}

fn outcome(revision: u64) -> Outcome {
    Outcome {
        kind: Kind::Txn as i32,
        revision,
        ..Outcome::default()
    }
}
