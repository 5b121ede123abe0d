//! A connection that carries many unary gRPC calls: HTTP/2 with a length before each message.
//!
//! A channel of `tonic` costs the load generator twice as much, and what it uses is missing to the
//! servers on the same machine. So there is nothing between a call and the stream that carries it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::{Method, Request, StatusCode, Uri, Version};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::bench::error::Failure;

/// Larger than any answer: the server never waits for the client to make room.
const WINDOW_BYTES: u32 = 64 << 20;
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Before a message: one byte says that it isn't compressed, four how long it is.
const PREFIX_BYTES: usize = 5;

/// A handle of a connection; a clone is another one.
#[derive(Clone)]
pub(super) struct Line {
    authority: String,
    sender: SendRequest<Bytes>,
}

impl Line {
    /// Opens a connection, which is served by a task of this thread until the last handle is gone.
    pub(super) async fn open(authority: &str) -> Result<Line, Failure> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX);
        let opened = builder.handshake(Gathering(stream)).await;
        let (sender, connection) = opened.map_err(|error| broken(&error))?;
        tokio::task::spawn_local(async move {
            // Whoever has a call under way gets the same error.
            let _ = connection.await;
        });
        Ok(Line {
            authority: authority.to_owned(),
            sender,
        })
    }

    /// What a request to a method begins with.
    pub(super) fn head(&self, path: &str) -> Result<Request<()>, Failure> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(path)
            .build();
        let mut head = Request::new(());
        *head.uri_mut() = uri.map_err(|error| Failure::Broken(error.to_string()))?;
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        let headers = head.headers_mut();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(head)
    }

    /// Makes a call and waits for the whole of its answer.
    pub(super) async fn call<Q, A>(&mut self, head: &Request<()>, message: &Q) -> Result<A, Failure>
    where
        Q: Message,
        A: Message + Default,
    {
        let ready = poll_fn(|context| self.sender.poll_ready(context)).await;
        ready.map_err(|error| broken(&error))?;
        let sent = self.sender.send_request(head.clone(), false);
        let (answer, mut stream) = sent.map_err(|error| broken(&error))?;
        let sent = stream.send_data(framed(message), true);
        sent.map_err(|error| broken(&error))?;
        let answer = answer.await.map_err(|error| broken(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::Refused(answer.status().to_string()));
        }
        let (head, mut body) = answer.into_parts();
        let message = collect(&mut body).await?;
        let trailers = body.trailers().await.map_err(|error| broken(&error))?;
        // Without a message everything is in the head.
        succeeded(trailers.as_ref().unwrap_or(&head.headers))?;
        if message.len() < PREFIX_BYTES {
            return Err(Failure::Refused("no message".to_owned()));
        }
        let message = A::decode(message.slice(PREFIX_BYTES..));
        message.map_err(|error| Failure::Refused(error.to_string()))
    }
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).expect("requests are small"));
    message
        .encode(&mut framed)
        .expect("there is room for the message");
    framed.freeze()
}

/// The whole body, without a copy if it came in one piece.
async fn collect(body: &mut RecvStream) -> Result<Bytes, Failure> {
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| broken(&error))?;
        let released = body.flow_control().release_capacity(piece.len());
        released.map_err(|error| broken(&error))?;
        if whole.is_empty() && pieces.is_empty() {
            whole = piece;
            continue;
        }
        if pieces.is_empty() {
            pieces.reserve(length_of(&whole).max(whole.len() + piece.len()));
            pieces.put_slice(&whole);
        }
        pieces.put_slice(&piece);
    }
    match pieces.is_empty() {
        true => Ok(whole),
        false => Ok(pieces.freeze()),
    }
}

/// The length that a message begins with, and its own.
fn length_of(mut begin: &[u8]) -> usize {
    if begin.len() < PREFIX_BYTES {
        return 0;
    }
    begin.advance(1);
    PREFIX_BYTES + begin.get_u32() as usize
}

fn succeeded(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    };
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        Some(_) => Err(Failure::Refused(format!(
            "status {}: {}",
            text("grpc-status"),
            text("grpc-message")
        ))),
        None => Err(Failure::Refused("no status".to_owned())),
    }
}

fn broken(error: &h2::Error) -> Failure {
    Failure::Broken(error.to_string())
}

/// A socket that says it can't write from several buffers at once. `h2` then copies small messages
/// into its own, and sends many calls with one system call instead of each with one.
struct Gathering(TcpStream);

impl AsyncRead for Gathering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_before_it() {
        let message = caucus_etcd::etcdserverpb::PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            ..Default::default()
        };
        let framed = framed(&message);
        assert_eq!(&framed[..], b"\0\0\0\0\x06\x0a\x01k\x12\x01v");
        assert_eq!(length_of(&framed), framed.len());
    }

    #[test]
    fn only_status_zero_is_success() {
        let mut headers = HeaderMap::new();
        assert!(succeeded(&headers).is_err());
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        assert!(succeeded(&headers).is_ok());
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        headers.insert("grpc-message", HeaderValue::from_static("no leader"));
        let failure = succeeded(&headers).expect_err("a failure");
        assert_eq!(failure.message(), "status 14: no leader");
    }
}
