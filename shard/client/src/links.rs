//! The nodes that this process sends requests to, itself included.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use caucus_api::shard::request::Body;
use caucus_api::shard::{Reply, Request};
use caucus_api::{Groups, ReplyTo};
use caucus_peer::Peers;
use caucus_ring::NodeId;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::calls::Answer;
use crate::node::{Node, Noted};
use crate::{CallError, Progress};

/// The groups in this process are told of the session's progress each time it has got so much further.
const LOCAL_PROGRESS_STEP: u64 = 64;

/// Settings of the links to nodes; the limits are for each node.
#[derive(Debug, Clone)]
pub struct LinksOptions {
    /// Requests that may be open at a time.
    pub open_requests_max: usize,
    /// How large the open requests may be together.
    pub open_bytes_max: usize,
    /// After a failed attempt to connect, requests fail at once for this long.
    pub retry_after: Duration,
    /// A node that was sent requests and says nothing for this long is taken for lost.
    pub silence_max: Duration,
}

impl Default for LinksOptions {
    fn default() -> Self {
        LinksOptions {
            open_requests_max: 16 << 10,
            open_bytes_max: 64 << 20,
            retry_after: Duration::from_millis(100),
            silence_max: Duration::from_secs(10),
        }
    }
}

/// All nodes that this process talks to. A cheap clone; its tasks end with the last one.
#[derive(Clone)]
pub struct NodeLinks {
    shared: Arc<Shared>,
}

struct Shared {
    peers: Arc<Peers>,
    options: LinksOptions,
    progress: Arc<Progress>,
    local: Option<(NodeId, Arc<Local>)>,
    remote: Mutex<HashMap<String, (Arc<Node>, DropGuard)>>,
}

impl NodeLinks {
    /// Nothing is connected yet. `session` is random and never used again; requests to the node of
    /// `local` go straight to its groups, with no socket and no encoding.
    pub fn new(
        peers: Arc<Peers>,
        options: LinksOptions,
        session: u64,
        local: Option<(NodeId, Arc<dyn Groups>)>,
    ) -> NodeLinks {
        let progress = Arc::new(Progress::new(session));
        let local = local.map(|(node, groups)| {
            let local = Local {
                addr: format!("node {node} (this process)").into(),
                groups,
                progress: progress.clone(),
                told: AtomicU64::new(0),
            };
            (node, Arc::new(local))
        });
        NodeLinks {
            shared: Arc::new(Shared {
                peers,
                options,
                progress,
                local,
                remote: Mutex::default(),
            }),
        }
    }

    /// How far this process's session has got; goes out with each frame.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.shared.progress
    }

    /// The node of this process.
    pub fn local(&self) -> Option<NodeId> {
        self.shared.local.as_ref().map(|(node, _)| *node)
    }

    /// A node by its id and the address of its peer port. Connects only when it is used.
    pub fn node(&self, id: NodeId, addr: &str) -> NodeHandle {
        if let Some((node, local)) = &self.shared.local
            && *node == id
        {
            return NodeHandle(Way::Local(local.clone()));
        }
        let mut remote = self.remote();
        if let Some((node, _)) = remote.get(addr) {
            return NodeHandle(Way::Remote(node.clone()));
        }
        let node = Node::new(
            addr,
            self.shared.options.clone(),
            self.shared.progress.clone(),
        );
        let stop = CancellationToken::new();
        let peer = self.shared.peers.peer(addr);
        tokio::spawn(node.clone().run(peer, stop.clone()));
        remote.insert(addr.to_owned(), (node.clone(), stop.drop_guard()));
        NodeHandle(Way::Remote(node))
    }

    /// Closes the links to addresses that don't hold `keep`; their open requests are answered with
    /// [`CallError::Broken`].
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.remote().retain(|addr, _| keep(addr));
    }

    fn remote(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Arc<Node>, DropGuard)>> {
        self.shared.remote.lock().expect("no panic under this lock")
    }
}

/// The way to one node. A cheap clone.
#[derive(Clone)]
pub struct NodeHandle(Way);

#[derive(Clone)]
enum Way {
    Local(Arc<Local>),
    Remote(Arc<Node>),
}

impl NodeHandle {
    /// Sends a request; its [`Request::call`] is chosen here. Never waits: the request is queued, or
    /// refused with an error that says that it was not sent. The reply is awaited with what is
    /// returned; dropping that gives the request up, which the node isn't told.
    pub fn submit(&self, request: Request) -> Result<Pending, CallError> {
        match &self.0 {
            Way::Local(local) => Ok(local.submit(request)),
            Way::Remote(node) => {
                let noted = node.submit(request)?;
                Ok(Pending::remote(node, noted))
            }
        }
    }

    /// As [`submit`](Self::submit) for each, and so that they leave together.
    pub fn submit_many(
        &self,
        requests: impl Iterator<Item = Request>,
        mut submitted: impl FnMut(Result<Pending, CallError>),
    ) {
        match &self.0 {
            Way::Local(local) => {
                for request in requests {
                    submitted(Ok(local.submit(request)));
                }
            }
            Way::Remote(node) => node.submit_many(requests, |noted| {
                submitted(noted.map(|noted| Pending::remote(node, noted)));
            }),
        }
    }
}

/// The groups in this process.
struct Local {
    addr: Arc<str>,
    groups: Arc<dyn Groups>,
    progress: Arc<Progress>,
    told: AtomicU64,
}

impl Local {
    fn submit(&self, request: Request) -> Pending {
        if let Some(Body::Write(_)) = &request.body {
            let finished = self.progress.finished_below();
            if finished >= self.told.load(Ordering::Relaxed) + LOCAL_PROGRESS_STEP {
                self.told.store(finished, Ordering::Relaxed);
                self.groups.progress(self.progress.message());
            }
        }
        let (sender, answer) = oneshot::channel();
        let reply_to: ReplyTo = Box::new(move |reply| {
            // The caller may have given up.
            let _ = sender.send(Ok(reply));
        });
        self.groups.submit(request, reply_to);
        Pending {
            answer,
            from: From::Local(self.addr.clone()),
        }
    }
}

/// A request on its way; resolves to its reply.
#[must_use = "dropping it gives the request up"]
pub struct Pending {
    answer: oneshot::Receiver<Answer>,
    from: From,
}

enum From {
    Local(Arc<str>),
    Remote(Arc<Node>, u64),
    Answered,
}

impl Pending {
    fn remote(node: &Arc<Node>, noted: Noted) -> Pending {
        Pending {
            answer: noted.answer,
            from: From::Remote(node.clone(), noted.call),
        }
    }
}

impl Future for Pending {
    type Output = Result<Reply, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        let from = std::mem::replace(&mut self.from, From::Answered);
        Poll::Ready(answer.unwrap_or_else(|_| {
            Err(match from {
                From::Remote(node, _) => node.broken(),
                From::Local(addr) => CallError::Broken { addr },
                From::Answered => unreachable!("polled after it was ready"),
            })
        }))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let From::Remote(node, call) = &self.from {
            node.forget(*call);
        }
    }
}
