//! One node on the other side of a socket: a queue, a task that sends what gathered, a reader that
//! hands out replies.
//!
//! ```text
//!   submit ─▶ queue ─wake─▶ task ─▶ `Requests` frame ═▶ node
//!   Pending ◀── calls ◀── reader ◀═ `Replies` frame ════╯
//! ```
//!
//! Invariant: every request in `queue` is younger than every one that was sent on the link, and is in
//! `calls` unless its caller gave up. So when a link ends, what is not in the queue was (perhaps) sent.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use caucus_api::shard::{Replies, Request};
use caucus_peer::{Frame, Handler, Link, Peer, Service};
use prost::Message;
use prost::encoding::message;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::calls::{Answer, Calls};
use crate::{CallError, LinksOptions, Progress};

/// A frame is closed when it has grown to this.
const FRAME_BYTES_AIM: usize = 256 << 10;

/// A queue that a burst has grown beyond this is given back to the allocator.
const QUEUE_KEPT: usize = 4096;

pub(crate) struct Node {
    addr: Arc<str>,
    options: LinksOptions,
    progress: Arc<Progress>,
    state: Mutex<State>,
    wake: Notify,
    /// Counts arriving frames: how the task sees that the node is alive.
    heard: AtomicU64,
}

#[derive(Default)]
struct State {
    calls: Calls,
    queue: Vec<Request>,
    /// After a failed attempt to connect: until when requests fail at once, and why.
    down: Option<(Instant, Arc<str>)>,
    /// The task has ended; nothing will be sent any more.
    stopped: bool,
}

/// A noted request: where its answer will arrive.
pub(crate) struct Noted {
    pub(crate) call: u64,
    pub(crate) answer: oneshot::Receiver<Answer>,
}

impl Node {
    pub(crate) fn new(addr: &str, options: LinksOptions, progress: Arc<Progress>) -> Arc<Node> {
        Arc::new(Node {
            addr: addr.into(),
            options,
            progress,
            state: Mutex::default(),
            wake: Notify::new(),
            heard: AtomicU64::new(0),
        })
    }

    pub(crate) fn submit(&self, request: Request) -> Result<Noted, CallError> {
        let mut state = self.lock();
        let noted = self.note(&mut state, request)?;
        let was_idle = state.queue.len() == 1;
        drop(state);
        if was_idle {
            self.wake.notify_one();
        }
        Ok(noted)
    }

    pub(crate) fn submit_many(
        &self,
        requests: impl Iterator<Item = Request>,
        mut noted: impl FnMut(Result<Noted, CallError>),
    ) {
        let mut state = self.lock();
        let was_idle = state.queue.is_empty();
        for request in requests {
            noted(self.note(&mut state, request));
        }
        drop(state);
        if was_idle {
            self.wake.notify_one();
        }
    }

    fn note(&self, state: &mut State, mut request: Request) -> Result<Noted, CallError> {
        if let Some((until, reason)) = &state.down {
            if Instant::now() < *until {
                return Err(CallError::Unreachable {
                    addr: self.addr.clone(),
                    reason: reason.clone(),
                });
            }
            state.down = None;
        }
        let bytes = payload_bytes(&request);
        if state.stopped {
            return Err(CallError::Unreachable {
                addr: self.addr.clone(),
                reason: "no longer a node of the cluster".into(),
            });
        }
        // The queue can be longer than the open calls: it also holds those whose callers gave up.
        if state.calls.open() >= self.options.open_requests_max
            || state.queue.len() >= self.options.open_requests_max
            || state.calls.bytes() + bytes > self.options.open_bytes_max
        {
            return Err(CallError::Busy {
                addr: self.addr.clone(),
            });
        }
        let (sender, answer) = oneshot::channel();
        let call = state.calls.insert(sender, bytes);
        request.call = call;
        state.queue.push(request);
        Ok(Noted { call, answer })
    }

    /// The caller gave up; a reply that still comes finds nobody.
    pub(crate) fn forget(&self, call: u64) {
        self.lock().calls.remove(call);
    }

    pub(crate) fn broken(&self) -> CallError {
        CallError::Broken {
            addr: self.addr.clone(),
        }
    }

    /// Sends until `stop`.
    pub(crate) async fn run(self: Arc<Node>, peer: Arc<Peer>, stop: CancellationToken) {
        stop.run_until_cancelled(self.connect_and_send(&peer)).await;
        let everything = {
            let mut state = self.lock();
            state.stopped = true;
            state.queue = Vec::new();
            state.calls.drain_but(&HashSet::new())
        };
        for waiting in everything {
            let _ = waiting.send(Err(self.broken()));
        }
    }

    async fn connect_and_send(self: &Arc<Node>, peer: &Peer) {
        loop {
            while self.lock().queue.is_empty() {
                self.wake.notified().await;
            }
            match peer.open(self.clone()).await {
                Ok(link) => {
                    self.send_on(&link).await;
                    link.close();
                    self.fail_sent();
                }
                Err(error) => self.fail_queued(error.to_string().into()),
            }
        }
    }

