//! etcd over gRPC.
//!
//! Four messages of `rpc.proto` and `kv.proto` are written here by hand, with the fields that a
//! benchmark reads; protobuf skips the others. So no etcd file has to be compiled.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request as GrpcRequest, Status};

use super::args::Args;
use super::error::Failure;
use super::target::Connection;
use super::workload::Request;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

/// `serializable` (tag 7) stays false: linearizable is etcd's default.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

/// A handle of a channel; clients share channels.
pub(super) struct EtcdGrpc {
    client: Grpc<Channel>,
}

impl Connection for EtcdGrpc {
    async fn open(_: &Args, endpoint: &str) -> Result<Self, Failure> {
        let uri = match endpoint.contains("://") {
            true => endpoint.to_owned(),
            false => format!("http://{endpoint}"),
        };
        let endpoint = Endpoint::from_shared(uri).map_err(broken)?;
        let channel = endpoint.connect().await.map_err(broken)?;
        Ok(EtcdGrpc {
            client: Grpc::new(channel),
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
                let (key, value) = (pair.key.into(), pair.value.into());
                let _: PutResponse = self.call(PutRequest { key, value }, PUT).await?;
                Ok(())
            }
            Request::Get(pair) => {
                let answer: RangeResponse = self
                    .call(
                        RangeRequest {
                            key: pair.key.into(),
                        },
                        RANGE,
                    )
                    .await?;
                match answer.kvs.first() {
                    Some(found) if !found.value.is_empty() => Ok(()),
                    Some(_) | None => Err(Failure::Refused(format!("no key {}", pair.key))),
                }
            }
            // Refused with the options: a transaction is one operation, and no batch.
            Request::Batch(_) => Err(Failure::Refused("batches are for Caucus only".to_owned())),
        }
    }
}

impl EtcdGrpc {
    async fn call<Q, A>(&mut self, message: Q, path: &'static str) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.client.ready().await.map_err(broken)?;
        let codec = Protobuf(PhantomData);
        let path = PathAndQuery::from_static(path);
        let answer = self
            .client
            .unary(GrpcRequest::new(message), path, codec)
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| Failure::Refused(format!("{}: {}", status.code(), status.message())))
    }
}

fn broken(error: tonic::transport::Error) -> Failure {
    // The outer error says "transport error" only.
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    Failure::Broken(cause.unwrap_or_else(|| error.to_string()))
}

/// Protobuf for tonic; its own is in a crate of its own, for generated code.
struct Protobuf<Q, A>(PhantomData<(Q, A)>);

impl<Q, A> Codec for Protobuf<Q, A>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    type Encode = Q;
    type Decode = A;
    type Encoder = Protobuf<Q, A>;
    type Decoder = Protobuf<Q, A>;

    fn encoder(&mut self) -> Self::Encoder {
        Protobuf(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Protobuf(PhantomData)
    }
}

impl<Q: Message, A> Encoder for Protobuf<Q, A> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, message: Q, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message
            .encode(out)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl<Q, A: Message + Default> Decoder for Protobuf<Q, A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        let message = bytes.copy_to_bytes(bytes.remaining());
        let message = A::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_those_of_etcd() {
        let put = PutRequest {
            key: b"k".to_vec(),
            value: b"v".to_vec(),
        };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x01v");
        // header {revision: 5}, kvs [{key, create_revision, value}], count 1
        let bytes = b"\x0a\x02\x18\x05\x12\x08\x0a\x01k\x10\x02\x2a\x01v\x20\x01";
        let range = RangeResponse::decode(bytes.as_slice()).expect("a range response");
        assert_eq!(
            range.kvs,
            [KeyValue {
                key: b"k".to_vec(),
                value: b"v".to_vec()
            }]
        );
    }
}
