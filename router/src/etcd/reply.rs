//! What the groups answered, as etcd says it.

use bytes::Bytes;
use caucus_api::shard::answer::Answer as Found;
use caucus_api::shard::problem::Kind as ProblemKind;
use caucus_api::shard::{self, Item, Problem, Ranged, Record, TxnDone};
use caucus_etcd::Error as Refusal;
use caucus_etcd::etcdserverpb::request_op::Request;
use caucus_etcd::etcdserverpb::response_op::Response;
use caucus_etcd::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};
use caucus_etcd::mvccpb::KeyValue;
use tonic::Status;

use crate::{Error, Outcome, Reason};

/// A request that was given up.
pub(super) fn refused(error: Error) -> Status {
    let refusal = match error.reason {
        Reason::NoSpace => Refusal::NoSpace,
        Reason::FutureRevision => Refusal::FutureRevision,
        Reason::Compacted { .. } => Refusal::Compacted,
        Reason::LeaseNotFound => Refusal::LeaseNotFound,
        Reason::Busy(_) => Refusal::TooManyRequests,
        Reason::Deadline => Refusal::Timeout,
        Reason::Conflict | Reason::Expired | Reason::NameTaken => Refusal::LeaderChanged,
        Reason::Unavailable(_) => match error.outcome {
            Outcome::Unknown => Refusal::Timeout,
            Outcome::Read | Outcome::NotApplied => Refusal::NoLeader,
        },
        Reason::Invalid(why) => return Status::invalid_argument(format!("caucus: {why}")),
    };
    refusal.into()
}

/// An operation that can't be executed.
pub(super) fn problem(problem: &Problem) -> Status {
    match problem.kind() {
        ProblemKind::KeyNotFound => Refusal::KeyNotFound.into(),
        ProblemKind::Compacted => Refusal::Compacted.into(),
        ProblemKind::FutureRevision => Refusal::FutureRevision.into(),
        ProblemKind::LeaseNotFound | ProblemKind::LeaseNotOpen => Refusal::LeaseNotFound.into(),
        ProblemKind::LeaseExists => Refusal::LeaseExists.into(),
        ProblemKind::TooManyKeys => Status::resource_exhausted(format!(
            "caucus: a transaction touches at most {} keys",
            caucus_api::limits::TXN_KEYS_MAX
        )),
        ProblemKind::TooLarge => Refusal::RequestTooLarge.into(),
        ProblemKind::None
        | ProblemKind::NotAnInteger
        | ProblemKind::Overflow
        | ProblemKind::LeaseHasKeys => nonsense(),
    }
}

/// An answer to another question.
pub(super) fn nonsense() -> Status {
    Status::internal("caucus: a node answered another question")
}

fn item_value(item: Item) -> Option<KeyValue> {
    item.record.map(|record| key_value(item.key, record))
}

/// A key with its record; media types aren't known to etcd.
pub(super) fn key_value(key: Bytes, record: Record) -> KeyValue {
    let Record {
        create_revision,
        mod_revision,
        version,
        lease,
        content_type: _,
        value,
        lease_grant: _,
    } = record;
    KeyValue {
        key,
        create_revision: create_revision as i64,
        mod_revision: mod_revision as i64,
        version: version as i64,
        value,
        lease: lease as i64,
    }
}

/// Without a header.
pub(super) fn range(ranged: Ranged) -> RangeResponse {
    // Not collected: a filter can't say how many will come, and the vector would grow by doubling.
    let mut kvs = Vec::with_capacity(ranged.items.len());
    kvs.extend(ranged.items.into_iter().filter_map(item_value));
    RangeResponse {
        header: None,
        kvs,
        more: ranged.more,
        count: ranged.count as i64,
    }
}

/// A transaction's answers, hung into the tree that was asked for; without a header of its own.
pub(super) fn txn(request: &TxnRequest, done: TxnDone) -> TxnResponse {
    let writes = done.answers.iter().any(|answer| match &answer.answer {
        Some(Found::Placed(_) | Found::Changed(_) | Found::Sequenced(_)) => true,
        Some(Found::Removed(removed)) => removed.count > 0,
        Some(Found::Ranged(_) | Found::Lease(_)) | None => false,
    });
    let mut answers = Answers {
        path: done.path.into_iter(),
        answers: done.answers.into_iter(),
        revision: done.revision,
        before: done.revision.saturating_sub(u64::from(writes)),
        wrote: false,
    };
    answers.branch(request)
}

/// What of the answers isn't hung up yet.
struct Answers {
    path: std::vec::IntoIter<bool>,
    answers: std::vec::IntoIter<shard::Answer>,
    revision: u64,
    /// The revision before its first change, if it changes anything.
    before: u64,
    /// Whether an operation so far has changed anything.
    wrote: bool,
}

impl Answers {
    fn branch(&mut self, request: &TxnRequest) -> TxnResponse {
        let succeeded = self.path.next().unwrap_or(false);
        let operations = match succeeded {
            true => &request.success,
            false => &request.failure,
        };
        let responses = operations.iter().map(|op| ResponseOp {
            response: op.request.as_ref().map(|request| self.one(request)),
        });
        TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded,
            responses: responses.collect(),
        }
    }

    fn one(&mut self, request: &Request) -> Response {
        if let Request::RequestTxn(inner) = request {
            return Response::ResponseTxn(self.branch(inner));
        }
        let found = self.answers.next().and_then(|answer| answer.answer);
        match (request, found) {
            (Request::RequestPut(asked), Some(Found::Placed(placed))) => {
                self.wrote = true;
                let previous = placed.previous.map(|record| Item {
                    key: asked.key.clone(),
                    record: Some(record),
                });
                Response::ResponsePut(PutResponse {
                    header: self.header(),
                    prev_kv: previous.and_then(item_value),
                })
            }
            (Request::RequestDeleteRange(_), Some(Found::Removed(removed))) => {
                self.wrote |= removed.count > 0;
                Response::ResponseDeleteRange(DeleteRangeResponse {
                    header: self.header(),
                    deleted: removed.count as i64,
                    prev_kvs: removed
                        .previous
                        .into_iter()
                        .filter_map(item_value)
                        .collect(),
                })
            }
            (_, Some(Found::Ranged(ranged))) => Response::ResponseRange(RangeResponse {
                header: self.header(),
                ..range(ranged)
            }),
            // Forgotten: the answers of a request that was executed long ago.
            (Request::RequestPut(_), _) => Response::ResponsePut(PutResponse::default()),
            (Request::RequestDeleteRange(_), _) => {
                Response::ResponseDeleteRange(DeleteRangeResponse::default())
            }
            (_, _) => Response::ResponseRange(RangeResponse::default()),
        }
    }

    /// An operation before the first change is still at the revision before.
    fn header(&self) -> Option<ResponseHeader> {
        let revision = match self.wrote {
            true => self.revision,
            false => self.before,
        };
        Some(ResponseHeader {
            revision: revision as i64,
            ..ResponseHeader::default()
        })
    }
}
