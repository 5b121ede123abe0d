//! etcd's own protocol, gRPC: the same program and messages for etcd and for Caucus, which speaks it too.

mod line;

use std::rc::Rc;

use bytes::Bytes;
use caucus_etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use caucus_etcd::etcdserverpb::request_op::Request as Op;
use caucus_etcd::etcdserverpb::{
    Compare, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    TxnResponse,
};

use caucus_etcd::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse};
use caucus_etcd::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use self::line::Line;
use super::args::Args;
use super::error::Failure;
use super::keyspace::Pair;
use super::target::Connection;
use super::workload::Request;

/// Longer than any run.
const LEASE_TTL_S: i64 = 3600;

/// A handle of a connection; clients share connections.
pub(super) struct EtcdGrpc {
    line: Line,
    heads: Rc<Heads>,
    /// Of the client's locks; 0: not granted yet.
    lease: i64,
    /// A failure has ended the connection: the next call opens another one.
    is_broken: bool,
}

/// The heads of the requests to the methods that are called.
struct Heads {
    authority: String,
    put: http::Request<()>,
    range: http::Request<()>,
    txn: http::Request<()>,
    grant: http::Request<()>,
    lock: http::Request<()>,
    unlock: http::Request<()>,
}

impl Connection for EtcdGrpc {
    async fn open(_: &Args, endpoint: &str) -> Result<Self, Failure> {
        let authority = endpoint.trim_start_matches("http://").trim_end_matches('/');
        let line = Line::open(authority).await?;
        let heads = Heads {
            authority: authority.to_owned(),
            put: line.head("/etcdserverpb.KV/Put")?,
            range: line.head("/etcdserverpb.KV/Range")?,
            txn: line.head("/etcdserverpb.KV/Txn")?,
            grant: line.head("/etcdserverpb.Lease/LeaseGrant")?,
            lock: line.head("/v3lockpb.Lock/Lock")?,
            unlock: line.head("/v3lockpb.Lock/Unlock")?,
        };
        Ok(EtcdGrpc {
            line,
            heads: Rc::new(heads),
            lease: 0,
            is_broken: false,
        })
    }

    fn share(&self) -> Option<Self> {
        Some(EtcdGrpc {
            line: self.line.clone(),
            heads: Rc::clone(&self.heads),
            lease: 0,
            is_broken: false,
        })
    }

    async fn execute(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        if self.is_broken {
            self.line = Line::open(&self.heads.authority).await?;
            self.is_broken = false;
        }
        let done = self.call(request).await;
        self.is_broken = matches!(done, Err(Failure::Broken(_)));
        done
    }
}

impl EtcdGrpc {
    async fn call(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        let (line, heads) = (&mut self.line, &*self.heads);
        match request {
            Request::Put(pair) => {
                let _: PutResponse = line.call(&heads.put, &put(pair)).await?;
                Ok(())
            }
            Request::Get(pair) => {
                let answer: RangeResponse = line.call(&heads.range, &get(pair)).await?;
                match answer.kvs.first() {
                    Some(found) if !found.value.is_empty() => Ok(()),
                    Some(_) | None => Err(Failure::Refused(format!("no key {}", pair.key))),
                }
            }
            Request::Txn(pairs) => {
                let answer: TxnResponse = line.call(&heads.txn, &txn(pairs)).await?;
                match answer.succeeded {
                    true => Ok(()),
                    false => Err(Failure::Refused(format!("no key {}", pairs[0].key))),
                }
            }
            Request::List(listing) => {
                let asked = list(listing.prefix);
                let answer: RangeResponse = line.call(&heads.range, &asked).await?;
                let (got, expected) = (answer.kvs.len(), listing.keys);
                match got == expected {
                    true => Ok(()),
                    false => Err(Failure::Refused(format!("{got} keys, not {expected}"))),
                }
            }
            Request::Lock(number) => self.lock(*number).await,
            // Refused with the options: a transaction is one operation, and no batch.
            Request::Batch(_) | Request::Publish(..) => {
                Err(Failure::Refused("batches are for Caucus only".to_owned()))
            }
        }
    }

    async fn lock(&mut self, number: usize) -> Result<(), Failure> {
        let (line, heads) = (&mut self.line, &*self.heads);
        if self.lease == 0 {
            let ttl = LEASE_TTL_S;
            let asked = LeaseGrantRequest { ttl, id: 0 };
            let granted: LeaseGrantResponse = line.call(&heads.grant, &asked).await?;
            self.lease = granted.id;
        }
        let asked = LockRequest {
            name: format!("/bench-lock/{number}/l").into(),
            lease: self.lease,
        };
        let held: LockResponse = line.call(&heads.lock, &asked).await?;
        let asked = UnlockRequest { key: held.key };
        let _: UnlockResponse = line.call(&heads.unlock, &asked).await?;
        Ok(())
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(pair: &Pair<'_>) -> PutRequest {
    PutRequest {
        key: bytes(pair.key),
        value: bytes(pair.value),
        ..PutRequest::default()
    }
}

/// `serializable` stays false: linearizable is etcd's default.
fn get(pair: &Pair<'_>) -> RangeRequest {
    RangeRequest {
        key: bytes(pair.key),
        ..RangeRequest::default()
    }
}

/// All keys that begin with the prefix, which ends with a slash.
fn list(prefix: &str) -> RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    RangeRequest {
        key: bytes(prefix),
        range_end: end.into(),
        ..RangeRequest::default()
    }
}

/// If all keys exist, they are overwritten; otherwise they are read.
fn txn(pairs: &[Pair<'_>]) -> TxnRequest {
    let exists = |pair: &Pair<'_>| Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: bytes(pair.key),
        target_union: Some(TargetUnion::Version(0)),
        ..Compare::default()
    };
    let operation = |request| RequestOp {
        request: Some(request),
    };
    let puts = pairs
        .iter()
        .map(|pair| operation(Op::RequestPut(put(pair))));
    let gets = pairs
        .iter()
        .map(|pair| operation(Op::RequestRange(get(pair))));
    TxnRequest {
        compare: pairs.iter().map(exists).collect(),
        success: puts.collect(),
        failure: gets.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_ends_where_the_prefix_does() {
        let asked = list("/bench/");
        assert_eq!(&asked.key[..], b"/bench/");
        assert_eq!(&asked.range_end[..], b"/bench0");
    }

    #[test]
    fn a_transaction_compares_and_writes_all_its_keys() {
        let pair = |key| Pair { key, value: "v" };
        let asked = txn(&[pair("/a/1"), pair("/b/2")]);
        assert_eq!(asked.compare.len(), 2);
        assert_eq!(asked.success.len(), 2);
        assert_eq!(asked.failure.len(), 2);
        assert_eq!(
            asked.success[1].request,
            Some(Op::RequestPut(put(&pair("/b/2"))))
        );
    }
}
