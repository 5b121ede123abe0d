//! The one door: a command is applied here or nowhere.

use std::sync::Arc;

use bytes::Bytes;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::write::Action;
use caucus_api::shard::{
    Answer, Batch, Bootstrap, Command, Outcome, Part, Problem, RequestId, TxnDone, Write,
};
use caucus_engine::keys;
use caucus_planted as planted;
use caucus_raft::{Position, Reply, StateMachine, StateView, Txn};
use caucus_ring::{Ring, Rules, Vnode, VnodeSet, wire};
use prost::Message;

use super::attempts::Attempts;
use super::changes;
use super::dedup::{Dedup, Forgotten, ITEMS_MAX, Known};
use super::heads::Heads;
use super::idempotent::{Idempotent, Name};
use super::leases::LeaseChanges;
use super::ownership::Ownership;
use super::published::{Published, Routing, Scope};
use super::record::{
    self, DedupItem, DedupRecord, GroupRecord, META_GROUP, META_POSITION, PositionRecord,
    SessionRecord, corrupt,
};
use super::txn::Holder;
use super::write::Effects;
use crate::watch::Change;

/// The answer to a batch: one verdict for each write, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The verdicts.
    pub verdicts: Vec<Verdict>,
    /// The highest revision applied in the group, with this batch.
    pub highest: u64,
}

/// What became of one write.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It was executed, now or when it came first.
    Done(Outcome),
    /// A transaction was executed now. One that was executed before is `Done`.
    Txn(TxnDone),
    /// A transaction over groups is prepared here.
    Prepared {
        /// Its name.
        attempt: u64,
        /// The revision of the request's first attempt.
        age: u64,
        /// What this group found.
        part: Part,
    },
    /// A transaction over groups is committed here, now or before.
    Committed {
        /// Its revision.
        revision: u64,
        /// Its way through the tree.
        path: Vec<bool>,
        /// This group's part of the answers; `None` if it was committed before, or they can't be had.
        answers: Option<Vec<Answer>>,
    },
    /// A step of a transaction over groups is done or had nothing to do.
    Stepped,
    /// It left no trace.
    Refused(Refusal),
}

/// Why a write left no trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Refusal {
    /// The group doesn't own the key's vnode.
    Moved,
    /// The group doesn't know any more whether it executed this id.
    Expired,
    /// A revision at or above its own is applied: it needs a new one.
    Overtaken,
    /// It was sent under other routing rules.
    Rules,
    /// It can't be read.
    Malformed,
    /// A prepared transaction is in the way: it needs a new revision when that has ended.
    Locked(Holder),
    /// The attempt doesn't stand prepared any more.
    Aborted,
    /// An operation asks for what can't be.
    Problem(Problem),
    /// Too many transactions stand prepared.
    Full,
    /// Its client gave its name to another request before.
    NameTaken,
}

/// The state machine of one replica of a data group.
pub struct GroupState {
    pub(super) published: Arc<Published>,
    pub(super) routing: Option<Routing>,
    /// This group.
    pub(super) group: u32,
    pub(super) vnodes: Ownership,
    pub(super) heads: Heads,
    pub(super) attempts: Attempts,
    dedup: Dedup,
    idempotent: Idempotent,
    /// Of the entry that is being applied, in ms.
    time: u64,
    pub(super) highest: u64,
    /// What was replaced up to here isn't kept.
    pub(super) compacted: u64,
    /// Whether the scope must be published with the next position.
    rescoped: bool,
    /// The index of the last command of this round.
    round_end: u64,
    dedup_items_max: usize,
    /// By this round, in the order of the log.
    changes: Vec<Change>,
}

impl GroupState {
    /// A state machine with nothing in it, and its read side.
    pub fn new() -> (GroupState, Arc<Published>) {
        let published = Arc::new(Published::default());
        let state = GroupState {
            published: published.clone(),
            routing: None,
            group: 0,
            vnodes: Ownership::default(),
            heads: Heads::default(),
            attempts: Attempts::default(),
            dedup: Dedup::new(0, ITEMS_MAX),
            idempotent: Idempotent::default(),
            time: 0,
            highest: 0,
            compacted: 0,
            rescoped: false,
            round_end: 0,
            dedup_items_max: ITEMS_MAX,
            changes: Vec::new(),
        };
        (state, published)
    }

