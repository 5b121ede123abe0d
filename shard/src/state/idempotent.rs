//! Requests that clients named themselves (`Idempotency-Key`), remembered for a window of time.
//!
//! Unlike the ids of routers, nobody says when such a name is finished, so it is kept until the leader
//! that proposes an entry says in it that names before a moment are forgotten. Time is in the log (see
//! `names.rs`), so every replica forgets at the same entry. The names of a group are limited where they come in, by the
//! leader: a full table refuses new ones and forgets none early, because a name that is forgotten within
//! its window would be executed twice.
//!
//! ```text
//!  IDEMPOTENT  time | session | sequence  ▶  home vnode, fingerprint, outcome
//! ```

use std::collections::{BTreeSet, HashMap};

use caucus_api::shard::{Outcome, RequestId};
use caucus_engine::{Error, keys};
use caucus_planted as planted;
use caucus_raft::{StateView, Txn};
use caucus_ring::Vnode;
use prost::Message;

use crate::names::Names;

use super::record::{IdempotentRecord, corrupt};

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Name {
    /// Nothing, or not any more.
    Fresh,
    /// It was executed with the same body, with this outcome.
    Done(Outcome),
    /// It was executed with another body.
    Clash,
}

type Id = (u64, u64);

/// The table.
#[derive(Debug, Default)]
pub(super) struct Idempotent {
    names: HashMap<Id, Kept>,
    by_time: BTreeSet<(u64, Id)>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    fingerprint: u64,
    outcome: Outcome,
}

impl Idempotent {
    /// Reads the table from the state.
    pub(super) fn load(state: &StateView) -> Result<Idempotent, Error> {
        let mut table = Idempotent::default();
        if planted::is(planted::NAMES_FORGOTTEN_ON_RESTART) {
            return Ok(table);
        }
        let range = keys::kind_range(state.storage(), keys::state_kind::IDEMPOTENT);
        let mut scan = state.scan(&range)?;
        while let Some((key, value)) = scan.next()? {
            let place = keys::parse_idempotent(state.storage(), &key);
            let (time, session, sequence) = place.ok_or_else(|| corrupt("the key of a name"))?;
            let record = IdempotentRecord::decode(value).map_err(|_| corrupt("a name"))?;
            table.insert(
                time,
                (session, sequence),
                record.fingerprint,
                record.outcome,
            );
        }
        Ok(table)
    }

    /// What is kept.
    pub(super) fn names(&self) -> Names {
        let time = |place: Option<&(u64, Id)>| place.map_or(0, |(time, _)| *time);
        Names {
            count: self.names.len(),
            oldest: time(self.by_time.first()),
            newest: time(self.by_time.last()),
        }
    }

    pub(super) fn look_up(&self, id: &RequestId, fingerprint: u64) -> Name {
        match self.names.get(&(id.session, id.sequence)) {
            None => Name::Fresh,
            Some(kept) if kept.fingerprint == fingerprint => Name::Done(kept.outcome),
            Some(_) => Name::Clash,
        }
    }

    /// Keeps a name that was executed.
    pub(super) fn record(
        &mut self,
        txn: &mut Txn,
        time: u64,
        id: &RequestId,
        fingerprint: u64,
        (home, outcome): (Vnode, Outcome),
    ) {
        let record = IdempotentRecord {
            vnode: u32::from(home.0),
            fingerprint,
            outcome,
        };
        let key = keys::idempotent(txn.storage(), time, id.session, id.sequence);
        txn.put(key, record.encode_to_vec());
        self.insert(time, (id.session, id.sequence), fingerprint, outcome);
    }

    /// Forgets all names of before a moment.
    pub(super) fn forget(&mut self, txn: &mut Txn, before: u64) {
        while let Some(oldest) = self.by_time.first().copied()
            && oldest.0 < before
        {
            let (time, (session, sequence)) = oldest;
            self.by_time.remove(&oldest);
            self.names.remove(&(session, sequence));
            txn.delete(keys::idempotent(txn.storage(), time, session, sequence));
        }
    }

    fn insert(&mut self, time: u64, id: Id, fingerprint: u64, outcome: Outcome) {
        self.names.insert(
            id,
            Kept {
                fingerprint,
                outcome,
            },
        );
        self.by_time.insert((time, id));
    }
}
