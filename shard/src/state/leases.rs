//! Leases as a group knows them: those that are at home here, and those of other groups that keys here
//! may be attached to (protocols.md §8).
//!
//! ```text
//!  home     GRANT ─▶ lives ─▶ DROP                        its keys are all here: one entry ends it
//!                      │ REGISTER ◀─────────┐
//!                      └─▶ BEGIN ─▶ … ─▶ END │             keys elsewhere: first no more are attached,
//!  elsewhere                  OPEN ─▶ attach, … ─▶ CLOSE   then one transaction removes them all
//! ```
//!
//! Every key that is attached names the lease *and* when that was granted: an id may be granted again. An
//! attach elsewhere names the very record that the lease is open there: one that was delayed past CLOSE
//! finds another or none. Which keys are attached is indexed in the engine; the index follows from the records.
//!
//! Written by the state machine only. Its leader hears what has changed through [`LeaseTable::news`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use caucus_api::limits::LEASE_TTL_S_MAX;
use caucus_api::shard::lease_step::Kind;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::{Lease, LeaseStep, LeaseStepped, Put};
use caucus_engine::{Direction, Error, Reader, Space, keys};
use caucus_raft::StateView;
use caucus_ring::lease_key;
use prost::Message;
use tokio::sync::Notify;

use super::record::corrupt;

/// The leases of one replica's state.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    table: Mutex<Table>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    home: HashMap<u64, Lease>,
    /// The revisions of their records.
    open: HashMap<u64, u64>,
    /// Leases at home that came, changed or went; `None`: nobody wants to know.
    news: Option<Vec<u64>>,
}

/// What a transaction has done to leases so far.
#[derive(Debug, Default)]
pub(crate) struct LeaseChanges {
    /// As they are from then on; `None`: it has gone.
    pub(super) home: BTreeMap<u64, Option<Lease>>,
    pub(super) open: BTreeMap<u64, Option<u64>>,
}

