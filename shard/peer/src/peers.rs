//! The dialing side: one link to each peer, made when first needed, made again when lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{CallError, Calls, Frame, Gone, Hello, Link, Net, Service, Socket};

/// Takes the frames that arrive on a link and are no answer to a call.
pub trait Handler: Send + Sync + 'static {
    /// One frame, in the link's order. Must not block: it runs in the link's reader.
    fn frame(&self, link: &Arc<Link>, frame: Frame);

    /// The id of the cluster, for a hello; empty as long as it isn't known.
    fn cluster_id(&self) -> Bytes {
        Bytes::new()
    }
}

/// Settings of the dialing side.
#[derive(Debug, Clone)]
pub struct PeersOptions {
    /// A connection attempt that takes longer has failed.
    pub connect_timeout: Duration,
    /// After a failed attempt calls fail at once for this long, instead of trying again each.
    pub retry_after: Duration,
}

impl Default for PeersOptions {
    fn default() -> Self {
        PeersOptions {
            connect_timeout: Duration::from_millis(1000),
            retry_after: Duration::from_millis(100),
        }
    }
}

/// All peers that this process talks to, by address.
pub struct Peers {
    caller: Arc<Caller>,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
}

/// What all links of this process begin with.
struct Caller {
    net: Arc<dyn Net>,
    hello: Hello,
    /// Known later than the rest of the hello.
    cluster_id: OnceLock<Bytes>,
    options: PeersOptions,
}

impl Caller {
    fn hello(&self) -> Hello {
        Hello {
            cluster_id: self.cluster_id.get().cloned().unwrap_or_default(),
            ..self.hello.clone()
        }
    }
}

impl Peers {
    /// Nothing is connected yet.
    pub fn new(net: Arc<dyn Net>, hello: Hello, options: PeersOptions) -> Arc<Peers> {
        let caller = Caller {
            net,
            hello,
            cluster_id: OnceLock::new(),
            options,
        };
        Arc::new(Peers {
            caller: Arc::new(caller),
            peers: Mutex::new(HashMap::new()),
        })
    }

    /// From now on peers of other clusters are refused by their id too. Counts once.
    pub fn set_cluster_id(&self, id: Bytes) {
        // It is for ever, so a second one is the same.
        let _ = self.caller.cluster_id.set(id);
    }

    /// The id of the cluster; empty as long as it isn't known.
    pub fn cluster_id(&self) -> Bytes {
        self.caller.hello().cluster_id
    }

    /// The peer at an address (`host:port`); connects only when it is used.
    pub fn peer(&self, addr: &str) -> Arc<Peer> {
        let mut peers = self.peers.lock().expect("no panic under this lock");
        if let Some(peer) = peers.get(addr) {
            return peer.clone();
        }
        let peer = Arc::new(Peer {
            addr: addr.into(),
            caller: self.caller.clone(),
            state: tokio::sync::Mutex::new(State::default()),
        });
        peers.insert(addr.to_owned(), peer.clone());
        peer
    }

    /// Closes every link.
    pub async fn close(&self) {
        let peers: Vec<_> = {
            let mut map = self.peers.lock().expect("no panic under this lock");
            map.drain().map(|(_, peer)| peer).collect()
        };
        for peer in peers {
            if let Some(lane) = peer.state.lock().await.lane.take() {
                lane.link.close();
            }
        }
    }
}

/// One peer.
pub struct Peer {
    addr: Arc<str>,
    caller: Arc<Caller>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last one, also when it is gone.
    lane: Option<Lane>,
    failed: Option<(Instant, CallError)>,
    /// When the last lane was found refused.
    refused: Option<Instant>,
}

/// A link to a peer with its open questions.
#[derive(Clone)]
pub struct Lane {
    addr: Arc<str>,
    caller: Arc<Caller>,
    link: Arc<Link>,
    calls: Arc<Calls>,
}

impl Lane {
    /// Queues a question at once; the future is its answer. Questions of one lane arrive in the
    /// order in which they were asked.
    pub fn ask(
        &self,
        service: Service,
        body: Bytes,
    ) -> Result<impl Future<Output = Result<Bytes, CallError>> + Send + use<>, CallError> {
        match self.calls.ask(&self.link, service, body) {
            Ok(answer) => {
                let lane = self.clone();
                Ok(async move { answer.await.map_err(|_| lane.broken()) })
            }
            Err(Gone) => Err(self.broken()),
        }
    }

    /// Why no answer will come any more.
    fn broken(&self) -> CallError {
        let addr = self.addr.to_string();
        match self.refusal() {
            Some(reason) => CallError::Unreachable { addr, reason },
            None => CallError::Broken { addr },
        }
    }

    /// Why the peer refuses us, if it does.
    fn refusal(&self) -> Option<String> {
        let theirs = self.link.hello()?;
        let reason = self.caller.hello().refusal(theirs);
        Some(reason.unwrap_or_else(|| "it refuses us".to_owned()))
    }

