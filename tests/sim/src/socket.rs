//! One end of a simulated stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::{Cargo, UNDER_WAY_MAX, Wire};

pub(crate) struct SimSocket {
    wire: Wire,
    /// The pipes, by their names.
    reads: u64,
    writes: u64,
    is_shut: bool,
}

impl SimSocket {
    pub(crate) fn new(wire: Wire, reads: u64, writes: u64) -> SimSocket {
        SimSocket {
            wire,
            reads,
            writes,
            is_shut: false,
        }
    }
}

impl AsyncRead for SimSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.wire.lock();
        let Some(pipe) = inner.pipes.get_mut(&self.reads) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if let Some(front) = pipe.inbox.front_mut() {
            let length = front.len().min(buffer.remaining());
            buffer.put_slice(&front[..length]);
            front.advance(length);
            if front.is_empty() {
                pipe.inbox.pop_front();
            }
            return Poll::Ready(Ok(()));
        }
        if pipe.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.is_ended {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.wire.lock();
        let is_reset = inner
            .pipes
            .get(&self.reads)
            .is_none_or(|pipe| pipe.is_reset);
        let Some(pipe) = inner.pipes.get_mut(&self.writes).filter(|_| !is_reset) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.under_way >= UNDER_WAY_MAX {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        inner.send(self.writes, Cargo::Data(Bytes::copy_from_slice(data)));
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            self.is_shut = true;
            self.wire.lock().send(self.writes, Cargo::End);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let is_shut = self.is_shut;
        self.wire.lock().hang_up(self.reads, self.writes, is_shut);
    }
}