impl LeaseTable {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic under this lock")
    }

    /// Reads them from the engine.
    pub(super) fn load(&self, view: &StateView) -> Result<(), Error> {
        let storage = view.storage();
        let mut read = Table::default();
        let mut scan = view.scan(&keys::kind_range(storage, keys::state_kind::LEASE))?;
        while let Some((key, stored)) = scan.next()? {
            let (_, id) =
                keys::parse_lease(storage, &key).ok_or_else(|| corrupt("the key of a lease"))?;
            let lease = Lease::decode(stored).map_err(|_| corrupt("a lease"))?;
            read.home.insert(id, lease);
        }
        let mut scan = view.scan(&keys::kind_range(storage, keys::state_kind::OPEN))?;
        while let Some((key, stored)) = scan.next()? {
            let id = keys::parse_open_lease(storage, &key)
                .ok_or_else(|| corrupt("the key of an open lease"))?;
            let open = stored[..].try_into().map(u64::from_be_bytes);
            let open = open.map_err(|_| corrupt("an open lease"))?;
            read.open.insert(id, open);
        }
        *self.lock() = read;
        Ok(())
    }

    /// A lease that is at home here.
    pub(crate) fn get(&self, id: u64) -> Option<Lease> {
        self.lock().home.get(&id).cloned()
    }

    /// All that are at home here.
    pub(crate) fn all(&self) -> Vec<(u64, Lease)> {
        let table = self.lock();
        let all = table.home.iter();
        all.map(|(id, lease)| (*id, lease.clone())).collect()
    }

    fn opened(&self, id: u64) -> Option<u64> {
        self.lock().open.get(&id).copied()
    }

    /// Makes what a transaction has done to a lease at home true; what it was before.
    pub(super) fn set(&self, id: u64, lease: Option<Lease>) -> Option<Lease> {
        let mut table = self.lock();
        if let Some(news) = &mut table.news {
            news.push(id);
            self.changed.notify_one();
        }
        match lease {
            Some(lease) => table.home.insert(id, lease),
            None => table.home.remove(&id),
        }
    }

    pub(super) fn set_open(&self, id: u64, open: Option<u64>) {
        let mut table = self.lock();
        match open {
            Some(open) => _ = table.open.insert(id, open),
            None => _ = table.open.remove(&id),
        }
    }

    /// From now on changes are noted; what there is now.
    pub(crate) fn begin_news(&self) -> Vec<(u64, Lease)> {
        self.lock().news = Some(Vec::new());
        self.all()
    }

    /// Changes are noted no more.
    pub(crate) fn end_news(&self) {
        self.lock().news = None;
    }

    /// The leases that have changed since this was asked last, as they are now; some more than once.
    pub(crate) fn news(&self) -> Vec<(u64, Option<Lease>)> {
        let mut table = self.lock();
        let Some(news) = table.news.as_mut().map(std::mem::take) else {
            return Vec::new();
        };
        let now = |id: u64| (id, table.home.get(&id).cloned());
        news.into_iter().map(now).collect()
    }

    /// Waits until there is news.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl LeaseChanges {
    fn lease(&self, table: &LeaseTable, id: u64) -> Option<Lease> {
        match self.home.get(&id) {
            Some(changed) => changed.clone(),
            None => table.get(id),
        }
    }

    fn opened(&self, table: &LeaseTable, id: u64) -> Option<u64> {
        match self.open.get(&id) {
            Some(changed) => *changed,
            None => table.opened(id),
        }
    }

    /// Whether a key may be attached to the lease that a put names; when that was granted.
    pub(super) fn may_attach(&self, table: &LeaseTable, put: &Put) -> Result<u64, ProblemKind> {
        if put.lease == 0 {
            return Ok(0);
        }
        if let Some(lease) = self.lease(table, put.lease) {
            return match lease.ends {
                true => Err(ProblemKind::LeaseNotFound),
                false => Ok(lease.grant),
            };
        }
        match put.lease_open {
            0 => Err(ProblemKind::LeaseNotFound),
            open if self.opened(table, put.lease) == Some(open) => Ok(put.lease_grant),
            _ => Err(ProblemKind::LeaseNotOpen),
        }
    }

    /// Executes a step of a lease; the lease after it, and the record that it is open. `has_keys`: whether
    /// keys are attached to it here, as the transaction leaves them.
    pub(super) fn step(
        &mut self,
        table: &LeaseTable,
        step: &LeaseStep,
        revision: u64,
        has_keys: impl Fn() -> Result<bool, Error>,
    ) -> Result<Result<(Lease, u64), ProblemKind>, Error> {
        match step.kind() {
            Kind::Grant => return Ok(self.grant(table, step, revision)),
            Kind::Open => {
                let open = self.opened(table, step.id).unwrap_or(revision);
                self.open.insert(step.id, Some(open));
                return Ok(Ok((Lease::default(), open)));
            }
            Kind::Close => {
                self.open.insert(step.id, None);
                return Ok(Ok((Lease::default(), 0)));
            }
            Kind::Register
            | Kind::Checkpoint
            | Kind::Renew
            | Kind::Begin
            | Kind::Drop
            | Kind::End
            | Kind::None => {}
        }
        let found = self.lease(table, step.id);
        let named = found.filter(|lease| step.grant == 0 || lease.grant == step.grant);
        let Some(mut lease) = named else {
            return Ok(Err(ProblemKind::LeaseNotFound));
        };
        let refused = match step.kind() {
            Kind::Register | Kind::Checkpoint | Kind::Renew if lease.ends => {
                Some(ProblemKind::LeaseNotFound)
            }
            Kind::Drop if lease.ends || !lease.groups.is_empty() => Some(ProblemKind::LeaseHasKeys),
            Kind::End if !lease.ends => Some(ProblemKind::LeaseHasKeys),
            Kind::Drop | Kind::End if has_keys()? => Some(ProblemKind::LeaseHasKeys),
            _ => None,
        };
        if let Some(refused) = refused {
            return Ok(Err(refused));
        }
        match step.kind() {
            Kind::Register if !lease.groups.contains(&step.group) => lease.groups.push(step.group),
            Kind::Checkpoint => lease.rest_ms = step.rest_ms,
            Kind::Renew => lease.rest_ms = 0,
            Kind::Begin => lease.ends = true,
            Kind::Register
            | Kind::Drop
            | Kind::End
            | Kind::Grant
            | Kind::Open
            | Kind::Close
            | Kind::None => {}
        }
        let gone = matches!(step.kind(), Kind::Drop | Kind::End);
        self.home.insert(step.id, (!gone).then(|| lease.clone()));
        Ok(Ok((lease, 0)))
    }

    fn grant(
        &mut self,
        table: &LeaseTable,
        step: &LeaseStep,
        revision: u64,
    ) -> Result<(Lease, u64), ProblemKind> {
        if self.lease(table, step.id).is_some() {
            return Err(ProblemKind::LeaseExists);
        }
        let lease = Lease {
            grant: revision,
            ttl_s: step.ttl_s,
            ..Lease::default()
        };
        self.home.insert(step.id, Some(lease.clone()));
        Ok((lease, 0))
    }
}