    /// Remembers at most so many outcomes; for tests of what happens then.
    #[must_use]
    pub fn with_dedup_items_max(mut self, items: usize) -> GroupState {
        self.dedup_items_max = items;
        self.dedup = Dedup::new(0, items);
        self
    }

    fn bootstrap(&mut self, txn: &mut Txn, bootstrap: &Bootstrap) {
        if self.routing.is_some() {
            // Two leaders may both have proposed it; the first counts.
            return;
        }
        let Ok(owned) = VnodeSet::from_packed(&bootstrap.owned) else {
            return;
        };
        let Some(routing) = routing(bootstrap.vnodes, &bootstrap.rules) else {
            return;
        };
        self.routing = Some(routing);
        self.group = bootstrap.group;
        self.vnodes.begin(&owned);
        self.rescoped = true;
        let record = GroupRecord {
            cluster_id: bootstrap.cluster_id.clone(),
            group: bootstrap.group,
            vnodes: bootstrap.vnodes,
            rules: bootstrap.rules.clone(),
        };
        txn.put(
            keys::meta(txn.storage(), META_GROUP),
            record.encode_to_vec(),
        );
    }

    fn batch(
        &mut self,
        txn: &mut Txn,
        at: Position,
        batch: &Batch,
    ) -> Result<Applied, caucus_engine::Error> {
        let mut forgotten = Forgotten::default();
        for progress in &batch.progress {
            if let Some(record) = self.dedup.progress(progress, &mut forgotten) {
                let key = keys::session(txn.storage(), progress.session);
                txn.put(key, record.encode_to_vec());
            }
        }
        // A leader that hadn't applied all of its log may lag behind.
        self.time = batch.time_ms.max(self.idempotent.names().newest);
        self.idempotent.forget(txn, batch.forget_before_ms);
        let changed_before = self.changes.len();
        let mut verdicts = Vec::with_capacity(batch.writes.len());
        let mut executed = DedupRecord::default();
        for (offset, bytes) in batch.writes.iter().enumerate() {
            let revision = batch.first_revision.saturating_add(offset as u64);
            verdicts.push(self.write(txn, bytes, revision, &mut executed)?);
        }
        let block_end = batch
            .first_revision
            .saturating_add(batch.writes.len() as u64);
        changes::index(
            txn,
            batch.first_revision..block_end,
            &self.changes[changed_before..],
        );
        if !executed.items.is_empty() {
            txn.put(
                keys::dedup(txn.storage(), at.index),
                executed.encode_to_vec(),
            );
            self.dedup.record(at.index, &executed);
        }
        self.dedup.limit(&mut forgotten);
        for index in forgotten.entries {
            txn.delete(keys::dedup(txn.storage(), index));
        }
        for session in forgotten.sessions {
            txn.delete(keys::session(txn.storage(), session));
        }
        Ok(Applied {
            verdicts,
            highest: self.highest,
        })
    }

    /// The order of the questions is that of protocols.md §2.
    fn write(
        &mut self,
        txn: &mut Txn,
        bytes: &Bytes,
        revision: u64,
        executed: &mut DedupRecord,
    ) -> Result<Verdict, caucus_engine::Error> {
        let Ok(write) = Write::decode(bytes.clone()) else {
            return Ok(Verdict::Refused(Refusal::Malformed));
        };
        if self.routing.is_none() {
            return Ok(Verdict::Refused(Refusal::Moved));
        }
        match &write.action {
            Some(Action::Txn(tree)) => self.transact(txn, &write, tree, revision, executed),
            Some(Action::Own(tree)) => self.own(txn, &write, tree, revision),
            Some(Action::Prepare(prepare)) => {
                self.prepare(txn, &write, prepare, revision, executed)
            }
            Some(Action::Decide(decide)) => self.decide(txn, decide, revision, executed),
            Some(Action::Commit(commit)) => self.commit(txn, commit),
            Some(Action::Abort(abort)) => Ok(self.abort(txn, abort.attempt)),
            Some(Action::Forget(forget)) => Ok(self.forget(txn, forget.attempt)),
            Some(Action::Put(_) | Action::Delete(_)) | None => {
                self.write_key(txn, &write, revision, executed)
            }
        }
    }

