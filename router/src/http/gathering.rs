//! Small writes of one connection, gathered into one system call.
//!
//! HTTP/2 writes each frame as soon as it has it, so that many small answers on one connection cost a
//! system call each. Here they gather until the connection has nothing more to write; on HTTP/2 a flush
//! also lets whoever is ready run once, who may have an answer for the same packet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Larger writes go out at once.
const BUFFER_BYTES: usize = 32 << 10;

/// A stream whose writes gather.
pub(super) struct Gathering {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// So much of the buffer is written.
    written: usize,
    /// Whether a flush lets others run first; set once it is known that many answers share the stream.
    shares: Arc<AtomicBool>,
    yielded: bool,
}

impl Gathering {
    pub(super) fn new(stream: TcpStream, shares: Arc<AtomicBool>) -> Gathering {
        Gathering {
            stream,
            buffer: Vec::new(),
            written: 0,
            shares,
            yielded: false,
        }
    }

    fn drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let rest = &self.buffer[self.written..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.buffer.clear();
        self.written = 0;
        self.yielded = false;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gathering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, bytes)
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            ready!(self.drain(context))?;
        }
        if bytes.len() >= BUFFER_BYTES {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waits = self.written == 0 && !self.buffer.is_empty() && !self.yielded;
        if waits && self.shares.load(Ordering::Relaxed) {
            self.yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.drain(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn everything_arrives_in_order() {
        for shares in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let reading = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                all
            });
            let stream = TcpStream::connect(address).await.unwrap();
            let mut gathering = Gathering::new(stream, Arc::new(AtomicBool::new(shares)));
            let mut expected = Vec::new();
            for (turn, length) in [1, 300, BUFFER_BYTES - 10, 20, BUFFER_BYTES, 0, 7, 200_000]
                .into_iter()
                .enumerate()
            {
                let bytes = vec![turn as u8; length];
                gathering.write_all(&bytes).await.unwrap();
                if turn % 3 == 1 {
                    gathering.flush().await.unwrap();
                }
                expected.extend(bytes);
            }
            gathering.shutdown().await.unwrap();
            assert!(reading.await.unwrap() == expected);
        }
    }
}
