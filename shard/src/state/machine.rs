//! The one door: a command is applied here or nowhere.

use std::sync::Arc;

use bytes::Bytes;
use caucus_api::shard::command::Command as Kind;
use caucus_api::shard::{Batch, Bootstrap, Command, Outcome, Write};
use caucus_engine::keys;
use caucus_raft::{Position, Reply, StateMachine, StateView, Txn};
use caucus_ring::{Ring, Rules, VnodeSet, wire};
use prost::Message;

use super::dedup::{Dedup, Forgotten, ITEMS_MAX, Known};
use super::heads::Heads;
use super::ownership::Ownership;
use super::published::{Published, Routing, Scope};
use super::record::{
    DedupItem, DedupRecord, GroupRecord, META_GROUP, META_POSITION, PositionRecord, SessionRecord,
    corrupt,
};
use super::write::Effects;

/// The answer to a batch: one verdict for each write, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The verdicts.
    pub verdicts: Vec<Verdict>,
    /// The highest revision applied in the group, with this batch.
    pub highest: u64,
}

/// What became of one write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// It was executed, now or when it came first.
    Done(Outcome),
    /// It left no trace.
    Refused(Refusal),
}

/// Why a write left no trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// The state machine of one replica of a data group.
pub struct GroupState {
    published: Arc<Published>,
    routing: Option<Routing>,
    vnodes: Ownership,
    heads: Heads,
    dedup: Dedup,
    highest: u64,
    /// Whether the scope must be published with the next position.
    rescoped: bool,
    /// The index of the last command of this round.
    round_end: u64,
    dedup_items_max: usize,
}

impl GroupState {
    /// A state machine with nothing in it, and its read side.
    pub fn new() -> (GroupState, Arc<Published>) {
        let published = Arc::new(Published::default());
        let state = GroupState {
            published: published.clone(),
            routing: None,
            vnodes: Ownership::default(),
            heads: Heads::default(),
            dedup: Dedup::new(0, ITEMS_MAX),
            highest: 0,
            rescoped: false,
            round_end: 0,
            dedup_items_max: ITEMS_MAX,
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
        let mut verdicts = Vec::with_capacity(batch.writes.len());
        let mut executed = DedupRecord::default();
        for (offset, bytes) in batch.writes.iter().enumerate() {
            let revision = batch.first_revision.saturating_add(offset as u64);
            verdicts.push(self.write(txn, bytes, revision, &mut executed)?);
        }
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
        let Some(routing) = &self.routing else {
            return Ok(Verdict::Refused(Refusal::Moved));
        };
        if write.rules_version != routing.rules.version() {
            return Ok(Verdict::Refused(Refusal::Rules));
        }
        let vnode = routing.ring.vnode(routing.rules.routing_key(&write.key));
        if !self.vnodes.owns(vnode) {
            return Ok(Verdict::Refused(Refusal::Moved));
        }
        let id = write.id.unwrap_or_default();
        match twin(executed, &id).map_or_else(|| self.dedup.look_up(&id), Known::Done) {
            Known::Done(outcome) => return Ok(Verdict::Done(outcome)),
            Known::Expired => return Ok(Verdict::Refused(Refusal::Expired)),
            Known::Fresh => {}
        }
        if revision <= self.highest {
            return Ok(Verdict::Refused(Refusal::Overtaken));
        }
        let mut effects = Effects {
            txn,
            vnodes: &mut self.vnodes,
            heads: &mut self.heads,
            published: &self.published,
        };
        let outcome = effects.execute(vnode, &write, revision)?;
        self.highest = revision;
        executed.items.push(DedupItem {
            session: id.session,
            sequence: id.sequence,
            vnode: u32::from(vnode.0),
            outcome,
        });
        Ok(Verdict::Done(outcome))
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
                let routing = routing(record.vnodes, &record.rules);
                Some(routing.ok_or_else(|| corrupt("the routing rules"))?)
            }
            None => None,
        };
        let position = match state.get(&keys::meta(storage, META_POSITION))? {
            Some(bytes) => PositionRecord::decode(bytes).map_err(|_| corrupt("the position"))?,
            None => PositionRecord::default(),
        };
        self.highest = position.highest;
        self.vnodes = Ownership::load(state)?;
        self.heads = Heads::default();
        self.published.set_occupied(self.vnodes.occupied());
        self.dedup = load_dedup(state, position.floor, self.dedup_items_max)?;
        self.rescoped = true;
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
            // Not of this version: the same on every replica, so it is skipped on every one.
            None => Ok(Reply::none()),
        }
    }

    fn finish(&mut self, txn: &mut Txn) -> Result<(), caucus_engine::Error> {
        self.vnodes.write(txn, self.round_end);
        let position = PositionRecord {
            highest: self.highest,
            floor: self.dedup.floor(),
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
