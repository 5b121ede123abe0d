//! A group's part of what a transaction sees: the state as of some moment, and over it what the
//! transaction itself has written.

use std::collections::BTreeMap;

use bytes::Bytes;
use caucus_api::limits::TXN_KEYS_MAX;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::{LeaseStep, LeaseStepped, Problem, Put, Record, Span};
use caucus_engine::{Error, Reader, keys};
use caucus_ring::{Vnode, VnodeSet};

use crate::state::leases::{self, LeaseChanges, LeaseTable};
use crate::state::published::Routing;
use crate::state::versions::{self, RangeScan, When};

/// Why an operation can't be executed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The engine failed: the replica stops.
    Engine(Error),
    /// It asks for what can't be.
    Problem(Problem),
}

impl Trouble {
    /// Of an operation that isn't numbered yet.
    pub(super) fn problem(kind: ProblemKind) -> Trouble {
        Trouble::Problem(Problem {
            operation: 0,
            kind: kind as i32,
        })
    }

    /// The same, of the operation with a number.
    pub(super) fn of(self, operation: u32) -> Trouble {
        match self {
            Trouble::Problem(problem) => Trouble::Problem(Problem {
                operation,
                ..problem
            }),
            Trouble::Engine(_) => self,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Engine(error)
    }
}

/// Which keys belong to this group, and where they are.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) reader: &'a dyn Reader,
    pub(crate) storage: keys::StorageId,
    pub(crate) routing: &'a Routing,
    /// The vnodes of the transaction in this group.
    pub(crate) vnodes: &'a VnodeSet,
    /// The vnodes that may hold anything.
    pub(crate) occupied: &'a VnodeSet,
    /// What was replaced up to here is gone.
    pub(crate) compacted: u64,
    /// The leases as they are; `None` where the past is read: what was done to them then was possible.
    pub(crate) leases: Option<&'a LeaseTable>,
}

/// What the transaction sees.
pub(crate) struct View<'a> {
    pub(crate) part: Part<'a>,
    pub(crate) when: When,
    /// The revision of what it writes.
    pub(crate) revision: u64,
    /// What it has written: each key's record from then on.
    pub(crate) written: BTreeMap<Bytes, Option<Record>>,
    /// What it has done to leases.
    pub(crate) leases: LeaseChanges,
}