/// Whether a step belongs to the lease's home. The others belong to the group that they are sent to.
pub(crate) fn is_at_home(step: &LeaseStep) -> bool {
    !matches!(step.kind(), Kind::Open | Kind::Close)
}

/// What a step answered that was executed at a revision, as far as that follows from it.
pub(crate) fn answered_before(step: &LeaseStep, revision: u64) -> LeaseStepped {
    match step.kind() {
        Kind::Grant => LeaseStepped {
            grant: revision,
            ttl_s: step.ttl_s,
            open: 0,
        },
        Kind::Open
        | Kind::Register
        | Kind::Checkpoint
        | Kind::Renew
        | Kind::Begin
        | Kind::Close
        | Kind::Drop
        | Kind::End
        | Kind::None => LeaseStepped::default(),
    }
}

/// Whether keys can't be attached any more, or only now, once it is applied.
pub(crate) fn ends_attaching(step: &LeaseStep) -> bool {
    match step.kind() {
        Kind::Grant | Kind::Begin | Kind::Close | Kind::Drop | Kind::End => true,
        Kind::Open | Kind::Register | Kind::Checkpoint | Kind::Renew | Kind::None => false,
    }
}

/// Whether a step may enter a log.
pub(crate) fn is_valid(step: &LeaseStep) -> bool {
    let has_time = match step.kind() {
        Kind::Grant => (1..=LEASE_TTL_S_MAX).contains(&step.ttl_s),
        Kind::None => false,
        Kind::Open
        | Kind::Register
        | Kind::Checkpoint
        | Kind::Renew
        | Kind::Begin
        | Kind::Close
        | Kind::Drop
        | Kind::End => true,
    };
    step.id != 0 && has_time
}

/// What transactions over groups lock of a lease: who attaches a key shares it, who ends attaching has it
/// alone.
pub(crate) fn lock_key(id: u64) -> Bytes {
    Bytes::copy_from_slice(&lease_key(id))
}

/// The keys that are attached to a lease in a group, from `start` on; whether there are more.
pub(crate) fn attached(
    reader: &dyn Reader,
    storage: keys::StorageId,
    id: u64,
    start: &[u8],
    limit: usize,
) -> Result<(Vec<Bytes>, bool), Error> {
    let range = keys::attached_from(storage, id, start);
    let mut scan = reader.scan(Space::State, &range.start, &range.end, Direction::Forward)?;
    let mut found = Vec::new();
    while let Some((key, _)) = scan.next()? {
        if found.len() >= limit {
            return Ok((found, true));
        }
        let (_, key) = keys::parse_attached(storage, &key)
            .ok_or_else(|| corrupt("the key of an attachment"))?;
        found.push(Bytes::copy_from_slice(key));
    }
    Ok((found, false))
}
