//! Transactions: of one group, and step by step over several.

use caucus_api::shard::operation::Operation as Asked;
use caucus_api::shard::problem::Kind as Trouble;
use caucus_api::shard::{
    Answer, Attempt, Commit, Decide, Part, Prepare, Problem, Span, Txn, TxnDone, Write,
};
use caucus_ring::VnodeSet;

use super::super::super::{Refusal, Verdict};
use super::locks::all_touched;
use super::ops::{self, World};
use super::sight::Sight;
use super::{Fault, Model};

/// An operation with its number in the tree.
type Numbered<'t> = (u32, Option<&'t Asked>);

/// Goes through a tree; `holds` says of each transaction that is reached whether its compares hold.
struct Walk<'t, 'f> {
    number: u32,
    all: Vec<Numbered<'t>>,
    chosen: Vec<Numbered<'t>>,
    path: Vec<bool>,
    holds: &'f mut dyn FnMut(&'t Txn) -> bool,
}

impl<'t> Walk<'t, '_> {
    fn go(&mut self, tree: &'t Txn, reached: bool) {
        let holds = reached && (self.holds)(tree);
        if reached {
            self.path.push(holds);
        }
        let branches = [(&tree.then, holds), (&tree.otherwise, !holds)];
        for (operations, taken) in branches {
            for operation in operations {
                if let Some(Asked::Txn(inner)) = &operation.operation {
                    self.go(inner, reached && taken);
                    continue;
                }
                let numbered = (self.number, operation.operation.as_ref());
                self.number += 1;
                self.all.push(numbered);
                if reached && taken {
                    self.chosen.push(numbered);
                }
            }
        }
    }
}

