//! From an HTTP request to a call of a trait's method and back, one function for each shape of call.

use std::convert::Infallible;
use std::future::Future;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt as _};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::codec::BufferSettings;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::answer::{failure, http_status, line, set_json, success};
use super::messages::{Messages, Unread, too_large};
use super::{MAX_BODY_BYTES, MAX_MESSAGE_BYTES};
use crate::json;

/// A call with one message each way.
pub(super) async fn unary<I, O, F>(
    request: Request,
    call: impl FnOnce(tonic::Request<I>) -> F,
) -> Response
where
    I: DeserializeOwned + Default,
    O: Serialize,
    F: Future<Output = Result<tonic::Response<O>, Status>>,
{
    let called = async { call(message(request).await?).await };
    match called.await {
        Ok(answer) => success(answer.get_ref()),
        Err(status) => failure(&status),
    }
}

/// A call with many answers.
pub(super) async fn streamed<I, O, S, F>(
    request: Request,
    call: impl FnOnce(tonic::Request<I>) -> F,
) -> Response
where
    I: DeserializeOwned + Default,
    O: Serialize + Send + 'static,
    S: Stream<Item = Result<O, Status>> + Send + 'static,
    F: Future<Output = Result<tonic::Response<S>, Status>>,
{
    match message(request).await {
        Ok(request) => lines(call(request).await).await,
        Err(status) => failure(&status),
    }
}

/// A call with many messages each way, which are read as they arrive: answers to the first are written
/// while the body is still open.
///
/// As in etcd, a first message that can't be read is an error of the call (`UNKNOWN` here, where it is
/// `INVALID_ARGUMENT` elsewhere), and a later one ends the requests as the end of the body does: without
/// a word. One that is too large is an error among the requests, as it is over gRPC.
pub(super) async fn bidirectional<I, O, S, F>(
    request: Request,
    call: impl FnOnce(tonic::Request<Streaming<I>>) -> F,
) -> Response
where
    I: Message + DeserializeOwned + Default + 'static,
    O: Serialize + Send + 'static,
    S: Stream<Item = Result<O, Status>> + Send + 'static,
    F: Future<Output = Result<tonic::Response<S>, Status>>,
{
    let (head, body) = request.into_parts();
    let mut messages = Messages::new(body);
    let first = match messages.next::<I>().await {
        Some(Err(Unread::Malformed(text))) => return failure(&Status::unknown(text)),
        first => first,
    };
    let requests = requests(first, messages);
    let request = tonic::Request::from_parts(metadata(&head.headers), head.extensions, requests);
    lines(call(request).await).await
}

/// The messages as gRPC's frames: the one thing tonic makes a stream of requests from.
fn requests<I>(first: Option<Result<I, Unread>>, messages: Messages) -> Streaming<I>
where
    I: Message + DeserializeOwned + Default + 'static,
{
    let frames = stream::unfold(Some((first, messages)), |state| async {
        let (first, mut messages) = state?;
        let message = match first {
            Some(first) => first,
            None => messages.next::<I>().await?,
        };
        match message {
            Ok(message) => Some((Ok(frame(&message)), Some((None, messages)))),
            Err(Unread::Malformed(_)) => None,
            Err(Unread::TooLarge(status)) => Some((Err(status), None)),
        }
    });
    let decoder = ProstCodec::<I, I>::raw_decoder(BufferSettings::default());
    // As a stream over gRPC, it may be asked again after its end.
    let body = Body::from_stream(frames.fuse());
    Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE_BYTES))
}

/// A message not compressed, after its length; the limit on messages is far below what a length can say.
fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(length + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message.encode_to_vec());
    frame.freeze()
}

/// Answers, a line for each, and one for the error they end with.
///
/// Nothing is said before the first, as in etcd, so an error there has its status; that there were no
/// answers at all makes no difference.
async fn lines<O, S>(called: Result<tonic::Response<S>, Status>) -> Response
where
    O: Serialize + Send + 'static,
    S: Stream<Item = Result<O, Status>> + Send + 'static,
{
    let answers = match called {
        Ok(answers) => Box::pin(answers.into_inner()).left_stream(),
        Err(status) => stream::iter([Err(status)]).right_stream(),
    };
    let mut answers = answers.fuse();
    let first = answers.next().await;
    let status = match &first {
        Some(Err(status)) => http_status(status.code()),
        _ => StatusCode::OK,
    };
    let answers = stream::iter(first).chain(answers);
    let lines = stream::unfold(Some(answers), |answers| async {
        let mut answers = answers?;
        let answer = answers.next().await?;
        let goes_on = answer.is_ok();
        let line = Ok::<Bytes, Infallible>(line(answer));
        Some((line, goes_on.then_some(answers)))
    });
    let mut response = Response::new(Body::from_stream(lines));
    *response.status_mut() = status;
    set_json(response.headers_mut());
    response
}

async fn message<I: DeserializeOwned + Default>(
    request: Request,
) -> Result<tonic::Request<I>, Status> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            return too_large(None);
        }
        Status::invalid_argument(error.to_string())
    })?;
    let message = json::parse(&body.to_bytes()).map_err(Status::invalid_argument)?;
    let metadata = metadata(&head.headers);
    let extensions = head.extensions;
    Ok(tonic::Request::from_parts(metadata, extensions, message))
}

/// As gateways do, the token goes on, and other headers only where their names ask for it.
fn metadata(headers: &HeaderMap) -> MetadataMap {
    const PREFIX: &str = "grpc-metadata-";
    let mut passed = HeaderMap::new();
    for (name, value) in headers {
        if name == AUTHORIZATION {
            passed.append(name.clone(), value.clone());
        } else if let Some(name) = name.as_str().strip_prefix(PREFIX)
            && let Ok(name) = name.parse::<http::HeaderName>()
        {
            passed.append(name, value.clone());
        }
    }
    MetadataMap::from_headers(passed)
}