    fn write_key(
        &mut self,
        txn: &mut Txn,
        write: &Write,
        revision: u64,
        executed: &mut DedupRecord,
    ) -> Result<Verdict, caucus_engine::Error> {
        let Some(routing) = &self.routing else {
            return Ok(Verdict::Refused(Refusal::Moved));
        };
        if write.rules_version != routing.rules.version() {
            return Ok(Verdict::Refused(Refusal::Rules));
        }
        let vnode = routing.vnode(&write.key);
        if !self.vnodes.owns(vnode) {
            return Ok(Verdict::Refused(Refusal::Moved));
        }
        let id = write.id.unwrap_or_default();
        if let Some(verdict) = self.seen(&id, write.fingerprint, executed) {
            return Ok(verdict);
        }
        if revision <= self.highest && !planted::is(planted::OVERTAKEN_IS_APPLIED) {
            return Ok(Verdict::Refused(Refusal::Overtaken));
        }
        if let Some(holder) = self.attempts.in_the_way_of_key(&write.key) {
            return Ok(Verdict::Refused(Refusal::Locked(holder)));
        }
        let lease_grant = match &write.action {
            Some(Action::Put(put)) => {
                match LeaseChanges::default().may_attach(self.published.leases(), put) {
                    Ok(grant) => grant,
                    Err(kind) => {
                        let kind = kind as i32;
                        let problem = Problem { operation: 0, kind };
                        return Ok(Verdict::Refused(Refusal::Problem(problem)));
                    }
                }
            }
            _ => 0,
        };
        let outcome = self
            .effects(txn)
            .execute(vnode, write, revision, lease_grant)?;
        self.highest = revision;
        self.remember(txn, &id, write.fingerprint, (vnode, outcome), executed);
        Ok(Verdict::Done(outcome))
    }

    /// What is known of a request's id, if it isn't fresh.
    pub(super) fn seen(
        &self,
        id: &RequestId,
        fingerprint: u64,
        executed: &DedupRecord,
    ) -> Option<Verdict> {
        if fingerprint != 0 {
            return match self.idempotent.look_up(id, fingerprint) {
                Name::Fresh => None,
                Name::Done(outcome) => Some(Verdict::Done(outcome)),
                Name::Clash => Some(Verdict::Refused(Refusal::NameTaken)),
            };
        }
        match twin(executed, id).map_or_else(|| self.dedup.look_up(id), Known::Done) {
            Known::Done(outcome) => Some(Verdict::Done(outcome)),
            Known::Expired => Some(Verdict::Refused(Refusal::Expired)),
            Known::Fresh => None,
        }
    }

    /// Keeps what an id did, at its home.
    pub(super) fn remember(
        &mut self,
        txn: &mut Txn,
        id: &RequestId,
        fingerprint: u64,
        done: (Vnode, Outcome),
        executed: &mut DedupRecord,
    ) {
        match fingerprint {
            0 => executed.items.push(item(id, done.0, done.1)),
            print => self.idempotent.record(txn, self.time, id, print, done),
        }
    }

    pub(super) fn effects<'a>(&'a mut self, txn: &'a mut Txn) -> Effects<'a> {
        Effects {
            txn,
            vnodes: &mut self.vnodes,
            heads: &mut self.heads,
            published: &self.published,
            changes: &mut self.changes,
        }
    }
}

/// What is remembered of an executed id.
fn item(id: &RequestId, home: Vnode, outcome: Outcome) -> DedupItem {
    DedupItem {
        session: id.session,
        sequence: id.sequence,
        vnode: u32::from(home.0),
        outcome,
    }
}

/// The outcome of the same id earlier in the same entry: a retry that met its original in the queue.
fn twin(executed: &DedupRecord, id: &caucus_api::shard::RequestId) -> Option<Outcome> {
    executed
        .items
        .iter()
        .find(|item| item.sequence == id.sequence && item.session == id.session)
        .map(|item| item.outcome)
}

fn routing(vnodes: u32, rules: &Bytes) -> Option<Routing> {
    let rules = Rules::try_from(wire::Rules::decode(rules.clone()).ok()?).ok()?;
    Some(Routing {
        ring: Arc::new(Ring::new(vnodes).ok()?),
        rules: Arc::new(rules),
    })
}