fn walk<'t, 'f>(tree: &'t Txn, holds: &'f mut dyn FnMut(&'t Txn) -> bool) -> Walk<'t, 'f> {
    let mut walk = Walk {
        number: 0,
        all: Vec::new(),
        chosen: Vec::new(),
        path: Vec::new(),
        holds,
    };
    walk.go(tree, true);
    walk
}

fn problem((operation, _): Numbered<'_>, kind: Trouble) -> Problem {
    let kind = kind as i32;
    Problem { operation, kind }
}

fn reads_or_removes((_, asked): &Numbered<'_>) -> bool {
    matches!(asked, Some(Asked::Range(_) | Asked::Remove(_)))
}

impl Model {
    /// A transaction that is all in this group. `named`: it has an id.
    pub(super) fn transact(
        &mut self,
        write: &Write,
        tree: &Txn,
        revision: u64,
        named: bool,
    ) -> Result<Verdict, Refusal> {
        if write.rules_version != self.rules.version() {
            return Err(Refusal::Rules);
        }
        let mut vnodes = VnodeSet::new();
        self.vnodes_of(tree, &mut vnodes)?;
        let mine = vnodes.clone();
        if !write.key.is_empty() {
            vnodes.insert(self.home(&write.key));
        }
        self.routed(write, &vnodes)?;
        let id = write.id.unwrap_or_default();
        if named && let Some(verdict) = self.ids.seen(&id, write.fingerprint, self.fault) {
            return Ok(verdict);
        }
        self.rises(revision)?;
        self.unlocked(&all_touched(tree))?;
        let before = self.world();
        let mut after = before.clone();
        let sight = Sight {
            model: self,
            mine: &mine,
            revision,
        };
        let done = match alone(&sight, tree, &before, &mut after) {
            Err(_) if self.has(Fault::HalfDone) => TxnDone::default(),
            done => done.map_err(Refusal::Problem)?,
        };
        self.become_of(after, revision);
        self.highest = self.highest.max(revision);
        if named {
            self.remember(write.id, write.fingerprint, revision);
        }
        Ok(Verdict::Txn(done))
    }

    /// All vnodes that a tree of this group touches.
    fn vnodes_of(&self, tree: &Txn, all: &mut VnodeSet) -> Result<(), Refusal> {
        let spans = |span: Option<&Span>, all: &mut VnodeSet| {
            let Some(span) = span else { return Ok(()) };
            if !span.range {
                all.insert(self.vnode(&span.start));
                return Ok(());
            }
            let named = VnodeSet::from_packed(&span.vnodes).map_err(|_| Refusal::Malformed)?;
            all.union_with(&named);
            Ok(())
        };
        for compare in &tree.compares {
            spans(compare.span.as_ref(), all)?;
        }
        for operation in tree.then.iter().chain(&tree.otherwise) {
            match &operation.operation {
                Some(Asked::Range(range)) => spans(range.span.as_ref(), all)?,
                Some(Asked::Remove(remove)) => spans(remove.span.as_ref(), all)?,
                Some(Asked::Place(place)) => _ = all.insert(self.vnode(&place.key)),
                Some(Asked::Change(change)) => _ = all.insert(self.vnode(&change.key)),
                Some(Asked::Sequence(of)) => _ = all.insert(self.vnode(&of.counter)),
                Some(Asked::Txn(inner)) => self.vnodes_of(inner, all)?,
                Some(Asked::Lease(step)) => {
                    use caucus_api::shard::lease_step::Kind;
                    if !matches!(step.kind(), Kind::Open | Kind::Close) {
                        all.insert(self.ring.lease_vnode(step.id));
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    fn coordinates(&self, prepare: &Prepare) -> bool {
        prepare.coordinator == self.group
    }

    /// The vnodes of a transaction over groups that are this group's.
    fn share(&self, prepare: &Prepare) -> Option<VnodeSet> {
        let mut participants = prepare.participants.iter();
        let own = participants.find(|participant| participant.group == self.group)?;
        VnodeSet::from_packed(&own.vnodes).ok()
    }

    pub(super) fn prepare(
        &mut self,
        write: &Write,
        prepare: &Prepare,
        revision: u64,
    ) -> Result<Verdict, Refusal> {
        self.routed(write, &VnodeSet::new())?;
        let share = self.share(prepare).ok_or(Refusal::Malformed)?;
        let tree = prepare.txn.as_ref().ok_or(Refusal::Malformed)?;
        self.routed(write, &share)?;
        let coordinates = self.coordinates(prepare);
        let attempt = if coordinates {
            revision
        } else {
            prepare.attempt
        };
        let age = if prepare.age == 0 {
            attempt
        } else {
            prepare.age
        };
        let stands = self.attempts.contains_key(&attempt);
        if !stands {
            let id = write.id.unwrap_or_default();
            if coordinates && let Some(verdict) = self.ids.seen(&id, write.fingerprint, self.fault)
            {
                return Ok(verdict);
            }
            self.rises(revision)?;
            self.unlocked(&all_touched(tree))?;
        }
        let world = self.world();
        let sight = Sight {
            model: self,
            mine: &share,
            revision,
        };
        let compared = sight.look_all(tree, &world);
        let part = Part {
            compared: compared.unwrap_or_default(),
            problems: problems(&sight, tree, &world),
        };
        if !stands {
            let prepared = Attempt {
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
            self.attempts.insert(attempt, prepared);
            self.highest = self.highest.max(revision);
        }
        Ok(Verdict::Prepared { attempt, age, part })
    }

    pub(super) fn decide(&mut self, decide: &Decide, revision: u64) -> Result<Verdict, Refusal> {
        let attempt = self.attempts.get(&decide.attempt).cloned();
        let attempt = attempt.ok_or(Refusal::Aborted)?;
        if attempt.revision > 0 {
            return Ok(committed(attempt.revision, &attempt.path, None));
        }
        let prepare = attempt.prepare.clone().unwrap_or_default();
        if !self.coordinates(&prepare) {
            return Err(Refusal::Malformed);
        }
        self.rises(revision)?;
        let id = attempt.id.unwrap_or_default();
        if self
            .ids
            .seen(&id, attempt.fingerprint, self.fault)
            .is_some()
        {
            // The same request was executed, or given up, since this was prepared.
            self.attempts.remove(&decide.attempt);
            return Err(Refusal::Aborted);
        }
        let answers = self.finish(&prepare, &decide.path, revision);
        self.remember(attempt.id, attempt.fingerprint, revision);
        self.highest = self.highest.max(revision);
        if let Some(attempt) = self.attempts.get_mut(&decide.attempt) {
            attempt.revision = revision;
            attempt.path = decide.path.clone();
        }
        Ok(committed(revision, &decide.path, answers))
    }

    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Verdict, Refusal> {
        let Some(attempt) = self.attempts.get(&commit.attempt).cloned() else {
            return Ok(committed(commit.revision, &commit.path, None));
        };
        let prepare = attempt.prepare.unwrap_or_default();
        if self.coordinates(&prepare) {
            return Err(Refusal::Malformed);
        }
        let revision = match self.has(Fault::CommitsLate) {
            true => self.highest.max(commit.revision),
            false => commit.revision,
        };
        let answers = self.finish(&prepare, &commit.path, revision);
        self.attempts.remove(&commit.attempt);
        self.highest = self.highest.max(commit.revision);
        Ok(committed(commit.revision, &commit.path, answers))
    }

    /// Executes what was decided. What can't be executed is left out, and then nobody knows the answers.
    fn finish(&mut self, prepare: &Prepare, path: &[bool], revision: u64) -> Option<Vec<Answer>> {
        let tree = prepare.txn.clone().unwrap_or_default();
        let mine = self.share(prepare).unwrap_or_default();
        let mut world = self.world();
        let mut way = path.iter();
        let mut holds = |_: &Txn| way.next().copied().unwrap_or(false);
        let chosen = walk(&tree, &mut holds).chosen;
        let sight = Sight {
            model: self,
            mine: &mine,
            revision,
        };
        let mut answers = Some(Vec::new());
        for (_, asked) in chosen {
            match (ops::execute(asked, &sight, &mut world, false), &mut answers) {
                (Ok(answer), Some(answers)) => answers.push(Answer { answer }),
                (Ok(_), None) => {}
                (Err(_), _) => answers = None,
            }
        }
        self.become_of(world, revision);
        answers
    }

    pub(super) fn abort(&mut self, attempt: u64) -> Verdict {
        match self.attempts.get(&attempt) {
            Some(decided) if decided.revision > 0 => {
                committed(decided.revision, &decided.path, None)
            }
            Some(_) if self.has(Fault::AbortKeepsLocks) => Verdict::Stepped,
            Some(_) | None => {
                self.attempts.remove(&attempt);
                Verdict::Stepped
            }
        }
    }

    pub(super) fn forget(&mut self, attempt: u64) -> Verdict {
        self.attempts
            .retain(|number, decided| *number != attempt || decided.revision == 0);
        Verdict::Stepped
    }
}

fn committed(revision: u64, path: &[bool], answers: Option<Vec<Answer>>) -> Verdict {
    Verdict::Committed {
        revision,
        path: path.to_vec(),
        answers,
    }
}

/// Executes a transaction where this group is all there is.
fn alone(
    sight: &Sight<'_>,
    tree: &Txn,
    before: &World,
    after: &mut World,
) -> Result<TxnDone, Problem> {
    let turns = sight.model.has(Fault::TurnsNested);
    let mut outer = true;
    let mut holds = |tree: &Txn| {
        let turned = turns && !std::mem::take(&mut outer);
        let holds = |compare| sight.holds(compare, before).unwrap_or(false);
        tree.compares.iter().all(holds) != turned
    };
    let walk = walk(tree, &mut holds);
    let mut answers = Vec::new();
    for numbered in &walk.chosen {
        match ops::execute(numbered.1, sight, after, true) {
            Ok(answer) => answers.push(Answer { answer }),
            Err(kind) => {
                // What is wrong from the beginning is told of first, and of that writes first.
                let mut wrong: Vec<_> = walk
                    .chosen
                    .iter()
                    .filter_map(|n| Some((n, ops::check(n.1, sight, before).err()?)))
                    .collect();
                wrong.sort_by_key(|(n, _)| reads_or_removes(n));
                return Err(match wrong.first() {
                    Some((n, kind)) => problem(**n, *kind),
                    None => problem(*numbered, kind),
                });
            }
        }
    }
    Ok(TxnDone {
        revision: sight.revision,
        path: walk.path,
        answers,
        ..TxnDone::default()
    })
}

/// All that can't be executed, wherever the path leads.
fn problems(sight: &Sight<'_>, tree: &Txn, world: &World) -> Vec<Problem> {
    let mut nowhere = |_: &Txn| false;
    let all = walk(tree, &mut nowhere).all.into_iter();
    all.filter_map(|n| Some(problem(n, ops::check(n.1, sight, world).err()?)))
        .collect()
}
