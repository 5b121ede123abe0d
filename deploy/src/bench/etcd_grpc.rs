//! etcd's own protocol, gRPC: the same program and messages for etcd and for Caucus, which speaks it too.

use bytes::Bytes;
use caucus_etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::request_op::Request as Op;
use caucus_etcd::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::args::Args;
use super::error::Failure;
use super::keyspace::Pair;
use super::target::Connection;
use super::workload::Request;

/// A listing comes in one message. etcd's own client has no smaller limit.
const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

/// A handle of a channel; clients share channels.
pub(super) struct EtcdGrpc {
    client: KvClient<Channel>,
}

impl Connection for EtcdGrpc {
    async fn open(_: &Args, endpoint: &str) -> Result<Self, Failure> {
        let uri = match endpoint.contains("://") {
            true => endpoint.to_owned(),
            false => format!("http://{endpoint}"),
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|error| broken(&error))?;
        let channel = endpoint.connect().await.map_err(|error| broken(&error))?;
        Ok(EtcdGrpc {
            client: KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX),
        })
    }

    fn share(&self) -> Option<Self> {
        Some(EtcdGrpc {
            client: self.client.clone(),
        })
    }

    async fn execute(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        match request {
            Request::Put(pair) => {
                self.client.put(put(pair)).await.map_err(failed)?;
                Ok(())
            }
            Request::Get(pair) => {
                let answer = self.client.range(get(pair)).await.map_err(failed)?;
                match answer.get_ref().kvs.first() {
                    Some(found) if !found.value.is_empty() => Ok(()),
                    Some(_) | None => Err(Failure::Refused(format!("no key {}", pair.key))),
                }
            }
            Request::Txn(pairs) => {
                let answer = self.client.txn(txn(pairs)).await.map_err(failed)?;
                match answer.get_ref().succeeded {
                    true => Ok(()),
                    false => Err(Failure::Refused(format!("no key {}", pairs[0].key))),
                }
            }
            Request::List(listing) => {
                let asked = list(listing.prefix);
                let answer = self.client.range(asked).await.map_err(failed)?;
                let (got, expected) = (answer.get_ref().kvs.len(), listing.keys);
                match got == expected {
                    true => Ok(()),
                    false => Err(Failure::Refused(format!("{got} keys, not {expected}"))),
                }
            }
            // Refused with the options: a transaction is one operation, and no batch.
            Request::Batch(_) => Err(Failure::Refused("batches are for Caucus only".to_owned())),
        }
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

fn failed(status: Status) -> Failure {
    let text = format!("{}: {}", status.code(), status.message());
    // A status that the channel made has its error as the source; one that came over it has none.
    match std::error::Error::source(&status) {
        Some(_) => Failure::Broken(text),
        None => Failure::Refused(text),
    }
}

fn broken(error: &tonic::transport::Error) -> Failure {
    // The outer error says "transport error" only.
    let cause = std::error::Error::source(error).map(ToString::to_string);
    Failure::Broken(cause.unwrap_or_else(|| error.to_string()))
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
