//! One connection: a queue with a writer task, and a reader task that hands frames on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Frame, Gone, Hello, Socket};

/// Frames that may wait for the writer of one link.
const QUEUE_FRAMES_MAX: usize = 8192;
/// Frames written with one system call.
const WRITE_FRAMES_MAX: usize = 512;
/// The write buffer is given back to the allocator above this.
const WRITE_BUFFER_KEPT_BYTES: usize = 1 << 20;

/// One end of a connection. Cheap to share; closed when its tasks end.
#[derive(Debug)]
pub struct Link {
    id: u64,
    queue: mpsc::Sender<Frame>,
    gone: CancellationToken,
    /// Theirs; on the dialing side only from who refuses us.
    hello: OnceLock<Hello>,
    /// One of both sides doesn't want it.
    refused: AtomicBool,
}

impl Link {
    /// Starts the two tasks of a socket. `on_frame` sees every arriving frame, in order, and must
    /// not block; after it returned `false` the link is closed. `on_end` runs once, when no more
    /// frame will arrive.
    pub(crate) fn start<F, E>(socket: Box<dyn Socket>, mut on_frame: F, on_end: E) -> Arc<Link>
    where
        F: FnMut(&Arc<Link>, Frame) -> bool + Send + 'static,
        E: FnOnce() + Send + 'static,
    {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let (queue, waiting) = mpsc::channel(QUEUE_FRAMES_MAX);
        let gone = CancellationToken::new();
        let link = Arc::new(Link {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            queue,
            gone: gone.clone(),
            hello: OnceLock::new(),
            refused: AtomicBool::new(false),
        });
        let (reader, writer) = tokio::io::split(socket);
        let stop = gone.clone();
        tokio::spawn(async move {
            let _close = stop.clone().drop_guard();
            stop.run_until_cancelled(write_frames(writer, waiting))
                .await;
        });
        let reading = link.clone();
        tokio::spawn(async move {
            {
                let _close = gone.clone().drop_guard();
                let read = read_frames(reader, |frame| on_frame(&reading, frame));
                gone.run_until_cancelled(read).await;
            }
            on_end();
        });
        link
    }

    /// Unique among the links of this process, for ever.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Queues a frame, waiting while the queue is full.
    pub async fn send(&self, frame: Frame) -> Result<(), Gone> {
        tokio::select! {
            biased;
            sent = self.queue.send(frame) => sent.map_err(|_| Gone),
            () = self.gone.cancelled() => Err(Gone),
        }
    }

    /// Queues a frame if there is room; a link whose queue is full is closed, because its peer
    /// doesn't keep up and a frame that is silently lost would break its order.
    pub fn send_now(&self, frame: Frame) -> Result<(), Gone> {
        self.queue.try_send(frame).map_err(|_| {
            self.close();
            Gone
        })
    }

    /// Ends both tasks; the other side sees the connection close.
    pub fn close(&self) {
        self.gone.cancel();
    }

    /// Whether the link has ended.
    pub fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Completes when the link has ended.
    pub async fn gone(&self) {
        self.gone.cancelled().await
    }

    /// Who dialed this link; set on the accepting side before any other frame is handed on.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.get()
    }

    /// Whether one of the two nodes refuses the other; nothing but that is said on such a link.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn greet(&self, hello: Hello, refused: bool) -> bool {
        self.refused.store(refused, Ordering::Relaxed);
        self.hello.set(hello).is_ok()
    }
}

async fn write_frames(mut socket: WriteHalf<Box<dyn Socket>>, mut queue: mpsc::Receiver<Frame>) {
    let mut frames = Vec::with_capacity(WRITE_FRAMES_MAX);
    let mut out = BytesMut::new();
    while queue.recv_many(&mut frames, WRITE_FRAMES_MAX).await > 0 {
        // Whoever is ready to run now may have a frame for this system call too.
        tokio::task::yield_now().await;
        while frames.len() < WRITE_FRAMES_MAX
            && let Ok(frame) = queue.try_recv()
        {
            frames.push(frame);
        }
        for frame in frames.drain(..) {
            frame.encode(&mut out);
        }
        if let Err(error) = socket.write_all(&out).await {
            tracing::debug!(%error, "a peer link ended while writing");
            return;
        }
        if out.capacity() > WRITE_BUFFER_KEPT_BYTES {
            out = BytesMut::new();
        }
        out.clear();
    }
}

async fn read_frames(
    mut socket: ReadHalf<Box<dyn Socket>>,
    mut on_frame: impl FnMut(Frame) -> bool,
) {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        loop {
            match Frame::decode(&mut buffer) {
                Ok(Some(frame)) => {
                    if !on_frame(frame) {
                        return;
                    }
                }
                Ok(None) => break,
                Err(length) => {
                    tracing::warn!(length, "a peer sent a frame of an impossible length");
                    return;
                }
            }
        }
        buffer.reserve(16 << 10);
        match socket.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
