//! What readers may know of a group's state without asking the state machine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use caucus_api::Failure;
use caucus_raft::Position;
use caucus_ring::{Ring, Rules, Vnode, VnodeSet, parse_lease_key};

use super::attempts::Standing;
use super::leases::LeaseTable;
use crate::names::Names;
use crate::watch::Feed;

/// The read side of one replica. Written by its state machine only, after the engine has what it says.
#[derive(Debug, Default)]
pub struct Published {
    scope: ArcSwap<Scope>,
    highest: AtomicU64,
    compacted: AtomicU64,
    standing: Standing,
    leases: LeaseTable,
    names: Mutex<Names>,
    feed: Feed,
    hash: Mutex<Hashed>,
    /// Never shrinks but when the state is read anew.
    occupied: Mutex<VnodeSet>,
}

/// What a group is there for: changes with moves and rules, not with writes.
#[derive(Debug, Default)]
pub struct Scope {
    /// How keys become vnodes; `None` before the group's first command.
    pub routing: Option<Routing>,
    /// The vnodes that it owns.
    pub owned: VnodeSet,
}

/// How keys become vnodes.
#[derive(Debug, Clone)]
pub struct Routing {
    /// The ring.
    pub ring: Arc<Ring>,
    /// The rules.
    pub rules: Arc<Rules>,
}

impl Scope {
    /// How keys become vnodes, if a request was made under the same rules.
    pub(crate) fn routing(&self, rules_version: u64) -> Result<&Routing, Failure> {
        let routing = self.routing.as_ref().ok_or(Failure::Moved { epoch: 0 })?;
        match routing.rules.version() == rules_version {
            true => Ok(routing),
            false => Err(Failure::Rules),
        }
    }

    /// The vnode of a key, if it is this group's.
    pub(crate) fn vnode(&self, key: &[u8], rules_version: u64) -> Result<Vnode, Failure> {
        let vnode = self.routing(rules_version)?.vnode(key);
        match self.owned.contains(vnode) {
            true => Ok(vnode),
            false => Err(Failure::Moved { epoch: 0 }),
        }
    }

    /// The vnodes that a sender named, if all are this group's.
    pub(crate) fn vnodes(&self, packed: &[u8], rules_version: u64) -> Result<VnodeSet, Failure> {
        let asked =
            VnodeSet::from_packed(packed).map_err(|error| Failure::Invalid(error.to_string()))?;
        self.routing(rules_version)?;
        match asked.is_subset(&self.owned) {
            true => Ok(asked),
            false => Err(Failure::Moved { epoch: 0 }),
        }
    }
}

impl Routing {
    /// The vnode that a key is in.
    pub(crate) fn vnode(&self, key: &[u8]) -> Vnode {
        self.ring.vnode(self.rules.routing_key(key))
    }

    /// The home of a request, given its smallest key or the name of its lease.
    pub(crate) fn home_vnode(&self, key: &[u8]) -> Vnode {
        match parse_lease_key(key) {
            Some(lease) => self.ring.lease_vnode(lease),
            None => self.vnode(key),
        }
    }
}

/// A hash of the whole state, and where in the log it was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hashed {
    /// The log index.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
    /// The hash.
    pub hash: u128,
}

impl Published {
    /// The highest revision applied. Load it *before* reading data: what is read is then at or above
    /// it.
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }

    /// What was replaced up to this revision isn't kept: nothing below it can be read. Load it *after*
    /// reading data of the past: if that lies below, it may be incomplete.
    pub fn compacted(&self) -> u64 {
        self.compacted.load(Ordering::Acquire)
    }

    /// The requests that clients named and that are remembered.
    pub(crate) fn names(&self) -> Names {
        *self.names.lock().expect("no panic under this lock")
    }

    pub(super) fn set_names(&self, names: Names) {
        *self.names.lock().expect("no panic under this lock") = names;
    }

    /// What has changed.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The transactions over groups that stand in the state.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The leases in the state, as of what is applied.
    pub(crate) fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    /// What the group is there for.
    pub fn scope(&self) -> arc_swap::Guard<Arc<Scope>> {
        self.scope.load()
    }

    /// The latest hash of the state.
    pub fn hash(&self) -> Hashed {
        *self.hash.lock().expect("no panic under this lock")
    }

    /// Vnodes that hold keys or did as far as that isn't compacted, and perhaps some more. Read it *after* taking an engine snapshot: it
    /// is raised before the engine has what makes a vnode occupied.
    pub fn occupied(&self) -> VnodeSet {
        self.lock_occupied().clone()
    }

    pub(super) fn set_occupied(&self, occupied: VnodeSet) {
        *self.lock_occupied() = occupied;
    }

    pub(super) fn occupy(&self, vnode: Vnode) {
        self.lock_occupied().insert(vnode);
    }

    fn lock_occupied(&self) -> std::sync::MutexGuard<'_, VnodeSet> {
        self.occupied.lock().expect("no panic under this lock")
    }

    pub(super) fn set_scope(&self, scope: Scope) {
        self.scope.store(Arc::new(scope));
    }

    /// Before anything that it allows to go has gone.
    pub(super) fn set_compacted(&self, revision: u64) {
        self.compacted.store(revision, Ordering::Release);
    }

    pub(super) fn set_position(&self, at: Position, highest: u64, hash: u128) {
        self.highest.store(highest, Ordering::Release);
        *self.hash.lock().expect("no panic under this lock") = Hashed {
            index: at.index,
            term: at.term,
            hash,
        };
    }
}