impl StateMachine for GroupState {
    fn open(&mut self, state: &StateView) -> Result<(), caucus_engine::Error> {
        let storage = state.storage();
        self.routing = match state.get(&keys::meta(storage, META_GROUP))? {
            Some(bytes) => {
                let record = GroupRecord::decode(bytes).map_err(|_| corrupt("the group record"))?;
                self.group = record.group;
                let routing = routing(record.vnodes, &record.rules);
                Some(routing.ok_or_else(|| corrupt("the routing rules"))?)
            }
            None => None,
        };
        let position = record::position(&**state.engine(), storage)?;
        self.highest = position.highest;
        self.compacted = position.compacted;
        self.published.set_compacted(position.compacted);
        self.vnodes = Ownership::load(state)?;
        self.heads = Heads::default();
        self.attempts = Attempts::load(state, self.published.standing())?;
        let mut occupied = self.vnodes.occupied();
        occupied.union_with(&Ownership::with_history(state)?);
        self.published.set_occupied(occupied);
        self.dedup = load_dedup(state, position.floor, self.dedup_items_max)?;
        self.published.leases().load(state)?;
        self.idempotent = Idempotent::load(state)?;
        self.published.set_names(self.idempotent.names());
        self.rescoped = true;
        self.changes.clear();
        let frontier = self.attempts.frontier(self.highest);
        self.published.feed().begin(frontier, self.highest);
        Ok(())
    }

    fn apply(
        &mut self,
        txn: &mut Txn,
        at: Position,
        command: Bytes,
        wanted: bool,
    ) -> Result<Reply, caucus_engine::Error> {
        self.round_end = at.index;
        let command = Command::decode(command).ok().and_then(|c| c.command);
        match command {
            Some(Kind::Bootstrap(bootstrap)) => {
                self.bootstrap(txn, &bootstrap);
                Ok(Reply::none())
            }
            Some(Kind::Batch(batch)) => {
                let applied = self.batch(txn, at, &batch)?;
                Ok(match wanted {
                    true => Reply::new(applied),
                    false => Reply::none(),
                })
            }
            Some(Kind::Compact(compact)) => {
                self.compacted = self.compacted.max(compact.revision);
                self.published.set_compacted(self.compacted);
                Ok(Reply::none())
            }
            // Not of this version: the same on every replica, so it is skipped on every one.
            None => Ok(Reply::none()),
        }
    }

    fn finish(&mut self, txn: &mut Txn) -> Result<(), caucus_engine::Error> {
        self.vnodes.write(txn, self.round_end);
        let position = PositionRecord {
            highest: self.highest,
            floor: self.dedup.floor(),
            compacted: self.compacted,
        };
        txn.put(
            keys::meta(txn.storage(), META_POSITION),
            position.encode_to_vec(),
        );
        Ok(())
    }

    fn published(&mut self, at: Position) {
        if std::mem::take(&mut self.rescoped) {
            self.published.set_scope(Scope {
                routing: self.routing.clone(),
                owned: self.vnodes.owned(),
            });
        }
        self.published
            .set_position(at, self.highest, self.vnodes.total());
        self.attempts.publish(self.published.standing());
        let frontier = self.attempts.frontier(self.highest);
        self.published.feed().push(self.changes.drain(..), frontier);
        self.published.set_names(self.idempotent.names());
    }
}

fn load_dedup(
    state: &StateView,
    floor: u64,
    items_max: usize,
) -> Result<Dedup, caucus_engine::Error> {
    let mut dedup = Dedup::new(floor, items_max);
    let number = |key: &[u8], prefix: usize| {
        let bytes = key[prefix..].try_into();
        bytes
            .map(u64::from_be_bytes)
            .map_err(|_| corrupt("the key of a request record"))
    };
    let range = keys::kind_range(state.storage(), keys::state_kind::DEDUP);
    let mut scan = state.scan(&range)?;
    while let Some((key, value)) = scan.next()? {
        let record = DedupRecord::decode(value).map_err(|_| corrupt("a request record"))?;
        dedup.record(number(&key, range.start.len())?, &record);
    }
    let range = keys::kind_range(state.storage(), keys::state_kind::SESSION);
    let mut scan = state.scan(&range)?;
    while let Some((key, value)) = scan.next()? {
        let record = SessionRecord::decode(value).map_err(|_| corrupt("a session record"))?;
        dedup.restore(number(&key, range.start.len())?, record);
    }
    dedup.restored();
    Ok(dedup)
}