impl<'a> View<'a> {
    pub(crate) fn new(part: Part<'a>, when: When, revision: u64) -> View<'a> {
        View {
            part,
            when,
            revision,
            written: BTreeMap::new(),
            leases: LeaseChanges::default(),
        }
    }

    /// The vnode of a key, if it is this group's part.
    pub(crate) fn mine(&self, key: &[u8]) -> Option<Vnode> {
        let vnode = self.part.routing.vnode(key);
        self.part.vnodes.contains(vnode).then_some(vnode)
    }

    /// The record of a key of this group, as the transaction sees it.
    pub(crate) fn get(&self, vnode: Vnode, key: &[u8]) -> Result<Option<Record>, Trouble> {
        if let Some(written) = self.written.get(key) {
            return Ok(written.clone());
        }
        let Part {
            reader, storage, ..
        } = self.part;
        Ok(versions::get(reader, storage, vnode, key, self.when)?)
    }

    /// The records of a span in this group, as the transaction sees them or as of a revision; no more than the
    /// first `enough`.
    pub(crate) fn collect(
        &self,
        span: &Span,
        at: Option<i64>,
        enough: Option<usize>,
    ) -> Result<BTreeMap<Bytes, Record>, Trouble> {
        let mut found = BTreeMap::new();
        let at = match at.map(u64::try_from) {
            Some(Ok(at)) => Some(at),
            Some(Err(_)) if self.part.compacted > 0 => {
                return Err(Trouble::problem(ProblemKind::Compacted));
            }
            Some(Err(_)) | None => None,
        };
        let when = match at {
            Some(at) if at < self.part.compacted => {
                return Err(Trouble::problem(ProblemKind::Compacted));
            }
            Some(at) if at >= self.revision => {
                return Err(Trouble::problem(ProblemKind::FutureRevision));
            }
            Some(at) => When::At(at),
            None => self.when,
        };
        let Part {
            reader, storage, ..
        } = self.part;
        if !span.range {
            if let Some(vnode) = self.mine(&span.start) {
                let record = match at {
                    Some(_) => versions::get(reader, storage, vnode, &span.start, when)?,
                    None => self.get(vnode, &span.start)?,
                };
                found.extend(record.map(|record| (span.start.clone(), record)));
            }
            return Ok(found);
        }
        let named = VnodeSet::from_packed(&span.vnodes).unwrap_or_default();
        let vnodes = named
            .intersection(self.part.vnodes)
            .intersection(self.part.occupied);
        let range = (&span.start[..], &span.end[..]);
        // What is written may remove as many of those that are found.
        let enough = enough.unwrap_or(usize::MAX);
        let wanted = enough.saturating_add(self.written.len());
        let mut scan = RangeScan::open(reader, storage, &vnodes, range, when, wanted)?;
        let mut last = None;
        while let Some((key, record)) = scan.next()? {
            if found.len() >= TXN_KEYS_MAX {
                return Err(Trouble::problem(ProblemKind::TooManyKeys));
            }
            let cut = found.len() + 1 == wanted;
            last = cut.then(|| key.clone());
            found.insert(key, record);
            if cut {
                break;
            }
        }
        if at.is_none() {
            self.overlay(span, &mut found);
        }
        if let Some(last) = last {
            // Behind it there may be others before what is written.
            found.retain(|key, _| *key <= last);
        }
        while found.len() > enough {
            found.pop_last();
        }
        Ok(found)
    }

    /// When the lease was granted that a put attaches its key to.
    pub(super) fn may_attach(&self, put: &Put) -> Result<u64, Trouble> {
        match self.part.leases {
            Some(table) => self.leases.may_attach(table, put).map_err(Trouble::problem),
            None => Ok(put.lease_grant),
        }
    }

    /// Executes a step of a lease; `None`: it is another group's.
    pub(super) fn lease(&mut self, step: &LeaseStep) -> Result<Option<LeaseStepped>, Trouble> {
        let mine = |vnode| self.part.vnodes.contains(vnode);
        if leases::is_at_home(step) && !mine(self.part.routing.ring.lease_vnode(step.id)) {
            return Ok(None);
        }
        let Some(table) = self.part.leases else {
            return Ok(Some(leases::answered_before(step, self.revision)));
        };
        let (part, written) = (&self.part, &self.written);
        let has_keys = || has_keys(part, written, step.id);
        let stepped = self.leases.step(table, step, self.revision, has_keys)?;
        let (lease, open) = stepped.map_err(Trouble::problem)?;
        Ok(Some(LeaseStepped {
            grant: lease.grant,
            ttl_s: lease.ttl_s,
            open,
        }))
    }

    fn overlay(&self, span: &Span, found: &mut BTreeMap<Bytes, Record>) {
        for (key, record) in self.written.range(span.start.clone()..) {
            if !span.end.is_empty() && key >= &span.end {
                break;
            }
            match record {
                Some(record) => _ = found.insert(key.clone(), record.clone()),
                None => _ = found.remove(key),
            }
        }
    }
}

/// Whether keys of this group are attached to a lease when what is written has taken the place of what was.
fn has_keys(
    part: &Part<'_>,
    written: &BTreeMap<Bytes, Option<Record>>,
    lease: u64,
) -> Result<bool, Error> {
    let names = |record: &Option<Record>| record.as_ref().is_some_and(|r| r.lease == lease);
    if written.values().any(names) {
        return Ok(true);
    }
    // One more than are written: at least one of them isn't, if there are so many.
    let limit = written.len() + 1;
    let (attached, _) = leases::attached(part.reader, part.storage, lease, b"", limit)?;
    Ok(attached.iter().any(|key| !written.contains_key(key)))
}
