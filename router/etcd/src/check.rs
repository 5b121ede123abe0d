//! What can be said about a request without looking at any key: etcd's checks, in etcd's order, with
//! etcd's errors.

use std::collections::HashSet;

use crate::errors::{CancelReason, Error};
use crate::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest,
};
use crate::v3electionpb::{LeaderKey, ProclaimRequest, ResignRequest};
use crate::v3lockpb::UnlockRequest;

/// How many operations a branch of a transaction, or comparisons, etcd takes unless told otherwise.
pub const MAX_TXN_OPS: usize = 128;

/// How large a request may be when it is executed, unless told otherwise.
pub const MAX_REQUEST_BYTES: usize = 3 << 19;

/// How much more than [`MAX_REQUEST_BYTES`] a message may have before it isn't read at all.
pub const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// How long a lease may live at most, in seconds.
pub const MAX_LEASE_TTL_S: i64 = 9_000_000_000;

/// How long a lease lives at least, in seconds: etcd gives this to who asks for less, zero or less than
/// zero included, with its usual election timeout of a second.
pub const MIN_LEASE_TTL_S: i64 = 2;

/// How long the lease lives, in seconds, that etcd grants for a lock or a candidate that brings none.
pub const SESSION_TTL_S: i64 = 60;

/// Checks a read.
///
/// # Errors
///
/// An empty key; since 3.5 also what isn't an order or a target of sorting (3.4 ends with a fault there).
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    key(&request.key)?;
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Checks a write.
///
/// # Errors
///
/// An empty key; a value or lease where the old one is to be kept.
pub fn put(request: &PutRequest) -> Result<(), Error> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
///
/// An empty key.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    key(&request.key)
}

/// Checks a transaction with all that is nested in it.
///
/// # Errors
///
/// Too many operations, empty operations and keys, what the other checks find in the operations, and
/// writes that would collide.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    operations(request, max_ops)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

/// Checks the grant of a lease, which comes before whether its id is taken.
///
/// Any id is one, below zero too, but for zero, which has etcd choose. A time to live that is too short,
/// zero or below isn't wrong, but [`MIN_LEASE_TTL_S`].
///
/// # Errors
///
/// A time to live over [`MAX_LEASE_TTL_S`].
pub fn lease_grant(request: &LeaseGrantRequest) -> Result<(), Error> {
    if request.ttl > MAX_LEASE_TTL_S {
        return Err(Error::LeaseTtlTooLarge);
    }
    Ok(())
}

/// Checks the creation of a watch, which comes before whether its id is taken.
///
/// An empty key is the least one, a single zero byte. Ids below zero are ids like others, zero has etcd
/// choose; revisions below zero are before all others. Filters that aren't defined do nothing.
///
/// # Errors
///
/// A range with nothing in it: a reason in the answer, not an error of the call.
pub fn watch(request: &WatchCreateRequest) -> Result<(), CancelReason> {
    let key: &[u8] = if request.key.is_empty() {
        b"\0"
    } else {
        &request.key
    };
    match &request.range_end[..] {
        b"" | b"\0" => Ok(()),
        end if key < end => Ok(()),
        _ => Err(CancelReason::EmptyRange),
    }
}

/// Checks the release of a lock. etcd deletes whatever key it is given, and that there was none is no
/// error.
///
/// A request for a lock has nothing to check: an empty name is a name. Lease zero has etcd grant one, of
/// [`SESSION_TTL_S`]; one that isn't there is [`Error::LeaseNotFound`].
///
/// # Errors
///
/// An empty key; to be said as [`Error::relayed`].
pub fn unlock(request: &UnlockRequest) -> Result<(), Error> {
    key(&request.key)
}

/// Checks a proclamation.
///
/// What isn't the leader's key with its revision is [`Error::ElectionNotLeader`]. The lease is the one
/// the value is written with, whatever the key had: one that isn't there is [`Error::LeaseNotFound`],
/// zero a new one of [`SESSION_TTL_S`]. The name isn't looked at.
///
/// A candidature has nothing to check, as a request for a lock.
///
/// # Errors
///
/// No leader, or none with a key; to be said as [`Error::relayed`].
pub fn proclaim(request: &ProclaimRequest) -> Result<(), Error> {
    leader(request.leader.as_ref())
}

/// Checks a resignation. From what one isn't, one can always resign: no error.
///
/// # Errors
///
/// As of [`proclaim`].
pub fn resign(request: &ResignRequest) -> Result<(), Error> {
    leader(request.leader.as_ref())
}

fn leader(leader: Option<&LeaderKey>) -> Result<(), Error> {
    let leader = leader.ok_or(Error::LeaderNotProvided)?;
    key(&leader.key)
}

fn key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::EmptyKey);
    }
    Ok(())
}

/// A nested transaction may have what its parent leaves of the limit.
fn operations(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    let longest = request.success.len().max(request.failure.len());
    let longest = longest.max(request.compare.len());
    let Some(left) = max_ops.checked_sub(longest) else {
        return Err(Error::TooManyOps);
    };
    for compare in &request.compare {
        key(&compare.key)?;
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => operations(request, left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations, or one nested in it, writes.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Vec<Span<'a>>,
}

/// The keys a deletion names. An end of one zero byte is taken literally here, as etcd does: such a
/// deletion collides with nothing.
struct Span<'a> {
    key: &'a [u8],
    end: &'a [u8],
}

impl Span<'_> {
    fn contains(&self, key: &[u8]) -> bool {
        if self.end.is_empty() {
            key == self.key
        } else {
            key >= self.key && key < self.end
        }
    }
}

impl<'a> Writes<'a> {
    /// A key may be put once, and not where it may have been deleted.
    fn put(&mut self, key: &'a [u8], other_branch: &HashSet<&'a [u8]>) -> Result<(), Error> {
        if self.puts.contains(key) && !other_branch.contains(key) {
            return Err(Error::DuplicateKey);
        }
        if self.deletes.iter().any(|span| span.contains(key)) {
            return Err(Error::DuplicateKey);
        }
        self.puts.insert(key);
        Ok(())
    }
}

/// Deletions of a list collide with its puts wherever they stand; those of a nested transaction only with
/// what comes after it: nested transactions in their order, then the list's own puts.
fn writes(operations: &[RequestOp]) -> Result<Writes<'_>, Error> {
    let mut all = Writes::default();
    for operation in operations {
        if let Some(Request::RequestDeleteRange(request)) = &operation.request {
            all.deletes.push(Span {
                key: &request.key,
                end: &request.range_end,
            });
        }
    }
    let none = HashSet::new();
    for operation in operations {
        let Some(Request::RequestTxn(request)) = &operation.request else {
            continue;
        };
        let success = writes(&request.success)?;
        let failure = writes(&request.failure)?;
        for key in &success.puts {
            all.put(key, &none)?;
        }
        // Only one of the branches is executed.
        for key in &failure.puts {
            all.put(key, &success.puts)?;
        }
        all.deletes.extend(success.deletes);
        all.deletes.extend(failure.deletes);
    }
    for operation in operations {
        if let Some(Request::RequestPut(request)) = &operation.request {
            all.put(&request.key, &none)?;
        }
    }
    Ok(all)
}
