//! Transactions written down shortly.

use bytes::Bytes;
use caucus_api::range::prefix_end;
use caucus_api::shard::answer::Answer as Did;
use caucus_api::shard::change::By;
use caucus_api::shard::compare::{Relation, Target};
use caucus_api::shard::lease_step::Kind as LeaseKind;
use caucus_api::shard::operation::Operation as Kind;
use caucus_api::shard::{
    Answer, Change, Changed, Compare, LeaseStep, Operation, Place, Problem, Put, RangeRead, Ranged,
    Record, Remove, Sequence, Sequenced, Span, Txn,
};
use caucus_ring::Revision;
use tokio::time::Instant;

use crate::leases::lease_step;
use crate::{Error, RequestName, Router};

/// A transaction under construction: operations go into `then` until [`otherwise`](Self::otherwise).
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps {
    txn: Txn,
    otherwise: bool,
}

impl Steps {
    pub(crate) fn new() -> Steps {
        Steps::default()
    }

    /// If the key was created at this revision and is there still; 0: if there is no such key.
    pub(crate) fn if_created(self, key: &Bytes, revision: u64) -> Steps {
        self.compare(key, Target::CreateRevision(signed(revision)))
    }

    /// If the key was changed last at this revision.
    pub(crate) fn if_changed(self, key: &Bytes, revision: u64) -> Steps {
        self.compare(key, Target::ModRevision(signed(revision)))
    }

    /// If no key begins with this.
    pub(crate) fn if_none(mut self, prefix: &Bytes) -> Steps {
        self.txn.compares.push(Compare {
            span: Some(below(prefix)),
            relation: Relation::Equal as i32,
            target: Some(Target::Count(0)),
        });
        self
    }

    fn compare(mut self, key: &Bytes, target: Target) -> Steps {
        self.txn.compares.push(Compare {
            span: Some(only(key)),
            relation: Relation::Equal as i32,
            target: Some(target),
        });
        self
    }

    /// What follows is done if a compare doesn't hold.
    pub(crate) fn otherwise(mut self) -> Steps {
        self.otherwise = true;
        self
    }

    pub(crate) fn put(self, key: &Bytes, put: Put) -> Steps {
        self.operation(Kind::Place(Place {
            key: key.clone(),
            put: Some(put),
            ..Place::default()
        }))
    }

    /// Writes a key's value anew; it keeps its lease.
    pub(crate) fn put_under_same_lease(self, key: &Bytes, put: Put) -> Steps {
        self.operation(Kind::Place(Place {
            key: key.clone(),
            put: Some(put),
            keep_lease: true,
            ..Place::default()
        }))
    }

    /// Adds to a decimal integer, which is 0 if there is none.
    pub(crate) fn add(self, key: &Bytes, number: i64) -> Steps {
        self.operation(Kind::Change(Change {
            key: key.clone(),
            previous: false,
            by: Some(By::Add(number)),
        }))
    }

    /// Puts a record at the next key of a sequence.
    pub(crate) fn sequence(self, sequence: Sequence) -> Steps {
        self.operation(Kind::Sequence(sequence))
    }

    /// Grants a lease.
    pub(crate) fn grant(self, lease: u64, ttl_s: u64) -> Steps {
        self.operation(Kind::Lease(LeaseStep {
            ttl_s,
            ..lease_step(LeaseKind::Grant, lease)
        }))
    }

    /// Ends a lease whose last keys, all in its group, are removed by what stands before.
    pub(crate) fn drop(self, lease: u64) -> Steps {
        self.operation(Kind::Lease(lease_step(LeaseKind::Drop, lease)))
    }

    pub(crate) fn remove(self, key: &Bytes) -> Steps {
        self.operation(Kind::Remove(Remove {
            span: Some(only(key)),
            previous: false,
            ..Remove::default()
        }))
    }

    /// Removes all keys that begin with this.
    pub(crate) fn remove_below(self, prefix: &Bytes) -> Steps {
        self.operation(Kind::Remove(Remove {
            span: Some(below(prefix)),
            previous: false,
            ..Remove::default()
        }))
    }

    pub(crate) fn read(self, key: &Bytes) -> Steps {
        self.operation(Kind::Range(RangeRead {
            span: Some(only(key)),
            ..RangeRead::default()
        }))
    }

    /// Reads as a range read says; see [`below`].
    pub(crate) fn range(self, range: RangeRead) -> Steps {
        self.operation(Kind::Range(range))
    }

    fn operation(mut self, operation: Kind) -> Steps {
        let list = match self.otherwise {
            false => &mut self.txn.then,
            true => &mut self.txn.otherwise,
        };
        list.push(Operation {
            operation: Some(operation),
        });
        self
    }

    /// Executes it; once for all that have the same name.
    pub(crate) async fn run(
        self,
        router: &Router,
        name: Option<RequestName>,
        deadline: Instant,
    ) -> Result<Done, Error> {
        let transacted = router.txn_named(self.txn, name, deadline).await?;
        let done = transacted.done;
        Ok(Done {
            held: done.path.first().copied().unwrap_or_default(),
            revision: Revision(done.revision),
            store: transacted.revision,
            problem: done.problem,
            answers: done.answers,
        })
    }
}

/// What a transaction did.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its compares held.
    pub(crate) held: bool,
    /// Its revision.
    pub(crate) revision: Revision,
    /// The store's, at or above it.
    pub(crate) store: Revision,
    /// An operation asked for what can't be: nothing was done.
    pub(crate) problem: Option<Problem>,
    answers: Vec<Answer>,
}

impl Done {
    /// What the `at`th operation of the list that was executed read.
    pub(crate) fn ranged(&mut self, at: usize) -> Ranged {
        match self.take(at) {
            Some(Did::Ranged(ranged)) => ranged,
            _ => Ranged::default(),
        }
    }

    /// The record of the only key that the `at`th operation read.
    pub(crate) fn record(&mut self, at: usize) -> Option<Record> {
        let item = self.ranged(at).items.into_iter().next()?;
        item.record
    }

    /// What the `at`th operation numbered.
    pub(crate) fn sequenced(&mut self, at: usize) -> Sequenced {
        match self.take(at) {
            Some(Did::Sequenced(sequenced)) => sequenced,
            _ => Sequenced::default(),
        }
    }

    /// What the `at`th operation computed.
    pub(crate) fn changed(&mut self, at: usize) -> Changed {
        match self.take(at) {
            Some(Did::Changed(changed)) => changed,
            _ => Changed::default(),
        }
    }

    fn take(&mut self, at: usize) -> Option<Did> {
        self.answers.get_mut(at)?.answer.take()
    }
}

/// One key.
pub(crate) fn only(key: &Bytes) -> Span {
    Span {
        start: key.clone(),
        ..Span::default()
    }
}

/// All keys that begin with this.
pub(crate) fn below(prefix: &Bytes) -> Span {
    Span {
        start: prefix.clone(),
        end: prefix_end(prefix).unwrap_or_default(),
        range: true,
        ..Span::default()
    }
}

/// Revisions are compared as etcd has them, with a sign.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