    /// The link under it.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Peer {
    /// The peer's address.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Asks and waits for the answer, `limit` at most, the time for connecting included.
    pub async fn call(
        &self,
        service: Service,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + limit;
        let lane = match timeout_at(deadline, self.lane()).await {
            Ok(lane) => lane?,
            Err(_) => return Err(self.unreachable("connecting takes too long".to_owned())),
        };
        let answer = lane.ask(service, body)?;
        timeout_at(deadline, answer)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
    }

    /// The error of an answer that didn't come in time.
    pub fn timed_out(&self) -> CallError {
        CallError::Timeout {
            addr: self.addr.to_string(),
        }
    }

    /// A link of its own to this peer, for a protocol that keeps its own account of what is open.
    /// Frames that arrive on it go to `handler`.
    pub async fn open(&self, handler: Arc<dyn Handler>) -> Result<Arc<Link>, CallError> {
        let socket = self.connect().await?;
        let on_frame = move |link: &Arc<Link>, frame| {
            handler.frame(link, frame);
            true
        };
        self.start(socket, on_frame, || ())
    }

    /// A lane of its own, for bulk that shall not stand in the way of other questions.
    pub async fn own_lane(&self) -> Result<Lane, CallError> {
        let socket = self.connect().await?;
        self.make_lane(socket)
    }

    /// Why this peer and we can't be linked, by the last attempt: they belong to different clusters.
    pub async fn refusal(&self) -> Option<String> {
        self.state.lock().await.lane.as_ref()?.refusal()
    }

    /// The shared lane to this peer; connects if there is none.
    pub async fn lane(&self) -> Result<Lane, CallError> {
        let mut state = self.state.lock().await;
        if let Some(lane) = state.lane.as_ref().filter(|lane| !lane.link.is_gone()) {
            return Ok(lane.clone());
        }
        let retry_after = self.caller.options.retry_after;
        if let Some((when, error)) = &state.failed
            && when.elapsed() < retry_after
        {
            return Err(error.clone());
        }
        if let Some(reason) = state.lane.as_ref().and_then(Lane::refusal) {
            let since = *state.refused.get_or_insert_with(Instant::now);
            if since.elapsed() < retry_after {
                return Err(self.unreachable(reason));
            }
        }
        state.refused = None;
        let socket = match self.connect().await {
            Ok(socket) => socket,
            Err(error) => {
                state.lane = None;
                // Said once, not at each of the attempts that follow.
                if state.failed.is_none() {
                    tracing::warn!(addr = %self.addr, %error, "a peer is out of reach");
                }
                state.failed = Some((Instant::now(), error.clone()));
                return Err(error);
            }
        };
        let lane = self.make_lane(socket)?;
        state.lane = Some(lane.clone());
        if state.failed.take().is_some() {
            tracing::info!(addr = %self.addr, "a peer is within reach again");
        }
        Ok(lane)
    }

    fn make_lane(&self, socket: Box<dyn Socket>) -> Result<Lane, CallError> {
        let calls = Arc::new(Calls::default());
        let (answering, ending) = (calls.clone(), calls.clone());
        let on_frame = move |_: &Arc<Link>, frame| {
            if let Some(late) = answering.answer(frame) {
                tracing::trace!(service = late.service, "an answer that nobody waits for");
            }
            true
        };
        let link = self.start(socket, on_frame, move || ending.end())?;
        Ok(Lane {
            addr: self.addr.clone(),
            caller: self.caller.clone(),
            link,
            calls,
        })
    }

    async fn connect(&self) -> Result<Box<dyn Socket>, CallError> {
        let connecting = self.caller.net.connect(self.addr.to_string());
        let limit = self.caller.options.connect_timeout;
        let result = match timeout(limit, connecting).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the connection attempt timed out".to_owned()),
        };
        result.map_err(|reason| self.unreachable(reason))
    }

    fn unreachable(&self, reason: String) -> CallError {
        CallError::Unreachable {
            addr: self.addr.to_string(),
            reason,
        }
    }

    fn start<F, E>(
        &self,
        socket: Box<dyn Socket>,
        mut on_frame: F,
        on_end: E,
    ) -> Result<Arc<Link>, CallError>
    where
        F: FnMut(&Arc<Link>, Frame) -> bool + Send + 'static,
        E: FnOnce() + Send + 'static,
    {
        let take = move |link: &Arc<Link>, frame: Frame| {
            if frame.service != Service::Hello as u8 {
                return on_frame(link, frame);
            }
            // Only who refuses us says hello.
            if let Ok(theirs) = Hello::decode(frame.body) {
                link.greet(theirs, true);
            }
            false
        };
        let link = Link::start(socket, take, on_end);
        let hello = Bytes::from(self.caller.hello().encode_to_vec());
        match link.send_now(Frame::new(Service::Hello, 0, hello)) {
            Ok(()) => Ok(link),
            Err(_) => Err(CallError::Broken {
                addr: self.addr.to_string(),
            }),
        }
    }
}