    /// Sends what is queued on one link until that ends.
    async fn send_on(&self, link: &Link) {
        let gone = link.gone();
        tokio::pin!(gone);
        let mut silence = Silence::new(self.heard.load(Ordering::Relaxed));
        let mut ticks = interval(self.options.silence_max / 4);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = Vec::new();
        let mut buffer = BytesMut::new();
        loop {
            // Tasks that are ready to run may be about to queue requests too: letting them go first
            // makes frames larger under load and costs nothing when the process is idle.
            tokio::task::yield_now().await;
            while self.take(&mut requests) {
                silence.sent();
                for frame in self.frames(&mut requests, &mut buffer) {
                    if link.send(frame).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                biased;
                () = &mut gone => return,
                () = self.wake.notified() => {}
                _ = ticks.tick() => {
                    let heard = self.heard.load(Ordering::Relaxed);
                    if silence.is_longer_than(self.options.silence_max, heard) {
                        tracing::warn!(addr = %self.addr, "a node is silent, closing its link");
                        return;
                    }
                }
            }
        }
    }

    /// Takes the queue; whether there is something to send in it.
    fn take(&self, requests: &mut Vec<Request>) -> bool {
        requests.clear();
        if requests.capacity() > QUEUE_KEPT {
            *requests = Vec::new();
        }
        std::mem::swap(&mut self.lock().queue, requests);
        !requests.is_empty()
    }

    fn frames(&self, requests: &mut Vec<Request>, buffer: &mut BytesMut) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(1);
        for request in requests.drain(..) {
            message::encode(1, &request, buffer);
            if buffer.len() >= FRAME_BYTES_AIM {
                frames.push(self.close_frame(buffer));
            }
        }
        if !buffer.is_empty() {
            frames.push(self.close_frame(buffer));
        }
        frames
    }

    /// The fields of a `Requests` message, one after the other, are its encoding.
    fn close_frame(&self, buffer: &mut BytesMut) -> Frame {
        message::encode(2, &self.progress.message(), buffer);
        Frame::new(Service::Shard, 0, buffer.split().freeze())
    }

    /// The link ended: whatever is not in the queue may have been received.
    fn fail_sent(&self) {
        let sent = {
            let mut state = self.lock();
            let queued = state.queue.iter().map(|request| request.call).collect();
            state.calls.drain_but(&queued)
        };
        for waiting in sent {
            let _ = waiting.send(Err(self.broken()));
        }
    }

    /// No connection: what waits for one was certainly not received.
    fn fail_queued(&self, reason: Arc<str>) {
        let failed: Vec<_> = {
            let mut state = self.lock();
            state.down = Some((Instant::now() + self.options.retry_after, reason.clone()));
            let queue = std::mem::take(&mut state.queue);
            queue
                .iter()
                .filter_map(|request| state.calls.remove(request.call))
                .collect()
        };
        for waiting in failed {
            let _ = waiting.send(Err(CallError::Unreachable {
                addr: self.addr.clone(),
                reason: reason.clone(),
            }));
        }
    }

    fn answer(&self, body: Bytes) -> Result<(), prost::DecodeError> {
        let replies = Replies::decode(body)?.replies;
        let mut answered = Vec::with_capacity(replies.len());
        {
            let mut state = self.lock();
            for reply in replies {
                if let Some(waiting) = state.calls.remove(reply.call) {
                    answered.push((waiting, reply));
                }
            }
        }
        for (waiting, reply) in answered {
            // The caller may be giving up in this moment.
            let _ = waiting.send(Ok(reply));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl Handler for Node {
    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        if Service::from_number(frame.service) != Some(Service::Shard) {
            tracing::warn!(addr = %self.addr, service = frame.service, "an unexpected frame");
            return;
        }
        if let Err(error) = self.answer(frame.body) {
            // Some caller would wait in vain for the reply that is in there.
            tracing::warn!(addr = %self.addr, %error, "replies that cannot be read");
            link.close();
        }
    }
}

/// Notices a node that takes requests and never says anything: TCP alone would not for minutes.
struct Silence {
    heard: u64,
    sent: bool,
    since: Instant,
}

impl Silence {
    fn new(heard: u64) -> Silence {
        Silence {
            heard,
            sent: false,
            since: Instant::now(),
        }
    }

    fn sent(&mut self) {
        self.sent = true;
    }

    fn is_longer_than(&mut self, limit: std::time::Duration, heard: u64) -> bool {
        if heard != self.heard || !self.sent {
            self.heard = heard;
            self.sent = false;
            self.since = Instant::now();
        }
        self.since.elapsed() > limit
    }
}

/// What of a request takes memory.
fn payload_bytes(request: &Request) -> usize {
    use caucus_api::shard::request::Body;
    let body = match &request.body {
        Some(Body::Write(write)) => write.len(),
        Some(Body::Get(get)) => get.key.len(),
        Some(Body::List(list)) => list.start.len() + list.end.len() + list.vnodes.len(),
        Some(Body::History(history)) => history.key.len(),
        Some(Body::Evaluate(evaluate)) => prost::Message::encoded_len(evaluate),
        Some(Body::Follow(follow)) => prost::Message::encoded_len(follow),
        Some(Body::Replay(replay)) => prost::Message::encoded_len(replay),
        Some(Body::Lease(call)) => prost::Message::encoded_len(call),
        Some(Body::Hash(_) | Body::Fate(_) | Body::Compact(_)) | None => 0,
    };
    body + std::mem::size_of::<Request>()
}
